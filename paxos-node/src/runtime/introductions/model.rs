//! A model that plays how nodes meet: frames in any order, lost and doubled; nodes that crash before or after
//! what they remember is durable; disks that are made anew. Whatever happens, any two quorums that ever
//! listen to each other have a storage in common; and when all are up, and no disk was made anew, the cluster
//! is founded. A node that was cut off while the others removed it is heard when it is back, so that it can
//! be told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::message::Probe;
use paxos_core::{Ballot, Body, Epoch, Membership, Message, NodeId};
use paxos_storage::{Registry, Start, StorageId};

use super::mutant::{self, Mutant};
use super::{Action, Introductions, OwnNode};

/// What survives a crash.
#[derive(Clone, Debug)]
struct Disk {
    storage: StorageId,
    registry: Registry,
}

#[derive(Debug)]
struct Node {
    disk: Disk,
    running: Option<Introductions>,
    /// On its way to the disk.
    writing: Option<Registry>,
    is_never_lost: bool,
}

/// A storage of some node.
type Acceptor = (NodeId, StorageId);

struct World {
    random: fastrand::Rng,
    nodes: BTreeMap<NodeId, Node>,
    absent: BTreeSet<NodeId>,
    network: Vec<(NodeId, NodeId, Bytes)>,
    now_ticks: u128,
    quorums: Vec<BTreeSet<Acceptor>>,
    disks_made: u128,
    /// No member any more, as all others know.
    removed: Option<NodeId>,
    /// Nothing from it or to it arrives.
    cut_off: Option<NodeId>,
}

impl World {
    fn new(seed: u64, size: u64, absent: &[u64]) -> World {
        let mut world = World {
            random: fastrand::Rng::with_seed(seed),
            nodes: BTreeMap::new(),
            absent: absent.iter().copied().map(NodeId).collect(),
            network: Vec::new(),
            now_ticks: 0,
            quorums: Vec::new(),
            disks_made: 0,
            removed: None,
            cut_off: None,
        };
        // With the disks of all founders gone the cluster is a new one, and nobody can know better.
        let founders: Vec<u64> = (1..=size).filter(|id| !absent.contains(id)).collect();
        let spared = founders[world.random.usize(..founders.len())];
        for id in 1..=size {
            let disk = world.new_disk();
            let node = Node { disk, running: None, writing: None, is_never_lost: id == spared };
            world.nodes.insert(NodeId(id), node);
        }
        world
    }

    fn new_disk(&mut self) -> Disk {
        self.disks_made += 1;
        Disk { storage: StorageId(self.disks_made), registry: Registry::default() }
    }

    fn start(&mut self, id: NodeId) {
        let members: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        let nonce = self.random.u64(1..);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let number = node.disk.registry.start.number + 1;
        node.disk.registry.start = Start { number, nonce };
        let is_new = node.disk.registry.founding.is_none() && !self.absent.contains(&id);
        let own = OwnNode {
            node: id,
            cluster: String::from("model"),
            storage: node.disk.storage,
            members,
            absent: if is_new { self.absent.clone() } else { BTreeSet::new() },
            settings: BTreeMap::new(),
            facts: BTreeMap::new(),
            reach: super::Reach::default(),
            levels: super::Levels::own(paxos_core::FormatLevel::FIRST),
        };
        let founders: Vec<NodeId> = own.members.iter().copied().collect();
        let founding = Membership::new(&founders).expect("the nodes of a model are few and distinct");
        node.running = Some(Introductions::new(own, founding, node.disk.registry.clone()));
        self.tell_removal(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(running) = &mut node.running {
            running.tick(self.now_ticks);
        }
        self.carry_out(id);
    }

    /// The others remove a node, which hears nothing from now on.
    fn remove_unheard(&mut self, id: NodeId) {
        (self.removed, self.cut_off) = (Some(id), Some(id));
        self.network.retain(|(from, to, _)| *from != id && *to != id);
        for id in self.ids() {
            self.tell_removal(id);
        }
    }

    /// Tells a node which members there are, unless it was removed itself.
    fn tell_removal(&mut self, id: NodeId) {
        let members: Vec<NodeId> = self.ids().into_iter().filter(|id| Some(*id) != self.removed).collect();
        let is_told = self.removed.is_some() && self.removed != Some(id);
        if let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut())
            && is_told
        {
            running.set_members(&members);
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// A node says something to all others, as one does that looks for a leader.
    fn speak(&mut self, id: NodeId) {
        let ballot = Ballot { round: 1, node: id };
        let message = Message { epoch: Epoch(0), body: Body::Probe(Probe { ballot }) };
        let Some(running) = self.nodes.get(&id).and_then(|node| node.running.as_ref()) else { return };
        let frame = running.frame(&message);
        let others = self.ids().into_iter().filter(|other| *other != id);
        self.network.extend(others.map(|to| (id, to, frame.clone())));
    }

    /// Ends a node; what it was writing is on its disk, or is not.
    fn crash(&mut self, id: NodeId) {
        let is_written = self.random.bool();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(registry) = node.writing.take().filter(|_| is_written) {
            node.disk.registry = registry;
        }
        node.running = None;
    }

    fn reformat(&mut self, id: NodeId) {
        self.crash(id);
        let disk = self.new_disk();
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.is_never_lost) {
            node.disk = disk;
        }
    }

    fn finish_write(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (Some(running), Some(registry)) = (&mut node.running, node.writing.take()) else { return };
        node.disk.registry = registry.clone();
        running.on_remembered(registry);
        self.carry_out(id);
    }

    fn deliver(&mut self, index: usize, is_doubled: bool) {
        let (from, to, frame) =
            if is_doubled { self.network[index].clone() } else { self.network.swap_remove(index) };
        if let Some(running) = self.nodes.get_mut(&to).and_then(|node| node.running.as_mut()) {
            let _ = running.receive(from, frame);
            self.carry_out(to);
        }
    }

    fn carry_out(&mut self, id: NodeId) {
        let mut has_to_stop = false;
        if let Some(node) = self.nodes.get_mut(&id) {
            while let Some(action) = node.running.as_mut().and_then(Introductions::take_action) {
                match action {
                    Action::Send { to, .. } if [Some(id), Some(to)].contains(&self.cut_off) => {}
                    Action::Send { to, frame } => self.network.push((id, to, frame)),
                    Action::Remember(registry) => node.writing = Some(registry),
                    Action::StopForOtherDisk { .. } | Action::StopForCopy { .. } => has_to_stop = true,
                    Action::Tell(_) | Action::StopIfAlone { .. } => {}
                }
            }
        }
        if has_to_stop {
            self.crash(id);
        }
        // More would only be the same again.
        let surplus = self.network.len().saturating_sub(200);
        self.network.drain(..surplus);
        self.note_quorums();
    }

    /// Which of the nodes hear each other and take part.
    fn note_quorums(&mut self) {
        let running: Vec<(NodeId, &Introductions, StorageId)> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.running.as_ref()?, node.disk.storage)))
            .filter(|(_, running, _)| running.may_take_part())
            .collect();
        let majority = self.nodes.len() / 2 + 1;
        for chosen in 0u32..1 << running.len() {
            if chosen.count_ones() as usize != majority {
                continue;
            }
            let quorum: Vec<_> = running
                .iter()
                .enumerate()
                .filter(|(index, _)| chosen & 1 << index != 0)
                .map(|(_, one)| one)
                .collect();
            let hear = |one: &(NodeId, &Introductions, StorageId),
                        other: &(NodeId, &Introductions, StorageId)| {
                one.0 == other.0 || one.1.listens_to(other.0)
            };
            if quorum.iter().all(|one| quorum.iter().all(|other| hear(one, other))) {
                let acceptors: BTreeSet<Acceptor> =
                    quorum.iter().map(|(id, _, storage)| (*id, *storage)).collect();
                if !self.quorums.contains(&acceptors) {
                    self.quorums.push(acceptors);
                }
            }
        }
    }

    fn play(&mut self, steps: usize, with_new_disks: bool) {
        for _ in 0..steps {
            let id = NodeId(self.random.u64(1..=self.nodes.len() as u64));
            let is_running = self.nodes[&id].running.is_some();
            match self.random.u32(0..100) {
                0..10 if !is_running => self.start(id),
                10..12 => self.crash(id),
                12..14 if with_new_disks => self.reformat(id),
                14..30 => self.finish_write(id),
                30..45 => {
                    self.now_ticks += self.random.u128(1..60);
                    let now_ticks = self.now_ticks;
                    if let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut()) {
                        running.tick(now_ticks);
                        self.carry_out(id);
                    }
                }
                45..50 if !self.network.is_empty() => {
                    let index = self.random.usize(..self.network.len());
                    self.network.swap_remove(index);
                }
                _ if !self.network.is_empty() => {
                    let (index, is_doubled) =
                        (self.random.usize(..self.network.len()), self.random.u32(0..10) == 0);
                    self.deliver(index, is_doubled);
                }
                _ => {}
            }
        }
    }

    /// Has all nodes up and everything arrive.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.settle_for_a_while();
        }
    }

    fn settle_for_a_while(&mut self) {
        for id in self.ids() {
            if self.nodes[&id].running.is_none() {
                self.start(id);
            }
        }
        self.now_ticks += 10;
        for id in self.ids() {
            let now_ticks = self.now_ticks;
            if let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut()) {
                running.tick(now_ticks);
            }
            self.carry_out(id);
            self.finish_write(id);
        }
        while !self.network.is_empty() {
            self.deliver(0, false);
        }
    }

    /// Two quorums that have no acceptor in common.
    fn disjoint_quorums(&self) -> Option<(&BTreeSet<Acceptor>, &BTreeSet<Acceptor>)> {
        let pairs = self.quorums.iter().flat_map(|one| self.quorums.iter().map(move |other| (one, other)));
        pairs.into_iter().find(|(one, other)| one.is_disjoint(other))
    }
}

/// Whether two quorums without a common acceptor came about.
fn breaks(seed: u64, size: u64, absent: &[u64]) -> bool {
    let mut world = World::new(seed, size, absent);
    world.play(1500, true);
    world.settle();
    world.disjoint_quorums().is_some()
}

#[test]
fn no_two_quorums_without_a_common_acceptor_ever_take_part() {
    for (size, seeds, absent) in [(3, 300, &[][..]), (5, 100, &[]), (3, 200, &[3]), (5, 50, &[2, 4])] {
        for seed in 0..seeds {
            assert!(!breaks(seed, size, absent), "seed {seed}, {size} nodes without {absent:?}");
        }
    }
}

#[test]
fn a_cluster_is_founded_when_all_are_up_whatever_happened_before() {
    for (size, seeds, absent) in
        [(1, 3, &[][..]), (3, 200, &[]), (5, 80, &[]), (3, 100, &[3]), (5, 50, &[2, 4])]
    {
        for seed in 0..seeds {
            let mut world = World::new(seed, size, absent);
            world.play(300, false);
            world.settle();
            for (id, node) in &world.nodes {
                let founded = node.running.as_ref().is_some_and(Introductions::may_take_part);
                assert!(
                    founded,
                    "seed {seed}, {size} nodes without {absent:?}: node {id} does not take part"
                );
            }
            assert!(world.disjoint_quorums().is_none(), "seed {seed}, {size} nodes without {absent:?}");
        }
    }
}

/// Whether all others listen to a node that was cut off while they removed it, once it is back and speaks.
/// Any of them may have been started anew meanwhile.
fn hear_who_was_removed(seed: u64, size: u64) -> bool {
    let mut world = World::new(seed, size, &[]);
    world.settle();
    let removed = NodeId(world.random.u64(1..=size));
    world.remove_unheard(removed);
    let steps = world.random.usize(..400);
    world.play(steps, false);
    world.settle();
    world.cut_off = None;
    for _ in 0..20 {
        world.speak(removed);
        world.settle_for_a_while();
    }
    let listens = |node: &Node| node.running.as_ref().is_some_and(|running| running.listens_to(removed));
    world.nodes.iter().all(|(id, node)| *id == removed || listens(node))
}

#[test]
fn a_node_that_was_cut_off_while_it_was_removed_is_heard_when_it_is_back() {
    for (size, seeds) in [(3, 200), (5, 80)] {
        for seed in 0..seeds {
            assert!(hear_who_was_removed(seed, size), "seed {seed}, {size} nodes");
        }
    }
}

#[test]
fn strangers_must_be_asked() {
    let found = (0..200)
        .find(|seed| mutant::with(Some(Mutant::StrangerNotAsked), || !hear_who_was_removed(*seed, 3)));
    assert!(found.is_some(), "it is never noticed that a stranger was not asked");
}

#[test]
fn each_rule_is_needed() {
    for (mutant, absent) in [
        (Mutant::FoundedByMost, &[][..]),
        (Mutant::NotBound, &[]),
        (Mutant::NotDurable, &[]),
        (Mutant::JoinsByOne, &[3]),
    ] {
        let found = (500..1500).find(|seed| mutant::with(Some(mutant), || breaks(*seed, 3, absent)));
        assert!(found.is_some(), "{mutant:?} is never noticed");
    }
}
