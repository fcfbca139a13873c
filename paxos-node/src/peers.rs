//! Which disks this node knows its peers by.
//!
//! Paxos builds on acceptors that forget nothing. A node that has lost its disk and comes back under its old id with an
//! empty one has forgotten every promise; no certificate shows it. So each frame between nodes begins with the id
//! that its sender's storage was given when it was made. The first one that a node sees of a peer it remembers,
//! durably, before it believes anything that the peer says; whoever comes with another one later is not listened to
//! and is told so, and then stops.
//!
//! ```text
//! offset size
//!      0    1  kind: 0 a message, 1 a refusal
//!      1   16  storage id of the sender
//!     17       the message; or the storage id that is refused
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use paxos_core::{Message, NodeId, wire};
use paxos_storage::{MAX_PEERS, StorageId};

const MESSAGE: u8 = 0;
const REFUSAL: u8 = 1;
const PREFIX_BYTES: usize = 17;
/// A peer is told at most this often that it is refused.
const REFUSAL_PAUSE_TICKS: u128 = 50;

/// The peers' storages.
#[derive(Debug)]
pub(crate) struct Peers {
    own: StorageId,
    known: BTreeMap<NodeId, StorageId>,
    /// Seen, and not durably remembered yet.
    awaited: BTreeMap<NodeId, StorageId>,
    /// When each peer was last told that it is refused.
    refused_at_ticks: BTreeMap<NodeId, u128>,
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
    /// A peer refuses this node: it knows it by another storage.
    Refused,
    /// No frame of a node.
    Malformed,
}

impl Peers {
    pub(crate) fn new(own: StorageId, known: BTreeMap<NodeId, StorageId>) -> Peers {
        Peers { own, known, awaited: BTreeMap::new(), refused_at_ticks: BTreeMap::new() }
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
            MESSAGE => {}
            REFUSAL => {
                let refused = frame.try_get_u128_le().map(StorageId);
                return if refused == Ok(self.own) { Opened::Refused } else { Opened::Ignored };
            }
            _ => return Opened::Malformed,
        }
        match self.known.get(&from) {
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
        let mut refusal = self.prefix(REFUSAL).to_vec();
        refusal.put_u128_le(storage.0);
        Opened::Stranger { known, storage, refusal: Bytes::from(refusal) }
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
        Peers::new(StorageId(storage), BTreeMap::new())
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
            for kind in 0..3 {
                let opened = peers(1).open(TWO, Bytes::from(vec![kind; length]), &MEMBERS, 0);
                let is_whole = length >= PREFIX_BYTES && kind < 2;
                assert_eq!(opened != Opened::Malformed, is_whole, "{length} bytes of {kind}");
            }
        }
    }
}
