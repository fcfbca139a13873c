//! Golden files of the codec: this version encodes as version 1 always has, and decodes that.
//!
//! `PAXOS_WRITE_GOLDEN=1 cargo test -p paxos-storage --test codec` writes them.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use paxos_core::{
    Ballot, Change, Entry, Epoch, HardState, Member, Membership, NodeId, Quorums, Slot, SnapshotMeta, Time,
    Value,
};
use paxos_storage::codec::{self, Stored};
use paxos_storage::{Founding, FoundingId, Identity, KnownPeer, Origin, Registry, Start, StorageId};

fn check<T: Stored + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/codec-1").join(name);
    let encoded = codec::encode(value);
    if std::env::var_os("PAXOS_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("it has one")).expect("the directory can be made");
        fs::write(&path, &encoded).expect("the file can be written");
    }
    let golden = Bytes::from(fs::read(&path).expect("the file is there"));
    assert_eq!(encoded, golden, "{name}: another layout needs another version");
    assert_eq!(codec::decode::<T>(golden).as_ref(), Ok(value), "{name}");
}

fn membership() -> Membership {
    let voter = |id: u64| Member::voter(NodeId(id), format!("host-{id}.example:7000"));
    let quorums = Quorums::flexible(3, 3, 1).expect("3 + 1 > 3");
    let founding = Membership::of((1..=3).map(voter).collect()).expect("these members fit");
    let founding = founding.with_quorums(quorums).expect("there are three voters").in_epoch(Epoch(4));
    let add = Change::AddLearner { node: NodeId(4), address: String::from("host-4.example:7000") };
    founding.changed(&add, Ballot { round: 2, node: NodeId(1) }).expect("4 is new")
}

#[test]
fn everything_is_encoded_as_version_1_has_always_done() {
    let storage = StorageId(0x0123_4567_89ab_cdef << 32);
    check("identity", &Identity::existing(String::from("golden"), NodeId(3), storage));
    let peer = |(node, storage)| {
        let start = Start { number: 40 + node, nonce: 50 + node };
        (NodeId(node), KnownPeer { storage: StorageId(storage), start })
    };
    check("registry-empty", &Registry::default());
    check(
        "registry",
        &Registry {
            start: Start { number: 9, nonce: 0xfeed },
            is_superseded: true,
            founding: Some(Founding { id: Some(FoundingId(0xabcd << 64)), membership: membership() }),
            origin: Some(Origin::Rescue { of: FoundingId(0xdcba << 64) }),
            peers: [(1, 11), (2, 22)].map(peer).into(),
        },
    );
    let ballot = Ballot { round: 7, node: NodeId(2) };
    check("hard-state", &HardState { promised: ballot, chosen: Slot(6) });
    let value = Value::batch(&[Bytes::from_static(b"x = 1"), Bytes::from_static(b"y = 2")]).at(Time(99));
    check("entry-accepted", &Entry::Accepted { ballot, value });
    check("entry-no-op", &Entry::Chosen { value: Value::no_op() });
    check("entry-membership", &Entry::Chosen { value: Value::membership(&membership()) });
    let (slot, size_bytes, checksum) = (Slot(6), 1 << 33, 0xabcd_1234);
    check("snapshot", &SnapshotMeta { slot, size_bytes, checksum, membership: membership() });
}
