//! What nodes fetch from each other: it must not be dropped before it has arrived.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::machine::Machine;
use super::marks::Mark;
use super::rule::Rule;
use super::scenario::TICK_UNITS;
use super::world::World;
use crate::message::Trimmed;
use crate::{Body, Message, NodeId, SnapshotMeta};

/// What a peer has asked for must be kept at least this long, by any clock.
const KEPT_UNITS: u64 = 50 * TICK_UNITS;

/// The snapshots of which pieces were served, by node and peer.
#[derive(Debug, Default)]
pub(super) struct Fetches(BTreeMap<(usize, NodeId), Fetched>);

/// The last piece that a node has served to a peer.
#[derive(Debug)]
struct Fetched {
    snapshot: SnapshotMeta,
    at_units: u64,
    /// Whether the node has had all of the log behind the snapshot, up to what it has applied, ever since.
    had_log: bool,
}

impl Fetches {
    /// A node that crashes knows nothing of what it has served.
    pub(super) fn forget(&mut self, node: usize) {
        self.0.retain(|(server, _), _| *server != node);
    }

    /// A node takes over a snapshot of a peer: it was behind itself, and never gets to know all of the log
    /// behind the older snapshots that it serves.
    pub(super) fn on_restore(&mut self, node: usize) {
        let of_node = self.0.iter_mut().filter(|((server, _), _)| *server == node);
        of_node.for_each(|(_, fetched)| fetched.had_log = false);
    }
}

impl<M: Machine, D: Disk> World<M, D> {
    /// A node serves a piece of a snapshot.
    pub(super) fn on_serve(&mut self, node: usize, to: NodeId, snapshot: &SnapshotMeta) {
        let trimmed = self.nodes[node].replica.as_ref().map(crate::Replica::trimmed);
        let had_log = trimmed.is_some_and(|trimmed| trimmed <= snapshot.slot);
        let fetched = Fetched { snapshot: snapshot.clone(), at_units: self.schedule.now_units(), had_log };
        self.fetches.0.insert((node, to), fetched);
    }

    /// A node tells a peer that slots are only in a snapshot, or serves values.
    pub(super) fn on_message_to(&mut self, node: usize, to: NodeId, message: &Message) {
        match message.body {
            Body::Trimmed(Trimmed { below }) if !self.has_given_up(node) => {
                let Some(fetched) = self.fetches.0.get(&(node, to)) else { return };
                let (slot, is_recent) = (fetched.snapshot.slot, self.is_recent(fetched));
                let is_kept = below <= slot.next() || !fetched.had_log || !is_recent;
                self.observer.check(is_kept, Rule::FetchedIsKept, || {
                    format!("node #{node} has dropped the log below {below}, but node {to} was fetching its snapshot of slot {slot}")
                });
            }
            // From here on the peer fetches the log.
            Body::Chosen(_) => drop(self.fetches.0.remove(&(node, to))),
            _ => {}
        }
    }

    /// Whether a node may take a snapshot now, which replaces the older of the two on its disk.
    pub(super) fn may_take_snapshot(&mut self, node: usize) -> bool {
        if !self.nodes[node].replica.as_ref().is_some_and(crate::Replica::may_take_snapshot) {
            self.marks.hit(Mark::SnapshotPutOff);
            return false;
        }
        let disk = &self.nodes[node].disk;
        let mut of_node = self.fetches.0.iter().filter(|((server, _), _)| *server == node);
        let dropped = of_node.find(|(_, fetched)| {
            let slot = fetched.snapshot.slot;
            let is_previous = disk.newest_snapshot() > Some(slot) && disk.snapshot(slot).is_some();
            is_previous && self.is_recent(fetched)
        });
        let dropped = dropped.map(|((_, peer), fetched)| (*peer, fetched.snapshot.slot));
        let is_kept = dropped.is_none() || self.has_given_up(node);
        self.observer.check(is_kept, Rule::FetchedIsKept, || {
            format!("node #{node} is about to drop a snapshot that a node fetches: {dropped:?}")
        });
        true
    }

    fn is_recent(&self, fetched: &Fetched) -> bool {
        self.schedule.now_units() < fetched.at_units + KEPT_UNITS
    }

    /// Whether a node has dropped something as its log had grown too long.
    fn has_given_up(&self, node: usize) -> bool {
        self.nodes[node].replica.as_ref().is_some_and(|replica| replica.outpaced().is_some())
    }
}
