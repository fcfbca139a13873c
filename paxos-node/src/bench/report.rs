//! The results, for people and for programs.

use serde::Serialize;

use super::case::{Case, Protocol};
use super::machine::Machine;
use super::target::Sample;
use crate::in_process::{Setup, Threads};

/// The results of one run, and the machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this crate.
    pub version: &'static str,
    /// The command that repeats it.
    pub command: String,
    /// When it began, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// What it was measured on.
    pub machine: Machine,
    /// How many nodes the clusters in this process have.
    pub nodes: Option<u64>,
    /// Which threads they run on.
    pub threads: Threads,
    /// How long the load ran before anything was counted.
    pub warm_up_seconds: f64,
    /// How long requests were counted then.
    pub time_seconds: f64,
    /// How often everything was measured.
    pub rounds: usize,
    /// What was measured.
    pub rows: Vec<Row>,
    /// How exact each emulated network was, in the last round.
    pub emulated: Vec<Emulated>,
}

/// How exact an emulated network was.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Emulated {
    /// The cluster's place.
    pub place: String,
    /// How exact it was, in words: the error is that of each delivery, in one direction.
    pub accuracy: String,
}

/// The cluster that a case is run on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Place {
    /// A cluster in this process.
    #[non_exhaustive]
    InProcess {
        /// The name of its transport.
        transport: String,
        /// The name of its storage.
        storage: String,
        /// The settings of the protocol.
        protocol: Protocol,
        /// Which threads its nodes run on.
        threads: Threads,
        /// The network between its nodes, if it is emulated.
        network: Option<String>,
        /// How its storage makes a write durable, if that is known.
        #[serde(skip)]
        sync: Option<&'static str>,
    },
    /// One that runs elsewhere.
    #[non_exhaustive]
    Running {
        /// The addresses of its nodes for Redis clients.
        addresses: Vec<String>,
    },
}

impl Place {
    pub(super) fn in_process(setup: &Setup, protocol: Protocol) -> Place {
        Place::InProcess {
            transport: setup.transport.name().to_owned(),
            storage: setup.storage.name().to_owned(),
            protocol,
            threads: setup.threads,
            network: setup.network.as_ref().map(ToString::to_string),
            sync: setup.storage.sync(),
        }
    }

    /// A short name.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Place::InProcess { transport, storage, protocol, network, .. } => {
                let network = network.as_ref().map(|network| format!(", {network}")).unwrap_or_default();
                let protocol = match protocol {
                    Protocol::FastPath => String::new(),
                    other => format!(", {other}"),
                };
                format!("{transport} + {storage}{network}{protocol}")
            }
            Place::Running { addresses } => addresses.join(","),
        }
    }

    /// How writes are made durable there, if that is known.
    fn sync_mode(&self) -> Option<&'static str> {
        match self {
            Place::InProcess { sync, .. } => *sync,
            Place::Running { .. } => None,
        }
    }
}

/// One case; of several rounds, the one with the median rate.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// Where it was measured.
    pub place: Place,
    /// What was measured.
    pub case: Case,
    /// The seed of the random keys.
    pub seed: u64,
    /// The node of a cluster in this process that has led all the time; `None` if another one took over.
    pub leader: Option<u64>,
    /// How writes are made durable there, if that is known.
    pub sync_mode: Option<&'static str>,
    /// Requests that were answered.
    pub requests: u64,
    /// How often a client had an error instead, in all rounds.
    pub errors: u64,
    /// The first of these errors.
    pub first_error: Option<String>,
    /// The rate.
    pub requests_per_second: f64,
    /// The rate of each round, in the order in which they were run.
    pub rounds_per_second: Vec<f64>,
    /// How long half of the requests waited at most.
    pub p50_milliseconds: f64,
    /// How long 99 of 100 requests waited at most.
    pub p99_milliseconds: f64,
    /// How long 999 of 1000 requests waited at most.
    pub p999_milliseconds: f64,
    /// The longest wait.
    pub max_milliseconds: f64,
    /// Processor time of this process: of the clients alone if the cluster runs elsewhere.
    pub cpu_seconds: f64,
    /// The part of all processors' time that the host of a virtual machine took away meanwhile.
    pub stolen: Option<f64>,
    /// Messages of all nodes together.
    pub messages_per_request: Option<f64>,
    /// Bytes of messages of all nodes together.
    pub message_bytes_per_request: Option<f64>,
    /// Writes of all nodes together.
    pub syncs_per_request: Option<f64>,
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
            leader: median.leader.map(|leader| leader.0),
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

    /// Whether another node took over while it was measured.
    pub(super) fn leader_has_changed(&self) -> bool {
        self.leader.is_none() && matches!(self.place, Place::InProcess { .. })
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
        let milliseconds = |value: f64| match self.requests {
            0 => String::from("-"),
            _ => format!("{value:.3}"),
        };
        let each = |value: Option<f64>, digits| {
            value.map_or_else(|| String::from("-"), |value| format!("{value:.digits$}"))
        };
        let clients = match self.case.pipeline {
            1 => self.case.clients.to_string(),
            pipeline => format!("{} x {pipeline}", self.case.clients),
        };
        [
            self.place.label(),
            self.case.work.name().to_owned(),
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
