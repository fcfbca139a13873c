//! What the store counts as memory of its state is what it takes: `src/kv/records`.

use allocation_counter::measure;
use bytes::Bytes;
use paxos_node::StateMachine;
use paxos_node::kv::{Operation, Reply, Store};

const KEYS: u32 = 120_000;
/// Each of 1024 stripes may have half a page that is not filled yet, and half a page of removed records.
const LEFT_OVER_BYTES: i64 = 4 << 20;

fn key(number: u32, bytes: usize) -> Bytes {
    Bytes::from(format!("{number:0bytes$}"))
}

fn set(store: &mut Store, key_bytes: usize, value_bytes: usize) {
    let value = Bytes::from(vec![b'x'; value_bytes]);
    for number in 0..KEYS {
        assert_eq!(store.execute(&Operation::set(key(number, key_bytes), value.clone())), Reply::Ok);
    }
}

/// What is counted must be no less than 5 % below what is taken, and no more than a third above.
fn assert_true(store: &Store, taken: i64, what: &str) {
    let counted = i64::try_from(store.memory_bytes()).expect("it is not that much");
    let (of_each, counted_of_each) = (taken / i64::from(KEYS), counted / i64::from(KEYS));
    assert!(
        counted * 105 >= (taken - LEFT_OVER_BYTES) * 100 && counted * 3 <= taken * 4,
        "{what}: {of_each} bytes are taken for each key, {counted_of_each} are counted"
    );
}

#[test]
fn the_counted_memory_of_a_state_is_what_it_takes() {
    for (key_bytes, value_bytes) in [(16, 100), (16, 0), (100, 380), (16, 1_000), (300, 3)] {
        let mut store = Store::default();
        let what = format!("keys of {key_bytes} bytes, values of {value_bytes}");
        let taken = measure(|| set(&mut store, key_bytes, value_bytes)).bytes_current;
        assert_true(&store, taken, &what);
        // Values that change their length leave room behind, but not for ever.
        let changed = measure(|| {
            for round in 1..=3 {
                set(&mut store, key_bytes, value_bytes + 7 * round);
            }
        });
        assert_true(&store, taken + changed.bytes_current, &format!("{what}, longer each time"));
        let shrunk = measure(|| {
            for number in 0..KEYS {
                store.execute(&Operation::delete(vec![key(number, key_bytes)]));
            }
        });
        let left = taken + changed.bytes_current + shrunk.bytes_current;
        assert_eq!((store.len(), store.memory_bytes()), (0, 0));
        assert!(left < 1 << 20, "{what}: {left} bytes are left when all keys are removed");
    }
}
