//! Who is a peer, and who a guest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;
use tokio::time::{Instant, sleep};

use super::Counters;
use crate::lane::{LaneLimit, LaneLimits};

/// The most guests that a transport of this crate serves at a time.
pub const MAX_GUESTS: usize = 8;
/// The bounds of the queues of each guest, and of the frames that were received from all guests together.
pub const GUEST_LANES: LaneLimits = LaneLimits {
    control: LaneLimit { frames: 1024, bytes: 1 << 20 },
    log: LaneLimit { frames: 64, bytes: 64 << 10 },
    bulk: LaneLimit { frames: 64, bytes: 64 << 10 },
};
/// A guest with which no frame is exchanged for this long loses its place.
pub const GUEST_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a guest is checked. The place of one that has hung up is free after this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The nodes that a transport talks with, and what the backend keeps for each (`T`).
///
/// The table of peers is never changed in place: a holder of it looks a peer up without a lock. There are at
/// most [`MAX_GUESTS`] guests.
#[derive(Debug)]
pub struct Roster<T> {
    peers: Arc<BTreeMap<NodeId, Arc<T>>>,
    guests: BTreeMap<NodeId, Arc<T>>,
}

/// What [`Roster::set_peers`] has changed.
#[derive(Debug)]
#[must_use = "the connections of those that are gone are to be closed"]
pub struct Changes<T> {
    /// All peers from now on.
    pub peers: Arc<BTreeMap<NodeId, Arc<T>>>,
    /// Those of them that are new.
    pub added: BTreeMap<NodeId, Arc<T>>,
    /// Those that are no peers any more.
    pub removed: BTreeMap<NodeId, Arc<T>>,
    /// What was kept for guests that are peers now. They connect anew, with the queues of a peer.
    pub promoted: Vec<Arc<T>>,
}

impl<T> Roster<T> {
    /// These peers, and no guests.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = (NodeId, T)>) -> Roster<T> {
        let peers = peers.into_iter().map(|(node, kept)| (node, Arc::new(kept))).collect();
        Roster { peers: Arc::new(peers), guests: BTreeMap::new() }
    }

    /// The present peers.
    #[must_use]
    pub fn peers(&self) -> &Arc<BTreeMap<NodeId, Arc<T>>> {
        &self.peers
    }

    /// The present guests.
    #[must_use]
    pub fn guests(&self) -> &BTreeMap<NodeId, Arc<T>> {
        &self.guests
    }

    /// What is kept for each peer and guest.
    pub fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.peers.values().chain(self.guests.values())
    }

    /// What is kept for this peer or guest.
    #[must_use]
    pub fn find(&self, node: NodeId) -> Option<&Arc<T>> {
        self.peers.get(&node).or_else(|| self.guests.get(&node))
    }

    /// Makes `nodes` the peers, and calls `new` for each that was none.
    pub fn set_peers(
        &mut self,
        nodes: impl IntoIterator<Item = NodeId>,
        mut new: impl FnMut(NodeId) -> T,
    ) -> Changes<T> {
        let before = Arc::clone(&self.peers);
        let mut added = BTreeMap::new();
        let mut keep = |node: NodeId| match before.get(&node) {
            Some(kept) => Arc::clone(kept),
            None => Arc::clone(added.entry(node).or_insert_with(|| Arc::new(new(node)))),
        };
        let peers: BTreeMap<_, _> = nodes.into_iter().map(|node| (node, keep(node))).collect();
        let is_gone = |(node, _): &(&NodeId, &Arc<T>)| !peers.contains_key(*node);
        let removed = before.iter().filter(is_gone).map(|(node, kept)| (*node, Arc::clone(kept))).collect();
        let promoted = peers.keys().filter_map(|node| self.guests.remove(node)).collect();
        self.peers = Arc::new(peers);
        Changes { peers: Arc::clone(&self.peers), added, removed, promoted }
    }

    /// Adds a peer, and returns what is kept for it; what `new` makes if it was none.
    pub fn add_peer(&mut self, node: NodeId, new: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.peers.get(&node) {
            return Arc::clone(known);
        }
        let kept = Arc::new(new());
        self.guests.remove(&node);
        let mut peers = BTreeMap::clone(&self.peers);
        peers.insert(node, Arc::clone(&kept));
        self.peers = Arc::new(peers);
        kept
    }

    /// Takes a node as a guest, and returns what `new` makes. `None` if it is a peer or a guest already, or
    /// if there is no room for one more.
    pub fn add_guest(&mut self, node: NodeId, new: impl FnOnce() -> T) -> Option<Arc<T>> {
        if self.find(node).is_some() || self.guests.len() >= MAX_GUESTS {
            return None;
        }
        let kept = Arc::new(new());
        self.guests.insert(node, Arc::clone(&kept));
        Some(kept)
    }

    /// Frees the place of a guest for which exactly this is kept. `false` if by now it is a peer, gone, or a
    /// guest again.
    pub fn remove_guest(&mut self, node: NodeId, kept: &Arc<T>) -> bool {
        let is_present = self.guests.get(&node).is_some_and(|present| Arc::ptr_eq(present, kept));
        if is_present {
            self.guests.remove(&node);
        }
        is_present
    }
}

/// Waits until a guest has hung up, or no frame was exchanged with it for [`GUEST_IDLE_TIMEOUT`].
pub async fn guest_has_left(counters: &Counters, is_connected: impl Fn() -> bool) {
    let mut known = counters.snapshot();
    let mut changed_at = Instant::now();
    loop {
        sleep(LOOK_INTERVAL).await;
        let present = counters.snapshot();
        if present != known {
            (known, changed_at) = (present, Instant::now());
        }
        if changed_at.elapsed() >= GUEST_IDLE_TIMEOUT || !is_connected() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: &BTreeMap<NodeId, Arc<u64>>) -> Vec<u64> {
        of.keys().map(|node| node.0).collect()
    }

    #[test]
    fn setting_peers_tells_who_comes_and_goes_and_leaves_the_others_alone() {
        let mut roster = Roster::new([(NodeId(1), 10), (NodeId(2), 20)]);
        let stays = Arc::clone(roster.find(NodeId(2)).expect("it is a peer"));
        assert!(roster.add_guest(NodeId(3), || 31).is_some());
        let changes = roster.set_peers([NodeId(2), NodeId(3)], |node| node.0 * 10);
        assert_eq!((ids(&changes.added), ids(&changes.removed)), (vec![3], vec![1]));
        assert_eq!(changes.promoted, [Arc::new(31)], "what the guest had is given back");
        assert_eq!(roster.find(NodeId(3)), Some(&Arc::new(30)), "the peer has something new");
        assert!(Arc::ptr_eq(&stays, &roster.peers()[&NodeId(2)]));
        assert!(roster.guests().is_empty() && roster.find(NodeId(1)).is_none());
    }

    #[test]
    fn guests_are_bounded_and_only_the_present_one_can_leave() {
        let mut roster = Roster::new([(NodeId(1), 0)]);
        assert!(roster.add_guest(NodeId(1), || 1).is_none(), "a peer is no guest");
        let guests: Vec<_> = (2..2 + MAX_GUESTS as u64).map(NodeId).collect();
        let kept: Vec<_> = guests.iter().map(|guest| roster.add_guest(*guest, || 1).expect("room")).collect();
        assert!(roster.add_guest(NodeId(99), || 1).is_none(), "there is no room");
        assert!(!roster.remove_guest(guests[0], &Arc::new(1)), "that is an earlier one");
        assert!(roster.remove_guest(guests[0], &kept[0]));
        assert!(roster.add_guest(NodeId(99), || 1).is_some());
        let _ = roster.add_peer(NodeId(99), || 2);
        assert!(!roster.guests().contains_key(&NodeId(99)), "it is a peer now");
    }
}
