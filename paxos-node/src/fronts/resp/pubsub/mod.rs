//! Publish and subscribe: messages of clients, and changes of keys, in the order of the log.
//!
//! A message is a command of the log, so that clients of all nodes get it, in one order. Changes of keys
//! (`__keyspace@0__:KEY` and `__keyevent@0__:EVENT`) are told whenever somebody listens, and need no setting.
//! Each connection takes events from the store's [`Feed`](crate::kv::Feed) by itself; one that does not keep
//! up is disconnected, so that its client knows that it has missed something.
//!
//! Deliberately absent: a history. A client that was away hears only of what comes after it has subscribed
//! again, and a node that is behind tells later what others have told already.

mod registry;
mod subscriber;

use bytes::Bytes;

pub(super) use self::registry::Registry;
pub(super) use self::subscriber::{Subscriber, Tracking};
use super::RespSettings;
use super::errors::{unknown_subcommand, wrong_arity};
use super::words::is;
use crate::kv::{Operation, Reply};

/// How many clients of a node may listen at once: each of them is woken by each event.
const MAX_SUBSCRIBERS: usize = 1_000;
/// How many channels a client may listen to.
const MAX_CHANNELS: usize = 1_024;
/// How many patterns a client may have: each is compared with each channel to which something is sent.
const MAX_PATTERNS: usize = 32;
/// How many channels, and how many patterns, all clients of a node may listen to.
const MAX_CHANNELS_OF_ALL: usize = 64 << 10;
const MAX_PATTERNS_OF_ALL: usize = 1_024;

/// What a client subscribes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Channels with these names.
    Channels,
    /// Channels whose names match.
    Patterns,
}

impl Kind {
    /// How the answer to a subscription begins.
    pub(super) fn begun(self) -> &'static str {
        match self {
            Kind::Channels => "subscribe",
            Kind::Patterns => "psubscribe",
        }
    }

    /// How the answer to the end of a subscription begins.
    pub(super) fn ended(self) -> &'static str {
        match self {
            Kind::Channels => "unsubscribe",
            Kind::Patterns => "punsubscribe",
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the functions of the table have one type")]
pub(super) fn publish(arguments: &[Bytes], _: &RespSettings) -> Result<Operation, Reply> {
    Ok(Operation::publish(arguments[0].clone(), arguments[1].clone()))
}

/// Refuses a subcommand of `PUBSUB` that is unknown or has a wrong number of arguments.
pub(super) fn check_pubsub(arguments: &[Bytes]) -> Result<(), Reply> {
    let known = [
        ("channels", 1),
        ("numsub", usize::MAX),
        ("numpat", 0),
        ("shardchannels", 1),
        ("shardnumsub", usize::MAX),
    ];
    match known.iter().find(|(name, _)| is(&arguments[0], name)) {
        None => Err(unknown_subcommand("pubsub", &arguments[0])),
        Some((_, most)) if arguments.len() - 1 <= *most => Ok(()),
        Some((name, _)) => Err(wrong_arity(&format!("pubsub|{name}"))),
    }
}
