//! The store beside a simple model, while pictures of it are written piece by piece.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::testing::contents;
use super::{Operation, Picture, Reply, Store};
use crate::state_machine::StateMachine;

/// The revisions at which a key was created and modified, and its value.
type Model = BTreeMap<Vec<u8>, (u64, u64, Vec<u8>)>;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// Sets this many keys, from a first one on, to values of this length.
    Set {
        first: usize,
        count: usize,
        bytes: usize,
    },
    Append {
        first: usize,
        count: usize,
        bytes: usize,
    },
    Delete {
        first: usize,
        count: usize,
    },
    FlushAll,
    /// Starts a snapshot, which is written in steps.
    Snapshot,
    /// Writes so many pieces of each snapshot that is under way.
    Write(usize),
    /// Drops the snapshot that was started first, wherever it is.
    GiveUp,
    /// Takes a picture, whose values are looked at in the end.
    Look,
    /// Replaces the state by what its snapshot restores.
    Restore,
}

const KEYS: usize = 4_000;

fn step() -> impl Strategy<Value = Step> {
    let first = 0..KEYS;
    let count = || prop_oneof![3 => 1..50_usize, 1 => 50..1_500_usize];
    let bytes = || prop_oneof![4 => 0..130_usize, 2 => 100..=100_usize, 1 => 400..700_usize];
    prop_oneof![
        8 => (first.clone(), count(), bytes()).prop_map(|(first, count, bytes)| Step::Set { first, count, bytes }),
        2 => (first.clone(), count(), bytes()).prop_map(|(first, count, bytes)| Step::Append { first, count, bytes }),
        4 => (first, count()).prop_map(|(first, count)| Step::Delete { first, count }),
        1 => Just(Step::FlushAll),
        3 => Just(Step::Snapshot),
        6 => (1..40_usize).prop_map(Step::Write),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Look),
        1 => Just(Step::Restore),
    ]
}

/// Most keys are short; some lie apart from their pages.
fn key(number: usize) -> Bytes {
    let long = if number % 100 == 7 { "long".repeat(80) } else { String::new() };
    Bytes::from(format!("key{}{long}", number % KEYS))
}

fn value(revision: u64, bytes: usize) -> Vec<u8> {
    revision.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

/// A snapshot that is being written on a thread of its own, one piece at each step.
struct Writing {
    expected: Model,
    revision: u64,
    go_on: Sender<()>,
    waits: Receiver<()>,
    writer: JoinHandle<io::Result<Vec<u8>>>,
}

/// Waits before each piece until the test lets it go on.
struct Stepwise {
    image: Vec<u8>,
    may_go_on: Receiver<()>,
    waiting: Sender<()>,
}

impl Write for Stepwise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.waiting.send(()); // The test may have given it up.
        self.may_go_on.recv().map_err(|_| io::Error::other("given up"))?;
        self.image.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writing {
    fn start(store: &Store, model: &Model) -> Writing {
        let write = store.snapshot();
        let (go_on, may_go_on) = channel();
        let (waiting, waits) = channel();
        let writer = std::thread::spawn(move || {
            let mut target = Stepwise { image: Vec::new(), may_go_on, waiting };
            write(&mut target).map(|()| target.image)
        });
        waits.recv().expect("it has something to write");
        Writing { expected: model.clone(), revision: store.revision(), go_on, waits, writer }
    }

    /// Writes a piece; `false` if that was the last one.
    fn step(&self) -> bool {
        self.go_on.send(()).is_ok() && self.waits.recv().is_ok()
    }

    fn finish(self) {
        while self.step() {}
        let image = self.writer.join().expect("it finds what there was").expect("memory takes everything");
        let mut restored = Store::default();
        restored.restore(&mut &image[..]).expect("the image is whole");
        assert_eq!(restored.revision(), self.revision);
        assert_equal(&restored, &self.expected);
    }

    fn give_up(self) {
        let is_written = self.waits.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected);
        drop((self.go_on, self.waits));
        assert_eq!(self.writer.join().expect("it does not panic").is_ok(), is_written);
    }
}

/// A store with its model, and pictures of both.
#[derive(Default)]
struct Pair {
    store: Store,
    model: Model,
    writing: Vec<Writing>,
    pictures: Vec<(Picture, Model)>,
}

impl Pair {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Set { first, count, bytes } => (first..first + count).for_each(|number| {
                let value = value(self.store.revision(), bytes);
                assert_eq!(self.store.execute(&Operation::set(key(number), value.clone().into())), Reply::Ok);
                self.put(number, value);
            }),
            Step::Append { first, count, bytes } => (first..first + count).for_each(|number| {
                let tail = value(self.store.revision(), bytes);
                let append = Operation::append(key(number), tail.clone().into(), u64::MAX);
                let old = self.model.get(&key(number)[..]).map(|(_, _, value)| &value[..]);
                let joined = [old.unwrap_or_default(), &tail].concat();
                let length = i64::try_from(joined.len()).expect("it is short");
                assert_eq!(self.store.execute(&append), Reply::Integer(length));
                self.put(number, joined);
            }),
            Step::Delete { first, count } => (first..first + count).for_each(|number| {
                let removed = self.store.execute(&Operation::delete(vec![key(number)]));
                let is_there = self.model.remove(&key(number)[..]).is_some();
                assert_eq!(removed, Reply::Integer(i64::from(is_there)));
            }),
            Step::FlushAll => {
                self.store.execute(&Operation::FlushAll);
                self.model.clear();
            }
            Step::Snapshot => self.writing.push(Writing::start(&self.store, &self.model)),
            Step::Write(pieces) => self.writing.iter().for_each(|writing| {
                (0..pieces).all(|_| writing.step());
            }),
            Step::GiveUp if self.writing.is_empty() => {}
            Step::GiveUp => self.writing.remove(0).give_up(),
            Step::Look => self.pictures.push((self.store.picture(), self.model.clone())),
            Step::Restore => {
                let mut image = Vec::new();
                self.store.snapshot()(&mut image).expect("memory takes everything");
                let digest = self.store.digest();
                self.store.restore(&mut &image[..]).expect("the image is whole");
                assert_eq!(self.store.digest(), digest);
            }
        }
    }

    fn put(&mut self, number: usize, value: Vec<u8>) {
        let revision = self.store.revision();
        let record = self.model.entry(key(number).to_vec()).or_insert((revision, 0, Vec::new()));
        (record.1, record.2) = (revision, value);
    }
}

fn assert_equal(store: &Store, model: &Model) {
    let mut expected: Vec<_> = model
        .iter()
        .map(|(key, (created, modified, value))| {
            (*created, *modified, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
        })
        .collect();
    expected.sort();
    assert!(contents(store) == expected, "the records differ");
    for number in (0..KEYS).step_by(17) {
        let expected = model.get(&key(number)[..]).map(|(_, _, value)| &value[..]);
        assert_eq!(store.get(&key(number)).as_deref(), expected);
    }
}

#[test]
fn a_snapshot_shows_each_record_once_if_shards_are_merged_or_split_while_it_is_written() {
    let most = || Step::Delete { first: 50, count: KEYS - 50 };
    let all = || Step::Set { first: 0, count: KEYS, bytes: 100 };
    for pieces in 0..20 {
        for (before, after) in [(vec![all()], vec![most()]), (vec![all(), most()], vec![all()])] {
            let mut pair = Pair::default();
            for step in &before {
                pair.take(step);
            }
            pair.take(&Step::Snapshot);
            pair.take(&Step::Write(pieces));
            for step in &after {
                pair.take(step);
            }
            pair.writing.into_iter().for_each(Writing::finish);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn snapshots_and_pictures_show_the_state_of_their_revision(steps in prop::collection::vec(step(), 1..80)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.take(step);
        }
        assert_equal(&pair.store, &pair.model);
        for (picture, model) in &pair.pictures {
            prop_assert_eq!(picture.len(), model.len());
            for number in 0..KEYS {
                let expected = model.get(&key(number)[..]).map(|(_, _, value)| &value[..]);
                let seen = picture.get(&key(number));
                prop_assert_eq!(seen.as_deref(), expected);
            }
        }
        pair.writing.into_iter().for_each(Writing::finish);
        // The same history without pictures and snapshots ends in the same state.
        let mut again = Pair::default();
        for step in steps.iter().filter(|step| matches!(step, Step::Set { .. } | Step::Append { .. } | Step::Delete { .. } | Step::FlushAll)) {
            again.take(step);
        }
        prop_assert_eq!(again.store.digest(), pair.store.digest());
        prop_assert_eq!(again.store.memory_bytes(), pair.store.memory_bytes());
    }
}
