//! What is encoded is decoded, and no bytes do harm.

use bytes::{Bytes, BytesMut};
use paxos_core::{
    Ballot, Entry, Epoch, FormatLevel, HardState, Membership, NodeId, Slot, SnapshotMeta, Time, Value,
};
use proptest::prelude::*;

use super::membership::longest_membership;
use super::{DecodeError, Stored, decode, encode};
use crate::{
    Error, ErrorKind, Founding, FoundingId, Identity, KnownPeer, Origin, Registry, RestoreId, Start,
    StorageId,
};

fn membership() -> Membership {
    Membership::new(&[1, 2, 3].map(NodeId)).expect("these members fit").in_epoch(Epoch(9))
}

fn snapshot() -> SnapshotMeta {
    SnapshotMeta { slot: Slot(7), size_bytes: 1 << 40, checksum: 77, membership: membership() }
}

fn registry(peers: usize, founding: Option<Founding>, origin: Option<Origin>) -> Registry {
    let peer = |node: u64| {
        let start = Start { number: node, nonce: u64::MAX - node };
        (NodeId(node), KnownPeer { storage: StorageId(u128::from(node) << 90), start })
    };
    let peers = (1..).map(peer).take(peers).collect();
    Registry { start: Start { number: 4, nonce: 5 }, is_superseded: true, founding, origin, peers }
}

fn assert_comes_back<T: Stored + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(bytes.clone()).as_ref(), Ok(value));
    for length in 0..bytes.len() {
        assert_eq!(decode::<T>(bytes.slice(..length)), Err(DecodeError::Damaged), "cut to {length} bytes");
    }
    // The first bytes hold all that is fixed.
    for bit in 0..bytes.len().min(600) * 8 {
        let mut flipped = BytesMut::from(&bytes[..]);
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode::<T>(flipped.freeze()), Err(DecodeError::Damaged), "bit {bit}");
    }
}

#[test]
fn whatever_a_backend_stores_comes_back_and_every_flipped_bit_is_seen() {
    assert_comes_back(&Identity::existing(String::from("zwölf"), NodeId(3), StorageId(u128::MAX - 1)));
    assert_comes_back(&Identity::existing(String::new(), NodeId(3), StorageId(0)));
    let promised = Ballot { round: u64::MAX, node: NodeId(2) };
    assert_comes_back(&HardState { promised, chosen: Slot(u64::MAX - 1) });
    assert_comes_back(&snapshot());
    assert_comes_back(&SnapshotMeta { membership: longest_membership(), ..snapshot() });
    let founding = |id, membership| Some(Founding { id, membership });
    assert_comes_back(&Registry::default());
    assert_comes_back(&registry(1, None, Some(Origin::Backup(RestoreId(5)))));
    assert_comes_back(&registry(2, founding(Some(FoundingId(u128::MAX)), membership()), None));
    let rescue = Some(Origin::Rescue { of: FoundingId(6) });
    assert_comes_back(&registry(Registry::MAX_PEERS, founding(None, longest_membership()), rescue));
    let value = Value::batch(&[Bytes::from_static(b"one"), Bytes::new()]).at(Time(u64::MAX));
    for value in [value, Value::no_op(), Value::membership(&membership())] {
        assert_comes_back(&Entry::Accepted { ballot: promised, value: value.clone() });
        assert_comes_back(&Entry::Chosen { value });
    }
}

#[test]
fn a_value_is_a_slice_of_the_bytes_that_it_was_decoded_from() {
    let entry = Entry::Chosen { value: Value::batch(&[Bytes::from(vec![7; 1000])]) };
    let bytes = encode(&entry);
    let decoded = decode::<Entry>(bytes.clone()).expect("it was just encoded");
    assert!(bytes.as_ptr_range().contains(&decoded.value().as_bytes().as_ptr()));
}

/// Bytes with others from `at` on, and a right checksum.
fn forged<T: Stored>(value: &T, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&encode(value)[..]);
    bytes.resize(bytes.len().max(at + with.len()), 0);
    bytes[at..at + with.len()].copy_from_slice(with);
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes.freeze()
}

#[test]
fn what_a_later_version_may_write_is_told_from_damage() {
    let entry = Entry::Chosen { value: Value::no_op() };
    let refused = |at, with: &[u8]| decode::<Entry>(forged(&entry, at, with)).expect_err("it is unknown");
    assert_eq!(refused(4, &[2]), DecodeError::UnknownVersion(2));
    assert_eq!(refused(5, &[9]), DecodeError::OtherKind { expected: 4, found: 9 });
    for (at, with) in [(6, &[1][..]), (8, &[3]), (9, &[200]), (10, &[1]), (12, &[1]), (40, &[1])] {
        let refused = refused(at, with);
        assert!(matches!(refused, DecodeError::UnknownContent(_)), "byte {at}: {refused}");
        assert!(
            Error::from(refused).needs_newer_program() && Error::from(refused).kind() == ErrorKind::Unusable
        );
    }
    let level = |bytes| decode::<SnapshotMeta>(bytes).expect_err("the level is unknown");
    let unknown = [2, 9, 0];
    let mut encoded = membership().encode().to_vec();
    encoded[..3].copy_from_slice(&unknown);
    let sum = crc32c::crc32c(&encoded).to_le_bytes();
    let record = forged(&snapshot(), 8 + 32, &unknown);
    let record = BytesMut::from(&record[..]);
    let mut forged_sum = record.clone();
    forged_sum[8 + 24..8 + 28].copy_from_slice(&sum);
    let checksum = crc32c::crc32c(&forged_sum[4..]);
    forged_sum[..4].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(level(forged_sum.freeze()), DecodeError::UnknownLevel(FormatLevel(9)));
    assert!(Error::from(DecodeError::UnknownLevel(FormatLevel(9))).needs_newer_program());
}

#[test]
fn what_was_stored_under_the_key_of_something_else_is_damage() {
    let refused = decode::<HardState>(encode(&snapshot())).expect_err("it is no hard state");
    assert_eq!(refused, DecodeError::OtherKind { expected: 3, found: 5 });
    assert_eq!(Error::from(refused).kind(), ErrorKind::Damaged);
    assert_eq!(Error::from(DecodeError::Damaged).kind(), ErrorKind::Damaged);
    assert!(!Error::from(DecodeError::Damaged).needs_newer_program());
}

proptest! {
    #[test]
    fn any_bytes_with_a_right_checksum_are_decoded_or_refused(kind in 1_u8..6, body: Vec<u8>) {
        let mut bytes = vec![0, 0, 0, 0, 1, kind, 0, 0];
        bytes.extend_from_slice(&body);
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        let bytes = Bytes::from(bytes);
        let again = match kind {
            1 => decode::<Identity>(bytes.clone()).map(|value| encode(&value)),
            2 => decode::<Registry>(bytes.clone()).map(|value| encode(&value)),
            3 => decode::<HardState>(bytes.clone()).map(|value| encode(&value)),
            4 => decode::<Entry>(bytes.clone()).map(|value| encode(&value)),
            _ => decode::<SnapshotMeta>(bytes.clone()).map(|value| encode(&value)),
        };
        if let (1 | 3, Ok(again)) = (kind, again) {
            prop_assert_eq!(again, bytes, "these kinds have one encoding");
        }
    }

    #[test]
    fn changed_bytes_with_a_right_checksum_do_no_harm(at in 8_usize..400, to: Vec<u8>) {
        let founding = Some(Founding { id: None, membership: membership() });
        drop(decode::<Registry>(forged(&registry(3, founding, None), at, &to)));
        drop(decode::<SnapshotMeta>(forged(&snapshot(), at, &to)));
    }
}
