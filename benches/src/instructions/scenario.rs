//! What is run and counted.

use bytes::Bytes;
use paxos_core::message::{Accept, Chosen, Fetch};
use paxos_core::{
    Ballot, Body, Config, Epoch, Input, Membership, Message, NodeId, Output, ProtocolSettings, ReadId,
    Recovered, Replica, Slot, Value, wire,
};

use crate::bare::{Bare, Carriage};

const COMMAND: Bytes = Bytes::from_static(&[b'x'; 256]);
const TOGETHER: u64 = 64;

/// Something that the core does for a command, over and over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// One command after the other on three nodes, all of them counted.
    LoneOnThree,
    /// The same on five.
    LoneOnFive,
    /// 64 commands in each slot on three nodes.
    BatchesOnThree,
    /// The same on five.
    BatchesOnFive,
    /// 64 slots in flight with a command in each, on three nodes.
    WindowOnThree,
    /// One command after the other on three nodes, with messages as bytes.
    FramesOnThree,
    /// What one follower of three does for a lone command: accept, answer, apply.
    Follower,
    /// One read after the other on three nodes, each with a round of heartbeats.
    Reads,
    /// A tick of three nodes that have nothing to do, with the heartbeats of some of them.
    IdleTicks,
    /// What a replica does for each slot that it gives a peer out of its log.
    LogReads,
    /// An accept turned into bytes and back.
    Wire,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 11] = [
        Scenario::LoneOnThree,
        Scenario::LoneOnFive,
        Scenario::BatchesOnThree,
        Scenario::BatchesOnFive,
        Scenario::WindowOnThree,
        Scenario::FramesOnThree,
        Scenario::Follower,
        Scenario::Reads,
        Scenario::IdleTicks,
        Scenario::LogReads,
        Scenario::Wire,
    ];

    /// As the ledger calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scenario::LoneOnThree => "lone-command-3-nodes",
            Scenario::LoneOnFive => "lone-command-5-nodes",
            Scenario::BatchesOnThree => "64-in-a-slot-3-nodes",
            Scenario::BatchesOnFive => "64-in-a-slot-5-nodes",
            Scenario::WindowOnThree => "64-slots-in-flight-3-nodes",
            Scenario::FramesOnThree => "lone-command-as-frames-3-nodes",
            Scenario::Follower => "follower",
            Scenario::Reads => "quorum-read-3-nodes",
            Scenario::IdleTicks => "idle-tick-3-nodes",
            Scenario::LogReads => "slot-read-from-the-log",
            Scenario::Wire => "accept-encoded-and-decoded",
        }
    }

    /// That of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// How many commands it takes until what happens only now and then has happened often enough. A multiple
    /// of 64.
    #[must_use]
    pub fn commands(self) -> u64 {
        match self {
            Scenario::BatchesOnThree | Scenario::BatchesOnFive => 256 * TOGETHER,
            Scenario::WindowOnThree | Scenario::LogReads => 64 * TOGETHER,
            _ => 32 * TOGETHER,
        }
    }

    /// Runs it for so many commands, a multiple of 64; those that it does together are counted one by one.
    ///
    /// # Panics
    ///
    /// If not all that was asked for happens: a bug.
    pub fn run(self, commands: u64) {
        let rounds = commands / TOGETHER;
        let default = ProtocolSettings::default();
        match self {
            Scenario::LoneOnThree => propose(Bare::with_leader(3, &default, Carriage::Values), commands, 1),
            Scenario::LoneOnFive => propose(Bare::with_leader(5, &default, Carriage::Values), commands, 1),
            Scenario::FramesOnThree => propose(Bare::with_leader(3, &default, Carriage::Frames), commands, 1),
            Scenario::BatchesOnThree => {
                propose(Bare::with_leader(3, &default, Carriage::Values), rounds, TOGETHER);
            }
            Scenario::BatchesOnFive => {
                propose(Bare::with_leader(5, &default, Carriage::Values), rounds, TOGETHER);
            }
            Scenario::WindowOnThree => {
                // A batch is full at its first command.
                let single = default.with(|settings| settings.batch_bytes = 1);
                propose(Bare::with_leader(3, &single, Carriage::Values), rounds, TOGETHER);
            }
            Scenario::Follower => follow(commands),
            Scenario::Reads => read(commands),
            Scenario::IdleTicks => idle(commands),
            Scenario::LogReads => read_log(rounds),
            Scenario::Wire => encode_and_decode(commands),
        }
    }
}

fn propose(mut bare: Bare, rounds: u64, together: u64) {
    for _ in 0..rounds {
        bare.propose((0..together).map(|_| COMMAND).collect());
    }
    assert_eq!(bare.applied(), rounds * together, "every command is applied");
}

/// Feeds one replica what a leader would send it.
fn follow(commands: u64) {
    let membership = Membership::new(&[1, 2, 3].map(NodeId)).expect("the members are distinct");
    let config = Config::new(NodeId(2), membership, ProtocolSettings::default());
    let config = config.expect("default options fit");
    let mut replica = Replica::new(config, Recovered::default(), 2).expect("an empty disk is in order");
    let value = Value::batch(&[COMMAND]);
    let mut outputs = Vec::new();
    let mut answers = 0;
    for number in 1..=commands {
        let message = accept(Slot(number), value.clone());
        replica.step(Input::Receive { from: NodeId(1), message }, &mut outputs);
        let mut durable = None;
        for output in outputs.drain(..) {
            if let Output::Persist(write) = output {
                durable = Some(write.into_durable());
            }
        }
        replica.step(Input::Durable(durable.expect("what is accepted is written")), &mut outputs);
        answers += outputs.drain(..).filter(Output::is_message).count() as u64;
    }
    assert_eq!((answers, replica.applied()), (commands, Slot(commands - 1)), "every accept is answered");
}

fn accept(slot: Slot, value: Value) -> Message {
    let ballot = Ballot::ZERO.successor_for(NodeId(1));
    Message { epoch: Epoch(0), body: Body::Accept(Accept { ballot, slot, value, chosen: slot.previous() }) }
}

fn read(reads: u64) {
    let mut bare = Bare::with_leader(3, &ProtocolSettings::default(), Carriage::Values);
    // A new leader must not answer before something is chosen under its ballot.
    bare.propose(vec![COMMAND]);
    (1..=reads).for_each(|number| bare.read(ReadId(number)));
    assert_eq!(bare.reads(), reads, "every read is let go");
}

fn idle(ticks: u64) {
    let mut bare = Bare::with_leader(3, &ProtocolSettings::default(), Carriage::Values);
    (0..ticks).for_each(|_| bare.tick());
}

fn read_log(rounds: u64) {
    let mut bare = Bare::with_leader(3, &ProtocolSettings::default(), Carriage::Values);
    (0..TOGETHER).for_each(|_| bare.propose(vec![COMMAND]));
    let mut replica = bare.into_leader();
    let mut outputs = Vec::new();
    let peer = replica.config().peers().next().expect("it has peers");
    let first = Slot(replica.chosen().0 + 1 - TOGETHER);
    let mut slots = 0;
    for _ in 0..rounds {
        let message = Message { epoch: Epoch(0), body: Body::Fetch(Fetch::all_from(first)) };
        replica.step(Input::Receive { from: peer, message }, &mut outputs);
        for output in outputs.drain(..) {
            if let Output::Send {
                message: Message { body: Body::Chosen(Chosen { values, .. }), .. }, ..
            } = output
            {
                slots += values.len() as u64;
            }
        }
    }
    assert_eq!(slots, rounds * TOGETHER, "each fetch is answered with all slots");
}

fn encode_and_decode(messages: u64) {
    let value = Value::batch(&[COMMAND]);
    for number in 1..=messages {
        let message = accept(Slot(number), value.clone());
        let decoded = wire::decode(wire::encode(&message));
        assert_eq!(decoded.as_ref(), Ok(&message), "what is encoded is decoded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_does_what_it_is_asked_for() {
        for scenario in Scenario::ALL {
            // Each asserts it.
            scenario.run(2 * TOGETHER);
            assert!(scenario.commands().is_multiple_of(TOGETHER), "{scenario:?}");
        }
    }

    #[test]
    fn a_scenario_is_found_by_its_name_alone() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("lone"), None);
    }
}
