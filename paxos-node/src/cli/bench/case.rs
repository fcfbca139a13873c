//! What is measured: one case for each combination of the options.

use clap::ValueEnum;
use paxos_core::{AnnounceChosen, PhaseOne, ProtocolSettings, ReadMode};
use serde::Serialize;

/// The requests of the clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// SET of a random key.
    Set,
    /// Linearizable GET of a random key.
    Get,
    /// GET as a command of the log, as in systems without a read index.
    GetThroughLog,
}

/// A setting of the protocol, to be compared with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Protocol {
    /// As a node runs by default: a stable leader skips phase 1.
    FastPath,
    /// Both phases for every batch.
    FullRounds,
    /// The leader announces what is chosen at once, not with the next accept.
    WatermarkAtOnce,
    /// A slot for each command.
    NoBatches,
    /// A slot for each command, 64 in flight.
    #[value(name = "window-64")]
    #[serde(rename = "window-64")]
    Window64,
    /// A slot for each command, 8 in flight.
    #[value(name = "window-8")]
    #[serde(rename = "window-8")]
    Window8,
    /// A slot for each command, one after the other.
    #[value(name = "window-1")]
    #[serde(rename = "window-1")]
    Window1,
    /// Reads by a leader lease.
    LeaseReads,
}

impl Protocol {
    pub(super) fn settings(self) -> ProtocolSettings {
        let default = ProtocolSettings::default();
        // A batch is full at its first command, so each has a slot of its own.
        let window = |window_slots| {
            ProtocolSettings::default().with(|settings| {
                settings.batch_bytes = 1;
                settings.window_slots = window_slots;
            })
        };
        match self {
            Protocol::FastPath => default,
            Protocol::FullRounds => default.with(|settings| settings.phase_one = PhaseOne::EveryValue),
            Protocol::WatermarkAtOnce => {
                default.with(|settings| settings.announce_chosen = AnnounceChosen::AtOnce)
            }
            Protocol::NoBatches => window(default.window_slots),
            Protocol::Window64 => window(64),
            Protocol::Window8 => window(8),
            Protocol::Window1 => window(1),
            Protocol::LeaseReads => {
                let timeout = default.election_timeout_ticks;
                let reads =
                    ReadMode::Lease { lease_ticks: timeout - timeout / 10, drift_ticks: timeout / 10 };
                default.with(|settings| settings.reads = reads)
            }
        }
    }
}

/// The name by which the command line knows a value.
pub(super) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Requests of one kind, by a number of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Case {
    pub(super) work: Work,
    pub(super) value_bytes: usize,
    pub(super) clients: usize,
    /// How many requests a client of a running cluster sends before it waits for the answers.
    pub(super) pipeline: usize,
}

#[cfg(test)]
mod tests {
    use paxos_core::{Config, Membership, NodeId};

    use super::*;

    #[test]
    fn every_protocol_has_options_that_fit_together() {
        for protocol in Protocol::value_variants() {
            let alone = Membership::new(&[NodeId(1)]).expect("one member is a cluster");
            let config = Config::new(NodeId(1), alone, protocol.settings());
            assert!(config.is_ok(), "{}: {config:?}", name(protocol));
        }
    }
}
