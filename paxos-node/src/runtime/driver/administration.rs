//! Requests to change the membership or to hand leadership over, and what follows from a new membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::{
    Change, ChangeRefusal, ChangeRequest, Epoch, FormatLevel, HandoverRefusal, Input, Membership, NodeId,
    RequestId, Role, Slot, Standing,
};
use paxos_transport::{Peer, SetPeersError};
use tokio::sync::oneshot;

use super::Driver;
use crate::client::{AdministrationError, ClientError};
use crate::error::NodeError;
use crate::runtime::metrics;
use crate::state_machine::StateMachine;
use crate::status::{KnownLevels, MemberProgress};

/// At most this many requests wait at a time.
const MAX_REQUESTS: usize = 64;
/// A leader that stops waits no longer than this for another one to take over.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);

/// How long the transport still reaches a node after it was removed, so that it hears of that at once.
const LEAVE_TAKING: Duration = Duration::from_secs(3);

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) enum AdministrationReply {
    /// To whoever asked for a change: the epoch that it has begun.
    Change(oneshot::Sender<Result<Epoch, AdministrationError>>),
    /// To whoever asked for a handover: the new leader.
    HandOver(oneshot::Sender<Result<NodeId, AdministrationError>>),
}

impl AdministrationReply {
    /// Answers that nothing was done. Whoever went away wants no answer.
    pub(crate) fn refuse(self, error: AdministrationError) {
        match self {
            AdministrationReply::Change(reply) => drop(reply.send(Err(error))),
            AdministrationReply::HandOver(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Requests that wait for the replica, and what this node knows of its own end.
#[derive(Debug, Default)]
pub(super) struct Administration {
    last: u64,
    waiting: BTreeMap<RequestId, AdministrationReply>,
    /// The members that the transport reaches, since the first change of the membership.
    reached: Vec<Peer>,
    /// Removed nodes that the transport still reaches, and until when.
    leaving: Vec<(Peer, Instant)>,
    /// Set while this node stops and waits for another leader: when it stops waiting.
    leaves_at: Option<Instant>,
    /// Whether it was logged that this node was removed.
    has_told_removal: bool,
}

impl Administration {
    fn add(&mut self, reply: AdministrationReply) -> Option<RequestId> {
        if self.waiting.len() >= MAX_REQUESTS {
            reply.refuse(AdministrationError::Busy);
            return None;
        }
        self.last += 1;
        self.waiting.insert(RequestId(self.last), reply);
        Some(RequestId(self.last))
    }

    pub(super) fn stop(&mut self) {
        for (_, reply) in std::mem::take(&mut self.waiting) {
            reply.refuse(AdministrationError::Stopped);
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// Asks the replica for a change of the membership.
    pub(super) fn on_change(
        &mut self,
        change: Change,
        if_epoch: Option<Epoch>,
        is_forced: bool,
        reply: AdministrationReply,
    ) -> Result<(), NodeError> {
        if let Change::Finalize { level } = change
            && let Err(error) = self.check_programs(level)
        {
            reply.refuse(error);
            return Ok(());
        }
        let Some(request) = self.administration.add(reply) else { return Ok(()) };
        tracing::info!(node = self.settings.node.0, "asked to change the membership: {change}");
        self.step(Input::Change(ChangeRequest { request, change, if_epoch, is_forced }))
    }

    /// Whether the programs of all members know a format level. Only a leader is asked: another node refuses
    /// the change for that reason.
    fn check_programs(&self, level: FormatLevel) -> Result<(), AdministrationError> {
        if self.replica.role() != Role::Leader {
            return Ok(());
        }
        let known = self.peers.introductions.known_levels();
        for &node in self.replica.membership().members() {
            match known.iter().find(|known| known.node == node) {
                None => return Err(AdministrationError::ProgramUnknown { node, level }),
                Some(KnownLevels { newest, .. }) if *newest < level => {
                    return Err(AdministrationError::ProgramTooOld { node, newest: *newest, level });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Asks the replica to hand leadership over.
    pub(super) fn on_hand_over(
        &mut self,
        to: Option<NodeId>,
        reply: AdministrationReply,
    ) -> Result<(), NodeError> {
        let Some(request) = self.administration.add(reply) else { return Ok(()) };
        self.step(Input::HandOver { request, to })
    }

    pub(super) fn on_change_in_force(&mut self, request: RequestId, epoch: Epoch) {
        if let Some(AdministrationReply::Change(reply)) = self.administration.waiting.remove(&request) {
            let _ = reply.send(Ok(epoch)); // Whoever went away wants no answer.
        }
    }

    pub(super) fn on_change_refused(&mut self, request: RequestId, refusal: ChangeRefusal) {
        if let Some(reply) = self.administration.waiting.remove(&request) {
            reply.refuse(AdministrationError::Change(refusal));
        }
    }

    pub(super) fn on_handed_over(&mut self, request: RequestId, to: NodeId) {
        if let Some(AdministrationReply::HandOver(reply)) = self.administration.waiting.remove(&request) {
            let _ = reply.send(Ok(to)); // Whoever went away wants no answer.
        }
    }

    pub(super) fn on_handover_refused(&mut self, request: RequestId, refusal: HandoverRefusal) {
        if let Some(reply) = self.administration.waiting.remove(&request) {
            reply.refuse(AdministrationError::Handover(refusal));
        } else if self.administration.leaves_at.is_some() {
            tracing::info!(node = self.settings.node.0, "stopping without a successor: {refusal}");
            self.administration.leaves_at = Some(Instant::now());
        }
    }

    /// Another membership is in force.
    pub(super) fn on_membership_changed(&mut self, slot: Slot, membership: &Membership) {
        tracing::info!(node = self.settings.node.0, slot = slot.0, "membership changed: {membership}");
        self.follow_membership(membership);
    }

    /// Introduces this node to the members, and has the transport reach them. It reaches those that were
    /// removed for a little longer.
    pub(super) fn follow_membership(&mut self, membership: &Membership) {
        self.peers.introductions.set_members(membership.members());
        self.peers.introductions.set_removed(membership.removed(), membership.epoch());
        self.peers.introductions.set_format_level(membership.format_level());
        self.peers.mesh.set_members(self.replica.config());
        let peers = self.peers_of(membership);
        let is_member = |peer: &Peer| peers.iter().any(|member| member.id == peer.id);
        let until = Instant::now() + LEAVE_TAKING;
        let gone = self.administration.reached.drain(..).filter(|peer| !is_member(peer));
        self.administration.leaving.extend(gone.map(|peer| (peer, until)));
        let is_taken = |address: &str| peers.iter().any(|member| member.address == address);
        self.administration.leaving.retain(|(peer, _)| !is_member(peer) && !is_taken(&peer.address));
        self.administration.reached = peers;
        self.set_peers();
    }

    /// The transport reaches the members already.
    pub(super) fn note_reached(&mut self, membership: &Membership) {
        self.administration.reached = self.peers_of(membership);
    }

    fn peers_of(&self, membership: &Membership) -> Vec<Peer> {
        let address = |member: &paxos_core::Member| match self.settings.addresses.get(&member.id) {
            Some(given) if member.address.is_empty() => given.clone(),
            _ => member.address.clone(),
        };
        let members = membership.details().iter();
        members.map(|member| Peer::new(member.id, address(member))).collect()
    }

    /// Has the transport forget nodes that were removed some time ago.
    pub(super) fn forget_leaving(&mut self) {
        let now = Instant::now();
        let reached = self.administration.leaving.len();
        self.administration.leaving.retain(|(_, until)| now < *until);
        if self.administration.leaving.len() < reached {
            self.set_peers();
        }
    }

    fn set_peers(&mut self) {
        let leaving = self.administration.leaving.iter().map(|(peer, _)| peer);
        let peers: Vec<Peer> = self.administration.reached.iter().chain(leaving).cloned().collect();
        match self.peers.transport.set_peers(&peers) {
            Ok(()) => {}
            Err(SetPeersError::NotSupported) => tracing::warn!(
                node = self.settings.node.0,
                "the transport can't change its peers: this node reaches the members it was started with"
            ),
            Err(error) => tracing::warn!(
                node = self.settings.node.0,
                "the transport goes on with the peers it had: {error}"
            ),
        }
    }

    /// Ends this node once it was removed and the others can do without it.
    pub(super) fn look_whether_removed(&mut self) -> Result<(), NodeError> {
        let Standing::Removed { may_end } = self.replica.standing() else { return Ok(()) };
        let (node, epoch) = (self.settings.node, self.replica.membership().epoch());
        if may_end {
            return Err(NodeError::Removed { node, epoch });
        }
        if !std::mem::replace(&mut self.administration.has_told_removal, true) {
            tracing::warn!(
                node = node.0,
                "this node was removed from the cluster in epoch {epoch}; it ends when a quorum of the members knows"
            );
        }
        self.clients.refuse_unsent(ClientError::Removed);
        Ok(())
    }

    /// How far the members are, as far as a leader knows.
    pub(super) fn note_progress(&mut self) {
        let is_leader = self.replica.role() == Role::Leader;
        let progress = |node: &NodeId| {
            let (chosen, is_heard) = self.replica.progress_of(*node)?;
            let lag_bytes = self.local_state.log_meter.bytes_after(chosen);
            Some(MemberProgress { node: *node, chosen, lag_bytes, is_heard })
        };
        let members = self.replica.membership().members().iter();
        let now: Arc<[MemberProgress]> =
            if is_leader { members.filter_map(progress).collect() } else { [].into() };
        metrics::show_lags(&self.progress, &now, self.replica.chosen());
        self.progress = now;
    }

    /// Whether the node may stop now. A leader hands over first, and waits for its successor.
    pub(super) fn may_stop(&mut self) -> Result<bool, NodeError> {
        let is_leader = self.replica.role() == Role::Leader;
        let Some(leaves_at) = self.administration.leaves_at else {
            if !is_leader || self.replica.membership().voters().count() < 2 {
                return Ok(true);
            }
            self.administration.leaves_at = Some(Instant::now() + HANDOVER_PATIENCE);
            self.administration.last += 1;
            let request = RequestId(self.administration.last);
            self.step(Input::HandOver { request, to: None })?;
            return Ok(false);
        };
        let has_successor = !is_leader && self.replica.leader().is_some();
        Ok(has_successor || Instant::now() >= leaves_at)
    }
}
