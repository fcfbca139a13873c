//! One node of the model: its state, and the steps that it may take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;

use paxos_core::message::Accept;
use paxos_core::{
    Ballot, Body, Entry, Epoch, HardState, Message, NodeId, Recovered, Role, Slot, Value, Write,
};

use crate::catalogue::{History, Next};
use crate::protocol_state::protocol_state;

/// A message on its way. It may arrive at any time from when it was sent on, any number of times, or never.
pub(crate) struct Letter {
    pub(crate) number: usize,
    pub(crate) from: NodeId,
    /// `None` for all peers.
    pub(crate) to: Option<NodeId>,
    pub(crate) message: Message,
}

/// The state of a node.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: NodeId,
    /// Its replica, but for the time; see [`protocol_state`](crate::protocol_state::protocol_state).
    pub(crate) replica: String,
    pub(crate) role: Role,
    pub(crate) life: Life,
    /// The ballots it has tried to become the leader with, counted from the lowest on.
    pub(crate) campaigns: BTreeSet<usize>,
    pub(crate) sent: BTreeSet<&'static Letter>,
    pub(crate) disk: Disk,
    /// What it has accepted: on its disk, or as sent to others.
    pub(crate) votes: BTreeSet<(Slot, Ballot)>,
    /// Where the membership changes: in which epochs it has accepted that. A slot may be of another one
    /// later.
    pub(crate) votes_in: BTreeSet<(Epoch, Slot, Ballot)>,
    /// All that it has ever applied, before a crash or after.
    pub(crate) applied: BTreeMap<Slot, Value>,
    /// The highest ballot that others know it to have promised.
    pub(crate) promise_told: Ballot,
    /// It has accepted something below `promise_told`.
    pub(crate) promise_broken: bool,
    /// It has applied two values in one slot.
    pub(crate) has_contradicted_itself: bool,
    /// At some time its disk held what no replica starts from.
    pub(crate) disk_was_senseless: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Slot, Entry>,
    /// Written and not synced, oldest first.
    pub(crate) unsynced: VecDeque<Write>,
}

/// Whether a node has crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    First,
    /// Nothing reaches its disk any more: it will crash, or has crashed and stays away.
    Doomed,
    /// It has crashed and was started again.
    Second,
}

/// A [`Facts`] of which there is one copy, and where it leads to.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) facts: Facts,
    /// The proposals it has made, each once.
    pub(crate) proposals: Vec<(Ballot, Slot, Value)>,
    pub(crate) history: History,
    /// Another way to the same facts, if one has been found.
    pub(crate) other_history: Mutex<Option<History>>,
    /// By the numbers of the steps; `None` for a step that was not explored yet.
    pub(crate) next: Mutex<Vec<Option<Next>>>,
}

/// What a node does next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) event: Event,
    /// What this step writes, and all that is written later, never reaches the disk.
    pub(crate) is_lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Receive(&'static Letter),
    /// It has waited for a leader in vain, and so has a peer: it tries the ballot of this rank.
    Campaign {
        rank: usize,
    },
    /// A client has a command for this leader.
    Propose,
    /// An operator asks this leader for its change of the membership.
    Change,
    /// A leader's time for a heartbeat has come.
    Announce,
    /// A peer asks for chosen values.
    Fetch {
        from: NodeId,
        first: Slot,
    },
    /// The oldest write reaches the disk.
    Sync,
    /// It crashes and starts again from its disk.
    Restart,
}

impl Facts {
    pub(crate) fn first(id: NodeId) -> Facts {
        Facts {
            id,
            replica: String::new(),
            role: Role::Follower,
            life: Life::First,
            campaigns: BTreeSet::new(),
            sent: BTreeSet::new(),
            disk: Disk::default(),
            votes: BTreeSet::new(),
            votes_in: BTreeSet::new(),
            applied: BTreeMap::new(),
            promise_told: Ballot::ZERO,
            promise_broken: false,
            has_contradicted_itself: false,
            disk_was_senseless: false,
        }
    }

    pub(crate) fn after_crash(mut self) -> Facts {
        self.disk.unsynced.clear();
        self.life = Life::Second;
        self.role = Role::Follower;
        self.replica.clear();
        self
    }

    /// The epoch that it is in, and the slot of the membership that began it.
    pub(crate) fn epoch(&self) -> (Epoch, Slot) {
        let memberships =
            self.applied.iter().filter_map(|(slot, value)| Some((*slot, value.as_membership()?)));
        memberships.fold((Epoch(0), Slot::ZERO), |(epoch, since), (slot, next)| {
            if next.epoch() == epoch.next() { (next.epoch(), slot) } else { (epoch, since) }
        })
    }

    pub(crate) fn proposals(&self) -> Vec<(Ballot, Slot, Value)> {
        let mut proposals = Vec::new();
        for letter in &self.sent {
            if let Body::Accept(Accept { ballot, slot, value, .. }) = &letter.message.body {
                let proposal = (*ballot, *slot, value.clone());
                if !proposals.contains(&proposal) {
                    proposals.push(proposal);
                }
            }
        }
        proposals
    }

    /// The proposals in `epoch` that it has made.
    pub(crate) fn proposals_in(&self, epoch: Epoch) -> impl Iterator<Item = (Ballot, Slot, &Value)> {
        self.proposals_with_epochs().filter(move |(of, _)| *of == epoch).map(|(_, proposal)| proposal)
    }

    /// The proposals that it has made, each with its epoch.
    pub(crate) fn proposals_with_epochs(&self) -> impl Iterator<Item = (Epoch, (Ballot, Slot, &Value))> {
        self.sent.iter().filter_map(|letter| match &letter.message.body {
            Body::Accept(Accept { ballot, slot, value, .. }) => {
                Some((letter.message.epoch, (*ballot, *slot, value)))
            }
            _ => None,
        })
    }

    pub(crate) fn prepares_in(&self, epoch: Epoch) -> bool {
        let is_prepare = |message: &Message| matches!(message.body, Body::Prepare(_));
        self.sent.iter().any(|letter| letter.message.epoch == epoch && is_prepare(&letter.message))
    }

    /// All but the numbers of writes and letters, which depend on the way, and but for prepares: where
    /// another ballot was promised before the own one was synced, its prepare never leaves, which is as if
    /// nobody received it.
    pub(crate) fn description_if_settled(&self) -> Option<String> {
        let is_settled = self.life != Life::Doomed && self.disk.unsynced.is_empty();
        let sent = self.sent.iter().filter(|letter| !matches!(letter.message.body, Body::Prepare(_)));
        let mut sent: Vec<String> = sent.map(|letter| format!("{letter:?}")).collect();
        sent.sort_unstable();
        let replica = protocol_state(&self.replica, false);
        let rest = Facts { replica, sent: BTreeSet::new(), promise_told: Ballot::ZERO, ..self.clone() };
        is_settled.then(|| format!("{sent:?} {rest:?}"))
    }

    /// Votes for `ballot` in `slot`. Two votes for the same are one.
    pub(crate) fn vote(&mut self, slot: Slot, ballot: Ballot) {
        let is_new = self.votes.insert((slot, ballot));
        self.promise_broken |= is_new && ballot < self.promise_told;
    }
}

impl Disk {
    pub(crate) fn store(&mut self, write: &Write) {
        self.hard_state = write.hard_state();
        self.entries.extend(write.entries().iter().cloned());
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let entries = self.entries.clone().into_iter().collect();
        Recovered::new(self.hard_state, None, entries)
    }
}

impl Step {
    /// Different for different steps of one node, and small.
    pub(crate) fn number(self) -> usize {
        let small = |number: u64| usize::try_from(number).expect("ids and slots are small here");
        let event = match self.event {
            Event::Propose => 0,
            Event::Announce => 1,
            Event::Sync => 2,
            Event::Restart => 3,
            Event::Campaign { rank } => 4 + rank,
            Event::Change => 8,
            Event::Fetch { from, first } => 9 + 4 * small(from.0 - 1) + small(first.0),
            Event::Receive(letter) => 32 + letter.number,
        };
        2 * event + usize::from(self.is_lost)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.number == other.number
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(formatter)
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Letter) -> bool {
        self.number == other.number
    }
}

impl Eq for Letter {}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Letter) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Letter {
    fn cmp(&self, other: &Letter) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} from {} in epoch {}", self.message.body, self.from, self.message.epoch)?;
        self.to.map_or(Ok(()), |to| write!(formatter, " to {to}"))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Event::Receive(letter) => write!(formatter, "receives {letter:?}")?,
            Event::Campaign { rank } => write!(formatter, "campaigns with ballot number {}", rank + 1)?,
            Event::Propose => write!(formatter, "is given a command")?,
            Event::Change => write!(formatter, "is asked to change the membership")?,
            Event::Announce => write!(formatter, "sends a heartbeat")?,
            Event::Fetch { from, first } => {
                write!(formatter, "is asked by {from} for slots from {first} on")?;
            }
            Event::Sync => write!(formatter, "syncs its oldest write")?,
            Event::Restart => write!(formatter, "crashes and starts again")?,
        }
        formatter.write_str(if self.is_lost { "; no write from this one on reaches its disk" } else { "" })
    }
}
