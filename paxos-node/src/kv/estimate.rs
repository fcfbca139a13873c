//! Estimates how long a command will take, to choose the thread that applies it.
//!
//! The driver's thread applies what is quick; what takes long goes to the applier's thread, so that the node
//! answers its peers meanwhile. Each node decides that for itself. So these figures may differ from one
//! version to the next, unlike those of [`work`](super::work), which all nodes have to count alike. They are
//! those of a bad case: memory that is cold, that the system has yet to hand out, or that a snapshot shares.
//! An estimate that is too high costs a change of threads, one that is too low costs a late heartbeat.

use bytes::Bytes;
use paxos_core::Time;

use super::Store;
use super::operation::{self, Operation};
use super::work::{FLUSH, LOOKUP};

/// A command that takes longer is not for the driver's thread.
pub(super) const QUICK_NANOSECONDS: u64 = 2_000_000;

/// To decode an operation and encode its reply.
const OPERATION: u64 = 50;
/// To add or change a key. The slowest thousand new keys of a million take 5 to 7 µs each on a virtual
/// machine whose pages of memory are handed out one by one; most take less than 2 µs.
pub(super) const CHANGE: u64 = 3_000;
/// To copy a byte into new memory, or to hash it. The system takes most of that time, to hand out the memory:
/// 0.8 ns on a virtual machine.
const BYTE: u64 = 1;
/// How long a page of a scan takes depends on keys that are not known yet.
const SCAN: u64 = QUICK_NANOSECONDS + 1;

impl Store {
    /// Whether a command may take longer than is good for the thread that answers peers.
    pub(super) fn estimates_long(&self, command: &Bytes) -> bool {
        let has_pictures = self.has_pictures();
        if !has_pictures && let Some(sets) = operation::plain_sets(command) {
            let nanoseconds: u64 = sets.map(|set| OPERATION + change(set.value.len())).sum();
            return nanoseconds > QUICK_NANOSECONDS;
        }
        let mut estimate = Estimate { store: self, has_pictures, nanoseconds: 0, bytes_written: 0 };
        for operation in operation::operations(command) {
            // What can't be read is answered at once.
            let Ok(operation) = operation else { return false };
            estimate.add(&operation);
            if estimate.nanoseconds > QUICK_NANOSECONDS {
                return true;
            }
        }
        false
    }
}

/// The sum over the operations of a command so far.
struct Estimate<'a> {
    store: &'a Store,
    has_pictures: bool,
    nanoseconds: u64,
    /// The bytes that earlier operations of the command write: a value may have become that much longer.
    bytes_written: usize,
}

impl Estimate<'_> {
    fn add(&mut self, operation: &Operation) {
        let nanoseconds = match operation {
            Operation::Get { key }
            | Operation::Digest { key }
            | Operation::LeftIfEqual { key, .. }
            | Operation::Counted { key }
            | Operation::GetRange { key, .. } => self.copied(key),
            Operation::Set { key, value, returns_old: true, .. }
            | Operation::Set { key, value, condition: Some(_), .. }
            | Operation::SetExpiring { key, value, .. }
            | Operation::Append { key, value, .. } => self.copied(key).saturating_add(self.written(value)),
            Operation::SetRange { key, offset, value, limit_bytes } => {
                let zeros = usize::try_from(*offset.min(limit_bytes)).unwrap_or(usize::MAX);
                self.bytes_written = self.bytes_written.saturating_add(zeros);
                self.copied(key).saturating_add(self.written(value))
            }
            // The value is hashed, and may be copied.
            Operation::GetExpiring { key, .. }
            | Operation::ChangeDeadline { key, .. }
            | Operation::ChangeDeadlineIfEqual { key, .. }
            | Operation::Extend { key, .. } => self.copied(key).saturating_mul(2).saturating_add(CHANGE),
            Operation::Expire { at_most } => self.expired(*at_most),
            Operation::Set { value, .. } | Operation::SetNx { value, .. } => self.written(value),
            Operation::GetDel { key } | Operation::DeleteIf { key, .. } => {
                self.copied(key).saturating_add(CHANGE)
            }
            Operation::DeleteEqual { keys, .. } => {
                keys.iter().map(|key| self.copied(key).saturating_add(CHANGE)).fold(0, u64::saturating_add)
            }
            Operation::SetAll { keys, value, .. } => {
                let written = self.written(value);
                keys.iter().map(|key| self.copied(key).saturating_add(written)).fold(0, u64::saturating_add)
            }
            Operation::Rename { from, .. } | Operation::Copy { from, .. } => {
                let copied = self.copied(from);
                // The command may use the copy, too.
                let value_bytes = self.store.stored_bytes(from).unwrap_or(0);
                self.bytes_written = self.bytes_written.saturating_add(value_bytes);
                copied.saturating_add(2 * CHANGE)
            }
            Operation::Delete { keys } => CHANGE * keys.len() as u64,
            Operation::Exists { keys } => LOOKUP * keys.len() as u64,
            Operation::Add { .. } | Operation::AddDecimal { .. } => CHANGE,
            Operation::Count { .. } => 2 * CHANGE,
            Operation::SlideWindow { previous, current, .. } => {
                self.copied(previous).saturating_add(self.copied(current)).saturating_add(4 * CHANGE)
            }
            Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::Object { .. }
            | Operation::Deadline { .. }
            | Operation::Created { .. } => LOOKUP,
            Operation::Unchanged { watched } => LOOKUP * watched.len() as u64,
            Operation::Publish { message, .. } => LOOKUP + BYTE * message.len() as u64,
            Operation::RandomKey { .. } => 2 * LOOKUP,
            // So many keys take long whatever their values, and to look for all of them would, too.
            Operation::MGet { keys } if LOOKUP * keys.len() as u64 > QUICK_NANOSECONDS => {
                LOOKUP * keys.len() as u64
            }
            Operation::MGet { keys } => keys.iter().map(|key| self.copied(key)).sum(),
            Operation::MSet { pairs } | Operation::MSetNx { pairs } => {
                pairs.iter().map(|(_, value)| self.written(value)).sum()
            }
            Operation::DbSize => 0,
            Operation::Scan { .. } | Operation::Keys { .. } => SCAN,
            Operation::FlushAll => FLUSH,
        };
        self.nanoseconds = self.nanoseconds.saturating_add(OPERATION + nanoseconds);
        if self.has_pictures && self.nanoseconds <= QUICK_NANOSECONDS && self.waits(operation) {
            self.nanoseconds = u64::MAX;
        }
    }

    /// Whether a change would wait for the thread that writes a snapshot. That copies some hundred records at
    /// a time, and may lose its processor meanwhile.
    fn waits(&self, operation: &Operation) -> bool {
        let is_held = |key: &Bytes| self.store.records.is_held(key);
        match operation {
            Operation::Set { key, .. }
            | Operation::SetNx { key, .. }
            | Operation::GetDel { key }
            | Operation::Add { key, .. }
            | Operation::DeleteIf { key, .. }
            | Operation::SetRange { key, .. }
            | Operation::AddDecimal { key, .. }
            | Operation::SetExpiring { key, .. }
            | Operation::GetExpiring { key, .. }
            | Operation::ChangeDeadline { key, .. }
            | Operation::ChangeDeadlineIfEqual { key, .. }
            | Operation::Extend { key, .. }
            | Operation::Count { key, .. }
            | Operation::Append { key, .. } => is_held(key),
            Operation::Rename { from: one, to: other, .. }
            | Operation::SlideWindow { previous: one, current: other, .. } => is_held(one) || is_held(other),
            Operation::Copy { to, .. } => is_held(to),
            // Which keys they are is not looked up.
            Operation::Expire { at_most } => *at_most > 0,
            Operation::Delete { keys }
            | Operation::DeleteEqual { keys, .. }
            | Operation::SetAll { keys, .. } => keys.iter().any(is_held),
            Operation::MSet { pairs } | Operation::MSetNx { pairs } => {
                pairs.iter().any(|(key, _)| is_held(key))
            }
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::StrLen { .. }
            | Operation::Type { .. }
            | Operation::MGet { .. }
            | Operation::Deadline { .. }
            | Operation::LeftIfEqual { .. }
            | Operation::Counted { .. }
            | Operation::Created { .. }
            | Operation::DbSize
            | Operation::Digest { .. }
            | Operation::GetRange { .. }
            | Operation::RandomKey { .. }
            | Operation::Keys { .. }
            | Operation::Object { .. }
            | Operation::Unchanged { .. }
            | Operation::Publish { .. }
            | Operation::Scan { .. }
            | Operation::FlushAll => false,
        }
    }

    /// To find a value and copy it.
    fn copied(&self, key: &[u8]) -> u64 {
        let value_bytes = self.bytes_written.saturating_add(self.store.stored_bytes(key).unwrap_or(0));
        BYTE.saturating_mul(value_bytes as u64).saturating_add(LOOKUP)
    }

    /// To remove keys that have expired. When they will be removed is not known here; it is soon.
    fn expired(&self, at_most: u32) -> u64 {
        let count = self.store.deadlines.due(Time(u64::MAX)).take(at_most as usize).count();
        CHANGE * count as u64
    }

    /// To change a key by a value that the command holds.
    fn written(&mut self, value: &Bytes) -> u64 {
        self.bytes_written = self.bytes_written.saturating_add(value.len());
        change(value.len())
    }
}

/// To change a key by a value of this length.
fn change(value_bytes: usize) -> u64 {
    CHANGE + BYTE * value_bytes as u64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, set};
    use super::*;
    use crate::state_machine::StateMachine;

    const LONG_BYTES: usize = 1 << 20;

    /// A store whose key `long` has a long value, and `short` a short one.
    fn store() -> Store {
        let mut store = Store::default();
        store.execute(&set("long", &"x".repeat(LONG_BYTES)));
        store.execute(&set("short", "value"));
        store
    }

    fn takes_long(operations: &[Operation]) -> bool {
        store().takes_long(&Operation::command(operations))
    }

    fn append(key: &str) -> Operation {
        Operation::append(bytes(key), bytes("y"), u64::MAX)
    }

    fn keys(count: usize) -> Vec<Bytes> {
        (0..count).map(|number| bytes(&format!("key{number}"))).collect()
    }

    #[test]
    fn what_clients_ask_for_every_day_is_quick() {
        let get = |key: &str| Operation::get(bytes(key));
        for operation in
            [set("k", "v"), append("short"), get("short"), Operation::Add { key: bytes("k"), by: 1 }]
        {
            assert!(!takes_long(&vec![operation.clone(); 512]), "{operation:?}");
        }
        assert!(!takes_long(&[set("k", &"v".repeat(LONG_BYTES))]));
        assert!(!takes_long(&[append("long")]));
        assert!(!takes_long(&[get("long")]));
        assert!(!takes_long(&[Operation::m_get(keys(1_000))]));
        assert!(!takes_long(&[Operation::FlushAll]));
    }

    #[test]
    fn many_changes_take_long() {
        let pairs: Vec<_> = keys(1_100).into_iter().map(|key| (key, bytes("v"))).collect();
        let sets: Vec<_> = pairs.iter().cloned().map(|(key, value)| Operation::set(key, value)).collect();
        assert!(takes_long(&sets));
        assert!(takes_long(&[Operation::m_set(pairs)]));
        assert!(takes_long(&[Operation::delete(keys(1_100))]));
    }

    #[test]
    fn to_copy_or_hash_long_values_several_times_takes_long() {
        let get_and_set = Operation::set_with(bytes("long"), bytes("v"), None, true);
        for operation in [append("long"), Operation::get(bytes("long")), get_and_set] {
            assert!(takes_long(&[operation.clone(), operation.clone()]), "{operation:?}");
        }
        assert!(takes_long(&[Operation::m_get(vec![bytes("long"); 2])]));
        assert!(takes_long(&[set("k", &"v".repeat(2 * LONG_BYTES))]));
    }

    #[test]
    fn a_value_that_the_command_itself_makes_long_counts() {
        let long = "v".repeat(LONG_BYTES - 1_000);
        assert!(takes_long(&[set("new", &long), append("new")]));
        assert!(takes_long(&[Operation::append(bytes("short"), bytes(&long), u64::MAX), append("short")]));
    }

    #[test]
    fn a_page_of_a_scan_takes_long_and_what_can_not_be_read_does_not() {
        assert!(takes_long(&[Operation::scan(0, None, 10)]));
        assert!(!store().takes_long(&Bytes::from_static(b"\xffnonsense")));
        assert!(!store().takes_long(&Bytes::new()));
    }
}
