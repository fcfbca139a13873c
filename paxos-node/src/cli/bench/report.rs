//! The results, for people and for programs.

use std::fmt::Write;

use paxos_node::in_process::{StorageKind, Threads, TransportKind};
use serde::Serialize;

use super::case::{Case, Protocol, name};
use super::machine::Machine;
use super::target::Sample;

/// The results of one run, and the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// The command that repeats it.
    pub(super) command: String,
    /// When it began, in seconds since 1970.
    pub(super) started_unix_seconds: u64,
    pub(super) machine: Machine,
    pub(super) nodes: Option<u64>,
    pub(super) warm_up_seconds: f64,
    pub(super) time_seconds: f64,
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

/// The cluster that a case is run on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// A cluster in this process.
    InProcess { transport: TransportKind, storage: StorageKind, protocol: Protocol, threads: Threads },
    /// One that runs elsewhere.
    Running { addresses: Vec<String> },
}

impl Place {
    /// A short name.
    pub(super) fn label(&self) -> String {
        match self {
            Place::InProcess { transport, storage, protocol: Protocol::FastPath, .. } => {
                format!("{} + {}", transport.name(), storage.name())
            }
            Place::InProcess { transport, storage, protocol, .. } => {
                format!("{} + {}, {}", transport.name(), storage.name(), name(protocol))
            }
            Place::Running { addresses } => addresses.join(","),
        }
    }

    /// How writes are made durable there, if that is known.
    fn sync_mode(&self) -> Option<&'static str> {
        match self {
            Place::InProcess { storage: StorageKind::File, .. } => Some("fdatasync"),
            Place::InProcess { storage: StorageKind::Memory, .. } => Some("none"),
            Place::Running { .. } => None,
        }
    }
}

/// One case; of several rounds, the one with the median rate.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) case: Case,
    pub(super) seed: u64,
    pub(super) sync_mode: Option<&'static str>,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) requests_per_second: f64,
    /// The rate of each round, in the order in which they were run.
    pub(super) rounds_per_second: Vec<f64>,
    pub(super) p50_milliseconds: f64,
    pub(super) p99_milliseconds: f64,
    pub(super) p999_milliseconds: f64,
    pub(super) max_milliseconds: f64,
    pub(super) cpu_seconds: f64,
    /// The part of all processors' time that the host of a virtual machine took away meanwhile.
    pub(super) stolen: Option<f64>,
    pub(super) messages_per_request: Option<f64>,
    pub(super) message_bytes_per_request: Option<f64>,
    pub(super) syncs_per_request: Option<f64>,
}

impl Row {
    /// The row of a case from its rounds, of which there must be at least one.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn new(place: Place, case: Case, seed: u64, rounds: &[Sample]) -> Row {
        let mut sorted: Vec<&Sample> = rounds.iter().collect();
        sorted.sort_by(|one, other| one.measured.rate().total_cmp(&other.measured.rate()));
        let median = sorted[sorted.len() / 2];
        let measured = &median.measured;
        let at = |quantile: f64| measured.milliseconds(quantile);
        let each = |count: u64| count as f64 / measured.requests.max(1) as f64;
        Row {
            sync_mode: place.sync_mode(),
            place,
            case,
            seed,
            requests: measured.requests,
            errors: rounds.iter().map(|round| round.measured.errors).sum(),
            first_error: rounds.iter().find_map(|round| round.measured.first_error.clone()),
            requests_per_second: measured.rate(),
            rounds_per_second: rounds.iter().map(|round| round.measured.rate()).collect(),
            p50_milliseconds: at(0.5),
            p99_milliseconds: at(0.99),
            p999_milliseconds: at(0.999),
            max_milliseconds: at(1.0),
            cpu_seconds: median.cpu.as_secs_f64(),
            stolen: median.stolen,
            messages_per_request: median.counts.map(|counts| each(counts.messages)),
            message_bytes_per_request: median.counts.map(|counts| each(counts.message_bytes)),
            syncs_per_request: median.counts.map(|counts| each(counts.syncs)),
        }
    }

    /// The titles of [`cells`](Row::cells).
    pub(super) const TITLES: [&'static str; 15] = [
        "PLACE",
        "WORK",
        "BYTES",
        "CLIENTS",
        "REQ/S",
        "P50 ms",
        "P99 ms",
        "P99.9 ms",
        "MAX ms",
        "CPU s",
        "MSG/REQ",
        "BYTES/REQ",
        "SYNC/REQ",
        "STOLEN",
        "ERRORS",
    ];

    /// The row as text.
    pub(super) fn cells(&self) -> [String; 15] {
        let milliseconds = |value: f64| format!("{value:.3}");
        let each = |value: Option<f64>, digits| {
            value.map_or_else(|| String::from("-"), |value| format!("{value:.digits$}"))
        };
        let clients = match self.case.pipeline {
            1 => self.case.clients.to_string(),
            pipeline => format!("{} x {pipeline}", self.case.clients),
        };
        [
            self.place.label(),
            name(&self.case.work),
            self.case.value_bytes.to_string(),
            clients,
            thousands(self.requests_per_second),
            milliseconds(self.p50_milliseconds),
            milliseconds(self.p99_milliseconds),
            milliseconds(self.p999_milliseconds),
            milliseconds(self.max_milliseconds),
            format!("{:.2}", self.cpu_seconds),
            each(self.messages_per_request, 2),
            each(self.message_bytes_per_request, 0),
            each(self.syncs_per_request, 2),
            self.stolen.map_or_else(|| String::from("-"), |part| format!("{:.0}%", part * 100.0)),
            self.errors.to_string(),
        ]
    }
}

/// A table that is printed line by line, so its columns have the widths that are likely to be needed.
pub(super) struct Table {
    place_width: usize,
}

impl Table {
    pub(super) fn new(places: &[Place]) -> Table {
        Table { place_width: places.iter().map(|place| place.label().len()).max().unwrap_or(0).max(5) }
    }

    pub(super) fn line<T: AsRef<str>>(&self, cells: &[T; 15]) -> String {
        const WIDTHS: [usize; 13] = [7, 11, 10, 9, 9, 9, 9, 7, 8, 10, 9, 7, 7];
        let mut line =
            format!("{:<place$}  {:<15}", cells[0].as_ref(), cells[1].as_ref(), place = self.place_width);
        for (cell, width) in cells[2..].iter().zip(WIDTHS) {
            let _ = write!(line, "{:>width$}", cell.as_ref()); // Writing to a string can't fail.
        }
        line
    }
}

/// A rate without fractions, with its thousands separated.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and below 2^52"
)]
fn thousands(rate: f64) -> String {
    let digits = (rate.round() as u64).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let texts = [(0.4, "0"), (999.6, "1 000"), (16_722.0, "16 722"), (1_234_567.0, "1 234 567")];
        for (rate, text) in texts {
            assert_eq!(thousands(rate), text);
        }
    }
}
