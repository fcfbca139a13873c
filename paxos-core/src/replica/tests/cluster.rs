//! Replicas with a network that can be cut and slowed, and disks that lose what was not synced.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use bytes::Bytes;

use crate::random::Random;
use crate::{
    Body, ChangeRefusal, Config, Driver, Durable, Entry, Epoch, HandoverRefusal, HardState, Input,
    Membership, Message, NodeId, ProtocolSettings, ReadId, Recovered, Replica, RequestId, Slot, SnapshotMeta,
    Time, Value, Write, carry_out_all,
};

/// The contents of a disk, and the writes under way to it.
#[derive(Default)]
pub(super) struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    snapshot: Option<SnapshotMeta>,
    incomplete_through: Slot,
    unsynced: VecDeque<Write>,
}

/// How a request to change the membership, or to hand over leadership, has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    InForce(Epoch),
    Refused(ChangeRefusal),
    HandedOver(NodeId),
    NotHandedOver(HandoverRefusal),
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
    pub(super) applied: Slot,
    /// Reads under way, each with the highest slot that any node had applied when it was asked for.
    pub(super) reads: BTreeMap<ReadId, Slot>,
    pub(super) reads_done: u64,
    pub(super) is_disk_stuck: bool,
}

/// What may go wrong with a message, in percent.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) delayed: u64,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// Links that are cut, from and to.
    pub(super) cut: Vec<(NodeId, NodeId)>,
    /// The value that some node has applied in each slot: all others must apply the same.
    pub(super) applied: BTreeMap<Slot, Value>,
    /// Bodies sent so far, to be counted by scripts.
    pub(super) sent: Vec<(NodeId, NodeId, Body)>,
    pub(super) syncs: u64,
    pub(super) outcomes: BTreeMap<RequestId, Outcome>,
    founding: Membership,
    settings: ProtocolSettings,
    seed: u64,
    in_flight: BTreeMap<(u64, u64), (NodeId, NodeId, Message)>,
    now: u64,
    next_number: u64,
}

impl Cluster {
    pub(super) fn new(size: u64, seed: u64, settings: ProtocolSettings) -> Cluster {
        let members: Vec<NodeId> = (1..=size).map(NodeId).collect();
        let founding = Membership::new(&members).expect("the members are distinct");
        Cluster::founded(founding, seed, settings)
    }

    pub(super) fn founded(founding: Membership, seed: u64, settings: ProtocolSettings) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            random: Random::new(seed),
            faults: Faults::default(),
            cut: Vec::new(),
            applied: BTreeMap::new(),
            sent: Vec::new(),
            syncs: 0,
            outcomes: BTreeMap::new(),
            founding,
            settings,
            seed,
            in_flight: BTreeMap::new(),
            now: 0,
            next_number: 0,
        };
        for id in cluster.founding.members().to_vec() {
            cluster.join(id);
        }
        cluster
    }

    /// Starts a node with an empty disk.
    pub(super) fn join(&mut self, id: NodeId) {
        self.nodes.insert(id, Node::default());
        self.start(id);
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let config = Config::joining(id, self.founding.clone(), self.settings.clone());
        let config = config.expect("the settings fit together");
        let seed = self.random.below(u64::MAX);
        let node = self.node(id);
        let disk = &node.disk;
        let recovered = Recovered {
            hard_state: disk.hard_state,
            snapshot: disk.snapshot.clone(),
            entries: disk.entries.iter().map(|(slot, entry)| (*slot, entry.clone())).collect(),
            incomplete_through: disk.incomplete_through,
        };
        node.applied = disk.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        let replica = Replica::new(config, recovered, seed).expect("the disk holds what a replica left");
        node.replica = Some(replica);
    }

    /// Stops a node; of its unsynced writes a random number of the oldest survives.
    pub(super) fn crash(&mut self, id: NodeId) {
        let survivors = self.random.below(3);
        let node = self.node(id);
        node.replica = None;
        node.reads.clear();
        for write in std::mem::take(&mut node.disk.unsynced).into_iter().take(survivors as usize) {
            let _ = node.disk.store(write);
        }
    }

    /// Starts a node again with a disk that has lost its entries from `first` on, and may have held more
    /// entries through `through`.
    pub(super) fn restart_without(&mut self, id: NodeId, first: Slot, through: Slot) {
        self.crash(id);
        let disk = &mut self.node(id).disk;
        disk.entries.split_off(&first);
        disk.hard_state.chosen = disk.hard_state.chosen.min(first.previous());
        disk.incomplete_through = through;
        self.start(id);
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("the test names a member")
    }

    pub(super) fn replica(&mut self, id: NodeId) -> &mut Replica {
        self.node(id).replica.as_mut().expect("the test names a node that runs")
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads =
            |node: &Node| node.replica.as_ref().is_some_and(|replica| replica.role() == crate::Role::Leader);
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.replica.as_ref().map(Replica::promised)).map(|(id, _)| *id)
    }

    pub(super) fn cut_both_ways(&mut self, one: NodeId, other: NodeId) {
        self.cut.extend([(one, other), (other, one)]);
    }

    pub(super) fn propose(&mut self, id: NodeId, command: &str) {
        let commands = vec![Bytes::copy_from_slice(command.as_bytes())];
        self.step(id, Input::Propose { commands });
    }

    /// A name for a request that no other has.
    pub(super) fn next_request(&mut self) -> RequestId {
        self.next_number += 1;
        RequestId(self.next_number)
    }

    pub(super) fn read(&mut self, id: NodeId) -> ReadId {
        self.next_number += 1;
        let read = ReadId(self.next_number);
        let newest = self.applied.last_key_value().map_or(Slot::ZERO, |(slot, _)| *slot);
        self.node(id).reads.insert(read, newest);
        self.step(id, Input::Read { read });
        read
    }

    /// Lets one tick pass: syncs disks, delivers what is due, and ticks every node.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.settle();
        for id in self.ids() {
            self.step(id, Input::Tick);
        }
        self.settle();
    }

    /// Delivers and syncs until nothing is left to do at this tick.
    pub(super) fn settle(&mut self) {
        loop {
            let due: Vec<_> = self.in_flight.range(..(self.now + 1, 0)).map(|(key, _)| *key).collect();
            let synced = self.sync_disks();
            if due.is_empty() && !synced {
                return;
            }
            for key in due {
                if let Some((from, to, message)) = self.in_flight.remove(&key) {
                    self.step(to, Input::Receive { from, message });
                }
            }
        }
    }

    pub(super) fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Runs until the condition holds; fails with the seed if it does not in time.
    pub(super) fn run_until(&mut self, what: &str, ticks: u64, condition: impl Fn(&Cluster) -> bool) {
        for _ in 0..ticks {
            if condition(self) {
                return;
            }
            self.tick();
        }
        panic!("seed {}: not within {ticks} ticks: {what}", self.seed);
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Whether a value with this command has been applied on every running node.
    pub(super) fn all_applied(&self, command: &str) -> bool {
        let holds = |value: &Value| value.commands().any(|applied| applied == command.as_bytes());
        let found = self.applied.iter().find(|(_, value)| holds(value));
        let running = self.nodes.values().filter(|node| node.replica.is_some());
        found.is_some_and(|(slot, _)| running.into_iter().all(|node| node.applied >= *slot))
    }

    pub(super) fn save_snapshot(&mut self, id: NodeId) {
        let node = self.node(id);
        let slot = node.applied;
        let membership = node.replica.as_ref().and_then(|replica| replica.membership_at(slot));
        if let Some(membership) = membership
            && node.disk.snapshot.as_ref().is_none_or(|old| old.slot < slot)
        {
            let meta = SnapshotMeta { slot, size_bytes: 1000, checksum: 0, membership };
            node.disk.save_snapshot(meta.clone());
            self.step(id, Input::SnapshotSaved { meta });
        }
    }

    fn sync_disks(&mut self) -> bool {
        let mut any = false;
        for id in self.ids() {
            let node = self.node(id);
            if node.is_disk_stuck || node.replica.is_none() {
                continue;
            }
            while let Some(write) = self.node(id).disk.unsynced.pop_front() {
                any = true;
                self.syncs += 1;
                let durable = self.node(id).disk.store(write);
                self.step(id, Input::Durable(durable));
            }
        }
        any
    }

    pub(super) fn step(&mut self, id: NodeId, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            let Some(replica) = &mut self.node(id).replica else { return };
            replica.step(input, &mut outputs);
            let mut driver = NodeDriver { cluster: self, id, answers: &mut inputs };
            let Ok(()) = carry_out_all(&mut outputs, &mut driver);
        }
    }

    fn apply(&mut self, id: NodeId, slot: Slot, value: Value) {
        let seed = self.seed;
        let node = self.node(id);
        assert_eq!(slot, node.applied.next(), "seed {seed}: node {id} applies out of order");
        node.applied = slot;
        let first = self.applied.entry(slot).or_insert_with(|| value.clone());
        assert_eq!(*first, value, "seed {seed}: two values chosen in slot {slot}");
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.sent.push((from, to, message.body.clone()));
        if !self.nodes.contains_key(&to) {
            return;
        }
        if self.cut.contains(&(from, to)) || self.random.below(100) < self.faults.lost {
            return;
        }
        let copies = 1 + u64::from(self.random.below(100) < self.faults.doubled);
        for _ in 0..copies {
            let mut due = self.now;
            if self.random.below(100) < self.faults.delayed {
                due += self.random.below(40);
            }
            self.next_number += 1;
            self.in_flight.insert((due, self.next_number), (from, to, message.clone()));
        }
    }
}

/// Carries out the outputs of one node's replica.
struct NodeDriver<'a> {
    cluster: &'a mut Cluster,
    id: NodeId,
    /// What the replica gets next.
    answers: &'a mut VecDeque<Input>,
}

impl NodeDriver<'_> {
    fn end(&mut self, request: RequestId, outcome: Outcome) {
        let before = self.cluster.outcomes.insert(request, outcome);
        assert_eq!(before, None, "{request:?} ends twice");
    }
}

impl Driver for NodeDriver<'_> {
    type Error = Infallible;

    fn send(&mut self, to: NodeId, message: Message) -> Result<(), Infallible> {
        self.cluster.send(self.id, to, message);
        Ok(())
    }

    fn broadcast(&mut self, message: Message) -> Result<(), Infallible> {
        let peers: Vec<NodeId> = self.cluster.replica(self.id).config().peers().collect();
        for to in peers {
            self.cluster.send(self.id, to, message.clone());
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) -> Result<(), Infallible> {
        self.cluster.node(self.id).disk.unsynced.push_back(write);
        Ok(())
    }

    fn apply(&mut self, slot: Slot, value: Value) -> Result<(), Infallible> {
        self.cluster.apply(self.id, slot, value);
        Ok(())
    }

    fn read_ready(&mut self, read: ReadId, _: Time) -> Result<(), Infallible> {
        let (id, seed) = (self.id, self.cluster.seed);
        let node = self.cluster.node(id);
        if let Some(newest) = node.reads.remove(&read) {
            assert!(node.applied >= newest, "seed {seed}: stale read on {id}: {read:?}");
            node.reads_done += 1;
        }
        Ok(())
    }

    fn read_refused(&mut self, read: ReadId) -> Result<(), Infallible> {
        self.cluster.node(self.id).reads.remove(&read);
        Ok(())
    }

    fn change_in_force(&mut self, request: RequestId, epoch: Epoch) -> Result<(), Infallible> {
        self.end(request, Outcome::InForce(epoch));
        Ok(())
    }

    fn change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) -> Result<(), Infallible> {
        self.end(request, Outcome::Refused(refusal));
        Ok(())
    }

    fn handed_over(&mut self, request: RequestId, to: NodeId) -> Result<(), Infallible> {
        self.end(request, Outcome::HandedOver(to));
        Ok(())
    }

    fn handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) -> Result<(), Infallible> {
        self.end(request, Outcome::NotHandedOver(refusal));
        Ok(())
    }

    fn restore(&mut self, meta: SnapshotMeta) -> Result<(), Infallible> {
        let seed = self.cluster.seed;
        let node = self.cluster.node(self.id);
        assert!(meta.slot > node.applied, "seed {seed}: a snapshot goes back");
        node.applied = meta.slot;
        Ok(())
    }

    fn load_snapshot(
        &mut self,
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(), Infallible> {
        let length = (meta.size_bytes - offset).min(max_bytes as u64) as usize;
        let data = Bytes::from(vec![0; length]);
        self.answers.push_back(Input::SnapshotLoaded { to, meta, offset, data });
        Ok(())
    }

    fn store_snapshot(&mut self, slot: Slot, offset: u64, data: Bytes) -> Result<(), Infallible> {
        self.answers.push_back(Input::SnapshotStored { slot, offset: offset + data.len() as u64 });
        Ok(())
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Infallible> {
        self.cluster.node(self.id).disk.save_snapshot(meta.clone());
        self.answers.push_back(Input::SnapshotInstalled { meta });
        Ok(())
    }
}

impl Node {
    pub(super) fn disk_snapshot_slot(&self) -> Slot {
        self.disk.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot)
    }
}

impl Disk {
    fn store(&mut self, write: Write) -> Durable {
        assert!(write.hard_state().promised >= self.hard_state.promised, "a promise was taken back on disk");
        self.hard_state = write.hard_state();
        for (slot, entry) in write.entries() {
            self.entries.insert(*slot, entry.clone());
        }
        write.into_durable()
    }

    fn save_snapshot(&mut self, meta: SnapshotMeta) {
        self.entries = self.entries.split_off(&meta.slot.next());
        self.snapshot = Some(meta);
    }
}
