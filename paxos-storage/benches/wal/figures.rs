//! Measured figures, and a table of them beside their goals.

use std::fmt;
use std::time::{Duration, Instant};

/// All figures, one line each.
#[derive(Default)]
pub(crate) struct Table {
    lines: Vec<[String; 4]>,
    /// The figures beyond a limit.
    beyond: Vec<String>,
}

/// The goal of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// As [`Goal::AtMost`], for a figure that the speed of the disk does not change: `--check` fails above
    /// it.
    Limit(f64),
    /// There is none; the figure is only printed.
    Told,
}

impl Goal {
    fn judge(self, figure: f64) -> String {
        let (sign, bound, is_met) = match self {
            Goal::AtMost(bound) | Goal::Limit(bound) => ("<=", bound, figure <= bound),
            Goal::AtLeast(bound) => (">=", bound, figure >= bound),
            Goal::Told => return String::new(),
        };
        format!("{sign} {bound}: {}", if is_met { "met" } else { "not met" })
    }
}

impl Table {
    /// Adds a figure; `detail` says how it was computed.
    pub(crate) fn add(&mut self, name: &str, detail: String, figure: f64, goal: Goal) {
        eprintln!("  {name}: {figure:.3} ({detail}) {}", goal.judge(figure));
        if let Goal::Limit(bound) = goal
            && figure > bound
        {
            self.beyond.push(format!("{name}: {figure:.3}, more than {bound}"));
        }
        self.lines.push([name.to_owned(), format!("{figure:.3}"), goal.judge(figure), detail]);
    }

    /// The figures beyond a limit, with it.
    pub(crate) fn beyond(&self) -> &[String] {
        &self.beyond
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "value", "goal", "made of"].map(str::to_owned);
        let rule = ["---", "---", "---", "---"].map(str::to_owned);
        let lines: Vec<&[String; 4]> = [&head, &rule].into_iter().chain(&self.lines).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
        let widths = [width(0), width(1), width(2), width(3)];
        for line in lines {
            for (cell, width) in line.iter().zip(widths) {
                write!(formatter, "| {cell:width$} ")?;
            }
            writeln!(formatter, "|")?;
        }
        Ok(())
    }
}

/// Durations, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Times {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort();
        Times(times)
    }

    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }

    /// Of 10 000 times, the longest but one.
    pub(crate) fn p9999(&self) -> Duration {
        self.0[self.0.len() * 9999 / 10_000]
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0[self.0.len() - 1]
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The ratio of the first duration to the second.
pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}
