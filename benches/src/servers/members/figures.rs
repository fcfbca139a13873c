//! All samples, and what is made of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::action::Action;
use super::arguments::Server;
use crate::statistics::median;

/// One action in one round.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The longest that a client waited, from the beginning of the action on.
    pub(super) longest: Duration,
    /// When that client asked, after the action had begun; zero if it was before.
    pub(super) longest_at: Option<Duration>,
    /// The longest that a client waited just before the action, while nothing was done.
    pub(super) quiet: Duration,
    /// How long the command took; `None` if there was none.
    pub(super) command: Option<Duration>,
    pub(super) answers: usize,
    /// How often a client had an error, and asked again.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// The part of all processors' time that the host of a virtual machine took away.
    pub(super) stolen: f64,
}

impl Sample {
    /// For whoever watches.
    pub(super) fn line(&self) -> String {
        let [longest, quiet] = [self.longest, self.quiet].map(milliseconds);
        let command = self.command.zip(self.longest_at).map(|times| [times.0, times.1].map(milliseconds));
        let command = command.map_or_else(String::new, |[command, at]| {
            format!(", asked after {at:.1} ms; the command took {command:.1} ms")
        });
        let error = self.first_error.as_ref();
        let error =
            error.map_or_else(String::new, |error| format!("; {} errors, the first: {error}", self.errors));
        format!("longest wait {longest:8.2} ms, without action {quiet:8.2} ms{command}{error}")
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// All samples, one for each round.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) samples: BTreeMap<(Action, Server), Vec<Sample>>,
}

/// An action on a server, over all rounds. Times are in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) longest_median: f64,
    pub(super) longest_max: f64,
    pub(super) quiet_median: f64,
    pub(super) quiet_max: f64,
    /// `None` where nothing was done.
    pub(super) command_median: Option<f64>,
}

impl Figures {
    pub(super) fn summaries(&self) -> Summaries {
        self.samples.iter().map(|(place, samples)| (*place, Summary::of(samples))).collect()
    }
}

pub(super) type Summaries = BTreeMap<(Action, Server), Summary>;

impl Summary {
    pub(super) fn of(samples: &[Sample]) -> Summary {
        let of = |figure: fn(&Sample) -> Duration| -> Vec<f64> {
            samples.iter().map(|sample| milliseconds(figure(sample))).collect()
        };
        let most = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
        let [longest, quiet] = [of(|sample| sample.longest), of(|sample| sample.quiet)];
        let commands: Vec<f64> =
            samples.iter().filter_map(|sample| sample.command).map(milliseconds).collect();
        Summary {
            longest_max: most(&longest),
            longest_median: median(longest),
            quiet_max: most(&quiet),
            quiet_median: median(quiet),
            command_median: (!commands.is_empty()).then(|| median(commands)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An action during which clients waited so long, and otherwise not.
    pub(in super::super) fn sample(longest_milliseconds: u64) -> Sample {
        Sample {
            longest: Duration::from_millis(longest_milliseconds),
            longest_at: Some(Duration::ZERO),
            quiet: Duration::from_millis(1),
            command: Some(Duration::from_millis(2 * longest_milliseconds)),
            answers: 100,
            errors: 0,
            first_error: None,
            stolen: 0.0,
        }
    }

    #[test]
    fn medians_and_maxima_are_over_the_rounds() {
        let samples: Vec<Sample> = [9, 30, 7].map(sample).to_vec();
        let summary = Summary::of(&samples);
        let expected = Summary {
            longest_median: 9.0,
            longest_max: 30.0,
            quiet_median: 1.0,
            quiet_max: 1.0,
            command_median: Some(18.0),
        };
        assert_eq!(summary, expected);
        let nothing = Sample { command: None, ..sample(5) };
        assert_eq!(Summary::of(&[nothing]).command_median, None);
    }
}
