//! To which channels and patterns the clients of this node listen.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::{Kind, MAX_CHANNELS_OF_ALL, MAX_PATTERNS_OF_ALL, MAX_SUBSCRIBERS};
use crate::kv::{Pattern, Reply};
use crate::lock::lock;

/// How much work it may take to count receivers: patterns beyond that are not counted.
const COUNTED_WORK: u64 = 1_000_000;

/// Counts those who listen.
#[derive(Debug, Default)]
pub(in crate::fronts::resp) struct Registry(Mutex<Listening>);

#[derive(Debug, Default)]
struct Listening {
    subscribers: usize,
    channels: BTreeMap<Bytes, usize>,
    patterns: BTreeMap<Bytes, (Pattern, usize)>,
}

impl Registry {
    /// Counts a client that begins to listen.
    pub(super) fn enter(&self) -> Result<(), Reply> {
        let listening = &mut *lock(&self.0);
        if listening.subscribers >= MAX_SUBSCRIBERS {
            return Err(Reply::error(&format!(
                "ERR max number of subscribers reached: {MAX_SUBSCRIBERS} clients of this node listen already, use another one"
            )));
        }
        listening.subscribers += 1;
        Ok(())
    }

    pub(super) fn leave(&self) {
        lock(&self.0).subscribers -= 1;
    }

    pub(super) fn add(&self, kind: Kind, name: &Bytes) -> Result<(), Reply> {
        let listening = &mut *lock(&self.0);
        let (count, limit) = match kind {
            Kind::Channels => (listening.channels.len(), MAX_CHANNELS_OF_ALL),
            Kind::Patterns => (listening.patterns.len(), MAX_PATTERNS_OF_ALL),
        };
        if count >= limit {
            return Err(Reply::error(&format!(
                "ERR the clients of this node listen to {limit} of these already: use another node, or fewer"
            )));
        }
        match kind {
            Kind::Channels => *listening.channels.entry(name.clone()).or_default() += 1,
            Kind::Patterns => {
                listening.patterns.entry(name.clone()).or_insert_with(|| (Pattern::new(name), 0)).1 += 1;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, kind: Kind, name: &Bytes) {
        let listening = &mut *lock(&self.0);
        match kind {
            Kind::Channels => {
                let count = listening.channels.get_mut(name).expect("it was added");
                *count -= 1;
                if *count == 0 {
                    listening.channels.remove(name);
                }
            }
            Kind::Patterns => {
                let (_, count) = listening.patterns.get_mut(name).expect("it was added");
                *count -= 1;
                if *count == 0 {
                    listening.patterns.remove(name);
                }
            }
        }
    }

    /// How often a message to this channel is told to clients of this node.
    pub(in crate::fronts::resp) fn receivers(&self, channel: &[u8]) -> i64 {
        let listening = &*lock(&self.0);
        let mut count = listening.channels.get(channel).copied().unwrap_or(0);
        let mut work = 0_u64;
        for (pattern, listeners) in listening.patterns.values() {
            work = work.saturating_add(pattern.work(channel.len()));
            if work > COUNTED_WORK {
                break;
            }
            if pattern.matches(channel) {
                count += listeners;
            }
        }
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// How many clients listen to a channel of exactly this name.
    pub(in crate::fronts::resp) fn listeners_of(&self, channel: &[u8]) -> usize {
        lock(&self.0).channels.get(channel).copied().unwrap_or(0)
    }

    /// The channels to which clients listen, as far as they match.
    pub(in crate::fronts::resp) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let pattern = pattern.map(Pattern::new);
        let is_wanted = |channel: &&Bytes| pattern.as_ref().is_none_or(|pattern| pattern.matches(channel));
        lock(&self.0).channels.keys().filter(is_wanted).cloned().collect()
    }

    /// How many channels and how many patterns there are.
    pub(in crate::fronts::resp) fn counts(&self) -> (usize, usize) {
        let listening = &*lock(&self.0);
        (listening.channels.len(), listening.patterns.len())
    }
}
