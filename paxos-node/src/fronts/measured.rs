//! What `/status` tells of the disk and of clients. It is read from the metrics, which are the only place
//! where they are counted: so the answer, the page and a dashboard can't differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::recorder::MetricsHandle;

/// Beginnings of the names of the metrics that are read.
pub(super) const NAMES: [&str; 5] = [
    "paxos_disk_busy_seconds",
    "paxos_disk_write_",
    "paxos_log_written_bytes_total",
    "paxos_storage_",
    "paxos_client_connections",
];

/// The disk in the answer to `/status`. What the node does not know is null: a storage in memory takes no
/// space on a disk, for example.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiskReport {
    /// How long a write of the log took on average, its sync included, within the last 10 s in which there
    /// were some.
    pub write_mean_microseconds: Option<u64>,
    /// The longest of these writes.
    pub write_longest_microseconds: Option<u64>,
    /// How long the present call of the storage has taken so far; 0 if there is none.
    pub busy_milliseconds: Option<u64>,
    /// Bytes of values that were handed to the log since the node was started.
    pub written_bytes: Option<u64>,
    /// Segments that the log consists of.
    pub segments: Option<u64>,
    /// The size of all files of the data directory.
    pub used_bytes: Option<u64>,
    /// Free space on the volume of the data directory.
    pub free_bytes: Option<u64>,
    /// The size of that volume.
    pub volume_bytes: Option<u64>,
}

/// The Redis clients in the answer to `/status`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientsReport {
    /// How many are connected.
    pub connected: Option<u64>,
    /// How many have connected since the node was started.
    pub accepted: Option<u64>,
    /// How many were refused because too many were connected.
    pub refused: Option<u64>,
}

/// What the metrics tell of disk and clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) disk: DiskReport,
    pub(super) clients: ClientsReport,
}

impl Measured {
    /// Reads the metrics, which takes a millisecond or so: not on the thread of the driver.
    pub(super) fn read(metrics: &MetricsHandle) -> Measured {
        Measured::of(&metrics.samples(&NAMES))
    }

    /// What these samples tell; they include those with the [`NAMES`].
    pub(super) fn of(samples: &BTreeMap<String, f64>) -> Measured {
        let scaled = |name: &str, scale: f64| samples.get(name).and_then(|value| whole(value * scale));
        let count = |name: &str| scaled(name, 1.0);
        let disk = DiskReport {
            write_mean_microseconds: scaled("paxos_disk_write_mean_seconds", 1e6),
            write_longest_microseconds: scaled("paxos_disk_write_longest_seconds", 1e6),
            busy_milliseconds: scaled("paxos_disk_busy_seconds", 1e3),
            written_bytes: count("paxos_log_written_bytes_total"),
            segments: count("paxos_storage_segments"),
            used_bytes: count("paxos_storage_used_bytes"),
            free_bytes: count("paxos_storage_free_bytes"),
            volume_bytes: count("paxos_storage_volume_bytes"),
        };
        let clients = ClientsReport {
            connected: count("paxos_client_connections"),
            accepted: count("paxos_client_connections_total"),
            refused: count("paxos_client_connections_refused_total"),
        };
        Measured { disk, clients }
    }
}

/// The whole number nearest to a value; none for what is no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` keeps to the bounds of u64"
)]
fn whole(value: f64) -> Option<u64> {
    value.is_finite().then(|| value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_told_in_the_units_of_the_report_and_the_rest_is_unknown() {
        let samples = [
            ("paxos_disk_write_mean_seconds", 0.000_25),
            ("paxos_disk_busy_seconds", 1.5),
            ("paxos_storage_free_bytes", 12_345.0),
            ("paxos_client_connections", f64::NAN),
        ];
        let samples = samples.map(|(name, value)| (name.to_owned(), value)).into();
        let Measured { disk, clients } = Measured::of(&samples);
        let known = DiskReport {
            write_mean_microseconds: Some(250),
            busy_milliseconds: Some(1500),
            free_bytes: Some(12_345),
            ..DiskReport::default()
        };
        assert_eq!((disk, clients), (known, ClientsReport::default()));
    }
}
