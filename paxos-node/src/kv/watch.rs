//! What a client that watches keys has seen of them, and whether they have changed since.

use bytes::Bytes;

use super::view::View;
use super::work::{self, LOOKUP, TooMuch, Work};
use super::{Reply, Store};

/// What a client has seen of a key: the condition under which its transaction is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The key was there, and was last changed at this revision.
    Changed(u64),
    /// The key was missing at this revision of the store.
    Missing(u64),
}

impl Store {
    /// What there is to see of a key now, for [`Operation::Unchanged`](super::Operation::Unchanged).
    #[must_use]
    pub fn seen(&self, key: &[u8]) -> Seen {
        self.now().modified(key).map_or(Seen::Missing(self.revision), Seen::Changed)
    }
}

impl View<'_> {
    /// The revision at which a key was last changed.
    fn modified(&self, key: &[u8]) -> Option<u64> {
        self.look_at(key, |record| record.map(|record| record.modified))
    }

    /// Whether a key is as it was seen, and was so all the time: one that has expired has changed. It may say
    /// `false` of a missing key though that was not there between; see [`removals`](super::removals).
    fn is_unchanged(&self, key: &[u8], seen: Seen) -> bool {
        match (seen, self.modified(key)) {
            (Seen::Changed(seen), Some(modified)) => seen == modified,
            (Seen::Missing(since), None) => !self.store.removals.may_have_been_there(key, since),
            (Seen::Changed(_), None) | (Seen::Missing(_), Some(_)) => false,
        }
    }

    pub(super) fn are_unchanged(&self, watched: &[(Bytes, Seen)], work: &mut Work) -> Result<Reply, TooMuch> {
        work.take(work::operation(watched.len(), LOOKUP))?;
        let are_unchanged = watched.iter().all(|(key, seen)| self.is_unchanged(key, *seen));
        Ok(Reply::Integer(i64::from(are_unchanged)))
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{Slot, Time};

    use super::super::testing::{bytes, set};
    use super::super::{Expiry, Operation};
    use super::*;
    use crate::state_machine::{Applying, StateMachine};

    fn delete(key: &str) -> Operation {
        Operation::delete(vec![bytes(key)])
    }

    /// Whether a transaction goes on that has seen `key` before `between`.
    fn goes_on(before: &[Operation], key: &str, between: &[Operation]) -> bool {
        let mut store = Store::default();
        for operation in before {
            store.execute(operation);
        }
        let unchanged = Operation::Unchanged { watched: vec![(bytes(key), store.seen(key.as_bytes()))] };
        for operation in between {
            store.execute(operation);
        }
        let command = Operation::command(&[unchanged, set("result", "done")]);
        let replies = Reply::decode_all(store.apply(Applying::new(Slot(1), Time::NONE), &command))
            .expect("a response can be read");
        let has_gone_on = store.get(b"result").is_some();
        let expected =
            if has_gone_on { [Reply::Integer(1), Reply::Ok] } else { [Reply::Integer(0), Reply::Nil] };
        assert_eq!(replies, expected);
        has_gone_on
    }

    #[test]
    fn a_transaction_goes_on_only_if_nothing_has_changed() {
        let there = [set("k", "1")];
        assert!(goes_on(&there, "k", &[]));
        assert!(goes_on(&there, "k", &[set("other", "1"), delete("other"), Operation::get(bytes("k"))]));
        assert!(!goes_on(&there, "k", &[set("k", "1")]), "set to the same value");
        assert!(!goes_on(&there, "k", &[delete("k")]));
        assert!(!goes_on(&there, "k", &[delete("k"), set("k", "1")]));
        assert!(!goes_on(&there, "k", &[Operation::FlushAll]));
        let rename =
            |from, to| Operation::Rename { from: bytes(from), to: bytes(to), only_if_missing: false };
        assert!(!goes_on(&there, "k", &[rename("k", "l"), rename("l", "k")]));
    }

    #[test]
    fn a_key_that_was_created_and_removed_again_has_changed() {
        assert!(goes_on(&[], "k", &[]));
        assert!(goes_on(&[], "k", &[set("other", "1"), delete("k")]));
        assert!(!goes_on(&[], "k", &[set("k", "1")]));
        assert!(!goes_on(&[], "k", &[set("k", "1"), delete("k")]));
        assert!(!goes_on(&[], "k", &[set("k", "1"), Operation::FlushAll]));
        assert!(goes_on(&[set("k", "1"), delete("k")], "k", &[]), "it was missing when it was seen");
    }

    #[test]
    fn a_key_that_expires_has_changed_and_one_that_had_expired_has_not() {
        let mut store = Store::default();
        let mut apply = |time, operation: &Operation| {
            store.apply(
                Applying::new(Slot(1), Time(time)),
                &Operation::command(std::slice::from_ref(operation)),
            );
            (store.seen(b"k"), store.seen(b"other"))
        };
        let (key, value, expiry) = (bytes("k"), bytes("v"), Expiry::AfterMs(100));
        let lock = Operation::SetExpiring { key, value, condition: None, returns_old: false, expiry };
        let sweep = Operation::Expire { at_most: 9 };
        let (before, _) = apply(1_000, &delete("k"));
        let (while_there, _) = apply(1_000, &lock);
        // It takes memory still.
        let (expired, other) = apply(1_100, &delete("other"));
        assert!(matches!((while_there, expired), (Seen::Changed(_), Seen::Missing(_))));
        let (removed, _) = apply(1_200, &sweep);
        for (seen, is_unchanged) in [(before, false), (while_there, false), (expired, true), (removed, true)]
        {
            assert_eq!(store.now().is_unchanged(b"k", seen), is_unchanged, "{seen:?}");
        }
        assert!(store.now().is_unchanged(b"other", other));
    }

    #[test]
    fn nodes_that_have_restored_a_snapshot_decide_alike() {
        let mut store = Store::default();
        let seen = store.seen(b"k");
        store.execute(&set("k", "1"));
        store.execute(&delete("k"));
        let later = store.seen(b"k");
        let mut image = Vec::new();
        store.snapshot()(&mut image).expect("memory takes everything");
        let mut restored = Store::default();
        restored.restore(&mut &image[..]).expect("the image is whole");
        for store in [&store, &restored] {
            assert!(!store.now().is_unchanged(b"k", seen) && store.now().is_unchanged(b"k", later));
        }
    }
}
