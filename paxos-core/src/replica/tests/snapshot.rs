//! A snapshot on its way to a node that was away too long, piece by piece.

use bytes::Bytes;

use super::candidacy::{Alone, RESEND, messages};
use super::edges::step_durably;
use super::learner::{fetch, heartbeat};
use super::reads::Led;
use crate::message::{Chosen, FetchSnapshot, Promise, SnapshotChunk, Trimmed};
use crate::{
    Body, Input, Membership, NodeId, Output, ProtocolSettings, ReadMode, Role, Slot, SnapshotMeta, Value,
};

const SLOT: Slot = Slot(8);

fn meta() -> SnapshotMeta {
    SnapshotMeta { slot: SLOT, size_bytes: 5, checksum: 1, membership: Membership::of_three() }
}

fn ask(offset: u64) -> (Option<NodeId>, Body) {
    let slot = if offset == 0 { Slot(0) } else { SLOT };
    (Some(NodeId(2)), Body::FetchSnapshot(FetchSnapshot { slot, offset }))
}

fn piece(offset: u64, data: &'static str) -> Body {
    Body::SnapshotChunk(SnapshotChunk {
        meta: Box::new(meta()),
        offset,
        data: Bytes::from_static(data.as_bytes()),
    })
}

/// The piece of the snapshot that a message has made the replica store.
fn stored(outputs: &[Output]) -> Vec<(u64, &[u8])> {
    let piece = |output| match output {
        &Output::StoreSnapshot { offset, ref data, .. } => Some((offset, &data[..])),
        _ => None,
    };
    outputs.iter().filter_map(piece).collect()
}

/// A follower that has heard that the slots it needs are only in a snapshot.
fn behind(settings: ProtocolSettings) -> Alone {
    let mut alone = Alone::with(1, settings);
    assert_eq!(alone.hear(2, Body::Trimmed(Trimmed { below: Slot(9) })), [ask(0)]);
    alone
}

fn give(alone: &mut Alone, input: Input) -> Vec<Output> {
    step_durably(&mut alone.replica, input)
}

#[test]
fn a_snapshot_is_asked_for_only_if_a_slot_that_is_needed_is_trimmed() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    assert_eq!(alone.hear(2, Body::Trimmed(Trimmed { below: Slot(1) })), []);
    assert_eq!(alone.hear(2, Body::Trimmed(Trimmed { below: Slot(2) })), [ask(0)]);
    assert_eq!(alone.hear(3, Body::Trimmed(Trimmed { below: Slot(2) })), [], "one is on its way");
    let mut led = Led::new(ProtocolSettings::default());
    assert_eq!(led.alone.hear(2, Body::Trimmed(Trimmed { below: Slot(9) })), []);
    assert_eq!(led.alone.replica.role(), Role::Leader);
}

#[test]
fn pieces_are_taken_in_order_from_whom_they_were_asked_of() {
    let mut alone = behind(ProtocolSettings::default());
    assert_eq!(stored(&alone.receive(3, piece(0, "ab"))), [], "3 was not asked");
    assert_eq!(stored(&alone.receive(2, piece(3, "de"))), [], "the first is missing");
    assert_eq!(stored(&alone.receive(2, piece(0, ""))), [], "an empty piece is no progress");
    assert_eq!(stored(&alone.receive(2, piece(0, "abcdef"))), [], "longer than the snapshot");
    assert_eq!(stored(&alone.receive(2, piece(0, "ab"))), [(0, &b"ab"[..])]);
    assert_eq!(stored(&alone.receive(2, piece(0, "ab"))), [], "it is being stored");
    let next = give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 2 });
    assert_eq!(messages(next), [ask(2)]);
    assert_eq!(stored(&alone.receive(2, piece(0, "ab"))), [], "the first again");
    let other = SnapshotMeta { checksum: 2, ..meta() };
    let strange = Body::SnapshotChunk(SnapshotChunk {
        meta: Box::new(other),
        offset: 2,
        data: Bytes::from_static(b"cde"),
    });
    assert_eq!(stored(&alone.receive(2, strange)), [], "of another snapshot");
    assert_eq!(stored(&alone.receive(2, piece(2, "cde"))), [(2, &b"cde"[..])]);
    let whole = give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 5 });
    assert_eq!(whole, [Output::InstallSnapshot { meta: meta() }]);
    let installed = give(&mut alone, Input::SnapshotInstalled { meta: meta() });
    assert!(installed.contains(&Output::Restore { meta: meta() }), "{installed:?}");
    assert_eq!((alone.replica.applied(), alone.replica.chosen()), (Slot(8), Slot(8)));
}

#[test]
fn what_is_missing_after_a_snapshot_is_asked_of_who_has_told_of_it_again() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    alone.hear(2, heartbeat(0));
    alone.hear(2, heartbeat(8));
    assert_eq!([alone.tick(), alone.tick()].concat(), [fetch(2, 1)]);
    assert_eq!(alone.hear(2, Body::Trimmed(Trimmed { below: Slot(9) })), [ask(0)]);
    alone.hear(2, piece(0, "abcde"));
    give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 5 });
    give(&mut alone, Input::SnapshotInstalled { meta: meta() });
    alone.hear(2, heartbeat(9));
    let asked: Vec<_> = (0..RESEND).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [fetch(2, 9)]);
}

#[test]
fn an_empty_snapshot_is_one_empty_piece() {
    let mut alone = behind(ProtocolSettings::default());
    let meta = SnapshotMeta { size_bytes: 0, ..meta() };
    let empty = Body::SnapshotChunk(SnapshotChunk { meta: Box::new(meta), offset: 0, data: Bytes::new() });
    assert_eq!(stored(&alone.receive(2, empty)), [(0, &b""[..])]);
}

#[test]
fn a_piece_is_asked_for_five_times_more_before_another_way_is_tried() {
    let mut alone = behind(ProtocolSettings::default());
    let mut asked = Vec::new();
    for tick in 1..=12 * RESEND {
        alone.hear(2, heartbeat(8));
        asked.extend(alone.tick().into_iter().map(|message| (tick, message)));
    }
    let mut expected: Vec<_> = (1..=5).map(|turn| (turn * 2 * RESEND, ask(0))).collect();
    expected.push((12 * RESEND, fetch(2, 1)));
    assert_eq!(asked, expected);
}

#[test]
fn a_snapshot_that_proves_bad_is_asked_for_anew() {
    let mut alone = behind(ProtocolSettings::default());
    alone.hear(2, piece(0, "abcde"));
    give(&mut alone, Input::SnapshotRejected { slot: Slot(7) });
    assert_eq!(alone.hear(3, Body::Trimmed(Trimmed { below: Slot(9) })), [], "another one was bad");
    give(&mut alone, Input::SnapshotRejected { slot: SLOT });
    assert_eq!(alone.hear(2, Body::Trimmed(Trimmed { below: Slot(9) })), [ask(0)]);
}

#[test]
fn a_new_leader_needs_no_snapshot() {
    let mut alone = behind(ProtocolSettings { resend_ticks: 1000, ..ProtocolSettings::default() });
    let ballot = alone.until_candidate();
    let promise =
        Body::Promise(Promise { ballot, first: Slot(1), reports: Vec::new(), rest: None, time: None });
    alone.hear(2, promise.clone());
    alone.hear(3, promise);
    assert_eq!(alone.replica.role(), Role::Leader);
    assert_eq!(stored(&alone.receive(2, piece(0, "ab"))), []);
    let installed = give(&mut alone, Input::SnapshotInstalled { meta: meta() });
    assert!(
        !installed.contains(&Output::Restore { meta: meta() }),
        "it has proposed again what it did not know"
    );
}

#[test]
fn a_snapshot_of_what_is_known_restores_nothing() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let values = vec![Value::no_op(); 8];
    alone.hear(2, Body::Chosen(Chosen { first: Slot(1), values, chosen: Slot(8) }));
    assert_eq!(give(&mut alone, Input::SnapshotInstalled { meta: meta() }), []);
}

#[test]
fn the_two_newest_snapshots_are_served_piece_by_piece() {
    let mut alone = Alone::new(1, ReadMode::QuorumRound);
    let values = vec![Value::no_op(); 9];
    alone.hear(2, Body::Chosen(Chosen { first: Slot(1), values, chosen: Slot(9) }));
    let [newest, older] = [9, 5].map(|slot| SnapshotMeta { slot: Slot(slot), ..meta() });
    for meta in [meta(), SnapshotMeta { slot: Slot(5), ..meta() }, newest.clone(), newest.clone(), older] {
        give(&mut alone, Input::SnapshotSaved { meta });
    }
    let mut loaded = |slot, offset| {
        let outputs = alone.receive(3, Body::FetchSnapshot(FetchSnapshot { slot, offset }));
        let [Output::LoadSnapshot { meta, offset, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        (meta.clone(), *offset)
    };
    assert_eq!(loaded(Slot(0), 0), (newest.clone(), 0));
    assert_eq!(loaded(Slot(9), 4), (newest.clone(), 4));
    assert_eq!(loaded(Slot(8), 4), (meta(), 4));
    assert_eq!(loaded(Slot(8), 5), (newest.clone(), 0), "past its end");
    assert_eq!(loaded(Slot(5), 4), (newest.clone(), 0), "gone, and so the newest from its beginning");
}
