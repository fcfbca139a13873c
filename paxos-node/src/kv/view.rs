//! A store as it is looked at at some time: what has expired by then is not there.

use std::cell::Cell;

use bytes::Bytes;
use paxos_core::Time;

use super::Store;
use super::records::{Record, Value};

/// A store at a time that is not before its own.
///
/// Only the log decides what has expired: a leader's clock may be ahead of it, and another leader's behind
/// that one. So a view that finds a key to have expired by its own time, but not by the store's, says so.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) store: &'a Store,
    time: Time,
    is_ahead: Cell<bool>,
}

impl Store {
    /// This store at `time`, or at its own time if that is later.
    pub(super) fn at(&self, time: Time) -> View<'_> {
        View { store: self, time: time.max(self.time), is_ahead: Cell::new(false) }
    }

    /// This store at the time of the last command.
    pub(super) fn now(&self) -> View<'_> {
        self.at(self.time)
    }
}

impl View<'_> {
    /// Whether something was looked at that has expired by the time of the view, and not by that of the log.
    #[cfg(any(test, feature = "server"))]
    pub(super) fn is_ahead_of_log(&self) -> bool {
        self.is_ahead.get()
    }

    /// Calls `look` with the record of a key.
    pub(super) fn look_at<R>(&self, key: &[u8], look: impl FnOnce(Option<Record<'_>>) -> R) -> R {
        self.store.records.look(key, |record| look(record.filter(|record| self.shows(record))))
    }

    /// Whether a record has not expired.
    pub(super) fn shows(&self, record: &Record<'_>) -> bool {
        let is_shown = !record.is_expired(self.time);
        if !is_shown && !record.is_expired(self.store.time) {
            self.is_ahead.set(true);
        }
        is_shown
    }

    /// Calls `look` with the value of a key.
    pub(super) fn look<R>(&self, key: &[u8], look: impl FnOnce(Option<Value<'_>>) -> R) -> R {
        self.look_at(key, |record| look(record.map(|record| record.value)))
    }

    /// The value of a key. A short one is copied, a long one shared.
    pub(super) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.look(key, |value| value.map(Value::to_bytes))
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.look(key, |value| value.is_some())
    }

    /// The length of the value of a key.
    pub(super) fn value_bytes(&self, key: &[u8]) -> Option<usize> {
        self.look(key, |value| value.map(|value| value.len()))
    }

    /// When a key expires: `None` if it is missing, `Some(None)` if it never does.
    #[expect(clippy::option_option, reason = "a key that is missing is not one that never expires")]
    pub(super) fn deadline(&self, key: &[u8]) -> Option<Option<Time>> {
        self.look_at(key, |record| record.map(|record| record.deadline))
    }

    /// How many milliseconds there are until a deadline.
    pub(super) fn left_ms(&self, deadline: Time) -> u64 {
        deadline.0.saturating_sub(self.time.0)
    }
}
