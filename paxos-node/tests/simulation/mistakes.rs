//! Stores with a mistake that a state machine may have, each of which breaks a rule of the simulator.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use paxos_core::Time;
use paxos_core::sim::{Action, Marks, Operation as Seen, Random, Rule};
use paxos_node::kv::{Condition, Operation, Store};
use paxos_node::sim::Workload;
use paxos_node::{Applying, SnapshotWriter, StateMachine};

use crate::run;
use crate::workload::OfStore;

/// The mistakes, by number.
const GOES_BY_OWN_COUNT: usize = 0;
const KEEPS_OLD_STATE: usize = 1;
const WRITES_LATER_STATE: usize = 2;
const GRANTS_WHAT_IS_HELD: usize = 3;
const SHOWS_EXPIRED: usize = 4;
const ANSWERS_FROM_CACHE: usize = 5;

/// How many seeds are tried for each.
const SEEDS: u64 = 200;

/// A store with a mistake.
struct Mistaken<const MISTAKE: usize> {
    store: Arc<Mutex<Store>>,
    /// How many commands this node has applied since it was started: not a part of the state.
    applied: u64,
    cache: Mutex<BTreeMap<Bytes, Bytes>>,
}

impl<const MISTAKE: usize> Mistaken<MISTAKE> {
    fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        work(&mut self.store.lock().expect("no test panics while it holds the store"))
    }
}

impl<const MISTAKE: usize> StateMachine for Mistaken<MISTAKE> {
    fn apply(&mut self, mut at: Applying, command: &Bytes) -> Bytes {
        self.applied += 1;
        let mut operations = Operation::decode_all(command).expect("the workload has drawn it");
        if MISTAKE == GOES_BY_OWN_COUNT && self.applied.is_multiple_of(10) {
            at.time = at.time.later_by_ms(1);
        }
        if MISTAKE == GRANTS_WHAT_IS_HELD
            && let Operation::SetExpiring { condition: condition @ Some(Condition::IfMissing), .. } =
                &mut operations[0]
        {
            *condition = None;
        }
        self.with(|store| store.apply(at, &Operation::command(&operations)))
    }

    fn due(&self, time: Time) -> Vec<Bytes> {
        self.with(|store| store.due(time))
    }

    fn snapshot(&self) -> SnapshotWriter {
        if MISTAKE == WRITES_LATER_STATE {
            let store = Arc::clone(&self.store);
            return Box::new(move |target| {
                let store = store.lock().expect("no test panics while it holds the store");
                store.snapshot()(target)
            });
        }
        self.with(|store| store.snapshot())
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        if MISTAKE == KEEPS_OLD_STATE && self.with(|store| !store.is_empty()) {
            return io::copy(snapshot, &mut io::sink()).map(drop);
        }
        self.with(|store| store.restore(snapshot))
    }

    fn digest(&self) -> u64 {
        self.with(|store| store.digest())
    }
}

/// The clients of the store, on one with a mistake.
struct OfMistaken<const MISTAKE: usize>;

impl<const MISTAKE: usize> Workload for OfMistaken<MISTAKE> {
    type State = Mistaken<MISTAKE>;

    fn begin() -> Mistaken<MISTAKE> {
        Mistaken { store: Arc::default(), applied: 0, cache: Mutex::default() }
    }

    fn draw_command(number: u64, random: &mut Random) -> Bytes {
        OfStore::draw_command(number, random)
    }

    fn draw_query(random: &mut Random) -> Bytes {
        OfStore::draw_query(random)
    }

    fn answer(state: &Mistaken<MISTAKE>, query: &Bytes, time: Time) -> Option<Bytes> {
        let answer = state.with(|store| match OfStore::answer(store, query, time) {
            None if MISTAKE == SHOWS_EXPIRED => {
                let shown = OfStore::answer(store, query, store.time())?;
                let held = shown.rsplitn(2, |byte| *byte == b' ').last().unwrap_or_default().to_vec();
                Some(Bytes::from([&held, &b" "[..], time.to_string().as_bytes()].concat()))
            }
            answer => answer,
        })?;
        if MISTAKE != ANSWERS_FROM_CACHE {
            return Some(answer);
        }
        let mut cache = state.cache.lock().expect("no test panics while it holds the cache");
        Some(cache.entry(query.clone()).or_insert(answer).clone())
    }

    fn show(action: &Action) -> String {
        OfStore::show(action)
    }

    fn check(history: &[Seen]) -> Result<(), String> {
        OfStore::check(history)
    }
}

fn broken<const MISTAKE: usize>() -> Option<Rule> {
    let run = |seed| run::<OfMistaken<MISTAKE>>(seed, &mut Marks::default());
    (1..=SEEDS).find_map(run).map(|violation| violation.rule)
}

#[test]
fn a_state_machine_that_goes_by_more_than_the_log_comes_to_another_state() {
    assert_eq!(broken::<GOES_BY_OWN_COUNT>(), Some(Rule::SameState));
}

#[test]
fn a_snapshot_that_is_restored_over_an_old_state_replaces_all_of_it() {
    assert_eq!(broken::<KEEPS_OLD_STATE>(), Some(Rule::SameState));
}

#[test]
fn a_snapshot_is_the_state_when_it_was_begun() {
    assert_eq!(broken::<WRITES_LATER_STATE>(), Some(Rule::SameState));
}

#[test]
fn two_that_hold_a_lock_at_once_are_noticed() {
    assert_eq!(broken::<GRANTS_WHAT_IS_HELD>(), Some(Rule::Linearizable));
}

#[test]
fn a_lock_that_is_seen_after_it_has_expired_is_noticed() {
    assert_eq!(broken::<SHOWS_EXPIRED>(), Some(Rule::Linearizable));
}

#[test]
fn a_read_from_a_cache_is_noticed() {
    assert_eq!(broken::<ANSWERS_FROM_CACHE>(), Some(Rule::Linearizable));
}
