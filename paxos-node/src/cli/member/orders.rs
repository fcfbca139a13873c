//! Has one change of the membership made, or leadership handed over.
//!
//! A change whose outcome is unknown, as the leader was lost, may have been made: the members are looked at
//! before it is asked for again. So each change is made once.

use paxos_node::fronts::operator::{Answer, ChangeOrder, MembershipReport, Request};

use super::contact::{Contact, Retries, Unanswered};
use crate::cli::Failure;
use crate::cli::terminal::say;

/// A change, and on which terms it is to be made.
pub(super) struct Order {
    pub(super) change: ChangeOrder,
    pub(super) terms: Terms,
}

/// On which terms a change is to be made.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) if_epoch: Option<u64>,
    pub(super) is_forced: bool,
}

/// Why a change was not made.
pub(super) enum NotMade {
    /// The learner to promote lags.
    Lags {
        slots: u64,
        limit_slots: u64,
    },
    Failed(Failure),
}

impl From<Failure> for NotMade {
    fn from(failure: Failure) -> NotMade {
        NotMade::Failed(failure)
    }
}

impl From<NotMade> for Failure {
    fn from(not_made: NotMade) -> Failure {
        match not_made {
            NotMade::Lags { slots, limit_slots } => Failure::other(format!(
                "not promoted: the node is {slots} slots behind, and may be {limit_slots}; wait until it has caught up, or \
                 promote it by --force"
            )),
            NotMade::Failed(failure) => failure,
        }
    }
}

impl Order {
    /// Has the change made, and returns a line on it.
    pub(super) async fn make(&self, contact: &mut Contact) -> Result<String, Failure> {
        Ok(self.try_make(contact).await?)
    }

    /// The same; tells whether a learner lags.
    pub(super) async fn try_make(&self, contact: &mut Contact) -> Result<String, NotMade> {
        let mut retries = Retries::new();
        // Set once the change may have been made by this command.
        let mut is_unknown = false;
        let mut members = contact.look().await?;
        loop {
            let is_guarded = self.terms.if_epoch.is_some_and(|epoch| epoch != members.epoch);
            if is_guarded && !is_unknown {
                return Err(Failure::other(format!("not done: {members} is in force already")).into());
            }
            if let Some(already) = already(&self.change, &members) {
                return Ok(if is_unknown { members.to_string() } else { format!("{already}; {members}") });
            }
            let reason = match self.ask(contact, &members).await? {
                Asked::Made(members) => return Ok(members.to_string()),
                Asked::Lags { slots, limit_slots } => return Err(NotMade::Lags { slots, limit_slots }),
                Asked::Refused(reason) if !is_unknown => {
                    return Err(Failure::other(format!("not done: {reason}; {members}")).into());
                }
                Asked::NotYet(reason) => reason,
                Asked::Refused(reason) => {
                    // The change may have been made before it was refused.
                    members = contact.look().await?;
                    if already(&self.change, &members).is_some() {
                        return Ok(members.to_string());
                    }
                    return Err(Failure::other(format!("not done: {reason}; {members}")).into());
                }
                Asked::Unknown(reason) => {
                    is_unknown = true;
                    reason
                }
            };
            loop {
                retries.pause(&reason).await?;
                if let Ok(seen) = contact.look().await {
                    members = seen;
                    break;
                }
            }
        }
    }

    async fn ask(&self, contact: &Contact, members: &MembershipReport) -> Result<Asked, Failure> {
        let Some(leader) = members.leader_address() else {
            return Ok(Asked::NotYet(String::from("no leader is known")));
        };
        let Terms { if_epoch, is_forced } = self.terms;
        let request = Request::Change { change: self.change.clone(), if_epoch, is_forced };
        Ok(match contact.ask(leader, &request).await {
            Ok(Answer::Changed(members)) => Asked::Made(members),
            Ok(Answer::Lags { slots, limit_slots }) => Asked::Lags { slots, limit_slots },
            Ok(answer) => passing(answer)?,
            Err(unanswered) => unanswered.into(),
        })
    }
}

/// What has become of a request.
enum Asked {
    Made(MembershipReport),
    Lags { slots: u64, limit_slots: u64 },
    NotYet(String),
    Refused(String),
    Unknown(String),
}

impl From<Unanswered> for Asked {
    fn from(unanswered: Unanswered) -> Asked {
        match unanswered {
            Unanswered::NotTaken(reason) => Asked::NotYet(reason),
            Unanswered::Unknown(reason) => Asked::Unknown(reason),
            Unanswered::Refused(reason) => Asked::Refused(reason),
        }
    }
}

/// An answer that is neither success nor particular to a request.
fn passing(answer: Answer) -> Result<Asked, Failure> {
    match answer {
        Answer::NotLeader { leader: Some(leader) } => Ok(Asked::NotYet(format!("node {} leads", leader.id))),
        Answer::NotLeader { leader: None } => Ok(Asked::NotYet(String::from("no leader is known"))),
        Answer::NotYet { reason } => Ok(Asked::NotYet(reason)),
        Answer::Unknown { reason } => Ok(Asked::Unknown(reason)),
        Answer::Refused { reason } => Ok(Asked::Refused(reason)),
        _ => Err(Failure::other("the node's answer does not fit the request: it may be of another version")),
    }
}

/// In words, that the members are already as the change would make them.
fn already(change: &ChangeOrder, members: &MembershipReport) -> Option<String> {
    let member = |id: &u64| members.member(*id);
    match change {
        ChangeOrder::Add { id, address } => {
            let member = member(id).filter(|member| member.address == *address)?;
            Some(format!("already so: node {id} is a {} at {address}", member.role))
        }
        ChangeOrder::Promote { id } => member(id)
            .is_some_and(paxos_node::fronts::MemberReport::is_voter)
            .then(|| format!("already so: node {id} is a voter")),
        ChangeOrder::Demote { id } => member(id)
            .is_some_and(|member| !member.is_voter())
            .then(|| format!("already so: node {id} is a learner")),
        ChangeOrder::Finalize { level } => (members.format_level >= *level)
            .then(|| format!("already so: format level {} is finalized", members.format_level)),
        ChangeOrder::Remove { id } => {
            members.removed.contains(id).then(|| format!("already so: node {id} was removed"))
        }
        ChangeOrder::Move { id, address } => member(id)
            .is_some_and(|member| member.address == *address)
            .then(|| format!("already so: node {id} is at {address}")),
        ChangeOrder::Prioritize { id, priority } => member(id)
            .is_some_and(|member| member.priority == *priority)
            .then(|| format!("already so: node {id} has priority {priority}")),
    }
}

/// Has leadership handed over, and says who leads.
pub(super) async fn transfer(contact: &mut Contact, to: Option<u64>) -> Result<(), Failure> {
    let mut retries = Retries::new();
    let mut members = contact.look().await?;
    let (first, mut is_unknown) = (members.leader, false);
    loop {
        let is_done = match (members.leader, to) {
            (Some(leader), Some(to)) => leader == to,
            (Some(leader), None) => is_unknown && first.is_some_and(|first| first != leader),
            (None, _) => false,
        };
        if let Some(leader) = members.leader.filter(|_| is_done) {
            say!("{}node {leader} leads", if is_unknown { "" } else { "already so: " });
            return Ok(());
        }
        let asked = match members.leader_address() {
            None => Asked::NotYet(String::from("no leader is known")),
            Some(leader) => match contact.ask(leader, &Request::Transfer { to }).await {
                Ok(Answer::Transferred { leader }) => {
                    say!("node {leader} leads");
                    return Ok(());
                }
                Ok(answer) => passing(answer)?,
                Err(unanswered) => unanswered.into(),
            },
        };
        let reason = match asked {
            Asked::Refused(reason) => return Err(Failure::other(format!("not done: {reason}"))),
            Asked::NotYet(reason) => reason,
            Asked::Unknown(reason) => {
                is_unknown = true;
                reason
            }
            Asked::Made(_) | Asked::Lags { .. } => {
                return Err(Failure::other("the node's answer does not fit the request"));
            }
        };
        loop {
            retries.pause(&reason).await?;
            if let Ok(seen) = contact.look().await {
                members = seen;
                break;
            }
        }
    }
}
