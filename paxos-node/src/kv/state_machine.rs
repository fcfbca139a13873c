//! The store as a state machine: commands of the log are applied to it, and snapshots taken of it.

use bytes::Bytes;
use paxos_core::Time;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::work::Work;
use super::{MalformedCommand, Operation, Reply, Store, operation, reply, snapshot};
use crate::state_machine::{Applying, SnapshotWriter, StateMachine};

/// How many keys one command removes when they have expired: it is applied in a millisecond or two.
const EXPIRED_AT_ONCE: u32 = 512;
/// How many such commands are proposed at once, at most.
const EXPIRY_COMMANDS: usize = 16;

impl StateMachine for Store {
    fn apply(&mut self, at: Applying, command: &Bytes) -> Bytes {
        self.time = at.time.max(self.time);
        match operation::decode(command) {
            Ok(operations) => {
                let mut work = Work::of_command();
                let mut carry_out = |operation| self.carry_out(operation, &mut work).ok();
                let mut replies: Vec<Reply> = operations.iter().map_while(&mut carry_out).collect();
                replies.resize(operations.len(), Reply::TooMuch);
                reply::encode(&replies)
            }
            Err(MalformedCommand) => reply::encode(&[Reply::error("ERR malformed command in the log")]),
        }
    }

    fn snapshot(&self) -> SnapshotWriter {
        let picture = self.picture();
        Box::new(move |target| snapshot::write(picture, target))
    }

    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        // The old state is freed first: there may be no memory for both.
        *self = Store::default();
        *self = snapshot::read(snapshot)?;
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn needs_memory(command: &Bytes) -> bool {
        operation::decode(command).map_or(true, |operations| operations.iter().any(Operation::needs_memory))
    }

    fn takes_long(&self, command: &Bytes) -> bool {
        self.estimates_long(command)
    }

    fn digest(&self) -> u64 {
        let moment = [self.revision.to_le_bytes(), self.time.0.to_le_bytes()];
        self.records_digest ^ xxh3_64_with_seed(moment.as_flattened(), 0)
    }

    /// The removal of keys that have expired, if there are any: as many commands as there is work for.
    fn due(&self, time: Time) -> Vec<Bytes> {
        let is_more_due =
            |commands: &usize| self.deadlines.has_more_due_than(commands * EXPIRED_AT_ONCE as usize, time);
        let command = || Operation::command(&[Operation::Expire { at_most: EXPIRED_AT_ONCE }]);
        (0..EXPIRY_COMMANDS).take_while(is_more_due).map(|_| command()).collect()
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::Slot;
    use proptest::prelude::*;

    use super::super::records::memory_of;
    use super::super::testing::{bytes, contents, set};
    use super::*;

    #[test]
    fn ten_thousand_keys_can_be_overwritten_in_one_transaction() {
        let mut store = Store::default();
        let long = "v".repeat(1_000);
        let operations: Vec<Operation> = (0..10_000).map(|key| set(&format!("key{key}"), &long)).collect();
        let command = Operation::command(&operations);
        for slot in 1..=2 {
            let replies = store.apply(Applying::new(Slot(slot), Time::NONE), &command);
            let replies = Reply::decode_all(replies).expect("well formed");
            assert!(replies.iter().all(|reply| *reply == Reply::Ok), "in slot {slot}");
        }
    }

    #[test]
    fn equal_histories_have_equal_digests_and_others_have_not() {
        let (mut one, mut two) = (Store::default(), Store::default());
        one.execute(&set("a", "1"));
        two.execute(&set("a", "1"));
        assert_eq!(one.digest(), two.digest());
        two.execute(&set("b", "1"));
        two.execute(&Operation::Delete { keys: vec![bytes("b")] });
        assert_ne!(one.digest(), two.digest(), "the revision differs");
    }

    proptest! {
        #[test]
        fn a_snapshot_is_the_state(pairs in prop::collection::vec(("[a-f]{0,3}", "[a-z]{0,20}", 0..3u8), 0..60)) {
            let mut store = Store::default();
            for (key, value, kind) in pairs {
                store.execute(&match kind {
                    0 => Operation::Delete { keys: vec![bytes(&key)] },
                    _ => set(&key, &value),
                });
            }
            let mut image = Vec::new();
            store.snapshot()(&mut image).expect("memory takes everything");
            let mut restored = Store::default();
            restored.restore(&mut &image[..]).expect("the image is whole");
            prop_assert_eq!(restored.digest(), store.digest());
            prop_assert_eq!(contents(&restored), contents(&store));
            prop_assert_eq!(restored.memory_bytes, store.memory_bytes);
            let memory = |(_, _, key, value): (_, _, Bytes, Bytes)| memory_of(key.len(), value.len(), false);
            let counted: u64 = contents(&store).into_iter().map(memory).sum();
            prop_assert_eq!(store.memory_bytes, counted);
            for length in 0..image.len() {
                let cut = Store::default().restore(&mut &image[..length]);
                let kind = cut.map_err(|error| error.kind());
                prop_assert_eq!(kind, Err(std::io::ErrorKind::InvalidData), "cut to {}", length);
            }
        }
    }
}
