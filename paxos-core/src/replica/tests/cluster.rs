//! Replicas with a network that can be cut and slowed, and disks that lose what was not synced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::random::Random;
use crate::{
    Body, Config, Durable, Entry, HardState, Input, Message, NodeId, Options, Output, ReadId, Recovered,
    Replica, Slot, SnapshotMeta, Value, Write,
};

/// What a disk holds, and writes on the way to it.
#[derive(Default)]
pub(super) struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    snapshot: Option<SnapshotMeta>,
    incomplete_through: Slot,
    unsynced: VecDeque<Write>,
}

pub(super) struct Node {
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
    pub(super) applied: Slot,
    /// Reads asked for, with the highest slot that anybody had applied then.
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
    /// The value of each slot that any node has applied: what all others must apply there.
    pub(super) applied: BTreeMap<Slot, Value>,
    /// Bodies sent so far, to be counted by scripts.
    pub(super) sent: Vec<(NodeId, NodeId, Body)>,
    pub(super) syncs: u64,
    options: Options,
    seed: u64,
    in_flight: BTreeMap<(u64, u64), (NodeId, NodeId, Message)>,
    now: u64,
    next_number: u64,
}

impl Cluster {
    pub(super) fn new(size: u64, seed: u64, options: Options) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            random: Random::new(seed),
            faults: Faults::default(),
            cut: Vec::new(),
            applied: BTreeMap::new(),
            sent: Vec::new(),
            syncs: 0,
            options,
            seed,
            in_flight: BTreeMap::new(),
            now: 0,
            next_number: 0,
        };
        for id in 1..=size {
            let node = Node {
                replica: None,
                disk: Disk::default(),
                applied: Slot::ZERO,
                reads: BTreeMap::new(),
                reads_done: 0,
                is_disk_stuck: false,
            };
            cluster.nodes.insert(NodeId(id), node);
        }
        for id in 1..=size {
            cluster.start(NodeId(id));
        }
        cluster
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let members: Vec<NodeId> = self.nodes.keys().copied().collect();
        let config = Config::new(id, &members, self.options.clone()).expect("the options fit together");
        let seed = self.random.below(u64::MAX);
        let node = self.node(id);
        let disk = &node.disk;
        let recovered = Recovered {
            hard_state: disk.hard_state,
            snapshot: disk.snapshot,
            entries: disk.entries.iter().map(|(slot, entry)| (*slot, entry.clone())).collect(),
            incomplete_through: disk.incomplete_through,
        };
        node.applied = disk.snapshot.map_or(Slot::ZERO, |meta| meta.slot);
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

    /// Starts a node again with a disk that has lost what it held from `first` on, and may have held more through
    /// `through`.
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
        let meta = SnapshotMeta { slot: node.applied, size_bytes: 1000, checksum: 0 };
        if node.replica.is_some() && node.disk.snapshot.is_none_or(|old| old.slot < meta.slot) {
            node.disk.save_snapshot(meta);
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
        let mut outputs = Vec::new();
        let Some(replica) = &mut self.node(id).replica else { return };
        replica.step(input, &mut outputs);
        for output in outputs {
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Persist(write) => self.node(id).disk.unsynced.push_back(write),
            Output::Send { to, message } => self.send(id, to, message),
            Output::Broadcast { message } => {
                for to in self.ids() {
                    if to != id {
                        self.send(id, to, message.clone());
                    }
                }
            }
            Output::Apply { slot, value } => self.apply(id, slot, value),
            Output::Restore { meta } => {
                assert!(meta.slot > self.node(id).applied, "seed {}: a snapshot goes back", self.seed);
                self.node(id).applied = meta.slot;
            }
            Output::ReadReady { read } => {
                let seed = self.seed;
                let node = self.node(id);
                if let Some(newest) = node.reads.remove(&read) {
                    assert!(node.applied >= newest, "seed {seed}: stale read on {id}: {read:?}");
                    node.reads_done += 1;
                }
            }
            Output::LoadSnapshot { to, meta, offset, max_bytes } => {
                let length = (meta.size_bytes - offset).min(max_bytes as u64) as usize;
                let data = Bytes::from(vec![0; length]);
                self.step(id, Input::SnapshotLoaded { to, meta, offset, data });
            }
            Output::StoreSnapshot { slot, offset, data } => {
                self.step(id, Input::SnapshotStored { slot, offset: offset + data.len() as u64 });
            }
            Output::InstallSnapshot { meta } => {
                self.node(id).disk.save_snapshot(meta);
                self.step(id, Input::SnapshotInstalled { meta });
            }
            Output::ReadRefused { read } => {
                self.node(id).reads.remove(&read);
            }
            Output::Refused { .. } => {}
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

impl Node {
    pub(super) fn disk_snapshot_slot(&self) -> Slot {
        self.disk.snapshot.map_or(Slot::ZERO, |meta| meta.slot)
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
        self.snapshot = Some(meta);
        self.entries = self.entries.split_off(&meta.slot.next());
    }
}
