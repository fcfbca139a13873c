//! Replicas in one thread with nothing around them: no clock, no network, no disk.
//!
//! What is left is the work of the protocol core itself, which can be counted: instructions, allocations,
//! bytes. A message arrives one *turn* after it was sent, and what a replica has to write during a turn is
//! durable at the turn's end, all of it at once, as the node's writer does it. The log is trimmed as a node
//! does it, by snapshots, which are empty here as there is no state machine.
//!
//! Deliberately absent: faults, time, and whatever depends on the order of a hash. Two runs do the same.

use std::convert::Infallible;

use bytes::Bytes;
use paxos_core::{
    Config, Driver, Input, Membership, Message, NodeId, Output, ProtocolSettings, ReadId, Recovered, Refusal,
    Replica, Role, Slot, SnapshotMeta, Time, Value, Write, carry_out_all, wire,
};

/// The longest time that an election may take, in ticks.
const ELECTION_TICKS: u64 = 1000;
/// A replica saves a snapshot when its log in memory has grown to this.
const SNAPSHOT_LOG_BYTES: usize = 32 << 20;

/// How messages get from one replica to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carriage {
    /// As they are; replicas share the bytes of values.
    Values,
    /// Encoded once, copied for each that receives them, and decoded, as it happens between processes.
    Frames,
}

/// A cluster with a leader.
#[derive(Debug)]
pub struct Bare {
    members: Vec<Member>,
    leader: usize,
    carriage: Carriage,
    outputs: Vec<Output>,
    sent: Vec<Letter>,
    arriving: Vec<Letter>,
    /// Commands that the leader has applied.
    applied: u64,
    /// Reads that the leader has let go.
    reads: u64,
}

#[derive(Debug)]
struct Member {
    id: NodeId,
    replica: Replica,
    write: Option<Write>,
}

#[derive(Debug)]
struct Letter {
    from: NodeId,
    to: usize,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Value(Message),
    Frame(Bytes),
}

impl Bare {
    /// Nodes 1 to `nodes`, one of which has just been elected.
    ///
    /// # Panics
    ///
    /// If the options do not fit together, or if no leader gets elected: a bug.
    #[must_use]
    pub fn with_leader(nodes: u64, options: &ProtocolSettings, carriage: Carriage) -> Bare {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let member = |&id: &NodeId| {
            let membership = Membership::new(&ids).expect("the members are distinct");
            let config = Config::new(id, membership, options.clone()).expect("the options fit together");
            let replica = Replica::new(config, Recovered::default(), id.0);
            Member { id, replica: replica.expect("an empty disk is in order"), write: None }
        };
        let mut bare = Bare {
            members: ids.iter().map(member).collect(),
            leader: 0,
            carriage,
            outputs: Vec::new(),
            sent: Vec::new(),
            arriving: Vec::new(),
            applied: 0,
            reads: 0,
        };
        bare.elect();
        bare
    }

    /// Has the leader propose `commands`, and lets everything happen that follows.
    ///
    /// # Panics
    ///
    /// If the leader does not take them all: there are more than its queue holds.
    pub fn propose(&mut self, commands: Vec<Bytes>) {
        self.step(self.leader, Input::Propose { commands });
        self.settle();
    }

    /// Asks the leader whether it still leads, and lets everything happen that follows.
    ///
    /// # Panics
    ///
    /// If the leader refuses: a bug.
    pub fn read(&mut self, read: ReadId) {
        self.step(self.leader, Input::Read { read });
        self.settle();
    }

    /// Lets a tick pass on every node, and everything happen that follows.
    pub fn tick(&mut self) {
        for member in 0..self.members.len() {
            self.step(member, Input::Tick);
        }
        self.settle();
    }

    /// How many commands the leader has applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many reads the leader has let go.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// The replica that leads, to ask it something by itself.
    #[must_use]
    pub fn into_leader(mut self) -> Replica {
        self.members.swap_remove(self.leader).replica
    }

    /// Has every node save a snapshot, as if its log had grown to what is kept in memory. It keeps
    /// `retained_bytes` of the log for peers that lag.
    pub fn save_snapshots(&mut self) {
        for member in 0..self.members.len() {
            self.save_snapshot(member);
        }
    }

    /// All replicas, without what carries their messages.
    #[must_use]
    pub fn into_replicas(self) -> Vec<Replica> {
        self.members.into_iter().map(|member| member.replica).collect()
    }

    fn elect(&mut self) {
        for _ in 0..ELECTION_TICKS {
            self.tick();
            let leads = |member: &Member| member.replica.role() == Role::Leader;
            if let Some(leader) = self.members.iter().position(leads) {
                self.leader = leader;
                return;
            }
        }
        unreachable!("without faults a leader is elected");
    }

    fn settle(&mut self) {
        self.finish_turn();
        while !self.sent.is_empty() {
            let mut arriving = std::mem::take(&mut self.arriving);
            std::mem::swap(&mut arriving, &mut self.sent);
            for Letter { from, to, content } in arriving.drain(..) {
                let message = match content {
                    Content::Value(message) => message,
                    Content::Frame(frame) => wire::decode(frame).expect("a replica has encoded it"),
                };
                self.step(to, Input::Receive { from, message });
            }
            self.arriving = arriving;
            self.finish_turn();
        }
    }

    /// What has to be written is written, and what comes of that too.
    fn finish_turn(&mut self) {
        for member in 0..self.members.len() {
            while let Some(write) = self.members[member].write.take() {
                self.step(member, Input::Durable(write.into_durable()));
            }
            if self.members[member].replica.log_bytes() >= SNAPSHOT_LOG_BYTES {
                self.save_snapshot(member);
            }
        }
    }

    fn save_snapshot(&mut self, member: usize) {
        let replica = &self.members[member].replica;
        let membership = replica.membership().clone();
        let meta = SnapshotMeta { slot: replica.applied(), size_bytes: 0, checksum: 0, membership };
        self.step(member, Input::SnapshotSaved { meta });
    }

    fn step(&mut self, member: usize, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.members[member].replica.step(input, &mut outputs);
        let Ok(()) = carry_out_all(&mut outputs, &mut BareDriver { bare: self, member });
        self.outputs = outputs;
    }

    fn position(&self, id: NodeId) -> usize {
        let position = self.members.iter().position(|member| member.id == id);
        position.expect("replicas write to members only")
    }

    fn pack(&self, message: Message) -> Content {
        match self.carriage {
            Carriage::Values => Content::Value(message),
            Carriage::Frames => Content::Frame(wire::encode(&message)),
        }
    }

    fn post(&mut self, from: usize, to: usize, content: Content) {
        let content = match content {
            Content::Frame(frame) => Content::Frame(Bytes::copy_from_slice(&frame)),
            value @ Content::Value(_) => value,
        };
        self.sent.push(Letter { from: self.members[from].id, to, content });
    }
}

/// Carries out the outputs of one replica.
struct BareDriver<'a> {
    bare: &'a mut Bare,
    member: usize,
}

impl Driver for BareDriver<'_> {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        let to = self.bare.position(to);
        let content = self.bare.pack(message);
        self.bare.post(self.member, to, content);
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        let content = self.bare.pack(message);
        for to in (0..self.bare.members.len()).filter(|to| *to != self.member) {
            self.bare.post(self.member, to, content.clone());
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        match &mut self.bare.members[self.member].write {
            Some(earlier) => earlier.merge(write),
            none => *none = Some(write),
        }
        Ok(())
    }

    fn apply(&mut self, _: Slot, value: Value) -> Result<(), Infallible> {
        if self.member == self.bare.leader {
            self.bare.applied += value.commands().count() as u64;
        }
        Ok(())
    }

    fn read_ready(&mut self, _: ReadId, _: Time) -> Result<(), Infallible> {
        self.bare.reads += 1;
        Ok(())
    }

    fn read_refused(&mut self, _: ReadId) -> Result<(), Infallible> {
        unreachable!("a stable leader refuses no read")
    }

    fn refused(&mut self, _: Vec<Bytes>, reason: Refusal) -> Result<(), Infallible> {
        unreachable!("the leader has room: {reason:?}")
    }

    // Nothing gets lost, so no replica lags so far that it needs a snapshot of a peer.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(count: usize) -> Vec<Bytes> {
        vec![Bytes::from_static(&[b'x'; 256]); count]
    }

    #[test]
    fn every_command_is_applied_on_every_node() {
        for (nodes, carriage) in [(3, Carriage::Values), (5, Carriage::Frames)] {
            let mut bare = Bare::with_leader(nodes, &ProtocolSettings::default(), carriage);
            for round in 1..=10 {
                bare.propose(commands(7));
                assert_eq!(bare.applied(), 7 * round, "all is chosen before the next is proposed");
            }
            // Followers hear of the last one by a heartbeat.
            (0..ProtocolSettings::default().heartbeat_ticks).for_each(|_| bare.tick());
            let applied = |member: &Member| member.replica.applied();
            let first = applied(&bare.members[0]);
            assert!(bare.members.iter().all(|member| applied(member) == first), "{bare:?}");
        }
    }

    #[test]
    fn the_log_is_trimmed_on_every_node() {
        let options = ProtocolSettings::default().with(|settings| settings.retained_bytes = 1 << 20);
        let mut bare = Bare::with_leader(3, &options, Carriage::Values);
        let (mut most, rounds) = (0, 400);
        for _ in 0..rounds {
            bare.propose(commands(1000));
            let bytes = bare.members.iter().map(|member| member.replica.log_bytes()).max();
            most = most.max(bytes.expect("there are members"));
        }
        assert!(most < SNAPSHOT_LOG_BYTES + (1 << 20), "{most} bytes of log");
        assert!(rounds * 256_000 > 3 * most, "more has gone through than was ever kept");
    }

    #[test]
    fn a_read_is_let_go_once() {
        let mut bare = Bare::with_leader(3, &ProtocolSettings::default(), Carriage::Values);
        bare.propose(commands(1));
        (1..=5).for_each(|read| bare.read(ReadId(read)));
        assert_eq!(bare.reads(), 5);
    }
}
