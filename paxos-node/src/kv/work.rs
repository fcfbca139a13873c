//! The work that one command may take, decided before the work is done.
//!
//! Every node carries out every command, on the thread that also answers its peers, and again at each
//! restart. A short command could keep that thread busy for seconds: it could look at every key, or copy a
//! long value many times. So each command of the log has the same amount of work, [`COMMAND_WORK`]. The work
//! of an operation is computed from the operation and the state alone, so it is the same on all nodes, and is
//! taken from the command's before the operation is carried out.
//!
//! One unit is roughly a nanosecond of one core of a server. Copying the keys and values that a command
//! itself holds is not counted: their length is bounded already, and the log has copied them several times.

/// The work of all operations of one command together: some milliseconds.
pub(super) const COMMAND_WORK: u64 = 5_000_000;

/// To decode an operation and encode its reply.
const OPERATION: u64 = 50;
/// To find a key, or that it is missing.
pub(super) const LOOKUP: u64 = 250;
/// To insert a key or replace its value. It takes several times as long on cold memory or while a snapshot
/// shares the state, but ten thousand changes have to fit into one transaction. So commands of many changes
/// are not applied on the thread that answers peers ([`estimate`](super::estimate)).
pub(super) const CHANGE: u64 = 400;
/// To remove a key from two maps, in both of which it is far from the key removed before.
pub(super) const REMOVAL: u64 = 1_000;
/// To begin with an empty state.
pub(super) const FLUSH: u64 = 5_000;
/// To go on to the next key in order of creation.
pub(super) const NEXT_KEY: u64 = 100;
/// To compare a byte of a key with one of a pattern.
pub(super) const BYTE_MATCHED: u64 = 1;
/// To read a byte of a pattern.
pub(super) const BYTE_PARSED: u64 = 8;
/// To begin the search for a part of a pattern.
pub(super) const SEGMENT_SEARCHED: u64 = 50;
/// One unit is enough to copy this many bytes into a reply.
const BYTES_ANSWERED_PER_UNIT: usize = 4;
/// To add an element to a reply.
const ELEMENT_ANSWERED: u64 = 20;
/// One unit is enough to copy and hash this many bytes of a value.
const BYTES_COPIED_PER_UNIT: usize = 8;
/// One unit is enough to free this many bytes.
const BYTES_FREED_PER_UNIT: usize = 32;

/// The work that a command has left.
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
    is_untouched: bool,
}

/// More work than is left: the operation has not been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooMuch;

impl Work {
    /// The work of one command.
    pub(crate) fn of_command() -> Work {
        Work::of(COMMAND_WORK)
    }

    /// This much work.
    pub(crate) fn of(units: u64) -> Work {
        Work { left: units, is_untouched: true }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes the work of the next part of an operation.
    pub(super) fn take(&mut self, units: u64) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(units).ok_or(TooMuch)?;
        self.is_untouched = false;
        Ok(())
    }

    /// Takes the work of an operation on a single key. The first operation of a command always gets it, or a
    /// value could be too long to be read: the operator decides how long values may be.
    pub(super) fn take_for_one_key(&mut self, units: u64) -> Result<(), TooMuch> {
        if self.is_untouched && units > self.left {
            *self = Work { left: 0, is_untouched: false };
            return Ok(());
        }
        self.take(units)
    }
}

/// The work of an operation on this many keys.
pub(super) fn operation(keys: usize, units_per_key: u64) -> u64 {
    OPERATION + units_per_key.saturating_mul(keys as u64)
}

/// The work of answering with a value of this length, alone or in an array.
pub(super) fn answered(bytes: usize) -> u64 {
    ELEMENT_ANSWERED + (bytes / BYTES_ANSWERED_PER_UNIT) as u64
}

/// The work of copying a value of this length into a new one.
pub(super) fn copied(bytes: usize) -> u64 {
    (bytes / BYTES_COPIED_PER_UNIT) as u64
}

/// The work of freeing a value of this length.
pub(super) fn freed(bytes: usize) -> u64 {
    (bytes / BYTES_FREED_PER_UNIT) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use paxos_core::{Slot, Time};
    use rustix::time::{ClockId, clock_gettime};

    use super::super::{Operation, Reply, Store};
    use crate::state_machine::{Applying, StateMachine};

    const LONG_BYTES: usize = 1 << 20;

    /// The processor time of this thread, which does not depend on how busy the machine is.
    fn cpu_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a clock of a thread begins at 0")
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn set(key: &str, value: &Bytes) -> Operation {
        Operation::Set { key: bytes(key), value: value.clone(), condition: None, returns_old: false }
    }

    fn apply(store: &mut Store, operations: &[Operation]) -> Vec<Reply> {
        let response = store.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(operations));
        let replies = Reply::decode_all(response).expect("a response can be read");
        assert_eq!(replies.len(), operations.len(), "each operation has a reply");
        replies
    }

    /// Applies one operation many times as one command; returns how often it was carried out.
    fn carried_out(store: &mut Store, operation: &Operation, times: usize) -> usize {
        let replies = apply(store, &vec![operation.clone(); times]);
        let count = replies.iter().take_while(|reply| **reply != Reply::TooMuch).count();
        assert!(replies[count..].iter().all(|reply| *reply == Reply::TooMuch), "all behind it are refused");
        count
    }

    fn store_of(keys: usize) -> Store {
        let mut store = Store::default();
        for number in 0..keys {
            store.execute(&set(&format!("key {number}"), &bytes("value")));
        }
        store
    }

    #[test]
    fn what_makes_more_work_than_a_command_may_is_refused_and_all_behind_it() {
        let long = Bytes::from(vec![b'x'; LONG_BYTES]);
        let append = Operation::Append { key: bytes("k"), value: bytes("y"), limit_bytes: u64::MAX };
        let get_and_set =
            Operation::Set { key: bytes("k"), value: bytes("y"), condition: None, returns_old: true };
        let many_keys = |count| (0..count).map(|number| bytes(&format!("key {number}"))).collect::<Vec<_>>();
        let scan = |pattern: Option<&str>| Operation::Scan {
            cursor: 0,
            pattern: pattern.map(bytes),
            count: u64::MAX,
        };
        for (operation, times, at_most) in [
            (Operation::Get { key: bytes("k") }, 1000, 20),
            (Operation::MGet { keys: vec![bytes("k"); 60] }, 1, 0),
            (Operation::MGet { keys: vec![bytes("k"); 10] }, 10, 1),
            (Operation::MGet { keys: vec![bytes("none"); 60_000] }, 1, 0),
            (Operation::Exists { keys: vec![bytes("k"); 60_000] }, 1, 0),
            (append, 1000, 40),
            (get_and_set.clone(), 20_000, 11_000),
            (Operation::Delete { keys: many_keys(60_000) }, 1, 0),
            (Operation::MSet { pairs: vec![(bytes("k"), bytes("v")); 30_000] }, 1, 0),
            (scan(None), 2000, 20),
            (scan(Some("*a*b*")), 2000, 20),
        ] {
            let mut store = store_of(30_000);
            store.execute(&set("k", &long));
            let digest = store.digest();
            let count = carried_out(&mut store, &operation, times);
            assert!(count <= at_most, "{count} times {operation:?}");
            assert_eq!(store.digest() == digest, count == 0 || operation.is_read(), "refused is not done");
        }
    }

    #[test]
    fn a_transaction_may_make_ten_thousand_changes() {
        let mut store = Store::default();
        let operations: Vec<_> =
            (0..10_000).map(|number| set(&format!("key {number}"), &bytes("value"))).collect();
        assert!(apply(&mut store, &operations).iter().all(|reply| *reply == Reply::Ok));
        let pairs = (0..10_000).map(|number| (bytes(&format!("key {number}")), bytes("other"))).collect();
        assert_eq!(apply(&mut store, &[Operation::MSet { pairs }]), [Reply::Ok]);
    }

    #[test]
    fn many_long_values_are_not_freed_at_once() {
        let mut store = Store::default();
        let value = Bytes::from(vec![b'x'; 100_000]);
        let names: Vec<_> = (0..3000).map(|number| format!("key {number}")).collect();
        for name in &names {
            store.execute(&set(name, &value));
        }
        let keys: Vec<Bytes> = names.iter().map(|name| bytes(name)).collect();
        let short = bytes("short");
        let pairs = keys.iter().map(|key| (key.clone(), short.clone())).collect();
        assert_eq!(apply(&mut store, &[Operation::MSet { pairs }]), [Reply::TooMuch]);
        assert_eq!(apply(&mut store, &[Operation::Delete { keys: keys.clone() }]), [Reply::TooMuch]);
        let sets: Vec<_> = names.iter().map(|name| set(name, &short)).collect();
        let replies = apply(&mut store, &sets);
        let count = replies.iter().filter(|reply| **reply == Reply::Ok).count();
        assert!((500..2000).contains(&count), "{count} values were replaced");
        assert_eq!(
            apply(&mut store, &[Operation::Delete { keys: keys[..count].to_vec() }]),
            [Reply::Integer(i64::try_from(count).expect("few"))]
        );
    }

    #[test]
    fn one_key_is_never_too_much_for_a_command_of_its_own() {
        let mut store = Store::default();
        let huge = Bytes::from(vec![b'x'; 63 << 20]);
        let append = Operation::Append { key: bytes("k"), value: bytes("y"), limit_bytes: u64::MAX };
        for operation in [
            set("k", &huge),
            append,
            Operation::Get { key: bytes("k") },
            Operation::Set { key: bytes("k"), value: huge.clone(), condition: None, returns_old: true },
            Operation::GetDel { key: bytes("k") },
        ] {
            let replies = apply(&mut store, &[operation, Operation::DbSize]);
            assert_ne!(replies[0], Reply::TooMuch);
        }
    }

    #[test]
    fn scans_share_the_work_of_their_command_and_still_find_every_key() {
        let mut store = store_of(30_000);
        let (mut cursor, mut seen) = (0, std::collections::BTreeSet::new());
        loop {
            let scan = Operation::Scan { cursor, pattern: None, count: u64::MAX };
            let after = set("after", &bytes("the scan"));
            let replies = apply(&mut store, &[scan, after]);
            assert_eq!(replies[1], Reply::Ok, "a scan leaves something for what follows");
            let Reply::Array(page) = &replies[0] else { panic!("a page, not {:?}", replies[0]) };
            let [Reply::Bulk(next), Reply::Array(keys)] = &page[..] else { panic!("a cursor and keys") };
            assert!(keys.len() < 30_000, "a page is bounded whatever its count");
            seen.extend(keys.iter().map(|key| format!("{key:?}")));
            cursor = std::str::from_utf8(next).expect("text").parse().expect("a number");
            if cursor == 0 {
                break;
            }
        }
        assert!(seen.len() >= 30_000);
    }

    #[test]
    fn a_scan_over_long_keys_looks_at_few_of_them_and_refuses_patterns_that_take_too_long() {
        let mut store = Store::default();
        for number in 0..20 {
            store.execute(&set(&format!("{}{number:02}", "a".repeat(65_000)), &bytes("v")));
        }
        let scan = |pattern: &str| Operation::Scan { cursor: 0, pattern: Some(bytes(pattern)), count: 1000 };
        let plain = "*".to_owned() + &"a".repeat(16_384) + "b*";
        assert!(matches!(&apply(&mut store, &[scan(&plain)])[0], Reply::Array(_)));
        let tried_everywhere = "*".to_owned() + &"?a".repeat(8_192) + "b*";
        assert_eq!(apply(&mut store, &[scan(&tried_everywhere)]), [Reply::TooMuch]);
    }

    #[test]
    fn removing_all_keys_takes_no_time_for_each() {
        let mut store = store_of(200_000);
        let picture = store.picture();
        let since = cpu_time();
        assert_eq!(apply(&mut store, &[Operation::FlushAll]), [Reply::Ok]);
        drop(picture);
        // To free them takes ten times as long.
        let taken = cpu_time().saturating_sub(since);
        assert!(taken.as_millis() < 20, "{taken:?}");
        assert!(store.is_empty());
    }
}
