//! Which disks this node knows its peers by.
//!
//! Paxos builds on acceptors that forget nothing. A node that has lost its disk and comes back under its old id with an
//! empty one has forgotten every promise; no certificate shows it. So each frame between nodes begins with the id
//! that its sender's storage was given when it was made. The first one that a node sees of a peer it remembers,
//! durably, before it believes anything that the peer says; whoever comes with another one later is not listened to
//! and is told so, and then stops.
//!
//! Who has never met a node can't know that it had another disk. So a node whose storage was empty when it started takes
//! no part before more than half of its peers have welcomed it, which they do once they remember it: any two such
//! majorities have a peer in common, and that one has remembered the disk that was there before. Only where all who
//! have met started empty, and are a majority, they may begin: that is how a new cluster looks. It is also how one
//! looks of which a majority has been made anew while the rest, with all that was ever chosen, is down; nobody can
//! tell these two apart. Every node says hello to each peer until that has welcomed it, so that all meet early.
//!
//! ```text
//! offset size
//!      0    1  kind: 0 a message, 1 a refusal, 2 a hello, 3 a welcome
//!      1   16  storage id of the sender
//!     17       the message; or the storage id that is refused or welcomed, and behind the latter, in one byte,
//!              whether the sender started empty
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Message, NodeId, wire};
use paxos_storage::{MAX_PEERS, StorageId};

const MESSAGE: u8 = 0;
const REFUSAL: u8 = 1;
const HELLO: u8 = 2;
const WELCOME: u8 = 3;
const PREFIX_BYTES: usize = 17;
/// A peer is told at most this often that it is refused.
const REFUSAL_PAUSE_TICKS: u128 = 50;
/// How often a node says hello to peers that have not welcomed it.
const HELLO_TICKS: u128 = 10;
/// After so many hellos in vain whoever runs the node is told.
const ROUNDS_UNTIL_WARNING: u64 = 50;

/// The peers' storages.
#[derive(Debug)]
pub(crate) struct Peers {
    own: StorageId,
    known: BTreeMap<NodeId, StorageId>,
    /// Seen, and not durably remembered yet.
    awaited: BTreeMap<NodeId, StorageId>,
    /// When each peer was last told that it is refused.
    refused_at_ticks: BTreeMap<NodeId, u128>,
    /// Who remembers this node's storage, as far as is known, and whether it started empty.
    welcomed_by: BTreeMap<NodeId, bool>,
    /// How many members there are.
    members: usize,
    /// Whether this node started empty.
    is_empty: bool,
    hello_at_ticks: u128,
    hello_rounds: u64,
}

/// What a frame turns out to be.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Opened {
    /// A message from the peer that is known.
    Message(Bytes),
    /// The first word from a peer: nothing is believed before these are remembered.
    Remember(BTreeMap<NodeId, StorageId>),
    /// From a peer whose storage is not remembered yet, or that was refused a moment ago.
    Ignored,
    /// From another storage than the one that the peer is known by. It is to be sent this.
    Stranger { known: StorageId, storage: StorageId, refusal: Bytes },
    /// A hello of a peer that is known. It is to be sent this.
    Greeted { welcome: Bytes },
    /// A peer refuses this node: it knows it by another storage.
    Refused,
    /// No frame of a node.
    Malformed,
}

impl Peers {
    /// The peers of a node that is one of so many `members`, and that has an empty storage or not.
    pub(crate) fn new(
        own: StorageId,
        known: BTreeMap<NodeId, StorageId>,
        members: usize,
        is_empty: bool,
    ) -> Peers {
        Peers {
            own,
            known,
            awaited: BTreeMap::new(),
            refused_at_ticks: BTreeMap::new(),
            welcomed_by: BTreeMap::new(),
            members,
            is_empty,
            hello_at_ticks: 0,
            hello_rounds: 0,
        }
    }

    /// Whether this node may promise and accept.
    pub(crate) fn may_take_part(&self) -> bool {
        let met = self.welcomed_by.len();
        let is_known_to_most = 2 * met > self.members - 1;
        let is_new_cluster =
            2 * (met + 1) > self.members && self.welcomed_by.values().all(|is_empty| *is_empty);
        !self.is_empty || is_known_to_most || is_new_cluster
    }

    /// A frame for each peer that has not welcomed this node, when it is time for one.
    pub(crate) fn hellos(
        &mut self,
        peers: impl Iterator<Item = NodeId>,
        now_ticks: u128,
    ) -> Vec<(NodeId, Bytes)> {
        if now_ticks < self.hello_at_ticks {
            return Vec::new();
        }
        self.hello_at_ticks = now_ticks + HELLO_TICKS;
        self.hello_rounds += 1;
        if !self.may_take_part() && self.hello_rounds.is_multiple_of(ROUNDS_UNTIL_WARNING) {
            let met = self.welcomed_by.len();
            tracing::warn!(met, "this node's disk is new: it takes part once it has met more of its peers");
        }
        let hello = Bytes::copy_from_slice(&self.prefix(HELLO));
        peers.filter(|peer| !self.welcomed_by.contains_key(peer)).map(|peer| (peer, hello.clone())).collect()
    }

    /// A frame with a message from this node.
    pub(crate) fn seal(&self, message: &Message) -> Bytes {
        wire::encode_behind(&self.prefix(MESSAGE), message)
    }

    /// Finds out what a frame from `from`, one of `members`, is.
    pub(crate) fn open(
        &mut self,
        from: NodeId,
        mut frame: Bytes,
        members: &[NodeId],
        now_ticks: u128,
    ) -> Opened {
        if frame.len() < PREFIX_BYTES {
            return Opened::Malformed;
        }
        let (kind, storage) = (frame.get_u8(), StorageId(frame.get_u128_le()));
        match kind {
            MESSAGE | HELLO => {}
            REFUSAL | WELCOME => {
                let is_meant = frame.try_get_u128_le().map(StorageId) == Ok(self.own);
                if is_meant && kind == WELCOME && members.contains(&from) {
                    self.welcomed_by.insert(from, frame.try_get_u8() == Ok(1));
                }
                return if is_meant && kind == REFUSAL { Opened::Refused } else { Opened::Ignored };
            }
            _ => return Opened::Malformed,
        }
        match self.known.get(&from) {
            Some(known) if *known == storage && kind == HELLO => {
                let mut welcome = self.about(WELCOME, storage);
                welcome.put_u8(u8::from(self.is_empty));
                Opened::Greeted { welcome: Bytes::from(welcome) }
            }
            Some(known) if *known == storage => Opened::Message(frame),
            Some(known) => self.refuse(from, *known, storage, now_ticks),
            None if self.awaited.contains_key(&from) || !members.contains(&from) => Opened::Ignored,
            None => {
                self.awaited.insert(from, storage);
                Opened::Remember(self.to_remember(members))
            }
        }
    }

    /// All that was to be remembered is.
    pub(crate) fn on_remembered(&mut self, peers: BTreeMap<NodeId, StorageId>) {
        self.awaited.retain(|node, _| !peers.contains_key(node));
        self.known = peers;
    }

    fn refuse(&mut self, from: NodeId, known: StorageId, storage: StorageId, now_ticks: u128) -> Opened {
        let last = self.refused_at_ticks.get(&from);
        if last.is_some_and(|last| now_ticks < last + REFUSAL_PAUSE_TICKS) {
            return Opened::Ignored;
        }
        self.refused_at_ticks.insert(from, now_ticks);
        Opened::Stranger { known, storage, refusal: Bytes::from(self.about(REFUSAL, storage)) }
    }

    /// What is known and awaited; where that is too much, without those that are no members any more.
    fn to_remember(&self, members: &[NodeId]) -> BTreeMap<NodeId, StorageId> {
        let mut peers: BTreeMap<_, _> =
            self.known.iter().chain(&self.awaited).map(|(node, id)| (*node, *id)).collect();
        if peers.len() > MAX_PEERS {
            peers.retain(|node, _| members.contains(node));
        }
        peers
    }

    fn about(&self, kind: u8, storage: StorageId) -> Vec<u8> {
        let mut frame = self.prefix(kind).to_vec();
        frame.put_u128_le(storage.0);
        frame
    }

    fn prefix(&self, kind: u8) -> [u8; PREFIX_BYTES] {
        let mut prefix = [kind; PREFIX_BYTES];
        prefix[1..].copy_from_slice(&self.own.0.to_le_bytes());
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxos_core::{Ballot, Body, Epoch};

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);
    const MEMBERS: [NodeId; 2] = [ONE, TWO];

    fn peers(storage: u128) -> Peers {
        Peers::new(StorageId(storage), BTreeMap::new(), MEMBERS.len(), true)
    }

    fn message() -> Message {
        Message { epoch: Epoch(0), body: Body::Probe { ballot: Ballot { round: 1, node: TWO } } }
    }

    #[test]
    fn nothing_is_believed_before_its_sender_is_remembered() {
        let (mut one, two) = (peers(1), peers(2));
        let first = one.open(TWO, two.seal(&message()), &MEMBERS, 0);
        let Opened::Remember(known) = first else { panic!("{first:?}") };
        assert_eq!(
            one.open(TWO, two.seal(&message()), &MEMBERS, 0),
            Opened::Ignored,
            "it is not durable yet"
        );
        one.on_remembered(known);
        let opened = one.open(TWO, two.seal(&message()), &MEMBERS, 0);
        assert_eq!(opened, Opened::Message(wire::encode(&message())));
    }

    #[test]
    fn another_storage_under_a_known_id_is_refused_and_finds_out() {
        let (mut one, mut returned) = (peers(1), peers(3));
        one.on_remembered(BTreeMap::from([(TWO, StorageId(2))]));
        let opened = one.open(TWO, returned.seal(&message()), &MEMBERS, 0);
        let Opened::Stranger { known, storage, refusal } = opened else { panic!("{opened:?}") };
        assert_eq!((known, storage), (StorageId(2), StorageId(3)));
        assert_eq!(returned.open(ONE, refusal.clone(), &MEMBERS, 0), Opened::Refused);
        assert_eq!(
            peers(2).open(ONE, refusal, &MEMBERS, 0),
            Opened::Ignored,
            "the one that is known is not meant"
        );
        assert_eq!(
            one.open(TWO, returned.seal(&message()), &MEMBERS, 49),
            Opened::Ignored,
            "it was told just now"
        );
        let later = one.open(TWO, returned.seal(&message()), &MEMBERS, 50);
        assert!(matches!(later, Opened::Stranger { .. }), "the first word may have got lost");
    }

    /// For each number of peers that have met a new node, whether it takes part.
    fn takes_part(members: u64, peers_are_empty: bool) -> Vec<bool> {
        let members: Vec<NodeId> = (1..=members).map(NodeId).collect();
        let new =
            |storage, is_empty| Peers::new(StorageId(storage), BTreeMap::new(), members.len(), is_empty);
        let mut fresh = new(1, true);
        let mut taken = vec![fresh.may_take_part()];
        for peer in &members[1..] {
            let mut other = new(u128::from(peer.0), peers_are_empty);
            let (_, hello) = fresh.hellos([*peer].into_iter(), u128::from(peer.0) * 10).swap_remove(0);
            let Opened::Remember(known) = other.open(ONE, hello.clone(), &members, 0) else {
                panic!("{peer}")
            };
            assert_eq!(
                other.open(ONE, hello.clone(), &members, 0),
                Opened::Ignored,
                "not before it is durable"
            );
            other.on_remembered(known);
            let Opened::Greeted { welcome } = other.open(ONE, hello, &members, 0) else { panic!("{peer}") };
            assert_eq!(fresh.open(*peer, welcome, &members, 0), Opened::Ignored);
            taken.push(fresh.may_take_part());
        }
        assert!(fresh.hellos(members[1..].iter().copied(), 1000).is_empty(), "all have welcomed it");
        taken
    }

    #[test]
    fn an_empty_storage_takes_no_part_before_most_of_its_peers_remember_it() {
        assert_eq!(takes_part(1, false), [true], "one node alone is a cluster");
        assert_eq!(takes_part(3, false), [false, false, true]);
        assert_eq!(takes_part(4, false), [false, false, true, true]);
        assert_eq!(takes_part(5, false), [false, false, false, true, true]);
        assert!(
            Peers::new(StorageId(1), BTreeMap::new(), 3, false).may_take_part(),
            "it has met them before"
        );
    }

    #[test]
    fn a_majority_of_empty_storages_begins_a_new_cluster() {
        assert_eq!(takes_part(3, true), [false, true, true]);
        assert_eq!(takes_part(5, true), [false, false, true, true, true]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_members_come_first() {
        let mut one = peers(1);
        one.on_remembered((100..228).map(|node| (NodeId(node), StorageId(7))).collect());
        let opened = one.open(TWO, peers(2).seal(&message()), &MEMBERS, 0);
        assert_eq!(opened, Opened::Remember(BTreeMap::from([(TWO, StorageId(2))])));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for length in 0..40 {
            for kind in 0..5 {
                let opened = peers(1).open(TWO, Bytes::from(vec![kind; length]), &MEMBERS, 0);
                let is_whole = length >= PREFIX_BYTES && kind < 4;
                assert_eq!(opened != Opened::Malformed, is_whole, "{length} bytes of {kind}");
            }
        }
    }
}
