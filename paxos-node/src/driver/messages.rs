//! Messages of peers, and to them.

use bytes::Bytes;
use paxos_core::{Body, Input, Message, NodeId, wire};
use paxos_transport::{Lane, Received};

use super::Driver;
use crate::node::NodeError;
use crate::peers::Opened;
use crate::state_machine::StateMachine;
use crate::writer::Job;

impl<S: StateMachine> Driver<S> {
    pub(super) fn on_received(&mut self, received: Received) -> Result<(), NodeError> {
        let Received { from, frame, .. } = received;
        match self.peers.open(from, frame, self.replica.config().members(), self.ticks) {
            Opened::Message(_) if !self.peers.may_take_part() => {}
            Opened::Message(message) => match wire::decode(message) {
                // What a stuck disk can't take must not be taken by memory instead: this node hears nothing meanwhile,
                // and if it leads it finds out that it is alone.
                Ok(_) if self.unsynced.is_too_much() => self.counters.unheard.increment(1),
                Ok(message) => {
                    self.counters.received.increment(1);
                    self.step(Input::Receive { from, message });
                }
                Err(error) => {
                    self.counters.malformed.increment(1);
                    tracing::debug!(from = from.0, %error, "ignoring a malformed message");
                }
            },
            Opened::Remember(peers) => self.writer.submit(Job::RememberPeers { peers }),
            Opened::Ignored => {}
            Opened::Greeted { welcome } => {
                self.transport.send(from, Lane::Control, welcome);
            }
            Opened::Stranger { known, storage, refusal } => {
                self.counters.strangers.increment(1);
                tracing::warn!(
                    node = self.settings.node.0,
                    from = from.0,
                    %known,
                    %storage,
                    "a peer has come back with another disk and is refused"
                );
                self.transport.send(from, Lane::Control, refusal);
            }
            Opened::Refused => return Err(NodeError::OtherDisk { node: self.settings.node, by: from }),
            Opened::Malformed => {
                self.counters.malformed.increment(1);
                tracing::debug!(from = from.0, "ignoring a malformed frame");
            }
        }
        Ok(())
    }

    pub(super) fn broadcast(&self, message: &Message) {
        let frame = self.peers.seal(message);
        for peer in self.replica.config().peers() {
            self.put(peer, lane(message), frame.clone());
        }
    }

    pub(super) fn send(&self, to: NodeId, message: &Message) {
        self.put(to, lane(message), self.peers.seal(message));
    }

    fn put(&self, to: NodeId, lane: Lane, frame: Bytes) {
        self.counters.sent.increment(1);
        if !self.transport.send(to, lane, frame).is_queued() {
            self.counters.dropped.increment(1);
        }
    }
}

/// The lane on which a message travels.
fn lane(message: &Message) -> Lane {
    match message.body {
        Body::Accept { .. } | Body::Accepted { .. } | Body::Forward { .. } => Lane::Log,
        Body::Fetch { .. }
        | Body::Chosen { .. }
        | Body::FetchSnapshot { .. }
        | Body::SnapshotChunk { .. } => Lane::Bulk,
        _ => Lane::Control,
    }
}
