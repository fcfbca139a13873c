//! The front for operators: who the members are, and changes of them, asked for on the port for peers.
//!
//! Requests come as [calls](paxos_transport::calls) of the transport, so who asks has proved to be an
//! operator or a node of the cluster by a certificate; whoever reaches only the ports for clients can ask
//! nothing here. Any node answers a [`Request::List`], also to a node that wants to join. Everything else is
//! for operators, and only the leader does it: other nodes answer with the leader's address.
//!
//! A backup is the exception: whichever node an operator asks takes a picture of its own state, and gives it
//! out in pieces.
//!
//! The transport bounds how many calls wait, how long they may be, and how long they may take.

mod backups;
mod messages;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::{Change, ChangeRefusal, Epoch, HandoverRefusal, NodeId};
use paxos_transport::calls::{Call, CallReceiver, Caller};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::backups::Backups;
pub use self::backups::{BACKUP_IDLE_TIMEOUT, BACKUP_PIECE_BYTES};
#[cfg(any(test, feature = "fuzz"))]
pub use self::messages::fuzz;
pub use self::messages::{Answer, ChangeOrder, Malformed, MembershipReport, NodeAddress, Request, VERSION};
use crate::client::{AdministrationError, Client};
use crate::state_machine::StateMachine;
use crate::status::Status;

/// How long a call waits until its change is in force: less than [`paxos_transport::calls::CALL_TIMEOUT`].
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(50);
/// How long the answer to a change waits until the status shows it.
const SHOW_TIMEOUT: Duration = Duration::from_secs(1);

/// What the front has to know beside the node.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OperatorSettings {
    /// The cluster's name.
    pub cluster: String,
    /// Addresses of members for which the membership has none, as in
    /// [`NodeSettings::addresses`](crate::NodeSettings::addresses).
    pub addresses: BTreeMap<NodeId, String>,
    /// Where a backup is kept, in a file without a name, while an operator fetches it: the directory of the
    /// log, best. If this is empty, in the system's directory for temporary files.
    pub backup_directory: PathBuf,
}

impl OperatorSettings {
    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Answers calls until `stop` turns true or the transport is gone. Calls that wait then get no answer.
pub async fn serve<S: StateMachine>(
    mut calls: CallReceiver,
    client: Client<S>,
    settings: OperatorSettings,
    mut stop: watch::Receiver<bool>,
) {
    let backups = Backups::new(settings.backup_directory.clone());
    let front = OperatorFront { client, settings, backups };
    let mut answering = JoinSet::new();
    loop {
        let call = tokio::select! {
            call = calls.receive() => call,
            Some(_) = answering.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(call) = call else { break };
        answering.spawn(front.clone().answer(call));
    }
}

struct OperatorFront<S> {
    client: Client<S>,
    settings: OperatorSettings,
    backups: Arc<Backups>,
}

impl<S> Clone for OperatorFront<S> {
    fn clone(&self) -> Self {
        OperatorFront {
            client: self.client.clone(),
            settings: self.settings.clone(),
            backups: Arc::clone(&self.backups),
        }
    }
}

impl<S: StateMachine> OperatorFront<S> {
    async fn answer(self, call: Call) {
        let answer = match messages::decode::<Request>(&call.request) {
            Ok(request) => self.carry_out(call.caller, request).await,
            Err(problem) => Answer::Refused { reason: format!("the request can't be read: {problem}") },
        };
        call.answer(messages::encode(&answer));
    }

    async fn carry_out(&self, caller: Caller, request: Request) -> Answer {
        if request != Request::List && caller != Caller::Operator {
            tracing::warn!(%caller, "refused what only operators may ask for");
            let reason = format!("only operators may do that, and the certificate is that of {caller}");
            return Answer::Refused { reason };
        }
        match request {
            Request::List => self.report().map_or_else(not_founded, Answer::Members),
            Request::Change { change, if_epoch, is_forced } => {
                let change = Change::from(change);
                let (asked, if_epoch) = (change.clone(), if_epoch.map(Epoch));
                let changed = self.client.change_membership(change, if_epoch, is_forced);
                match timeout(CHANGE_TIMEOUT, changed).await {
                    Ok(Ok(epoch)) => self.changed(epoch).await,
                    Ok(Err(AdministrationError::Change(ChangeRefusal::UnderWay { change })))
                        if change == asked =>
                    {
                        Answer::NotYet { reason: String::from("the same change is under way already") }
                    }
                    Ok(Err(error)) => self.not_done(error),
                    Err(_) => too_long(),
                }
            }
            Request::BeginBackup { may_be_stale } => {
                let begun = self.backups.begin(&self.client, &self.settings.cluster, may_be_stale);
                timeout(CHANGE_TIMEOUT, begun).await.unwrap_or_else(|_| Answer::NotYet {
                    reason: String::from("the node is too busy to begin a backup"),
                })
            }
            Request::ReadBackup { backup, offset } => self.backups.read(backup, offset).await,
            Request::EndBackup { backup } => self.backups.end(backup),
            Request::Transfer { to } => {
                match timeout(CHANGE_TIMEOUT, self.client.hand_over(to.map(NodeId))).await {
                    Ok(Ok(leader)) => Answer::Transferred { leader: leader.0 },
                    Ok(Err(error)) => self.not_done(error),
                    Err(_) => too_long(),
                }
            }
        }
    }

    fn report(&self) -> Option<MembershipReport> {
        let status = self.client.status().borrow().clone();
        MembershipReport::new(&self.settings.cluster, &status, |node| self.known_address(node))
    }

    fn known_address(&self, node: NodeId) -> String {
        self.settings.addresses.get(&node).cloned().unwrap_or_default()
    }

    /// The answer to a change that has begun this epoch.
    async fn changed(&self, epoch: Epoch) -> Answer {
        let mut status = self.client.status();
        let is_shown = |status: &Status| status.epoch() >= epoch;
        // If the status shows it later, the answer has the membership before.
        let _ = timeout(SHOW_TIMEOUT, status.wait_for(is_shown)).await;
        self.report().map_or_else(not_founded, Answer::Changed)
    }

    fn not_leader(&self, leader: Option<NodeId>) -> Answer {
        let status = self.client.status().borrow().clone();
        let address = |leader: NodeId| {
            let member = status.membership.as_ref().and_then(|membership| membership.member(leader));
            let address = member.map(|member| member.address.clone()).filter(|address| !address.is_empty());
            let address = address.unwrap_or_else(|| self.known_address(leader));
            NodeAddress { id: leader.0, address }
        };
        Answer::NotLeader { leader: leader.map(address) }
    }

    fn not_done(&self, error: AdministrationError) -> Answer {
        let reason = error.to_string();
        match error {
            AdministrationError::Change(refusal) => self.change_refused(&refusal, reason),
            AdministrationError::Handover(refusal) => self.handover_refused(refusal, reason),
            AdministrationError::Busy | AdministrationError::Unable(_) => Answer::NotYet { reason },
            AdministrationError::ProgramTooOld { .. } | AdministrationError::ProgramUnknown { .. } => {
                Answer::Refused { reason }
            }
            AdministrationError::Stopped => Answer::Unknown { reason },
        }
    }

    fn change_refused(&self, refusal: &ChangeRefusal, reason: String) -> Answer {
        match refusal {
            ChangeRefusal::NotLeader { leader } => self.not_leader(*leader),
            ChangeRefusal::HandingOver { .. } | ChangeRefusal::LeaderHandsOver { .. } => {
                Answer::NotYet { reason }
            }
            // One that was added just now is heard soon.
            ChangeRefusal::NotHeard { .. } => {
                Answer::NotYet { reason: format!("{reason}: start it first, or force the change") }
            }
            ChangeRefusal::LearnerLags { slots, limit_slots } => {
                Answer::Lags { slots: *slots, limit_slots: *limit_slots }
            }
            ChangeRefusal::Lost => Answer::Unknown { reason },
            _ => Answer::Refused { reason },
        }
    }

    fn handover_refused(&self, refusal: HandoverRefusal, reason: String) -> Answer {
        match refusal {
            HandoverRefusal::NotLeader { leader } => self.not_leader(leader),
            HandoverRefusal::NotYet | HandoverRefusal::ChangeUnderWay | HandoverRefusal::UnderWay { .. } => {
                Answer::NotYet { reason }
            }
            HandoverRefusal::Lost => Answer::Unknown { reason },
            _ => Answer::Refused { reason },
        }
    }
}

fn not_founded() -> Answer {
    Answer::NotYet { reason: String::from("the node belongs to no cluster yet, or still reads its log") }
}

fn too_long() -> Answer {
    let reason = format!("it is not in force after {} s, and may still be made", CHANGE_TIMEOUT.as_secs());
    Answer::Unknown { reason }
}
