//! Finds the leader among the members and asks it.

use std::time::Duration;

use paxos_node::backends::{self, BackendError, TransportKind};
use paxos_node::fronts::operator::{Answer, MembershipReport, Request};
use paxos_transport::calls::{CallError, CallIdentity, CallProblem};
use tokio::time::{Instant, sleep, timeout};

use crate::cli::Failure;

/// How long to wait for a node that is asked who the members are.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command tries when there is no leader, or the leader changes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause before the members are looked at again; it doubles up to the longest.
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The cluster, as an operator reaches it.
pub(in crate::cli) struct Contact {
    identity: CallIdentity,
    /// `None` to try those that are compiled in.
    transport: Option<TransportKind>,
    via: Vec<String>,
    /// The members as they were last seen.
    seen: Option<MembershipReport>,
}

/// Why a node has not answered.
pub(in crate::cli) enum Unanswered {
    /// It has not got the request.
    NotTaken(String),
    /// It has got the request, and may have carried it out.
    Unknown(String),
    /// It refuses the certificate of the operator, or is none of the cluster: asking again is of no use.
    Refused(String),
}

impl Unanswered {
    pub(in crate::cli) fn reason(self) -> String {
        match self {
            Unanswered::NotTaken(reason) | Unanswered::Unknown(reason) | Unanswered::Refused(reason) => {
                reason
            }
        }
    }
}

impl Contact {
    pub(in crate::cli) fn new(
        identity: CallIdentity,
        transport: Option<TransportKind>,
        via: Vec<String>,
    ) -> Contact {
        Contact { identity, transport, via, seen: None }
    }

    /// The members, as the leader sees them if it can be asked, else as another node does.
    pub(in crate::cli) async fn look(&mut self) -> Result<MembershipReport, Failure> {
        let mut best: Option<MembershipReport> = None;
        let mut problems = Vec::new();
        for address in self.addresses() {
            let report = match self.list(&address).await {
                Ok(report) => report,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let is_leader = report.leader == Some(report.node);
            let leader = report.leader_address().map(str::to_owned);
            if best.as_ref().is_none_or(|best| best.epoch < report.epoch || is_leader) {
                best = Some(report);
            }
            if is_leader {
                break;
            }
            if let Some(leader) = leader
                && let Ok(report) = self.list(&leader).await
                && report.leader == Some(report.node)
            {
                best = Some(report);
                break;
            }
        }
        let none = || Failure::other(format!("no node answers: {}", problems.join("; ")));
        let best = best.ok_or_else(none)?;
        self.seen = Some(best.clone());
        Ok(best)
    }

    /// Where nodes may be reached: first the leader that was seen last, then those that were named, then all.
    fn addresses(&self) -> Vec<String> {
        let seen = self.seen.iter();
        let leader = seen.clone().filter_map(|seen| seen.leader_address());
        let members = seen.flat_map(|seen| seen.members.iter().map(|member| &*member.address));
        let all = leader.chain(self.via.iter().map(String::as_str)).chain(members);
        let mut addresses: Vec<String> = Vec::new();
        for address in all.filter(|address| !address.is_empty()) {
            if !addresses.iter().any(|known| known == address) {
                addresses.push(address.to_owned());
            }
        }
        addresses
    }

    async fn list(&self, address: &str) -> Result<MembershipReport, String> {
        let Ok(answer) = timeout(LIST_TIMEOUT, self.ask(address, &Request::List)).await else {
            return Err(format!("{address}: no answer within {} s", LIST_TIMEOUT.as_secs()));
        };
        match answer.map_err(Unanswered::reason)? {
            Answer::Members(report) => Ok(report),
            Answer::NotYet { reason } | Answer::Refused { reason } => Err(format!("{address}: {reason}")),
            _ => Err(format!("{address}: its answer does not fit the request")),
        }
    }

    /// Asks the node at an address.
    pub(in crate::cli) async fn ask(&self, address: &str, request: &Request) -> Result<Answer, Unanswered> {
        let addresses = [address.to_owned()];
        let answer = match self.transport {
            Some(transport) => transport.call(&addresses, &self.identity, request.encode()).await,
            None => backends::call(&addresses, &self.identity, request.encode()).await.map_err(Into::into),
        };
        let answer = answer.map_err(|error| unanswered(&error))?;
        Answer::decode(&answer).map_err(|problem| Unanswered::Unknown(format!("{address}: {problem}")))
    }
}

fn unanswered(error: &BackendError) -> Unanswered {
    let (is_refused, text) = match error {
        BackendError::Call(CallError::NotTaken { attempts }) => {
            let texts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            let is_refused = attempts.iter().any(|attempt| {
                matches!(
                    attempt.problem,
                    CallProblem::OwnCertificate { .. } | CallProblem::NotAdmitted { .. }
                )
            });
            (is_refused, texts.join("; "))
        }
        BackendError::Call(CallError::NotAnswered { .. }) => return Unanswered::Unknown(error.to_string()),
        other => (true, other.to_string()),
    };
    if is_refused { Unanswered::Refused(text) } else { Unanswered::NotTaken(text) }
}

/// Tries again, with growing pauses, for as long as a command has patience.
pub(in crate::cli) struct Retries {
    deadline: Instant,
    pause: Duration,
}

impl Retries {
    pub(in crate::cli) fn new() -> Retries {
        Retries { deadline: Instant::now() + PATIENCE, pause: MIN_PAUSE }
    }

    /// Pauses, or fails with what was in the way if the time is over.
    pub(in crate::cli) async fn pause(&mut self, reason: &str) -> Result<(), Failure> {
        if Instant::now() >= self.deadline {
            return Err(Failure::other(format!("given up after {} s: {reason}", PATIENCE.as_secs())));
        }
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(MAX_PAUSE);
        Ok(())
    }
}
