//! What commands of the log have done, for those who listen on this node: changes of keys, and messages.
//!
//! Events come in the order of the log. Who does not keep up with a bounded number of them is told that some
//! are lost, and so is everyone who listens while the state is replaced by a snapshot. As long as nobody
//! listens, nothing is kept and nothing is copied.
//!
//! Deliberately absent: events of the past, and what a node has missed that was not running.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::lock::lock;

/// So many events are kept for those who have not taken them yet, and so many bytes.
const MAX_EVENTS: usize = 64 << 10;
const MAX_EVENTS_BYTES: usize = 16 << 20;
/// The memory of an event beside its bytes.
const EVENT_BYTES: usize = 64;

/// Something that a command of the log has done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A key was changed or removed.
    Changed {
        /// The key.
        key: Bytes,
        /// What was done, as Redis calls it, such as `set` or `del`.
        what: &'static str,
    },
    /// All keys were removed.
    Cleared,
    /// A message was published.
    Message {
        /// Where it was published.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
}

impl Event {
    /// The memory that it takes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        EVENT_BYTES
            + match self {
                Event::Changed { key, .. } => key.len(),
                Event::Cleared => 0,
                Event::Message { channel, message } => channel.len() + message.len(),
            }
    }
}

/// The events of a store.
#[derive(Debug)]
pub struct Feed {
    listeners: AtomicUsize,
    recent: Mutex<Recent>,
    /// How many events there were.
    end: watch::Sender<u64>,
}

/// The last events.
#[derive(Debug, Default)]
struct Recent {
    events: VecDeque<Event>,
    bytes: usize,
    /// How many there were before them.
    first: u64,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { listeners: AtomicUsize::new(0), recent: Mutex::default(), end: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Acquire) > 0
    }

    /// Adds events; those that are too many are lost for who has not taken them.
    pub(super) fn add(&self, events: impl IntoIterator<Item = Event>) {
        let recent = &mut *lock(&self.recent);
        for event in events {
            recent.bytes += event.size_bytes();
            recent.events.push_back(event);
            while recent.events.len() > MAX_EVENTS || recent.bytes > MAX_EVENTS_BYTES {
                let oldest = recent.events.pop_front().expect("what has bytes has events");
                recent.bytes -= oldest.size_bytes();
                recent.first += 1;
            }
        }
        self.end.send_replace(recent.end());
    }

    /// Tells all who listen that they have missed something.
    pub(super) fn lose(&self) {
        let recent = &mut *lock(&self.recent);
        *recent = Recent { first: recent.end() + 1, ..Recent::default() };
        self.end.send_replace(recent.end());
    }

    /// Listens from now on: nothing that is applied later is missed without being told.
    #[must_use]
    pub fn listen(self: &Arc<Feed>) -> Listener {
        self.listeners.fetch_add(1, Ordering::AcqRel);
        let next = lock(&self.recent).end();
        Listener { feed: Arc::clone(self), next, end: self.end.subscribe() }
    }
}

impl Recent {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// Takes the events of a [`Feed`].
#[derive(Debug)]
pub struct Listener {
    feed: Arc<Feed>,
    /// How many events there were before the next one to be taken.
    next: u64,
    end: watch::Receiver<u64>,
}

/// Events were lost, because they were not taken in time or the state was replaced by a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("events were lost")]
pub struct Lost;

impl Listener {
    /// Waits until there are events to take.
    pub async fn ready(&mut self) {
        let next = self.next;
        // The listener itself keeps the sender alive.
        let _ = self.end.wait_for(|end| *end > next).await;
    }

    /// Takes events, at most this many, and no further one once they have this many bytes; none if there are
    /// none now.
    ///
    /// # Errors
    ///
    /// [`Lost`] if some are missing before the next one. It stays so.
    pub fn take(&mut self, at_most: usize, at_most_bytes: usize) -> Result<Vec<Event>, Lost> {
        let recent = lock(&self.feed.recent);
        let skipped = self.next.checked_sub(recent.first).ok_or(Lost)?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let has_room = |event: &&Event| {
            let had_room = bytes < at_most_bytes;
            bytes += event.size_bytes();
            had_room
        };
        let next = recent.events.iter().skip(skipped).take(at_most);
        let events: Vec<Event> = next.take_while(has_room).cloned().collect();
        self.next += events.len() as u64;
        Ok(events)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let recent = &mut *lock(&self.feed.recent);
        if self.feed.listeners.fetch_sub(1, Ordering::AcqRel) == 1 {
            *recent = Recent { first: recent.end(), ..Recent::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize, bytes: usize) -> Event {
        Event::Message { channel: Bytes::from(number.to_string()), message: vec![0; bytes].into() }
    }

    #[tokio::test]
    async fn each_listener_gets_what_comes_after_it_in_order() {
        let feed = Arc::<Feed>::default();
        assert!(!feed.is_heard());
        let mut first = feed.listen();
        feed.add([message(1, 0), message(2, 0)]);
        let mut second = feed.listen();
        feed.add([message(3, 0)]);
        first.ready().await;
        assert_eq!(first.take(2, usize::MAX), Ok(vec![message(1, 0), message(2, 0)]));
        assert_eq!(first.take(2, usize::MAX), Ok(vec![message(3, 0)]));
        assert_eq!(first.take(2, usize::MAX), Ok(Vec::new()));
        second.ready().await;
        assert_eq!(second.take(9, usize::MAX), Ok(vec![message(3, 0)]));
        drop((first, second));
        assert!(!feed.is_heard() && lock(&feed.recent).events.is_empty());
    }

    #[test]
    fn who_does_not_keep_up_is_told_and_others_are_not() {
        let feed = Arc::<Feed>::default();
        let (mut slow, mut quick) = (feed.listen(), feed.listen());
        for number in 0..20 {
            feed.add([message(number, 1 << 20)]);
            assert_eq!(quick.take(9, usize::MAX).map(|events| events.len()), Ok(1));
        }
        assert_eq!(slow.take(9, usize::MAX), Err(Lost));
        let (mut slow, recent) = (feed.listen(), lock(&feed.recent).bytes);
        assert!(recent <= MAX_EVENTS_BYTES);
        feed.add((0..=MAX_EVENTS).map(|number| message(number, 0)));
        assert_eq!(slow.take(9, usize::MAX), Err(Lost));
        assert_eq!(slow.take(9, usize::MAX), Err(Lost), "it stays so");
    }

    #[test]
    fn no_more_bytes_are_taken_than_asked_for_but_for_the_last_event() {
        let feed = Arc::<Feed>::default();
        let mut listener = feed.listen();
        feed.add((0..4).map(|number| message(number, 1_000)));
        assert_eq!(listener.take(9, 2_000).map(|events| events.len()), Ok(2));
        assert_eq!(listener.take(9, 1).map(|events| events.len()), Ok(1));
    }

    #[test]
    fn a_snapshot_is_a_loss_for_all() {
        let feed = Arc::<Feed>::default();
        let mut listener = feed.listen();
        feed.add([message(1, 0)]);
        assert_eq!(listener.take(9, usize::MAX).map(|events| events.len()), Ok(1));
        feed.lose();
        assert_eq!(listener.take(9, usize::MAX), Err(Lost));
        assert_eq!(feed.listen().take(9, usize::MAX), Ok(Vec::new()));
    }
}
