//! Counts what peers send that can't be decoded, and logs it now and then.
//!
//! Peers have proved who they are, and a checksum binds each message to its frame. So whatever can't be
//! decoded is the mistake of a node, of its memory, or of a version that this one does not know.

use std::fmt::Display;

use paxos_core::NodeId;
use paxos_transport::Transport;

/// After one was logged, the next is logged no sooner than after this.
const LOG_TICKS: u128 = 3_000;
/// How often the transport is asked for its count.
const ASK_TICKS: u128 = 10;

/// What this node could not decode.
#[derive(Debug, Default)]
pub(super) struct Misunderstood {
    messages: u64,
    /// Connections that the transport has closed because they did not carry frames.
    connections: u64,
    logged_at_ticks: Option<u128>,
    asked_at_ticks: u128,
}

impl Misunderstood {
    /// A message of a peer could not be decoded.
    pub(super) fn on_message(&mut self, from: NodeId, error: impl Display, now_ticks: u128) {
        self.messages += 1;
        if self.logged_at_ticks.is_none_or(|logged| now_ticks >= logged + LOG_TICKS) {
            self.logged_at_ticks = Some(now_ticks);
            tracing::warn!(
                from = from.0,
                %error,
                malformed = self.messages,
                "ignoring a malformed message of a peer: if both nodes run the same version, one of them is faulty"
            );
        }
    }

    /// Asks the transport for its count, if it is time.
    pub(super) fn ask(&mut self, transport: &dyn Transport, now_ticks: u128) {
        if now_ticks < self.asked_at_ticks + ASK_TICKS {
            return;
        }
        self.asked_at_ticks = now_ticks;
        self.connections = transport.peers().iter().map(|status| status.counters.nonsense).sum();
        metrics::counter!("paxos_connections_nonsense_total").absolute(self.connections);
    }

    /// How often that has happened since the node was started.
    pub(super) fn count(&self) -> u64 {
        self.messages + self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_counts_and_few_are_logged() {
        let mut misunderstood = Misunderstood { connections: 1, ..Misunderstood::default() };
        misunderstood.on_message(NodeId(1), "it is none", 0);
        misunderstood.on_message(NodeId(1), "it is none", 1);
        assert_eq!(
            (misunderstood.count(), misunderstood.logged_at_ticks),
            (3, Some(0)),
            "the second is not logged"
        );
        misunderstood.on_message(NodeId(1), "it is none", LOG_TICKS);
        assert_eq!((misunderstood.count(), misunderstood.logged_at_ticks), (4, Some(LOG_TICKS)));
    }
}
