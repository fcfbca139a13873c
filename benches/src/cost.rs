//! What one command costs, counted and not timed.

use std::time::Duration;

use paxos_core::{PhaseOne, ProtocolSettings};

use crate::cluster::{Cluster, Setting};

/// How long a message takes here. A sync takes a nanosecond: so no number of syncs is mistaken for a message,
/// and the critical path of a command can be read off the clock.
const HOP: Duration = Duration::from_millis(1);
const SYNC: Duration = Duration::from_nanos(1);

/// What one command costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Messages between nodes, all told.
    pub messages: u64,
    /// Their bytes, as [`paxos_core::wire::encode`] lays them out.
    pub bytes: u64,
    /// Syncs on all nodes together.
    pub syncs: u64,
    /// Round trips one after the other until the proposer knows that the command is chosen.
    pub round_trips: u128,
    /// Syncs one after the other until then.
    pub syncs_in_sequence: u128,
}

/// Counts what a command of `command_bytes` costs on `nodes` nodes if phase 1 is run as `phase_one` says.
///
/// # Panics
///
/// If the replicas do not choose the command: a bug.
#[must_use]
pub fn count(phase_one: PhaseOne, nodes: u64, command_bytes: usize) -> Cost {
    let options = ProtocolSettings::default().with(|settings| settings.phase_one = phase_one);
    let mut cluster = Cluster::with_leader(Setting { nodes, options, ..Setting::new(HOP, SYNC) });
    // The first command may still profit from the phase 1 of the election.
    cluster.serve_one(command_bytes);
    let served = cluster.serve_one(command_bytes);
    let time = served.elapsed.as_nanos();
    Cost {
        messages: served.messages,
        bytes: served.bytes,
        syncs: served.syncs,
        round_trips: time / HOP.as_nanos() / 2,
        syncs_in_sequence: time % HOP.as_nanos() / SYNC.as_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_saves_a_round_trip_and_the_syncs_that_go_with_it() {
        let fast = count(PhaseOne::OncePerLeader, 3, 256);
        assert_eq!((fast.messages, fast.syncs, fast.round_trips, fast.syncs_in_sequence), (4, 3, 1, 1));
        let full = count(PhaseOne::EveryValue, 3, 256);
        assert_eq!((full.messages, full.syncs, full.round_trips, full.syncs_in_sequence), (8, 6, 2, 3));
        assert!(fast.bytes < full.bytes && full.bytes < 2 * fast.bytes, "phase 1 carries no values");
    }

    #[test]
    fn more_nodes_cost_more_messages_and_no_more_time() {
        for nodes in [5, 7] {
            let fast = count(PhaseOne::OncePerLeader, nodes, 256);
            assert_eq!((fast.messages, fast.syncs), (2 * (nodes - 1), nodes));
            assert_eq!((fast.round_trips, fast.syncs_in_sequence), (1, 1));
            let full = count(PhaseOne::EveryValue, nodes, 256);
            assert_eq!((full.messages, full.syncs), (4 * (nodes - 1), 2 * nodes));
            assert_eq!((full.round_trips, full.syncs_in_sequence), (2, 3));
        }
    }
}
