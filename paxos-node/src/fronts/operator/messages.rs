//! The requests and answers of operators' calls, as JSON with a version.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use paxos_core::{Change, FormatLevel, Membership, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backup::Description;
use crate::fronts::MemberReport;
use crate::status::Status;

/// The version of requests and answers. A node refuses others.
pub const VERSION: u32 = 1;

/// What is asked of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// Who the members are. Any node of the cluster may ask, and any node answers.
    List,
    /// Change the membership. Only an operator may ask, and only the leader does it.
    Change {
        /// The change.
        change: ChangeOrder,
        /// If given, the change is made only in this epoch.
        if_epoch: Option<u64>,
        /// As in [`Client::change_membership`](crate::Client::change_membership).
        is_forced: bool,
    },
    /// Hand leadership over. Only an operator may ask, and only the leader does it.
    Transfer {
        /// To this node; `None` for the fittest voter.
        to: Option<u64>,
    },
    /// Take a picture of the node's state, and keep it to be read. Only an operator may ask.
    BeginBackup {
        /// Take the state that the node has, even if it can't find out whether that is the newest one.
        may_be_stale: bool,
    },
    /// A piece of a backup.
    ReadBackup {
        /// Which.
        backup: u64,
        /// Where the piece begins.
        offset: u64,
    },
    /// Forget a backup.
    EndBackup {
        /// Which.
        backup: u64,
    },
}

/// A change of the membership: see [`Change`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChangeOrder {
    /// [`Change::AddLearner`].
    Add {
        /// The new member.
        id: u64,
        /// Where its peers reach it.
        address: String,
    },
    /// [`Change::Promote`].
    Promote {
        /// The learner.
        id: u64,
    },
    /// [`Change::Demote`].
    Demote {
        /// The voter.
        id: u64,
    },
    /// [`Change::Remove`].
    Remove {
        /// The member.
        id: u64,
    },
    /// [`Change::Move`].
    Move {
        /// The member.
        id: u64,
        /// Its new address.
        address: String,
    },
    /// [`Change::Prioritize`].
    Prioritize {
        /// The member.
        id: u64,
        /// Its new priority.
        priority: u8,
    },
    /// [`Change::Finalize`].
    Finalize {
        /// The format level.
        level: u16,
    },
}

impl From<ChangeOrder> for Change {
    fn from(order: ChangeOrder) -> Change {
        match order {
            ChangeOrder::Add { id, address } => Change::AddLearner { node: NodeId(id), address },
            ChangeOrder::Promote { id } => Change::Promote { node: NodeId(id) },
            ChangeOrder::Demote { id } => Change::Demote { node: NodeId(id) },
            ChangeOrder::Remove { id } => Change::Remove { node: NodeId(id) },
            ChangeOrder::Move { id, address } => Change::Move { node: NodeId(id), address },
            ChangeOrder::Prioritize { id, priority } => Change::Prioritize { node: NodeId(id), priority },
            ChangeOrder::Finalize { level } => Change::Finalize { level: FormatLevel(level) },
        }
    }
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Answer {
    /// The members, as far as the node knows.
    Members(MembershipReport),
    /// The change is chosen and in force.
    Changed(MembershipReport),
    /// Leadership was handed over.
    Transferred {
        /// The new leader.
        leader: u64,
    },
    /// The node has taken a picture of its state.
    BackupBegun {
        /// By this number it is asked for pieces.
        backup: u64,
        /// What it is of.
        description: Box<Description>,
    },
    /// A piece of a backup.
    BackupPiece {
        /// Where it begins.
        offset: u64,
        /// Its bytes, in base64: at most [`BACKUP_PIECE_BYTES`](super::BACKUP_PIECE_BYTES), and none if they
        /// are not written yet.
        data: String,
        /// The length of the whole backup, once it is known.
        total_bytes: Option<u64>,
    },
    /// The backup is forgotten.
    BackupEnded,
    /// Nothing was done, as another node leads, or none.
    NotLeader {
        /// The leader, if the node knows one.
        leader: Option<NodeAddress>,
    },
    /// Nothing was done, and what is in the way passes soon.
    NotYet {
        /// What is in the way.
        reason: String,
    },
    /// The learner to promote does not know enough of what is chosen. Nothing was done.
    Lags {
        /// How many chosen slots it does not know.
        slots: u64,
        /// How many it may miss.
        limit_slots: u64,
    },
    /// Nothing was done, and nothing will be.
    Refused {
        /// Why.
        reason: String,
    },
    /// The node can't tell whether it is done: look at the membership before asking again.
    Unknown {
        /// Why not.
        reason: String,
    },
}

/// A node and where it is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeAddress {
    /// Its id.
    pub id: u64,
    /// Where its peers reach it. Empty if that is not known.
    pub address: String,
}

/// The members, as far as one node knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MembershipReport {
    /// The name of the cluster.
    pub cluster: String,
    /// The node that answers.
    pub node: u64,
    /// The epoch.
    pub epoch: u64,
    /// The leader, if the node knows one.
    pub leader: Option<u64>,
    /// The members, in ascending order of ids.
    pub members: Vec<MemberReport>,
    /// The ids of members that were removed. None of them is used again.
    pub removed: Vec<u64>,
    /// The format level that the cluster has finalized.
    #[serde(default = "first_level")]
    pub format_level: u16,
    /// The membership that founded the cluster, by [`Membership::encode`], in base64.
    pub founding: String,
}

/// That of a node from before there were levels.
fn first_level() -> u16 {
    FormatLevel::FIRST.0
}

impl MembershipReport {
    /// What `status` shows; `None` if the node belongs to no cluster yet.
    pub(super) fn new(
        cluster: &str,
        status: &Status,
        address_of: impl Fn(NodeId) -> String,
    ) -> Option<MembershipReport> {
        let (membership, founding) = (status.membership.as_ref()?, status.founding_membership.as_ref()?);
        let mut members = MemberReport::all(status);
        for member in &mut members {
            if member.address.is_empty() {
                member.address = address_of(NodeId(member.id));
            }
        }
        Some(MembershipReport {
            cluster: cluster.to_owned(),
            node: status.node.0,
            epoch: membership.epoch().0,
            leader: status.leader.map(|leader| leader.0),
            members,
            removed: membership.removed().iter().map(|node| node.0).collect(),
            format_level: membership.format_level().0,
            founding: STANDARD.encode(founding.encode()),
        })
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<&MemberReport> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Where the leader is reached, if there is one and that is known.
    #[must_use]
    pub fn leader_address(&self) -> Option<&str> {
        let leader = self.member(self.leader?)?;
        (!leader.address.is_empty()).then_some(&*leader.address)
    }

    /// The membership that founded the cluster.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the node has sent something else.
    pub fn founding_membership(&self) -> Result<Membership, Malformed> {
        let malformed = |problem: String| Malformed { problem };
        let bytes = STANDARD.decode(&self.founding).map_err(|error| malformed(error.to_string()))?;
        Membership::decode(&bytes).map_err(|error| malformed(error.to_string()))
    }
}

/// The epoch and the members, learners in brackets, as a [`Membership`] is shown.
impl std::fmt::Display for MembershipReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "epoch {}:", self.epoch)?;
        for member in &self.members {
            if member.is_voter() {
                write!(formatter, " {}", member.id)?;
            } else {
                write!(formatter, " ({})", member.id)?;
            }
        }
        if self.format_level != FormatLevel::FIRST.0 {
            write!(formatter, ", format level {}", self.format_level)?;
        }
        Ok(())
    }
}

/// A request or an answer that can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}")]
#[non_exhaustive]
pub struct Malformed {
    /// What is wrong with it.
    pub problem: String,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    body: T,
}

/// The bytes of a request or an answer.
pub(super) fn encode<T: Serialize>(body: T) -> Bytes {
    let bytes = serde_json::to_vec(&Versioned { version: VERSION, body });
    bytes.expect("these types have a form in JSON").into()
}

/// Reads a request or an answer.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let malformed = |error: serde_json::Error| Malformed { problem: error.to_string() };
    let Versioned { version, body }: Versioned<serde_json::Value> =
        serde_json::from_slice(bytes).map_err(malformed)?;
    if version != VERSION {
        let problem = format!("operators' calls have version {version} there and {VERSION} here");
        return Err(Malformed { problem });
    }
    serde_json::from_value(body).map_err(malformed)
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none, or are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Answer, Malformed> {
        decode(bytes)
    }
}

/// For the fuzz target: bytes as a node gets them from an operator, and as an operator gets them from a node.
/// What can be read means the same when it is written and read again, and a change that was asked for is made
/// or refused.
///
/// # Panics
///
/// If that is not so.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(bytes: &[u8]) {
    use paxos_core::{Ballot, Member};

    if let Ok(request) = decode::<Request>(bytes) {
        assert_eq!(decode::<Request>(&request.encode()).as_ref(), Ok(&request));
        if let Request::Change { change, .. } = request {
            let members = vec![
                Member::voter(NodeId(1), "one:1"),
                Member::voter(NodeId(2), "two:2").with_priority(0),
                Member::learner(NodeId(3), "three:3"),
            ];
            let members = Membership::of(members).expect("these members fit");
            match members.changed(&Change::from(change), Ballot::ZERO) {
                Ok(next) => assert_eq!(next.epoch(), members.epoch().next()),
                Err(refused) => assert!(!refused.to_string().is_empty(), "it says why not"),
            }
        }
    }
    let Ok(answer) = Answer::decode(bytes) else { return };
    assert_eq!(Answer::decode(&encode(&answer)).as_ref(), Ok(&answer));
    if let Answer::Members(report) | Answer::Changed(report) = answer {
        let is_known = report.leader_address().is_some();
        assert!(!is_known || report.leader.and_then(|leader| report.member(leader)).is_some());
        if let Ok(founding) = report.founding_membership() {
            assert_eq!(STANDARD.encode(founding.encode()), report.founding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_as_they_were_written_and_other_versions_refused() {
        let change = ChangeOrder::Add { id: 4, address: String::from("d:9001") };
        let request = Request::Change { change, if_epoch: Some(3), is_forced: false };
        let bytes = request.encode();
        assert_eq!(decode::<Request>(&bytes), Ok(request));
        let text = std::str::from_utf8(&bytes).expect("JSON is text");
        let next = text.replacen("\"version\":1", "\"version\":2", 1);
        let refused = decode::<Request>(next.as_bytes()).expect_err("it is of another version");
        assert!(refused.to_string().contains("version 2 there and 1 here"), "{refused}");
        for wrong in ["", "{}", "{\"version\":1,\"body\":\"dance\"}"] {
            assert!(decode::<Request>(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let answer = Answer::Lags { slots: 7, limit_slots: 3 };
        assert_eq!(Answer::decode(&encode(&answer)), Ok(answer));
    }

    #[test]
    fn a_report_shows_learners_in_brackets_and_has_the_founding_membership() {
        let founding = Membership::new(&[NodeId(1), NodeId(3)]).expect("these members fit");
        let members =
            vec![paxos_core::Member::voter(NodeId(1), "a:1"), paxos_core::Member::learner(NodeId(4), "")];
        let membership = Membership::of(members).expect("these members fit");
        let status = Status {
            leader: Some(NodeId(1)),
            membership: Some(membership),
            founding_membership: Some(founding.clone()),
            ..Status::default()
        };
        let report = MembershipReport::new("paxos", &status, |node| format!("host-{node}"));
        let report = report.expect("the node belongs to a cluster");
        assert_eq!(report.to_string(), "epoch 0: 1 (4)");
        assert_eq!((report.leader_address(), &*report.members[1].address), (Some("a:1"), "host-4"));
        assert_eq!(report.founding_membership(), Ok(founding));
        assert_eq!(MembershipReport::new("paxos", &Status::default(), |_| String::new()), None);
    }
}
