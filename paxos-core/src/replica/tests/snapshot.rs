//! A snapshot on its way to a node that was away too long, piece by piece.

use bytes::Bytes;

use super::candidacy::{Alone, RESEND, messages};
use super::edges::step_durably;
use super::learner::{fetch, heartbeat, heartbeat_of};
use super::reads::Led;
use crate::message::{Chosen, Fetch, FetchSnapshot, Promise, SnapshotChunk, Trimmed};
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
    let outputs = alone.receive(2, piece(0, "ab"));
    assert_eq!(stored(&outputs), [(0, &b"ab"[..])]);
    assert_eq!(messages(outputs), [ask(2), ask(4)], "two may be under way now");
    assert_eq!(stored(&alone.receive(2, piece(0, "ab"))), [], "the first again");
    assert_eq!(stored(&alone.receive(2, piece(4, "e"))), [], "it waits for the one before");
    let other = SnapshotMeta { checksum: 2, ..meta() };
    let strange = Body::SnapshotChunk(SnapshotChunk {
        meta: Box::new(other),
        offset: 2,
        data: Bytes::from_static(b"cd"),
    });
    assert_eq!(stored(&alone.receive(2, strange)), [], "of another snapshot");
    let last = alone.receive(2, piece(2, "cde"));
    assert_eq!(stored(&last), [(2, &b"cd"[..]), (4, &b"e"[..])], "more than was asked for is cut off");
    for offset in [2, 4] {
        assert_eq!(give(&mut alone, Input::SnapshotStored { slot: SLOT, offset }), []);
    }
    let whole = give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 5 });
    assert_eq!(whole, [Output::InstallSnapshot { meta: meta() }]);
    let installed = give(&mut alone, Input::SnapshotInstalled { meta: meta() });
    assert!(installed.contains(&Output::Restore { meta: meta() }), "{installed:?}");
    assert_eq!((alone.replica.applied(), alone.replica.chosen()), (Slot(8), Slot(8)));
}

#[test]
fn a_window_of_one_piece_waits_for_each_to_be_stored() {
    let mut alone = behind(ProtocolSettings { catch_up_window_bytes: 0, ..ProtocolSettings::default() });
    assert_eq!(alone.hear(2, piece(0, "ab")), []);
    assert_eq!(messages(give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 2 })), [ask(2)]);
    assert_eq!(alone.hear(2, piece(2, "cd")), []);
    assert_eq!(messages(give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 4 })), [ask(4)]);
}

#[test]
fn no_more_than_four_pieces_are_stored_at_once() {
    let mut alone = behind(ProtocolSettings::default());
    let mut all = Vec::new();
    for (offset, data) in (0..).zip(["a", "b", "c", "d", "e"]) {
        all.extend(stored(&alone.receive(2, piece(offset, data))).iter().map(|(offset, _)| *offset));
    }
    assert_eq!(all, [0, 1, 2, 3]);
    let next = give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 1 });
    assert_eq!(stored(&next), [(4, &b"e"[..])]);
}

#[test]
fn each_piece_that_is_missing_is_asked_for_again_and_no_other() {
    let mut alone = behind(ProtocolSettings::default());
    assert_eq!(alone.hear(2, piece(0, "a")), [ask(1), ask(2)]);
    assert_eq!(alone.hear(2, piece(2, "c")), [ask(3), ask(4)]);
    let asked: Vec<_> = (0..2 * RESEND).flat_map(|_| alone.tick()).collect();
    assert_eq!(asked, [ask(1)], "one, to see whether anything comes");
    assert_eq!(alone.hear(2, piece(1, "b")), [ask(3), ask(4)]);
}

#[test]
fn a_newer_snapshot_in_the_middle_begins_the_transfer_anew_but_an_older_one_does_not() {
    let mut alone = behind(ProtocolSettings::default());
    let first = |slot| {
        let meta = SnapshotMeta { slot: Slot(slot), ..meta() };
        Body::SnapshotChunk(SnapshotChunk {
            meta: Box::new(meta),
            offset: 0,
            data: Bytes::from_static(b"xy"),
        })
    };
    alone.hear(2, piece(0, "ab"));
    assert_eq!(stored(&alone.receive(2, first(7))), []);
    let outputs = alone.receive(2, first(9));
    assert_eq!(stored(&outputs), [(0, &b"xy"[..])]);
    let ask = |offset| (Some(NodeId(2)), Body::FetchSnapshot(FetchSnapshot { slot: Slot(9), offset }));
    assert_eq!(messages(outputs), [ask(2), ask(4)]);
    assert_eq!(give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 2 }), [], "of the one before");
    assert_eq!(stored(&alone.receive(2, piece(2, "cd"))), []);
}

#[test]
fn the_log_behind_a_snapshot_is_fetched_from_the_peer_that_has_served_it() {
    let mut alone = behind(ProtocolSettings::default());
    alone.hear(3, heartbeat_of(3, 9));
    alone.hear(2, piece(0, "abcde"));
    give(&mut alone, Input::SnapshotStored { slot: SLOT, offset: 5 });
    let installed = give(&mut alone, Input::SnapshotInstalled { meta: meta() });
    assert_eq!(messages(installed), [fetch(2, 9)]);
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

/// A replica that knows nine slots, and has saved snapshots of slot 5 and then, after a peer has asked for a
/// piece of that, of slot 7.
fn serving(settings: ProtocolSettings) -> Alone {
    let mut alone = Alone::with(1, ProtocolSettings { retained_bytes: 0, ..settings });
    let values = vec![Value::no_op(); 9];
    alone.hear(2, Body::Chosen(Chosen { first: Slot(1), values, chosen: Slot(9) }));
    give(&mut alone, Input::SnapshotSaved { meta: SnapshotMeta { slot: Slot(5), ..meta() } });
    assert!(alone.replica.may_take_snapshot());
    alone.receive(3, Body::FetchSnapshot(FetchSnapshot { slot: Slot(0), offset: 0 }));
    assert!(alone.replica.may_take_snapshot(), "both would be kept");
    give(&mut alone, Input::SnapshotSaved { meta: SnapshotMeta { slot: Slot(7), ..meta() } });
    alone
}

/// The first slot of the values that a peer gets if it asks for them, or else the first that is left.
fn served(alone: &mut Alone, peer: u64, first: u64) -> Result<Slot, Slot> {
    match &alone.hear(peer, Body::Fetch(Fetch::all_from(Slot(first))))[..] {
        [(_, Body::Chosen(Chosen { first, .. }))] => Ok(*first),
        [(_, Body::Trimmed(Trimmed { below }))] => Err(*below),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_that_is_fetched_and_the_log_behind_it_are_kept_for_a_while() {
    let mut alone = serving(ProtocolSettings::default());
    assert!(!alone.replica.may_take_snapshot(), "the one of slot 5 would be dropped");
    for _ in 0..499 {
        alone.tick();
    }
    assert!(!alone.replica.may_take_snapshot());
    alone.receive(3, Body::FetchSnapshot(FetchSnapshot { slot: Slot(5), offset: 4 }));
    for _ in 0..499 {
        alone.tick();
    }
    assert!(!alone.replica.may_take_snapshot(), "it was asked for again");
    assert_eq!(served(&mut alone, 3, 6), Ok(Slot(6)));
    assert!(alone.replica.may_take_snapshot(), "the peer has it");
    for _ in 0..500 {
        alone.tick();
    }
    assert_eq!(served(&mut alone, 3, 6), Err(Slot(8)), "no more");
    assert_eq!(alone.replica.outpaced(), None);
}

#[test]
fn of_the_log_that_is_fetched_what_the_peer_misses_is_kept() {
    let mut alone = serving(ProtocolSettings::default());
    let ahead = Fetch { first: Slot(9), last: Some(Slot(9)), ahead_slots: 2 };
    assert_eq!(alone.hear(3, Body::Fetch(ahead)).len(), 1);
    alone.tick();
    assert_eq!(served(&mut alone, 4, 6), Err(Slot(7)), "slot 7 is the first that is missing");
}

#[test]
fn a_node_that_installs_a_newer_snapshot_keeps_the_one_that_is_fetched_but_can_not_keep_the_log_behind_it() {
    let mut alone = serving(ProtocolSettings::default());
    alone.receive(3, Body::FetchSnapshot(FetchSnapshot { slot: Slot(7), offset: 0 }));
    // The node knows slots 8 and 9; slots 10 to 20 it gets as a snapshot alone.
    alone.hear(2, Body::Trimmed(Trimmed { below: Slot(21) }));
    let newer = SnapshotMeta { slot: Slot(20), ..meta() };
    let data = Bytes::from_static(b"abcde");
    alone.hear(2, Body::SnapshotChunk(SnapshotChunk { meta: Box::new(newer.clone()), offset: 0, data }));
    give(&mut alone, Input::SnapshotStored { slot: Slot(20), offset: 5 });
    let installed = give(&mut alone, Input::SnapshotInstalled { meta: newer.clone() });
    assert!(installed.contains(&Output::Restore { meta: newer }));

    assert!(!alone.replica.may_take_snapshot(), "the one of slot 7 would be dropped");
    let outputs = alone.receive(3, Body::FetchSnapshot(FetchSnapshot { slot: Slot(7), offset: 4 }));
    assert!(matches!(&outputs[..], [Output::LoadSnapshot { meta, .. }] if meta.slot == Slot(7)));
    assert_eq!(served(&mut alone, 3, 8), Err(Slot(21)), "nobody could learn slot 10 from it");
}

#[test]
fn a_log_that_has_grown_too_long_is_kept_for_nobody() {
    let no_ops = 2 * 4 * 64; // Slots 6 to 9 are as much as may be kept.
    let mut alone = serving(ProtocolSettings { log_bytes: no_ops, ..ProtocolSettings::default() });
    alone.tick();
    assert!(!alone.replica.may_take_snapshot());
    let tenth = Body::Chosen(Chosen { first: Slot(10), values: vec![Value::no_op()], chosen: Slot(10) });
    alone.hear(2, tenth);
    alone.tick();
    assert!(alone.replica.may_take_snapshot());
    assert_eq!(alone.replica.outpaced(), Some((NodeId(3), 1)));
    assert_eq!(served(&mut alone, 3, 6), Err(Slot(8)));
}
