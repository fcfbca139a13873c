//! What is measured: one case for each combination of what was asked for.

use paxos_core::{AnnounceChosen, PhaseOne, ProtocolSettings, ReadMode};
use serde::Serialize;

/// The requests of the clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Work {
    /// SET of a random key.
    Set,
    /// Linearizable GET of a random key.
    Get,
    /// GET as a command of the log, as in systems without a read index.
    GetThroughLog,
}

/// A setting of the protocol, to be compared with others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protocol {
    /// As a node runs by default: a stable leader skips phase 1.
    FastPath,
    /// Both phases for every batch.
    FullRounds,
    /// The leader announces what is chosen at once, not with the next accept.
    WatermarkAtOnce,
    /// A slot for each command.
    NoBatches,
    /// A slot for each command, 64 in flight.
    #[serde(rename = "window-64")]
    Window64,
    /// A slot for each command, 8 in flight.
    #[serde(rename = "window-8")]
    Window8,
    /// A slot for each command, one after the other.
    #[serde(rename = "window-1")]
    Window1,
    /// Reads by a leader lease.
    LeaseReads,
}

impl Work {
    /// All of them.
    pub const ALL: &[Work] = &[Work::Set, Work::Get, Work::GetThroughLog];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Work::Set => "set",
            Work::Get => "get",
            Work::GetThroughLog => "get-through-log",
        }
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: &[Protocol] = &[
        Protocol::FastPath,
        Protocol::FullRounds,
        Protocol::WatermarkAtOnce,
        Protocol::NoBatches,
        Protocol::Window64,
        Protocol::Window8,
        Protocol::Window1,
        Protocol::LeaseReads,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::FastPath => "fast-path",
            Protocol::FullRounds => "full-rounds",
            Protocol::WatermarkAtOnce => "watermark-at-once",
            Protocol::NoBatches => "no-batches",
            Protocol::Window64 => "window-64",
            Protocol::Window8 => "window-8",
            Protocol::Window1 => "window-1",
            Protocol::LeaseReads => "lease-reads",
        }
    }

    /// The settings of the protocol that it stands for.
    #[must_use]
    pub fn settings(self) -> ProtocolSettings {
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

crate::backends::named!(Work);
crate::backends::named!(Protocol);

/// Requests of one kind, by a number of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct Case {
    /// What clients ask for.
    pub work: Work,
    /// How long values are.
    pub value_bytes: usize,
    /// How many clients there are.
    pub clients: usize,
    /// How many requests a client of a running cluster sends before it waits for the answers.
    pub pipeline: usize,
}

#[cfg(test)]
mod tests {
    use paxos_core::{Config, Membership, NodeId};

    use super::*;

    #[test]
    fn every_protocol_has_options_that_fit_together() {
        for protocol in Protocol::ALL {
            let alone = Membership::new(&[NodeId(1)]).expect("one member is a cluster");
            let config = Config::new(NodeId(1), alone, protocol.settings());
            assert!(config.is_ok(), "{protocol}: {config:?}");
        }
    }
}
