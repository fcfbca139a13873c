//! Medians and percentiles of what was measured.

use std::time::Duration;

/// The one in the middle, or the mean of the two that are. Not a number if there is none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count => f64::midpoint(figures[(count - 1) / 2], figures[count / 2]),
    }
}

/// How long the slowest of the fastest `per_mille` of a thousand waited; nothing if nobody did. `waits` are
/// in ascending order.
#[must_use]
pub fn percentile(waits: &[Duration], per_mille: usize) -> Duration {
    let Some(last) = waits.len().checked_sub(1) else { return Duration::ZERO };
    waits[(last * per_mille / 1000).min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let is = |figures: &[f64], wanted: f64| (median(figures.to_vec()) - wanted).abs() < 1e-9;
        assert!(is(&[9.0, 1.0, 2.0], 2.0));
        assert!(is(&[9.0, 1.0, 2.0, 4.0], 3.0));
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_percentile_is_a_wait_that_was_measured() {
        let waits: Vec<Duration> = (1..=1001).map(Duration::from_micros).collect();
        let at = |per_mille| percentile(&waits, per_mille).as_micros();
        assert_eq!([at(0), at(500), at(990), at(999), at(1000)], [1, 501, 991, 1000, 1001]);
        assert_eq!(percentile(&[], 500), Duration::ZERO);
    }
}
