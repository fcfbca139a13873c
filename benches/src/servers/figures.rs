//! All samples and their medians.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::contender::Contender;
use super::row::Row;
use super::server::Sample;
use crate::statistics::median;

/// All samples.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// One for each round.
    pub(super) samples: BTreeMap<(Row, Contender), Vec<Sample>>,
    /// The median time of a sync of the bare disk, before each row of each round.
    pub(super) syncs: Vec<Duration>,
}

/// The results of a row on a server.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Median {
    pub(super) requests_per_second: f64,
    pub(super) p50_milliseconds: f64,
    pub(super) p99_milliseconds: f64,
    pub(super) p999_milliseconds: f64,
    pub(super) server_cpu_seconds: f64,
    pub(super) client_cpu_seconds: f64,
    pub(super) requests: f64,
}

impl Figures {
    pub(super) fn medians(&self) -> Medians {
        let rows = self.samples.iter().map(|(place, samples)| (*place, Median::of(samples))).collect();
        let syncs = self.syncs.iter().map(|sync| sync.as_secs_f64() * 1e3).collect();
        Medians { rows, sync_milliseconds: median(syncs) }
    }
}

/// The medians of everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Medians {
    pub(super) rows: BTreeMap<(Row, Contender), Median>,
    pub(super) sync_milliseconds: f64,
}

impl Medians {
    /// A figure of paxos-node divided by that of another server, if both were measured.
    pub(super) fn ratio(&self, row: Row, other: Contender, of: fn(&Median) -> f64) -> Option<f64> {
        Some(of(self.rows.get(&(row, Contender::PaxosNode))?) / of(self.rows.get(&(row, other))?))
    }
}

impl Median {
    /// The median of each figure over all samples.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn of(samples: &[Sample]) -> Median {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Median {
            requests_per_second: of(|sample| sample.measured.rate()),
            p50_milliseconds: of(|sample| sample.measured.milliseconds(0.5)),
            p99_milliseconds: of(|sample| sample.measured.milliseconds(0.99)),
            p999_milliseconds: of(|sample| sample.measured.milliseconds(0.999)),
            server_cpu_seconds: of(|sample| sample.server_cpu.as_secs_f64()),
            client_cpu_seconds: of(|sample| sample.client_cpu.as_secs_f64()),
            requests: of(|sample| sample.measured.requests as f64),
        }
    }

    /// What a request costs the server.
    pub(super) fn server_microseconds_each(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.requests.max(1.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row of which all times are one and the same.
    pub(in super::super) fn row(rate: f64, milliseconds: f64) -> Median {
        Median {
            requests_per_second: rate,
            p50_milliseconds: milliseconds,
            p99_milliseconds: milliseconds,
            p999_milliseconds: milliseconds,
            server_cpu_seconds: 1.0,
            client_cpu_seconds: 1.0,
            requests: rate,
        }
    }

    #[test]
    fn a_ratio_needs_both() {
        let mut medians = Medians::default();
        medians.rows.insert((Row::SetMany, Contender::PaxosNode), row(600.0, 1.0));
        let ratio = |medians: &Medians| {
            medians.ratio(Row::SetMany, Contender::Etcd, |median| median.requests_per_second)
        };
        assert_eq!(ratio(&medians), None);
        medians.rows.insert((Row::SetMany, Contender::Etcd), row(200.0, 1.0));
        assert!(ratio(&medians).is_some_and(|ratio| (ratio - 3.0).abs() < 1e-9));
    }
}
