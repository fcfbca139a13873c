//! One client that listens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{Kind, MAX_CHANNELS, MAX_PATTERNS, Registry};
use crate::fronts::resp::write::Writer;
use crate::kv::{Event, Feed, Listener, Lost, Pattern, Reply};

/// How many events are taken at once, and how much work of comparing patterns is done, in units of about a
/// nanosecond, before the client is sent what has gathered and other tasks may run.
const EVENTS_AT_ONCE: usize = 64;
const EVENTS_BYTES_AT_ONCE: usize = 64 << 10;
const WORK_AT_ONCE: u64 = 500_000;
/// How much work it may be to compare a pattern with the longest name.
const PATTERN_WORK: u64 = 200_000;
const KEYSPACE: &[u8] = b"__keyspace@0__:";
const KEYEVENT: &[u8] = b"__keyevent@0__:";

/// What a client listens to.
#[derive(Debug)]
pub(in crate::fronts::resp) struct Subscriber {
    listener: Listener,
    registry: Arc<Registry>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeMap<Bytes, Pattern>,
    names_bytes: usize,
    tracking: Option<Tracking>,
    /// Events that were taken and are not told yet.
    taken: VecDeque<Event>,
    /// Where names of channels are put together.
    name: Vec<u8>,
}

/// The keys of whose changes a client is told, so that it drops what it has kept of them.
///
/// A client is told of each change of such a key, whether it has read the key or not.
#[derive(Clone, Debug, Default)]
pub(in crate::fronts::resp) struct Tracking {
    /// Keys that begin with one of these; all keys if there are none.
    pub(in crate::fronts::resp) prefixes: Vec<Bytes>,
    /// Whether the client has asked to be told of all keys.
    pub(in crate::fronts::resp) is_broadcast: bool,
}

impl Subscriber {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The answer if too many clients of this node listen.
    pub(in crate::fronts::resp) fn new(
        feed: &Arc<Feed>,
        registry: &Arc<Registry>,
    ) -> Result<Subscriber, Reply> {
        registry.enter()?;
        Ok(Subscriber {
            listener: feed.listen(),
            registry: Arc::clone(registry),
            channels: BTreeSet::new(),
            patterns: BTreeMap::new(),
            names_bytes: 0,
            tracking: None,
            taken: VecDeque::new(),
            name: Vec::new(),
        })
    }

    /// Listens to a channel or pattern; the answer is how many there are now.
    pub(in crate::fronts::resp) fn add(
        &mut self,
        kind: Kind,
        name: &Bytes,
        longest_name: usize,
    ) -> Result<(), Reply> {
        let has = |limit: usize, what: &str| {
            Reply::error(&format!("ERR this client listens to {limit} {what} already, which is the limit"))
        };
        match kind {
            _ if name.len() > longest_name => {
                return Err(Reply::error(&format!("ERR channel exceeds the limit of {longest_name} bytes")));
            }
            Kind::Channels if self.channels.contains(name) => return Ok(()),
            Kind::Patterns if self.patterns.contains_key(name) => return Ok(()),
            Kind::Channels if self.channels.len() >= MAX_CHANNELS => {
                return Err(has(MAX_CHANNELS, "channels"));
            }
            Kind::Patterns if self.patterns.len() >= MAX_PATTERNS => {
                return Err(has(MAX_PATTERNS, "patterns"));
            }
            Kind::Channels | Kind::Patterns => {}
        }
        // A copy: the name is a small part of all that was read with it.
        let name = Bytes::copy_from_slice(name);
        if kind == Kind::Patterns {
            let pattern = Pattern::new(&name);
            if pattern.work(longest_name + KEYSPACE.len()) > PATTERN_WORK {
                return Err(Reply::error(
                    "ERR it would take too long to compare this pattern: use fewer ? and [] behind a *",
                ));
            }
            self.registry.add(kind, &name)?;
            self.patterns.insert(name.clone(), pattern);
        } else {
            self.registry.add(kind, &name)?;
            self.channels.insert(name.clone());
        }
        self.names_bytes += name.len();
        Ok(())
    }

    pub(in crate::fronts::resp) fn remove(&mut self, kind: Kind, name: &Bytes) {
        let is_removed = match kind {
            Kind::Channels => self.channels.remove(name),
            Kind::Patterns => self.patterns.remove(name).is_some(),
        };
        if is_removed {
            self.names_bytes -= name.len();
            self.registry.remove(kind, name);
        }
    }

    /// The channels or patterns.
    pub(in crate::fronts::resp) fn names(&self, kind: Kind) -> Vec<Bytes> {
        match kind {
            Kind::Channels => self.channels.iter().cloned().collect(),
            Kind::Patterns => self.patterns.keys().cloned().collect(),
        }
    }

    /// How many channels, or patterns, there are.
    pub(in crate::fronts::resp) fn count_of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channels => self.channels.len(),
            Kind::Patterns => self.patterns.len(),
        }
    }

    /// How many channels and patterns there are together.
    pub(in crate::fronts::resp) fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    pub(in crate::fronts::resp) fn track(&mut self, tracking: Option<Tracking>) {
        self.tracking = tracking;
    }

    pub(in crate::fronts::resp) fn tracking(&self) -> Option<&Tracking> {
        self.tracking.as_ref()
    }

    /// Whether it hears of nothing.
    pub(in crate::fronts::resp) fn is_over(&self) -> bool {
        self.count() == 0 && self.tracking.is_none()
    }

    /// How much memory it takes.
    pub(in crate::fronts::resp) fn size_bytes(&self) -> usize {
        let taken_bytes: usize = self.taken.iter().map(Event::size_bytes).sum();
        self.names_bytes + 128 * self.count() + self.name.capacity() + taken_bytes
    }

    /// Waits until something has happened.
    pub(in crate::fronts::resp) async fn ready(&mut self) {
        if self.taken.is_empty() {
            self.listener.ready().await;
        }
    }

    /// Writes what has happened and concerns the client, or a part of it; returns whether there may be more.
    ///
    /// # Errors
    ///
    /// If something is lost: then the client must be disconnected.
    pub(in crate::fronts::resp) fn tell(&mut self, out: &mut Writer<'_>) -> Result<bool, Lost> {
        if self.taken.is_empty() {
            self.taken = self.listener.take(EVENTS_AT_ONCE, EVENTS_BYTES_AT_ONCE)?.into();
        }
        let mut work = 0;
        while work < WORK_AT_ONCE
            && out.buffer.len() < EVENTS_BYTES_AT_ONCE
            && let Some(event) = self.taken.pop_front()
        {
            work += self.tell_one(&event, out);
        }
        Ok(!self.taken.is_empty())
    }

    /// Writes an event if it concerns the client; returns how much work it was to see that.
    fn tell_one(&mut self, event: &Event, out: &mut Writer<'_>) -> u64 {
        match event {
            Event::Message { channel, message } => self.send(channel, message, out),
            Event::Changed { key, what } => {
                if self.tracking.as_ref().is_some_and(|tracking| tracking.has(key)) {
                    out.push(2);
                    out.bulk(b"invalidate");
                    out.array(1);
                    out.bulk(key);
                }
                if self.count() == 0 {
                    return 0;
                }
                let mut work = 0;
                for (prefix, name, message) in
                    [(KEYSPACE, &key[..], what.as_bytes()), (KEYEVENT, what.as_bytes(), key)]
                {
                    let mut channel = std::mem::take(&mut self.name);
                    channel.clear();
                    channel.extend_from_slice(prefix);
                    channel.extend_from_slice(name);
                    work += self.send(&channel, message, out);
                    self.name = channel;
                }
                work
            }
            Event::Cleared if self.tracking.is_some() => {
                out.push(2);
                out.bulk(b"invalidate");
                out.nil();
                0
            }
            Event::Cleared => 0,
        }
    }

    /// Writes a message if the client listens to its channel; returns how much work it was to see that.
    fn send(&self, channel: &[u8], message: &[u8], out: &mut Writer<'_>) -> u64 {
        if self.channels.contains(channel) {
            out.push(3);
            out.bulk(b"message");
            out.bulk(channel);
            out.bulk(message);
        }
        let mut work = 0_u64;
        for (name, pattern) in &self.patterns {
            work = work.saturating_add(pattern.work(channel.len()));
            if pattern.matches(channel) {
                out.push(4);
                out.bulk(b"pmessage");
                out.bulk(name);
                out.bulk(channel);
                out.bulk(message);
            }
        }
        work
    }
}

impl Tracking {
    fn has(&self, key: &[u8]) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for kind in [Kind::Channels, Kind::Patterns] {
            for name in self.names(kind) {
                self.registry.remove(kind, &name);
            }
        }
        self.registry.leave();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use paxos_core::{Slot, Time};

    use super::*;
    use crate::fronts::resp::write::Protocol;
    use crate::kv::{Operation, Store};
    use crate::state_machine::{Applying, StateMachine};

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn told(subscriber: &mut Subscriber, protocol: Protocol) -> String {
        let mut buffer = BytesMut::new();
        while subscriber.tell(&mut Writer { buffer: &mut buffer, protocol }).expect("nothing is lost") {}
        String::from_utf8_lossy(&buffer).replace("\r\n", " ")
    }

    #[test]
    fn a_client_hears_of_what_it_has_subscribed_to_and_nothing_else() {
        let (mut store, registry) = (Store::default(), Arc::new(Registry::default()));
        let mut subscriber = Subscriber::new(&store.feed(), &registry).expect("few listen");
        let mut apply =
            |operation| store.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(&[operation]));
        assert!(subscriber.is_over());
        subscriber.add(Kind::Channels, &bytes("news"), 100).expect("few");
        subscriber.add(Kind::Patterns, &bytes("__keyspace@0__:k*"), 100).expect("few");
        assert_eq!((registry.receivers(b"news"), registry.receivers(b"__keyspace@0__:k")), (1, 1));
        apply(Operation::publish(bytes("news"), bytes("hello")));
        apply(Operation::publish(bytes("other"), bytes("hello")));
        apply(Operation::set(bytes("k1"), bytes("v")));
        apply(Operation::set(bytes("other"), bytes("v")));
        assert_eq!(
            told(&mut subscriber, Protocol::Resp2),
            "*3 $7 message $4 news $5 hello *4 $8 pmessage $17 __keyspace@0__:k* $17 __keyspace@0__:k1 $3 set "
        );
        subscriber.remove(Kind::Patterns, &bytes("__keyspace@0__:k*"));
        subscriber.add(Kind::Channels, &bytes("__keyevent@0__:del"), 100).expect("few");
        apply(Operation::delete(vec![bytes("k1")]));
        assert_eq!(told(&mut subscriber, Protocol::Resp3), ">3 $7 message $18 __keyevent@0__:del $2 k1 ");
        drop(subscriber);
        assert_eq!((registry.receivers(b"news"), registry.counts()), (0, (0, 0)));
    }

    #[test]
    fn who_tracks_keys_is_told_which_to_drop() {
        let mut store = Store::default();
        let mut subscriber = Subscriber::new(&store.feed(), &Arc::default()).expect("few listen");
        subscriber.track(Some(Tracking { prefixes: vec![bytes("a"), bytes("b")], is_broadcast: true }));
        for key in ["ant", "bee", "cat"] {
            store.apply(
                Applying::new(Slot(1), Time::NONE),
                &Operation::command(&[Operation::set(bytes(key), bytes("v"))]),
            );
        }
        store.apply(Applying::new(Slot(1), Time::NONE), &Operation::command(&[Operation::FlushAll]));
        assert_eq!(
            told(&mut subscriber, Protocol::Resp3),
            ">2 $10 invalidate *1 $3 ant >2 $10 invalidate *1 $3 bee >2 $10 invalidate _ "
        );
    }

    #[test]
    fn nobody_listens_to_too_much() {
        let mut subscriber = Subscriber::new(&Arc::default(), &Arc::default()).expect("few listen");
        let mut add = |kind, name: &str| subscriber.add(kind, &bytes(name), 64 << 10);
        for number in 0..MAX_CHANNELS {
            add(Kind::Channels, &number.to_string()).expect("not yet too many");
        }
        assert!(add(Kind::Channels, "one more").is_err());
        add(Kind::Channels, "0").expect("it is there already");
        for number in 0..MAX_PATTERNS {
            add(Kind::Patterns, &format!("*{number}*")).expect("not yet too many");
        }
        assert!(add(Kind::Patterns, "*one more*").is_err());
        assert!(add(Kind::Channels, &"x".repeat((64 << 10) + 1)).is_err(), "too long");
        let mut another = Subscriber::new(&Arc::default(), &Arc::default()).expect("few listen");
        assert!(another.add(Kind::Patterns, &bytes("*?a?a?a*"), 64 << 10).is_err(), "too much work");
    }
}
