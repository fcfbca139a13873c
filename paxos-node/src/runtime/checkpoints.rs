//! Checks that all nodes that have applied the same slots have the same state.
//!
//! Each node takes the digest of its state about once a second, after slots that the others choose as well:
//! those divisible by a power of two that fits the rate of slots; and of the state at which it rests. It
//! tells its newest digests to its peers and compares theirs with its own. Unequal digests of equal slots
//! mean that something is broken: a state machine that is not deterministic, a disk or memory that lies, or
//! two copies of one node that both took part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use paxos_core::{NodeId, Slot};

use crate::lock::lock;

/// How many digests of this node are remembered.
const MAX_OWN: usize = 128;
/// The pause between digests is at least this long,
const MIN_PAUSE: Duration = Duration::from_millis(500);
/// and not much longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Digests that were taken where slots are applied, for the driver to collect.
pub(crate) type Taken = Arc<Mutex<Vec<(Slot, u64)>>>;

/// Decides after which slots a digest is taken.
#[derive(Debug)]
pub(crate) struct DigestPace {
    taken: Taken,
    /// After slots that are divisible by two to the power of this.
    level: u32,
    changed_at: Instant,
}

impl DigestPace {
    pub(crate) fn new() -> DigestPace {
        DigestPace { taken: Taken::default(), level: 0, changed_at: Instant::now() }
    }

    pub(crate) fn taken(&self) -> Taken {
        Arc::clone(&self.taken)
    }

    /// Whether the digest after `slot` is to be taken.
    pub(crate) fn is_due(&mut self, slot: Slot, now: Instant) -> bool {
        let pause = now.duration_since(self.changed_at);
        if pause > MAX_PAUSE && self.level > 0 {
            self.level -= 1;
        }
        if slot.0.trailing_zeros() < self.level {
            return false;
        }
        if pause < MIN_PAUSE {
            self.level += 1;
        }
        self.changed_at = now;
        true
    }

    pub(crate) fn put(&self, slot: Slot, digest: u64) {
        let mut taken = lock(&self.taken);
        if taken.len() == MAX_OWN {
            taken.remove(0);
        }
        taken.push((slot, digest));
    }
}

/// The digests of this node and its peers.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    taken: Taken,
    own: BTreeMap<Slot, u64>,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// The digests that it told last.
    told: Vec<(Slot, u64)>,
    /// The highest slot that was compared, and whether the digests were equal.
    compared: Option<(Slot, bool)>,
}

/// The state of a peer was found to differ, or to be equal again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) peer: NodeId,
    pub(crate) slot: Slot,
    pub(crate) is_equal: bool,
}

impl Checkpoints {
    pub(crate) fn new(taken: Taken) -> Checkpoints {
        Checkpoints { taken, ..Checkpoints::default() }
    }

    /// Collects the digests of this node, and that of the state at which it rests. Returns what they show.
    pub(crate) fn look(&mut self, resting: (Slot, u64)) -> Vec<Finding> {
        let taken = std::mem::take(&mut *lock(&self.taken));
        self.own.extend(taken);
        if resting.0 > Slot::ZERO {
            self.own.insert(resting.0, resting.1);
        }
        while self.own.len() > MAX_OWN {
            self.own.pop_first();
        }
        let Checkpoints { own, peers, .. } = self;
        peers.iter_mut().filter_map(|(peer, view)| view.compare(own, *peer)).collect()
    }

    /// A peer has told its digests.
    pub(crate) fn on_told(&mut self, peer: NodeId, told: Vec<(Slot, u64)>) -> Option<Finding> {
        let view = self.peers.entry(peer).or_default();
        view.told = told;
        view.compare(&self.own, peer)
    }

    /// This node's digests, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        self.own.iter().rev().map(|(slot, digest)| (*slot, *digest))
    }

    /// The peers whose state differs from this node's.
    pub(crate) fn diverged(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|(_, peer)| matches!(peer.compared, Some((_, false)))).map(|(peer, _)| *peer)
    }

    /// Whether a peer differs from this node, and no majority of the members, this node included, agrees with
    /// it: then this node may be the one that is wrong.
    pub(crate) fn is_in_doubt(&self, members: usize) -> bool {
        let agree = self.peers.values().filter(|peer| matches!(peer.compared, Some((_, true)))).count() + 1;
        self.diverged().next().is_some() && 2 * agree <= members
    }
}

impl Peer {
    fn compare(&mut self, own: &BTreeMap<Slot, u64>, peer: NodeId) -> Option<Finding> {
        let common = self.told.iter().filter_map(|(slot, digest)| Some((*slot, own.get(slot)? == digest)));
        let (slot, is_equal) = common.max_by_key(|(slot, _)| *slot)?;
        let before = self.compared.replace((slot, is_equal));
        let was_equal = before.is_none_or(|(_, was_equal)| was_equal);
        (was_equal != is_equal).then_some(Finding { peer, slot, is_equal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NodeId = NodeId(2);
    const THREE: NodeId = NodeId(3);

    /// The slots after which a node takes digests if it applies `slots_per_second`, for ten seconds.
    fn taken(slots_per_second: u32, from: u64) -> Vec<u64> {
        let (mut pace, start) = (DigestPace::new(), Instant::now());
        let slots = u64::from(slots_per_second) * 10;
        (1..=slots)
            .filter(|slot| {
                let now =
                    start + Duration::from_secs(1) / slots_per_second * u32::try_from(*slot).expect("few");
                pace.is_due(Slot(from + slot), now)
            })
            .map(|slot| from + slot)
            .collect()
    }

    #[test]
    fn digests_are_taken_about_once_a_second_after_slots_that_others_choose_too() {
        for slots_per_second in [1, 7, 300, 20_000] {
            let here = taken(slots_per_second, 0);
            assert!((5..60).contains(&here.len()), "{slots_per_second} slots a second: {}", here.len());
            // One that was started in the middle, and one that is a little slower.
            let there = taken(slots_per_second, u64::from(slots_per_second) * 3);
            let common = here.iter().filter(|slot| there.contains(slot)).count();
            assert!(common >= 3, "{slots_per_second} slots a second: {here:?} {there:?}");
        }
    }

    #[test]
    fn a_state_that_differs_is_found_once_and_one_that_is_equal_again() {
        let mut checkpoints = Checkpoints::default();
        assert_eq!(checkpoints.look((Slot(5), 50)), []);
        assert_eq!(checkpoints.on_told(TWO, vec![(Slot(5), 50), (Slot(4), 1)]), None);
        let finding = |is_equal, slot| Some(Finding { peer: THREE, slot: Slot(slot), is_equal });
        assert_eq!(checkpoints.on_told(THREE, vec![(Slot(5), 51)]), finding(false, 5));
        assert_eq!(checkpoints.on_told(THREE, vec![(Slot(5), 51)]), None, "it is told once");
        assert_eq!(checkpoints.diverged().collect::<Vec<_>>(), [THREE]);
        assert!(!checkpoints.is_in_doubt(3), "two of three agree");
        assert!(checkpoints.is_in_doubt(5) && checkpoints.is_in_doubt(4));
        // A node that lags compares when it has come as far.
        assert_eq!(checkpoints.on_told(THREE, vec![(Slot(9), 90)]), None);
        assert_eq!(checkpoints.look((Slot(9), 90)), finding(true, 9).into_iter().collect::<Vec<_>>());
        assert_eq!(checkpoints.diverged().count(), 0);
    }
}
