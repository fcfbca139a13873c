//! Goals that a bench judges: what was measured, and where it has to lie.

use std::fmt;
use std::ops::RangeInclusive;

/// A figure and its bounds.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What the figure is.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Where it has to lie.
    pub bounds: RangeInclusive<f64>,
    /// Its unit; none for a ratio.
    pub unit: &'static str,
}

impl Goal {
    /// Whether the figure lies within its bounds.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.bounds.contains(&self.value)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Goal { what, value, bounds, unit } = self;
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        write!(formatter, "{verdict:<8}{what:<80}{value:>8.3}{unit}  ")?;
        match (bounds.start(), bounds.end()) {
            (least, most) if least.is_finite() => write!(formatter, "in {least} to {most}{unit}"),
            (_, most) => write!(formatter, "at most {most}{unit}"),
        }
    }
}

/// Prints all goals, and names those that are missed.
#[must_use]
pub fn judge(goals: &[Goal]) -> Vec<&str> {
    for goal in goals {
        println!("{goal}");
    }
    goals.iter().filter(|goal| !goal.is_met()).map(|goal| goal.what.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_missed_on_either_side_of_its_bounds() {
        let goal = |value, bounds| Goal { what: String::from("a ratio"), value, bounds, unit: "" };
        assert!(goal(1.0, 0.97..=1.03).is_met());
        assert!(!goal(0.9, 0.97..=1.03).is_met());
        assert!(!goal(f64::NAN, f64::NEG_INFINITY..=2.0).is_met(), "what was not measured is not met");
        let missed = [goal(1.0, 0.5..=1.5), goal(2.5, f64::NEG_INFINITY..=2.0)];
        assert_eq!(judge(&missed), ["a ratio"]);
        let line = missed[1].to_string();
        assert!(line.starts_with("MISSED  a ratio ") && line.ends_with("2.500  at most 2"), "{line}");
    }
}
