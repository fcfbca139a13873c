//! Crashes at each point of a life with everything in it.

use paxos_core::Slot;

use super::Backend;
use super::checked::{Checked, accepted, bytes, membership, meta};
use crate::{Founding, FoundingId, Registry, Start};

#[derive(Clone, Copy)]
enum Step {
    /// A write of a promise alone.
    Promise,
    /// A write of entries in these slots under this round.
    Persist {
        first: u64,
        last: u64,
        round: u64,
    },
    Remember {
        start: u64,
    },
    /// A part of a snapshot.
    Piece {
        slot: u64,
        from: usize,
        to: usize,
    },
    Finish {
        slot: u64,
    },
    Compact {
        through: u64,
    },
    ProveLastWrite,
}

const SNAPSHOT_BYTES: u32 = 3000;

fn life() -> Vec<Step> {
    use Step::{Compact, Finish, Persist, Piece, Promise, ProveLastWrite, Remember};
    vec![
        Remember { start: 1 },
        Promise,
        Persist { first: 1, last: 5, round: 2 },
        Persist { first: 4, last: 4, round: 3 },
        Piece { slot: 3, from: 0, to: 1000 },
        Persist { first: 6, last: 9, round: 3 },
        Piece { slot: 3, from: 1000, to: 3000 },
        Piece { slot: 5, from: 0, to: 3000 },
        Finish { slot: 3 },
        Promise,
        Compact { through: 2 },
        Remember { start: 2 },
        Finish { slot: 5 },
        ProveLastWrite,
        Piece { slot: 8, from: 0, to: 500 },
        Compact { through: 5 },
        Persist { first: 10, last: 10, round: 4 },
        Piece { slot: 8, from: 500, to: 3000 },
        Finish { slot: 8 },
        Promise,
    ]
}

/// Runs a life once for each of its steps, with a crash behind that step, and once with a crash behind all of
/// them.
pub(super) fn a_crash_at_each_point_loses_nothing(backend: &mut dyn Backend) {
    const PROMISE: &str = "a crash at each point loses nothing";
    let life = life();
    for crash_after in 0..life.len() {
        let mut checked = Checked::new(backend, PROMISE);
        for (index, step) in life.iter().enumerate() {
            apply(&mut checked, &life[..index], *step, Some(crash_after).filter(|after| *after < index));
            if index == crash_after {
                checked.crash_and_compare();
            }
        }
        checked.crash_and_compare();
        assert_eq!(
            checked.read_snapshot(8, 1 << 20),
            Some(bytes(SNAPSHOT_BYTES)),
            "{PROMISE}: the snapshot that was finished last"
        );
    }
    let mut checked = Checked::new(backend, PROMISE);
    for (index, step) in life.iter().enumerate() {
        apply(&mut checked, &life[..index], *step, index.checked_sub(1));
        checked.crash_and_compare();
    }
}

/// Takes a step behind those in `before`, the last crash being after the one of index `crashed_after`: pieces
/// from before it are written again.
fn apply(checked: &mut Checked<'_>, before: &[Step], step: Step, crashed_after: Option<usize>) {
    let bytes = bytes(SNAPSHOT_BYTES);
    let write_again = |checked: &mut Checked<'_>, slot: u64| {
        let is_piece = |step: &Step| matches!(step, Step::Piece { slot: other, .. } if *other == slot);
        let last = before.iter().rposition(is_piece);
        if crashed_after.is_some_and(|after| last.is_some_and(|last| last <= after)) {
            let written = before.iter().filter_map(|step| match step {
                Step::Piece { slot: other, to, .. } if *other == slot => Some(*to),
                _ => None,
            });
            checked.piece(slot, 0, &bytes[..written.max().unwrap_or(0)]);
        }
    };
    match step {
        Step::Promise => checked.persist(Vec::new()),
        Step::Persist { first, last, round } => {
            checked.hard_state.chosen = checked.hard_state.chosen.max(Slot(first).previous());
            checked.persist((first..=last).map(|slot| accepted(slot, round, 300)).collect());
        }
        Step::Remember { start } => {
            let founding =
                Founding { id: Some(FoundingId(u128::from(start))), membership: membership(start) };
            let start = Start { number: start, nonce: start };
            checked.remember(Registry { start, founding: Some(founding), ..Registry::default() });
        }
        Step::Piece { slot, from, to } => {
            if from > 0 {
                write_again(checked, slot);
            }
            checked.piece(slot, from, &bytes[from..to]);
        }
        Step::Finish { slot } => {
            write_again(checked, slot);
            checked.finish(meta(slot, &bytes));
        }
        Step::Compact { through } => checked.compact(through),
        Step::ProveLastWrite => {
            let promise = checked.promise;
            let proved = checked.storage().prove_last_write();
            proved.unwrap_or_else(|error| panic!("{promise}: prove_last_write: {error}"));
        }
    }
}
