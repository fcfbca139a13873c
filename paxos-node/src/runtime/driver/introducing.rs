//! Carries out what the introductions ask for, and tells peers the node's news.

use paxos_core::{NodeId, Slot};
use paxos_transport::Lane;

use super::Driver;
use crate::client::ClientError;
use crate::error::NodeError;
use crate::runtime::checkpoints::Finding;
use crate::runtime::introductions::Action;
use crate::runtime::writer::Job;
use crate::state_machine::StateMachine;

impl<S: StateMachine> Driver<S> {
    /// Carries out the actions that the introductions have queued.
    pub(super) fn carry_out_introductions(&mut self) -> Result<(), NodeError> {
        let node = self.settings.node;
        while let Some(action) = self.peers.introductions.take_action() {
            match action {
                Action::Send { to, frame } => {
                    self.peers.transport.send(to, Lane::Control, frame);
                }
                Action::Remember(registry) => self.disk.writer.submit(Job::Remember(registry)),
                Action::Tell(notice) if notice.is_routine() => tracing::info!(node = node.0, "{notice}"),
                Action::Tell(notice) => {
                    if notice.is_refusal() {
                        self.metrics.refused_peers.increment(1);
                    }
                    tracing::warn!(node = node.0, "{notice}");
                }
                Action::StopForOtherDisk { by } => return Err(NodeError::OtherDisk { node, by }),
                Action::StopIfAlone { epoch } if !self.has_had_leader => {
                    return Err(NodeError::Removed { node, epoch });
                }
                Action::StopIfAlone { .. } => {}
                Action::StopForCopy { by } => return Err(NodeError::OldCopy { node, by: Some(by) }),
            }
        }
        Ok(())
    }

    /// While this node knows that it can do nothing for clients, answers them at once.
    pub(super) fn look_whether_kept_out(&mut self) {
        let quorums = self.replica.config().quorums();
        let quorum = quorums.prepare().min(quorums.accept());
        // A node that knows a leader is served by it, whoever else refuses this node.
        let has_leader = self.replica.leader().is_some();
        let kept_out = if has_leader { None } else { self.peers.introductions.kept_out(quorum) };
        self.peers.kept_out = kept_out;
        if let Some(kept_out) = kept_out {
            self.clients.refuse_unsent(ClientError::KeptOut(kept_out));
        }
    }

    /// Tells peers what this node knows of the others and of its own state, when it is time.
    pub(super) fn tell_news(&mut self) {
        if !self.peers.introductions.is_time_for_news() {
            return;
        }
        let digest = self.local_state.digest;
        for finding in self.peers.checkpoints.look((digest.slot, digest.value)) {
            self.log_finding(finding);
        }
        for status in self.peers.transport.peers() {
            self.peers.introductions.note_rivals(status.peer, status.counters.rivals);
        }
        self.send_news();
    }

    fn send_news(&mut self) {
        let durable = self.disk.unsynced.durable();
        let newest = self.peers.checkpoints.newest_first();
        let news = self.peers.introductions.news(newest, durable);
        for peer in self.listening_peers() {
            self.peers.transport.send(peer, Lane::Control, news.clone());
        }
    }

    /// A peer has told digests of its state.
    pub(super) fn on_checkpoints(&mut self, from: NodeId, told: Vec<(Slot, u64)>) {
        if let Some(finding) = self.peers.checkpoints.on_told(from, told) {
            self.log_finding(finding);
        }
    }

    fn log_finding(&self, finding: Finding) {
        let Finding { peer, slot, is_equal } = finding;
        let node = self.settings.node.0;
        if is_equal {
            tracing::warn!(
                node,
                "the state of node {peer} is equal to that of this node again, at slot {slot}"
            );
        } else {
            tracing::error!(
                node,
                "the state of node {peer} differs from that of this node, though both have applied all through slot {slot}: one \
                 of them has lost or altered something; keep both data directories, and replace the node that differs \
                 from the others"
            );
        }
    }

    /// Tells peers that this node stops, and what its storage holds.
    pub(super) fn say_farewell(&mut self) {
        self.send_news();
        let farewell = self.peers.introductions.farewell();
        for peer in self.listening_peers() {
            self.peers.transport.send(peer, Lane::Control, farewell.clone());
        }
    }
}
