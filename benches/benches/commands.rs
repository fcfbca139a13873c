//! How long the store works on one command, however much that asks for: `cargo bench -p benches --bench
//! commands`.
//!
//! Each command is one entry of the log that asks for as much of one kind of work as fits; the store carries
//! out what its bound allows. Told is the longest time of several that one application took, as processor
//! time of its thread. On a machine without other load that is how long a node does nothing else if its
//! driver applies the command; those with an asterisk go to a thread of their own. The second figure is while
//! there is a picture of the state, so that everything that changes has to be kept for it first.
//!
//! Before that it tells what keys cost: the memory by which the process grows for each, what the store counts
//! for it, and the mean time of one command in a random order of keys. `-- --keys 10000000` does so for that
//! many as well, and ends there.

use std::time::Duration;

use bytes::Bytes;
use paxos_core::{Slot, Time};
use paxos_node::kv::{Operation, Reply, Store};
use paxos_node::{Applying, StateMachine};
use rustix::time::{ClockId, clock_gettime};

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;
const LONG_BYTES: usize = 1 << 20;
const LONG_KEY_BYTES: usize = 65_000;
const LONG_KEYS: u64 = 20;
const ROUNDS: u64 = 5;

/// A command for a round, whose number makes it look at other keys than the one before.
type Command = fn(u64) -> Vec<Operation>;

const COMMANDS: &[(&str, Command)] = &[
    ("SET of a new key", |round| vec![set(key(KEYS + round), VALUE_BYTES)]),
    ("SET of all there is room for", |round| sets(round, 16_384)),
    ("SET of new keys", |round| sets(KEYS + 20_000 * round, 16_384)),
    ("MSET of 10 000", |round| {
        let value = Bytes::from(vec![b'm'; VALUE_BYTES]);
        vec![Operation::MSet {
            pairs: keys(round, 10_000).into_iter().map(|key| (key, value.clone())).collect(),
        }]
    }),
    ("DEL of 4 500", |round| vec![Operation::Delete { keys: keys(round, 4_500) }]),
    ("EXISTS of 10 000", |round| vec![Operation::Exists { keys: keys(round, 10_000) }; 7]),
    ("MGET of 10 000", |round| vec![Operation::MGet { keys: keys(round, 10_000) }; 7]),
    ("SCAN COUNT 10000, 2000 times", |_| vec![scan(None); 2_000]),
    ("SCAN MATCH with 8 stars", |_| vec![scan(Some("*1*2*3*4*5*6*7*8*")); 2_000]),
    ("SCAN MATCH over long keys", |_| {
        vec![scan(Some(&("long".to_owned() + "*" + &"a".repeat(16_384) + "b*"))); 100]
    }),
    ("GET of 1 MiB", |_| vec![Operation::Get { key: long_value() }; 1_000]),
    ("MGET of 1 MiB, 60 times", |_| vec![Operation::MGet { keys: vec![long_value(); 60] }]),
    ("MGET of 1 MiB, 18 times", |_| vec![Operation::MGet { keys: vec![long_value(); 18] }]),
    ("GETSET of 1 MiB", |_| {
        let value = Bytes::from(vec![b'y'; LONG_BYTES]);
        let get_and_set = Operation::set_with(long_value(), value, None, true);
        vec![get_and_set; 4]
    }),
    ("APPEND to 1 MiB", |_| {
        let append =
            Operation::Append { key: long_value(), value: Bytes::from_static(b"z"), limit_bytes: u64::MAX };
        vec![append; 4_096]
    }),
    ("INCR of 1 MiB", |_| vec![Operation::Add { key: long_value(), by: 1 }; 16_384]),
    ("EXISTS of a key of 64 KiB", |_| vec![Operation::Exists { keys: vec![long_key(1); 64] }]),
    ("FLUSHALL", |_| vec![Operation::FlushAll; 16_384]),
];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let many = words.iter().position(|word| word == "--keys").map(|place| {
        words.get(place + 1).and_then(|word| word.parse().ok()).expect("a number of keys behind --keys")
    });
    tell_costs(many.unwrap_or(KEYS));
    if many.is_some() {
        return;
    }
    println!(
        "one command of the log over {KEYS} keys: processor time, the longest of {ROUNDS}, in ms\n\n\
         {:<32}{:>12}{:>12}{:>10}{:>22}",
        "", "operations", "carried out", "alone", "beside a snapshot"
    );
    let (mut store, filling) = filled();
    let mut longest = filling;
    for (name, command) in COMMANDS {
        let name = format!("{name}{}", if takes_long(&store, *command) { " *" } else { "" });
        let alone = applied(&mut store, *command, false);
        let beside = applied(&mut store, *command, true);
        println!(
            "{name:<32}{:>12}{:>12}{:>10.2}{:>22.2}",
            command(0).len(),
            alone.carried_out,
            milliseconds(alone.longest),
            milliseconds(beside.longest)
        );
        longest = longest.max(alone.longest).max(beside.longest);
    }
    println!("\n* takes long, so it is not applied by the driver");
    println!(
        "the longest of {KEYS} SETs that filled the store: {:.2} ms; of all: {:.2} ms",
        milliseconds(filling),
        milliseconds(longest)
    );
}

/// What a key costs in a store of this many.
fn tell_costs(keys: u64) {
    const TIMES: u64 = 1_000_000;
    const AT_ONCE: usize = 16;
    let mut store = Store::default();
    let before = resident_bytes();
    let timed = |store: &mut Store,
                 numbers: &mut dyn Iterator<Item = u64>,
                 at_once: usize,
                 operation: fn(Bytes) -> Operation| {
        let (mut count, mut took) = (0, Duration::ZERO);
        loop {
            let operations: Vec<Operation> =
                numbers.take(1_000 * at_once).map(|number| operation(key(number))).collect();
            if operations.is_empty() {
                return took.as_nanos() / count;
            }
            let commands: Vec<Bytes> = operations.chunks(at_once).map(Operation::command).collect();
            let since = cpu_time();
            for command in &commands {
                std::hint::black_box(store.apply(Applying::new(Slot(1), Time::NONE), command));
            }
            took += cpu_time().saturating_sub(since);
            count += operations.len() as u128;
        }
    };
    // Multiplied by an odd number, all numbers below a power of two come once, in no visible order.
    let power = keys.next_power_of_two();
    let mixed = move |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (power - 1);
    let all = |times: u64| (0..times * power / keys).map(mixed).filter(move |number| *number < keys);
    let create = timed(&mut store, &mut all(keys), 1, |key| set(key, VALUE_BYTES));
    let (grown, counted) = (resident_bytes().saturating_sub(before), store.memory_bytes());
    let overwrite = timed(&mut store, &mut all(TIMES), 1, |key| set(key, VALUE_BYTES));
    let piped = timed(&mut store, &mut all(TIMES), AT_ONCE, |key| set(key, VALUE_BYTES));
    let resize = timed(&mut store, &mut all(TIMES), 1, |key| set(key, VALUE_BYTES - 20));
    let get = timed(&mut store, &mut all(TIMES), 1, Operation::get);
    println!(
        "{} keys of 16 bytes with values of {VALUE_BYTES}: the process grows by {} bytes for each, the store counts {}\n\
         one command in a random order: SET of a new key {create} ns, of another value {overwrite} ns, \
         each of {AT_ONCE} in one command {piped} ns, of a shorter one \
         {resize} ns, GET {get} ns\n",
        store.len(),
        grown / keys,
        counted / keys,
    );
}

/// The memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn takes_long(store: &Store, command: Command) -> bool {
    store.takes_long(&Operation::command(&command(0)))
}

struct Figures {
    carried_out: usize,
    longest: Duration,
}

/// Applies a command several times.
fn applied(store: &mut Store, command: Command, is_beside_snapshot: bool) -> Figures {
    let mut figures = Figures { carried_out: 0, longest: Duration::ZERO };
    for round in 0..ROUNDS {
        let bytes = Operation::command(&command(round + if is_beside_snapshot { ROUNDS } else { 0 }));
        let picture = is_beside_snapshot.then(|| store.picture());
        let since = cpu_time();
        let response = store.apply(Applying::new(Slot(1), Time::NONE), &bytes);
        figures.longest = figures.longest.max(cpu_time().saturating_sub(since));
        drop(picture);
        let replies = Reply::decode_all(response).expect("a response can be read");
        let carried_out = replies.iter().filter(|reply| **reply != Reply::TooMuch).count();
        figures.carried_out = figures.carried_out.max(carried_out);
    }
    figures
}

/// A store with many keys, a long value and long keys, and the longest time that one SET took.
fn filled() -> (Store, Duration) {
    let (mut store, mut longest) = (Store::default(), Duration::ZERO);
    for number in 0..KEYS {
        let command = Operation::command(&[set(key(number), VALUE_BYTES)]);
        let since = cpu_time();
        store.apply(Applying::new(Slot(1), Time::NONE), &command);
        longest = longest.max(cpu_time().saturating_sub(since));
    }
    store.execute(&set(long_value(), LONG_BYTES));
    for number in 0..LONG_KEYS {
        store.execute(&set(long_key(number), VALUE_BYTES));
    }
    (store, longest)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a clock of a thread begins at 0")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A key whose neighbours in number lie elsewhere in memory.
fn key(number: u64) -> Bytes {
    Bytes::from(format!("key:{number:012}"))
}

/// So many keys, spread over all.
fn keys(first: u64, count: u64) -> Vec<Bytes> {
    (0..count).map(|number| key((first + number * 7919) % KEYS)).collect()
}

fn long_value() -> Bytes {
    Bytes::from_static(b"long value")
}

fn long_key(number: u64) -> Bytes {
    Bytes::from(format!("long{}{number:02}", "a".repeat(LONG_KEY_BYTES)))
}

fn set(key: Bytes, bytes: usize) -> Operation {
    Operation::set(key, Bytes::from(vec![b'x'; bytes]))
}

/// SETs of keys from this number on, each far from the one before unless they are new.
fn sets(first: u64, count: u64) -> Vec<Operation> {
    let names = if first < KEYS { keys(first, count) } else { (first..first + count).map(key).collect() };
    names.into_iter().map(|name| set(name, VALUE_BYTES)).collect()
}

fn scan(pattern: Option<&str>) -> Operation {
    let pattern = pattern.map(|pattern| Bytes::copy_from_slice(pattern.as_bytes()));
    Operation::scan(0, pattern, 10_000)
}
