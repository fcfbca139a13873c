//! Messages from peers and to them.

use std::time::Instant;

use bytes::Bytes;
use paxos_core::{Body, Config, Input, Message, NodeId, Traffic};
use paxos_transport::{Lane, Received, Transport};

use super::Driver;
use super::early::EarlyMessages;
use super::fetches::Fetches;
use super::misunderstood::Misunderstood;
use crate::error::NodeError;
use crate::runtime::checkpoints::Checkpoints;
use crate::runtime::introductions::{Arrival, Introductions, KeptOut, decode_message};
use crate::runtime::mesh::Mesh;
use crate::state_machine::StateMachine;

/// The way to the peers, and what is known of them.
pub(super) struct Peers {
    pub(super) transport: Box<dyn Transport>,
    pub(super) introductions: Introductions,
    /// Why this node can take no part, as of the last tick.
    pub(super) kept_out: Option<KeptOut>,
    pub(super) checkpoints: Checkpoints,
    pub(super) mesh: Mesh,
    pub(super) misunderstood: Misunderstood,
    pub(super) early: EarlyMessages,
    pub(super) fetches: Fetches,
}

impl Peers {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        introductions: Introductions,
        checkpoints: Checkpoints,
        config: &Config,
    ) -> Peers {
        Peers {
            transport,
            introductions,
            kept_out: None,
            checkpoints,
            mesh: Mesh::new(config),
            misunderstood: Misunderstood::default(),
            early: EarlyMessages::default(),
            fetches: Fetches::default(),
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// A frame of a peer has arrived.
    pub(super) fn on_received(&mut self, received: Received) -> Result<(), NodeError> {
        let Received { from, frame, .. } = received;
        let (now_ticks, frame_bytes) = (self.clock.ticks, frame.len());
        match self.peers.introductions.receive(from, frame) {
            Arrival::Message(frame) => match decode_message(frame) {
                // What a stuck disk can't take must not pile up in memory: the node drops messages meanwhile,
                // and if it leads it finds out that it is alone.
                Ok(_) if self.disk.unsynced.is_too_much() => self.metrics.unheard.increment(1),
                // Nor what a slow state machine can't take: what is not accepted now is learned later.
                Ok(message) if self.is_behind() && adds_work(&message) => self.metrics.unheard.increment(1),
                Ok(message) if matches!(message.body, Body::Fetch(_)) => {
                    self.metrics.received.increment(1);
                    self.peers.fetches.put(from, message);
                }
                Ok(message) => {
                    self.metrics.received.increment(1);
                    if let Body::HeartbeatAck(answer) = &message.body {
                        self.peers.mesh.round_trips.on_answer(from, answer.round, Instant::now());
                    }
                    let early = self.early_copy(&message);
                    self.step(Input::Receive { from, message })?;
                    if let Some(early) = early {
                        self.keep_early(from, early, frame_bytes);
                    }
                }
                Err(error) => {
                    self.metrics.malformed.increment(1);
                    self.peers.misunderstood.on_message(from, error, now_ticks);
                }
            },
            Arrival::Checkpoints(told) => self.on_checkpoints(from, told),
            Arrival::Consumed => {}
            Arrival::Malformed(error) => {
                self.metrics.malformed.increment(1);
                let error = format!("no frame of a node: {error}");
                self.peers.misunderstood.on_message(from, error, now_ticks);
            }
        }
        Ok(())
    }

    pub(super) fn send_to_all(&self, message: &Message) {
        let frame = self.peers.introductions.frame(message);
        for peer in self.listening_peers() {
            self.send_frame(peer, lane(message), frame.clone());
        }
    }

    pub(super) fn send_to(&self, to: NodeId, message: &Message) {
        if self.peers.introductions.listens_to(to) {
            self.send_frame(to, lane(message), self.peers.introductions.frame(message));
        }
    }

    /// The peers with which messages go both ways.
    pub(super) fn listening_peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replica.config().peers().filter(|peer| self.peers.introductions.listens_to(*peer))
    }

    fn send_frame(&self, to: NodeId, lane: Lane, frame: Bytes) {
        self.metrics.sent.increment(1);
        if !self.peers.transport.send(to, lane, frame).is_queued() {
            self.metrics.dropped.increment(1);
        }
    }
}

/// Whether a message brings something that will have to be applied. Values that the replica has asked for
/// are always taken in: it asks for no more while this node is behind.
fn adds_work(message: &Message) -> bool {
    matches!(message.body, Body::Accept(_) | Body::Forward(_))
}

/// The lane on which a message travels.
fn lane(message: &Message) -> Lane {
    match message.body.traffic() {
        Traffic::Control => Lane::Control,
        Traffic::Log => Lane::Log,
        Traffic::Bulk => Lane::Bulk,
    }
}
