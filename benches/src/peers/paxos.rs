//! `paxos-core` under the driver that all share.

use std::convert::Infallible;

use bytes::Bytes;
use paxos_core::{
    Config, Driver, Input, Membership, Message, NodeId, Output, ProtocolSettings, ReadId, Recovered, Refusal,
    Replica, Role, Slot, SnapshotMeta, Time, Value, Write, carry_out_all,
};

use super::driver::{self, Turn};

/// The log is dropped up to what is applied whenever so many commands are.
const SNAPSHOT_COMMANDS: usize = 100_000;

/// A replica with its disk in memory.
pub struct Paxos {
    peers: Vec<NodeId>,
    replica: Replica,
    outputs: Vec<Output>,
    write: Option<Write>,
    messages: Vec<(u64, Message)>,
    committed: usize,
    /// How many commands are applied since the log was dropped.
    applied: usize,
}

impl Paxos {
    /// Replica `id` of 1 to `replicas`.
    ///
    /// # Panics
    ///
    /// If `id` is none of them.
    #[must_use]
    pub fn new(id: u64, replicas: u64) -> Paxos {
        let members: Vec<NodeId> = (1..=replicas).map(NodeId).collect();
        let membership = Membership::new(&members).expect("the members are distinct");
        let config =
            Config::new(NodeId(id), membership, ProtocolSettings::default()).expect("default options fit");
        let replica = Replica::new(config, Recovered::default(), id).expect("an empty disk is in order");
        Paxos {
            peers: members.into_iter().filter(|&member| member != NodeId(id)).collect(),
            replica,
            outputs: Vec::new(),
            write: None,
            messages: Vec::new(),
            committed: 0,
            applied: 0,
        }
    }

    fn step(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replica.step(input, &mut outputs);
        let Ok(()) = carry_out_all(&mut outputs, self);
        self.outputs = outputs;
    }
}

impl Driver for Paxos {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        self.messages.push((to.0, message));
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        self.messages.extend(self.peers.iter().map(|peer| (peer.0, message.clone())));
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        match &mut self.write {
            Some(earlier) => earlier.merge(write),
            none => *none = Some(write),
        }
        Ok(())
    }

    fn apply(&mut self, _: Slot, value: Value) -> Result<(), Infallible> {
        let commands = value.commands().count();
        self.applied += commands;
        if self.replica.role() == Role::Leader {
            self.committed += commands;
        }
        Ok(())
    }

    fn refused(&mut self, _: Vec<Bytes>, reason: Refusal) -> Result<(), Infallible> {
        unreachable!("a stable leader has room: {reason:?}")
    }

    // There are no reads, and nothing gets lost, so no replica lags so far that it needs a snapshot of a
    // peer.

    fn read_ready(&mut self, _: ReadId, _: Time) -> Result<(), Infallible> {
        Ok(())
    }

    fn restore(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }

    fn load_snapshot(&mut self, _: NodeId, _: SnapshotMeta, _: u64, _: usize) -> Result<(), Infallible> {
        Ok(())
    }

    fn store_snapshot(&mut self, _: Slot, _: u64, _: Bytes) -> Result<(), Infallible> {
        Ok(())
    }

    fn install_snapshot(&mut self, _: SnapshotMeta) -> Result<(), Infallible> {
        Ok(())
    }
}

impl driver::Replica for Paxos {
    type Message = Message;
    type Write = Infallible;

    fn tick(&mut self) {
        self.step(Input::Tick);
    }

    fn receive(&mut self, from: u64, message: Message) {
        self.step(Input::Receive { from: NodeId(from), message });
    }

    fn propose(&mut self, commands: Vec<Bytes>) {
        self.step(Input::Propose { commands });
    }

    fn finish_turn(&mut self, turn: &mut Turn<Self>) {
        while let Some(write) = self.write.take() {
            self.step(Input::Durable(write.into_durable()));
        }
        if self.applied >= SNAPSHOT_COMMANDS {
            self.applied = 0;
            let membership = self.replica.membership().clone();
            let meta = SnapshotMeta { slot: self.replica.applied(), size_bytes: 0, checksum: 0, membership };
            self.step(Input::SnapshotSaved { meta });
        }
        turn.messages.append(&mut self.messages);
        turn.committed = std::mem::take(&mut self.committed);
    }

    fn stored(&mut self, never: Infallible, _: &mut Turn<Self>) {
        match never {}
    }

    fn is_leader(&self) -> bool {
        self.replica.role() == Role::Leader
    }
}
