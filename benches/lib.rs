//! What a command costs, counted and not timed.
//!
//! Three [`Replica`]s on a network and disks without faults, in a time of their own in which a message takes a
//! *hop* and a disk takes a *sync*. So the critical path of a command can be read off the clock, and the same
//! numbers come out on every machine.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::{
    Config, Input, Message, NodeId, Options, Output, PhaseOne, Recovered, Replica, Role, Write, wire,
};

/// How long a message takes. A sync takes 1: so no number of syncs is mistaken for a message.
const HOP: u64 = 1_000_000;
/// The longest time that an election may take, in ticks.
const ELECTION_TICKS: u64 = 1000;
const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// What one command costs on three nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Messages between nodes, all told.
    pub messages: u64,
    /// Their bytes, as [`wire::encode`] lays them out.
    pub bytes: u64,
    /// Syncs on all nodes together.
    pub syncs: u64,
    /// Round trips one after the other until the proposer knows that the command is chosen.
    pub round_trips: u64,
    /// Syncs one after the other until then.
    pub syncs_in_sequence: u64,
}

/// Counts what a command of `command_bytes` costs if phase 1 is run as `phase_one` says.
///
/// # Panics
///
/// If the replicas do not choose the command: a bug.
#[must_use]
pub fn count(phase_one: PhaseOne, command_bytes: usize) -> Cost {
    let mut cluster = Cluster::new(phase_one);
    let leader = cluster.elect();
    // The first command may still profit from the phase 1 of the election.
    cluster.choose(leader, Bytes::from_static(b"first"));
    cluster.choose(leader, Bytes::from(vec![b'x'; command_bytes]))
}

struct Cluster {
    replicas: BTreeMap<NodeId, Replica>,
    events: BTreeMap<(u64, u64), Event>,
    now: u64,
    next_number: u64,
    applied: BTreeMap<NodeId, u64>,
    cost: Cost,
}

enum Event {
    Deliver { from: NodeId, to: NodeId, message: Message },
    Synced { node: NodeId, write: Write },
}

impl Cluster {
    fn new(phase_one: PhaseOne) -> Cluster {
        let replica = |node: NodeId| {
            let config = Config::new(node, &MEMBERS, Options { phase_one, ..Options::default() });
            let config = config.expect("the default options fit together");
            Replica::new(config, Recovered::default(), node.0).expect("an empty disk is in order")
        };
        let replicas = MEMBERS.into_iter().map(|node| (node, replica(node))).collect();
        let cost = Cost { messages: 0, bytes: 0, syncs: 0, round_trips: 0, syncs_in_sequence: 0 };
        Cluster { replicas, events: BTreeMap::new(), now: 0, next_number: 0, applied: BTreeMap::new(), cost }
    }

    fn elect(&mut self) -> NodeId {
        for _ in 0..ELECTION_TICKS {
            for node in MEMBERS {
                self.step(node, Input::Tick);
            }
            self.settle();
            let leader = self.replicas.iter().find(|(_, replica)| replica.role() == Role::Leader);
            if let Some((leader, _)) = leader {
                return *leader;
            }
        }
        unreachable!("without faults a leader is elected");
    }

    /// Has a command chosen, and counts what that takes.
    fn choose(&mut self, leader: NodeId, command: Bytes) -> Cost {
        self.cost = Cost { messages: 0, bytes: 0, syncs: 0, round_trips: 0, syncs_in_sequence: 0 };
        self.applied.clear();
        let started = self.now;
        self.step(leader, Input::Propose { commands: vec![command] });
        self.settle();
        let chosen_at = self.applied.get(&leader).expect("without faults the command is chosen");
        let time = chosen_at - started;
        Cost { round_trips: time / HOP / 2, syncs_in_sequence: time % HOP, ..self.cost }
    }

    /// Lets everything happen that is under way.
    fn settle(&mut self) {
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.now = time;
            match event {
                Event::Deliver { from, to, message } => self.step(to, Input::Receive { from, message }),
                Event::Synced { node, write } => self.step(node, Input::Durable(write.into_durable())),
            }
        }
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let mut outputs = Vec::new();
        let replica = self.replicas.get_mut(&node).expect("events name members");
        replica.step(input, &mut outputs);
        for output in outputs {
            match output {
                Output::Persist(write) => {
                    self.cost.syncs += 1;
                    self.schedule(1, Event::Synced { node, write });
                }
                Output::Send { to, message } => self.send(node, to, message),
                Output::Broadcast { message } => {
                    for to in MEMBERS.into_iter().filter(|to| *to != node) {
                        self.send(node, to, message.clone());
                    }
                }
                Output::Apply { .. } => {
                    self.applied.insert(node, self.now);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.cost.messages += 1;
        self.cost.bytes += wire::encode(&message).len() as u64;
        self.schedule(HOP, Event::Deliver { from, to, message });
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.next_number += 1;
        self.events.insert((self.now + delay, self.next_number), event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_saves_a_round_trip_and_the_syncs_that_go_with_it() {
        let fast = count(PhaseOne::OncePerLeader, 256);
        assert_eq!((fast.messages, fast.syncs, fast.round_trips, fast.syncs_in_sequence), (4, 3, 1, 1));
        let full = count(PhaseOne::EveryValue, 256);
        assert_eq!((full.messages, full.syncs, full.round_trips, full.syncs_in_sequence), (8, 6, 2, 3));
        assert!(fast.bytes < full.bytes && full.bytes < 2 * fast.bytes, "phase 1 carries no values");
    }
}
