//! The store as a state machine: commands of the log are applied to it, and snapshots taken of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::Time;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::feed::Event;
use super::operation::PlainSets;
use super::store::{CHANGED, REMOVED};
use super::work::Work;
use super::{Operation, Reply, Store, UnreadableCommand, operation, reply, snapshot};
use crate::state_machine::{Applying, SnapshotWriter, StateMachine, UnknownCommand};

/// How many keys one command removes when they have expired: it is applied in a millisecond or two.
const EXPIRED_AT_ONCE: u32 = 512;
/// How many such commands are proposed at once, at most.
const EXPIRY_COMMANDS: usize = 5;

impl StateMachine for Store {
    fn apply(&mut self, at: Applying, command: &Bytes) -> Bytes {
        let applied = self.try_apply(at, command);
        applied
            .unwrap_or_else(|UnknownCommand| reply::encode(&[Reply::error("ERR unknown command in the log")]))
    }

    fn try_apply(&mut self, at: Applying, command: &Bytes) -> Result<Bytes, UnknownCommand> {
        let replies = if let Some(sets) = operation::plain_sets(command) {
            self.time = at.time.max(self.time);
            self.noting(|store| store.apply_sets(sets))
        } else {
            let decoded = operation::decode(command);
            if matches!(decoded, Err(UnreadableCommand::Unknown)) {
                return Err(UnknownCommand);
            }
            self.time = at.time.max(self.time);
            match decoded {
                Ok(operations) => self.noting(|store| store.apply_operations(&operations)),
                Err(_) => vec![Reply::error("ERR malformed command in the log")],
            }
        };
        Ok(reply::encode(&replies))
    }

    fn knows(command: &Bytes) -> bool {
        operation::operations(command).all(|decoded| !matches!(decoded, Err(UnreadableCommand::Unknown)))
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (picture, removals) = (self.picture(), self.removals.clone());
        Box::new(move |target| snapshot::write(picture, &removals, target))
    }

    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        let feed = self.feed();
        self.begin_anew();
        // Whoever listens goes on to listen to this state.
        self.feed = Arc::clone(&feed);
        snapshot::read(self, snapshot)?;
        feed.lose();
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

    fn describe(&self) -> BTreeMap<String, String> {
        let facts = [("keys", self.len() as u64), ("revision", self.revision)];
        facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
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

impl Store {
    /// Applies a command, and tells those who listen what it has done.
    fn noting(&mut self, apply: impl FnOnce(&mut Store) -> Vec<Reply>) -> Vec<Reply> {
        self.noted = self.feed.is_heard().then(Vec::new);
        let replies = apply(self);
        if let Some(events) = self.noted.take().filter(|events| !events.is_empty()) {
            self.feed.add(events);
        }
        replies
    }

    fn apply_sets(&mut self, sets: PlainSets<'_>) -> Vec<Reply> {
        let count = sets.clone().count();
        let mut replies = vec![Reply::Ok; self.set_in_order(sets, &mut Work::of_command())];
        replies.resize(count, Reply::TooMuch);
        replies
    }

    fn apply_operations(&mut self, operations: &[Operation]) -> Vec<Reply> {
        let (mut work, mut is_given_up) = (Work::of_command(), false);
        let carry_out = |operation: &Operation| {
            if is_given_up {
                return Some(Reply::Nil);
            }
            let noted = self.noted.as_ref().map_or(0, Vec::len);
            let reply = self.carry_out(operation, &mut work).ok()?;
            self.name_events(operation, noted);
            is_given_up = operation.gives_up(&reply);
            Some(reply)
        };
        let mut replies: Vec<Reply> = operations.iter().map_while(carry_out).collect();
        replies.resize(operations.len(), Reply::TooMuch);
        replies
    }

    /// Gives the events behind the first `named` of this command the names that they have for an operation.
    fn name_events(&mut self, operation: &Operation, named: usize) {
        let (changed, removed) = match operation {
            Operation::Add { .. } | Operation::Count { .. } => ("incrby", REMOVED),
            Operation::AddDecimal { .. } => ("incrbyfloat", REMOVED),
            Operation::Append { .. } => ("append", REMOVED),
            Operation::SetRange { .. } => ("setrange", REMOVED),
            Operation::Rename { .. } => ("rename_to", "rename_from"),
            Operation::Copy { .. } => ("copy_to", REMOVED),
            _ => return,
        };
        for event in self.noted.iter_mut().flatten().skip(named) {
            if let Event::Changed { what, .. } = event {
                match *what {
                    CHANGED => *what = changed,
                    REMOVED => *what = removed,
                    _ => {}
                }
            }
        }
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

    #[test]
    fn a_state_is_restored_in_the_place_of_any_other() {
        let filled = |from: usize, keys: usize| {
            let mut store = Store::default();
            for key in from..from + keys {
                store.execute(&set(&format!("key{key}"), &"value ".repeat(key % 200)));
            }
            store
        };
        for (old_keys, new_keys) in [(0, 3_000), (3_000, 0), (3_000, 100), (100, 3_000), (3_000, 3_000)] {
            for is_seen in [false, true] {
                let new = filled(1_000, new_keys);
                let mut image = Vec::new();
                new.snapshot()(&mut image).expect("memory takes everything");
                let mut store = filled(0, old_keys);
                let picture = is_seen.then(|| store.picture());
                store.restore(&mut &image[..]).expect("the image is whole");
                assert_eq!(contents(&store), contents(&new), "{new_keys} keys in place of {old_keys}");
                assert_eq!((store.digest(), store.memory_bytes), (new.digest(), new.memory_bytes));
                let seen = picture.map(|picture| picture.len());
                assert_eq!(seen.unwrap_or(old_keys), old_keys);
            }
        }
    }

    #[test]
    fn who_listens_hears_of_each_change_in_the_words_of_redis() {
        let mut store = Store::default();
        let mut listener = store.feed().listen();
        let (key, other) = (|| bytes("k"), || bytes("l"));
        let operations = [
            set("k", "1"),
            Operation::add(key(), 1),
            Operation::append(key(), bytes("0"), 100),
            Operation::set_nx(key(), bytes("x")),
            Operation::Copy { from: key(), to: other(), replaces: false },
            Operation::Rename { from: key(), to: other(), only_if_missing: false },
            Operation::publish(bytes("c"), bytes("m")),
            Operation::delete(vec![key(), other()]),
            set("k", "1"),
            Operation::FlushAll,
        ];
        store.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(&operations));
        let heard =
            listener.take(100, usize::MAX).expect("they are few").into_iter().map(|event| match event {
                Event::Changed { key, what } => format!("{what} {}", String::from_utf8_lossy(&key)),
                other => format!("{other:?}"),
            });
        let message = Event::Message { channel: bytes("c"), message: bytes("m") };
        let expected = [
            "set k",
            "incrby k",
            "append k",
            "copy_to l",
            "rename_from k",
            "rename_to l",
            &format!("{message:?}"),
            "del l",
            "set k",
            "Cleared",
        ];
        assert_eq!(heard.collect::<Vec<_>>(), expected);
        let mut image = Vec::new();
        store.snapshot()(&mut image).expect("memory takes everything");
        store.restore(&mut &image[..]).expect("the image is whole");
        assert!(listener.take(100, usize::MAX).is_err(), "what the snapshot has changed was not told");
    }

    /// Applies the operations together, and one by one to another store as far as the replies say.
    fn apply_together_and_alone(operations: &[Operation], is_seen: bool) -> (Vec<Reply>, [Store; 2]) {
        let (mut together, mut alone) = (Store::default(), Store::default());
        let picture = is_seen.then(|| together.picture());
        let replies = together.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(operations));
        let replies = Reply::decode_all(replies).expect("well formed");
        for (operation, reply) in
            operations.iter().zip(&replies).filter(|(_, reply)| **reply != Reply::TooMuch)
        {
            assert_eq!(alone.execute(operation), *reply, "{operation:?}");
        }
        drop(picture);
        (replies, [together, alone])
    }

    #[test]
    fn sets_are_carried_out_in_order_until_one_is_too_much() {
        for is_seen in [false, true] {
            let operations: Vec<Operation> = (0..16_384)
                .map(|number| set(&format!("key{}", number % 9_000), &number.to_string()))
                .collect();
            let (replies, [together, alone]) = apply_together_and_alone(&operations, is_seen);
            assert_eq!(replies.len(), operations.len());
            let carried_out = replies.iter().take_while(|reply| **reply == Reply::Ok).count();
            assert!((10_000..16_384).contains(&carried_out), "{carried_out}");
            assert!(replies[carried_out..].iter().all(|reply| *reply == Reply::TooMuch));
            assert_eq!(together.digest(), alone.digest());
        }
    }

    proptest! {
        #[test]
        fn sets_of_one_command_do_what_they_do_alone(
            pairs in prop::collection::vec(("[a-h]{0,2}", "[a-z]{0,600}"), 0..100),
            is_seen: bool,
        ) {
            let operations: Vec<Operation> = pairs.iter().map(|(key, value)| set(key, value)).collect();
            let (replies, [together, alone]) = apply_together_and_alone(&operations, is_seen);
            prop_assert_eq!(replies, vec![Reply::Ok; operations.len()]);
            prop_assert_eq!(together.digest(), alone.digest());
            prop_assert_eq!(contents(&together), contents(&alone));
        }

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
            let records_end = image.len() - snapshot::removals_bytes(&store);
            // Where the records end, so does a snapshot of a version that does not know of removals.
            for length in (0..image.len()).filter(|length| *length != records_end) {
                let cut = Store::default().restore(&mut &image[..length]);
                let kind = cut.map_err(|error| error.kind());
                prop_assert_eq!(kind, Err(std::io::ErrorKind::InvalidData), "cut to {}", length);
            }
        }
    }
}
