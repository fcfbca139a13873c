//! Publishes the node's status.

use std::sync::Arc;

use paxos_core::Role;

use super::Driver;
use crate::state_machine::StateMachine;
use crate::status::Status;

impl<S: StateMachine> Driver<S> {
    /// Shows the status to whoever watches, if it has changed.
    pub(super) fn publish_status(&mut self) {
        let (replica, peers) = (&self.replica, &self.peers);
        let founding = peers.introductions.founding();
        self.status.send_if_modified(|status| {
            let now = Status {
                node: self.settings.node,
                role: replica.role(),
                leader: replica.leader(),
                membership: Some(replica.membership().clone()),
                standing: Some(replica.standing()),
                founding_membership: founding.map(|founding| founding.membership.clone()),
                known_levels: peers.introductions.known_levels(),
                progress: Arc::clone(&self.progress),
                ballot: replica.promised(),
                chosen: replica.chosen(),
                applied: self.local_state.applier.applied(),
                known_chosen: replica.known_chosen(),
                founding: founding.and_then(|founding| founding.id),
                is_founded: peers.introductions.may_take_part(),
                waiting_for: peers.introductions.missing(),
                refused: peers.introductions.refused().collect(),
                repairs_through: replica.repairs_through(),
                diverged: peers.checkpoints.diverged().collect(),
                is_in_doubt: peers.checkpoints.is_in_doubt(replica.config().members().len()),
                digest: self.local_state.digest,
                clock_ahead_ms: self.clock_watch.ahead_ms,
                misunderstood: peers.misunderstood.count(),
                recovering: None,
                peers: peers.mesh.peers(),
                certificates: peers.mesh.certificates(),
            };
            match (status.repairs_through, now.repairs_through) {
                (None, Some(through)) => {
                    tracing::warn!(
                        "part of the log was lost: this node takes no part in elections until it has learned anew what \
                         was chosen through slot {through}"
                    );
                }
                (Some(_), None) => tracing::warn!("everything that was lost has been learned anew"),
                _ => {}
            }
            if now.role == Role::Candidate && status.role != Role::Candidate {
                self.metrics.elections.increment(1);
            }
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}
