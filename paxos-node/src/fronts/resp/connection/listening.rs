//! A client that listens: `SUBSCRIBE` and its kin, and what is told to it.

use std::io;

use bytes::Bytes;

use super::Connection;
use crate::fronts::resp::commands::Action;
use crate::fronts::resp::errors::client_error;
use crate::fronts::resp::pubsub::{Kind, Registry, Subscriber, Tracking};
use crate::fronts::resp::words::is;
use crate::fronts::resp::write::{Protocol, Writer};
use crate::kv::{Lost, Operation, Reply};

const HAS_LOST: &str =
    "the client does not take what it listens to in time, or the state was replaced by a snapshot";

impl Connection {
    /// `SUBSCRIBE` and `PSUBSCRIBE`: an answer for each name.
    pub(super) async fn subscribe(&mut self, kind: Kind, names: &[Bytes]) {
        if let Err(error) = self.listen().await {
            return self.writer().head(&error);
        }
        let longest_name = self.front.settings.max_key_bytes;
        for name in names {
            let Some(subscriber) = &mut self.subscriber else { return };
            let added = subscriber.add(kind, name, longest_name);
            let count = subscriber.count();
            match added {
                Ok(()) => self.writer().subscription(kind.begun(), Some(name), count),
                Err(error) => self.writer().head(&error),
            }
        }
        self.stop_listening_if_over();
    }

    /// `UNSUBSCRIBE` and `PUNSUBSCRIBE`: an answer for each name, or for all that there are.
    pub(super) fn unsubscribe(&mut self, kind: Kind, names: &[Bytes]) {
        let all = || self.subscriber.as_ref().map(|subscriber| subscriber.names(kind)).unwrap_or_default();
        let names = if names.is_empty() { all() } else { names.to_vec() };
        let mut count = self.subscriber.as_ref().map_or(0, Subscriber::count);
        if names.is_empty() {
            self.writer().subscription(kind.ended(), None, count);
        }
        for name in names {
            if let Some(subscriber) = &mut self.subscriber {
                subscriber.remove(kind, &name);
                count = subscriber.count();
            }
            self.writer().subscription(kind.ended(), Some(&name), count);
        }
        self.stop_listening_if_over();
    }

    /// Tells the client of changes of keys, or stops that.
    pub(super) async fn track(&mut self, tracking: Option<Tracking>) -> Result<(), Reply> {
        if tracking.is_some() {
            self.listen().await?;
        }
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.track(tracking);
        }
        self.stop_listening_if_over();
        Ok(())
    }

    /// The keys of whose changes the client is told.
    pub(super) fn tracking(&self) -> Option<&Tracking> {
        self.subscriber.as_ref().and_then(Subscriber::tracking)
    }

    /// Begins to listen, if the client does not yet.
    async fn listen(&mut self) -> Result<(), Reply> {
        if self.subscriber.is_some() {
            return Ok(());
        }
        // What the log holds from before the node was started is no news.
        self.check_recovered().await.map_err(client_error)?;
        let feed = self.client.read_stale().await.map_err(client_error)?.feed();
        self.subscriber = Some(Subscriber::new(&feed, &self.front.registry)?);
        Ok(())
    }

    fn stop_listening_if_over(&mut self) {
        self.subscriber.take_if(|subscriber| subscriber.is_over());
    }

    /// Sends what has happened to a client that listens, or a part of it.
    pub(super) async fn tell(&mut self) -> io::Result<()> {
        let Some(subscriber) = &mut self.subscriber else { return Ok(()) };
        let mut out = Writer { buffer: &mut self.output, protocol: self.client_info.protocol };
        let told = subscriber.tell(&mut out);
        self.flush().await?;
        match told {
            Ok(false) => Ok(()),
            Ok(true) => {
                tokio::task::yield_now().await;
                Ok(())
            }
            Err(Lost) => Err(io::Error::other(HAS_LOST)),
        }
    }

    /// Whether the client may send only what a client that listens may, as in RESP2 it can't tell replies
    /// from messages.
    pub(super) fn only_listens(&self) -> bool {
        self.client_info.protocol == Protocol::Resp2
            && self.subscriber.as_ref().is_some_and(|subscriber| subscriber.count() > 0)
    }

    /// `PUBSUB`.
    pub(super) fn describe_listening(&mut self, arguments: &[Bytes]) {
        let registry = self.front.registry.clone();
        let mut out = self.writer();
        match arguments {
            [word, pattern @ ..] if is(word, "channels") => {
                let channels = registry.channels(pattern.first().map(|pattern| &pattern[..]));
                out.array(channels.len());
                for channel in &channels {
                    out.bulk(channel);
                }
            }
            [word, names @ ..] if is(word, "numsub") => {
                out.array(2 * names.len());
                for name in names {
                    out.bulk(name);
                    out.integer(i64::try_from(registry.listeners_of(name)).unwrap_or(i64::MAX));
                }
            }
            [word] if is(word, "numpat") => {
                out.integer(i64::try_from(registry.counts().1).unwrap_or(i64::MAX));
            }
            // There are no channels of a shard.
            _ => out.array(0),
        }
    }
}

/// Puts how many clients of this node are told in the place of the store's answer to messages.
pub(super) fn count_receivers(registry: &Registry, operations: &[Operation], replies: &mut [Reply]) {
    for (operation, reply) in operations.iter().zip(replies) {
        if let (Operation::Publish { channel, .. }, Reply::Integer(count)) = (operation, reply) {
            *count = registry.receivers(channel);
        }
    }
}

/// Whether a client that listens in RESP2 may send this.
pub(super) fn may_listener_send(action: Action) -> bool {
    matches!(
        action,
        Action::Subscribe(_) | Action::Unsubscribe(_) | Action::Ping | Action::Quit | Action::Reset
    )
}
