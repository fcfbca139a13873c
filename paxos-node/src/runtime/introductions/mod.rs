//! Introductions of nodes: which peers this node listens to, and whether it takes part at all.
//!
//! Paxos requires that acceptors forget nothing, that members agree on who they are, and that one process
//! runs for each of them. Certificates prove none of that. So nodes introduce themselves: a **hello** names
//! the cluster, the members and all settings that must be equal, the storage, and the start of the node on
//! it. Two nodes listen to each other once each has accepted the other's hello and has said so in an
//! **answer**. Until then no message of one reaches the replica of the other. A peer that does not fit is
//! refused; both sides log why, and it is admitted as soon as it comes back in order.
//!
//! # Founding
//!
//! A node on a new storage belongs to no cluster, and takes no part. It remembers, durably, the storage of
//! each founder that it meets. Once it remembers them all it is bound to them: it announces the name of their
//! founding, a hash over their storages. When all founders announce the same name the cluster is founded:
//! each records that, durably, and takes part from then on. So all founders have met, and each knows all the
//! others by their storages, before anything is promised. A node that comes back with another storage is
//! refused by all. Two such nodes can't found a cluster of their own: they would have to meet the remaining
//! founders, which refuse them.
//!
//! A founder may be left out, by name. It joins later with the storage that it has then: it takes part once
//! more than half of its peers remember that storage. Any two such majorities have a peer in common, so no
//! other storage can join under the same id. A storage with data from before foundings were recorded counts
//! as founded; its founding gets its name, the same one everywhere, when the storages of all members are
//! known.
//!
//! # Format levels
//!
//! Nodes tell which [format levels](paxos_core::FormatLevel) their programs read, and which one their cluster
//! has finalized. A program that does not know that one is refused, by name; until it is finalized, an older
//! program is welcome. See [`levels`].
//!
//! # Rescues
//!
//! Who has lost the majority of a cluster for good goes on with the rest, under another name of the founding.
//! So the nodes that were given up are refused if they come back after all; they are told why, and end unless
//! they have had a leader since they were started: a majority that works is not stopped by nodes that have
//! given it up by mistake.
//!
//! # Copies
//!
//! Each start of a node on a storage has the next number, and a random nonce. Peers remember the latest
//! start, durably, before they listen to it. They refuse an earlier one, and another one with the same
//! number: that is a backup, or a copy. They listen to a later one when the one before was silent for a
//! while, to themselves and to the peers that tell them what they hear: so a copy of a node is refused while
//! the node runs. Peers tell each other which starts they know; if two starts have the same number, nobody
//! listens to either. A node that more than half of its peers refuse as a copy records that and stops, since
//! its storage has forgotten something; no later start on that storage takes part.
//!
//! A copy that was made while the original ran also gets a later number. So nodes tell how much their storage
//! holds ([`Reach`]), again and again while they run, and in the hello how much it held when they started. A
//! node that comes back with less than its peers have heard of is a copy. Peers tell each other what they
//! have heard, and forget it when they end. No rule can detect a copy that is as new as the original and runs
//! where the original is not heard: then states diverge, which [`Checkpoints`](crate::runtime::checkpoints)
//! detect.
//!
//! Deliberately absent: any decision by majority about whose settings are right. No healthy node stops
//! because another one is wrong.

mod begin;
mod founding;
mod frame;
mod kept_out;
mod levels;
#[cfg(test)]
mod model;
mod mutant;
mod notice;
mod peer;
mod reach;
mod receive;
mod refound;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::{Epoch, Membership, Message, NodeId, Slot, wire};
use paxos_storage::{Founding, KnownPeer, Registry, Start};

use self::frame::{Contents, Hello, News, PeerNews};
use self::mutant::{Mutant, mutated};
use self::peer::Peer;
use crate::status::KnownLevels;

pub(crate) use self::begin::{begin, check, founding_membership};
#[cfg(any(test, feature = "fuzz"))]
pub use self::frame::fuzz;
pub(crate) use self::frame::{PeerRefusal, decode_message};
pub use self::kept_out::{KeptOut, RefusedFor};
pub(crate) use self::levels::Levels;
pub(crate) use self::notice::{Nodes, Notice};
pub(crate) use self::reach::Reach;
pub use self::refound::refound;
pub(crate) use self::rules::{OwnNode, list};
#[cfg(test)]
pub(crate) use self::tests::frames::{frames_of_every_kind, is_frame};

/// How often a node says hello to a peer until they are introduced.
const HELLO_TICKS: u128 = 10;
/// How often it does so while one of them refuses the other.
const REFUSED_HELLO_TICKS: u128 = 100;
/// A start that was not heard for this long is silent.
const SILENCE_TICKS: u128 = 300;
/// A later start that finds the one before still running after this time runs beside it.
const BESIDE_TICKS: u128 = 400;
/// A node that belongs to no cluster logs after this time which nodes it waits for, and then again at this
/// interval.
const WAITING_TICKS: u128 = 500;
const WAITING_AGAIN_TICKS: u128 = 60_000;
/// Replaces the nonce of a start whose number another start has too.
const CONTESTED: u64 = 0;
/// At most this many nodes that are no members are served at a time.
const MAX_GUESTS: usize = 8;
/// At most this many nodes that are no members are logged.
const MAX_STRANGERS: usize = 64;

/// The introductions of one node. Takes frames, ticks and news of its storage, and queues [`Action`]s.
#[derive(Debug)]
pub(crate) struct Introductions {
    own: OwnNode,
    start: Start,
    /// The membership with which this node founds the cluster, or with which it was founded.
    founding: Membership,
    /// What the storage remembers.
    durable: Registry,
    /// What the storage is to remember; equal to `durable` unless a write is on its way.
    wanted: Registry,
    is_writing: bool,
    peers: BTreeMap<NodeId, Peer>,
    strangers: BTreeSet<NodeId>,
    /// The ids that were removed, and the epoch in which that is known.
    removed: (Vec<NodeId>, Epoch),
    /// When a node that is no member, and takes itself for introduced, may be asked to introduce itself.
    asks_stranger_at_ticks: u128,
    tells_waiting_at_ticks: u128,
    news_at_ticks: u128,
    now_ticks: u128,
    /// As of the last tick, this node's own at the end.
    known_levels: Arc<[KnownLevels]>,
    actions: VecDeque<Action>,
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send a frame, on the control lane.
    Send { to: NodeId, frame: Bytes },
    /// Have the storage remember this, and call [`Introductions::on_remembered`].
    Remember(Registry),
    /// Log a notice for whoever runs the node.
    Tell(Notice),
    /// Stop: peers know this node by another storage.
    StopForOtherDisk { by: NodeId },
    /// Stop: this storage is a copy.
    StopForCopy { by: NodeId },
    /// A peer says that this node was removed in this epoch, when the cluster was rescued without it. Stop,
    /// unless the node belongs to a majority that works.
    StopIfAlone { epoch: Epoch },
}

/// How often a node tells its peers what it knows of the others.
const NEWS_TICKS: u128 = 50;

/// What a frame of a peer holds for the driver.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The frame of a message from a peer that is listened to, for [`decode_message`].
    Message(Bytes),
    /// Digests of the state of a peer that is listened to.
    Checkpoints(Vec<(Slot, u64)>),
    /// Nothing that anybody else has to handle.
    Consumed,
    /// No frame of a node.
    Malformed(frame::FrameError),
}

impl Introductions {
    /// The introductions of a node; its storage remembers `registry`, with this start in it.
    pub(crate) fn new(own: OwnNode, founding: Membership, registry: Registry) -> Introductions {
        let others = own.members.iter().filter(|member| **member != own.node);
        let mut introductions = Introductions {
            start: registry.start,
            founding,
            wanted: registry.clone(),
            durable: registry,
            is_writing: false,
            peers: others.map(|peer| (*peer, Peer::default())).collect(),
            strangers: BTreeSet::new(),
            removed: (Vec::new(), Epoch(0)),
            asks_stranger_at_ticks: 0,
            tells_waiting_at_ticks: WAITING_TICKS,
            news_at_ticks: 0,
            now_ticks: 0,
            known_levels: [].into(),
            actions: VecDeque::new(),
            own,
        };
        introductions.progress();
        introductions
    }

    /// Another membership is in force. Former members that are still there become guests.
    pub(crate) fn set_members(&mut self, members: &[NodeId]) {
        for member in members.iter().filter(|member| **member != self.own.node) {
            self.peers.entry(*member).or_default().is_guest = false;
        }
        for (node, peer) in &mut self.peers {
            peer.is_guest = !members.contains(node);
        }
        self.drop_guests();
    }

    /// The ids that were removed through this epoch.
    pub(crate) fn set_removed(&mut self, removed: &[NodeId], epoch: Epoch) {
        self.removed = (removed.to_vec(), epoch);
    }

    /// Forgets guests that are silent, or too many.
    fn drop_guests(&mut self) {
        let now_ticks = self.now_ticks;
        self.peers.retain(|_, peer| !peer.is_guest || now_ticks < peer.heard_at_ticks + SILENCE_TICKS);
        let guests = self.peers.iter().filter(|(_, peer)| peer.is_guest).map(|(node, _)| *node);
        for guest in guests.skip(MAX_GUESTS).collect::<Vec<_>>() {
            self.peers.remove(&guest);
        }
    }

    /// The peers that are members.
    fn members(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| !peer.is_guest)
    }

    pub(crate) fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether this node may promise and accept.
    pub(crate) fn may_take_part(&self) -> bool {
        self.durable.founding.is_some()
    }

    /// The cluster that the node is a member of.
    pub(crate) fn founding(&self) -> Option<&Founding> {
        self.durable.founding.as_ref()
    }

    /// The peers that this node refuses, or that refuse it, for a reason that a person has to deal with.
    pub(crate) fn refused(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members().filter(|(_, peer)| peer.is_refused(self.now_ticks)).map(|(node, _)| *node)
    }

    /// While the node belongs to no cluster: the founders that it has not met, or that have not met each
    /// other.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        if self.may_take_part() {
            return Vec::new();
        }
        let awaited = |is_there: fn(&Peer) -> bool| {
            let awaited =
                self.members().filter(|(node, peer)| !self.own.absent.contains(node) && !is_there(peer));
            awaited.map(|(node, _)| *node).collect::<Vec<_>>()
        };
        let unmet = awaited(Peer::is_introduced);
        // They have met this node, but not all the others yet.
        if unmet.is_empty() { awaited(Peer::has_met_all) } else { unmet }
    }

    /// Whether messages go both ways between this node and a peer.
    pub(crate) fn listens_to(&self, peer: NodeId) -> bool {
        self.may_take_part() && self.peers.get(&peer).is_some_and(Peer::is_introduced)
    }

    /// The frame for a message of this node.
    pub(crate) fn frame(&self, message: &Message) -> Bytes {
        wire::encode_behind(&frame::message_prefix(self.start), message)
    }

    /// Whether it is time to tell peers the news.
    pub(crate) fn is_time_for_news(&self) -> bool {
        self.now_ticks >= self.news_at_ticks
    }

    /// A frame with what this node knows of its peers, these digests of its state, and what its storage holds
    /// durably. It also shows peers that hear nothing else from the node that it is there.
    pub(crate) fn news(&mut self, newest_first: impl Iterator<Item = (Slot, u64)>, reach: Reach) -> Bytes {
        self.news_at_ticks = self.now_ticks + NEWS_TICKS;
        let news = |(node, known): (&NodeId, &KnownPeer)| {
            let peer = self.peers.get(node);
            let is_heard = peer.is_some_and(|peer| peer.hears(known.start, self.now_ticks));
            let reach = peer.and_then(Peer::reach).unwrap_or_default();
            (*node, PeerNews { known: *known, is_heard, reach })
        };
        let peers = self.durable.peers.iter().map(news).collect();
        let checkpoints = newest_first.take(frame::MAX_CHECKPOINTS).collect();
        let reach = reach.and(self.own.reach);
        frame::encode(self.start, &Contents::News(News { checkpoints, peers, reach }))
    }

    /// A frame that tells peers that this node stops, so that they admit its next start at once.
    pub(crate) fn farewell(&self) -> Bytes {
        frame::encode(self.start, &Contents::Farewell)
    }

    /// The transport has counted this many connections that a peer opened while an earlier one still worked.
    pub(crate) fn note_rivals(&mut self, peer: NodeId, rivals: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.rivals.note(rivals, self.now_ticks);
        }
    }

    /// Says hello to the peers to which one is due.
    pub(crate) fn tick(&mut self, now_ticks: u128) {
        self.now_ticks = now_ticks;
        self.drop_guests();
        self.note_levels();
        let is_founded = self.may_take_part();
        let mut due = Vec::new();
        for (node, peer) in &mut self.peers {
            if peer.hello_at_ticks <= now_ticks && !(is_founded && peer.is_done()) {
                let pause = if peer.is_refused(now_ticks) { REFUSED_HELLO_TICKS } else { HELLO_TICKS };
                peer.hello_at_ticks = now_ticks + pause;
                due.push(*node);
            }
        }
        if !due.is_empty() {
            let hello = Contents::Hello(self.hello(true));
            let frame = frame::encode(self.start, &hello);
            self.actions.extend(due.into_iter().map(|to| Action::Send { to, frame: frame.clone() }));
        }
        if !is_founded && now_ticks >= self.tells_waiting_at_ticks {
            self.tells_waiting_at_ticks = now_ticks + WAITING_AGAIN_TICKS;
            let is_founded_elsewhere = self.peers.values().any(Peer::is_founded);
            let missing = self.missing();
            self.actions.push_back(Action::Tell(Notice::WaitsForFounders { missing, is_founded_elsewhere }));
        }
    }

    /// The storage remembers `registry` now.
    pub(crate) fn on_remembered(&mut self, registry: Registry) {
        let was_founded = self.may_take_part();
        self.is_writing = false;
        self.durable = registry;
        if let Some(founding) = self.durable.founding.as_ref().filter(|_| !was_founded) {
            let members = founding.membership.members().to_vec();
            self.actions.push_back(Action::Tell(Notice::Founded { id: founding.id, members }));
            self.peers.values_mut().for_each(|peer| peer.hello_at_ticks = self.now_ticks);
        }
        if self.durable.is_superseded
            && let Some(by) =
                self.peers.iter().find(|(_, peer)| peer.refuses_as_copy()).map(|(node, _)| *node)
        {
            self.actions.push_back(Action::StopForCopy { by });
        }
        let pending: Vec<_> =
            self.peers.iter_mut().filter_map(|(node, peer)| Some((*node, peer.pending.take()?))).collect();
        for (node, (start, hello)) in pending {
            self.on_hello(node, start, hello);
        }
        self.progress();
    }

    /// Whether it was logged which nodes this one waits for.
    fn has_told_waiting(&self) -> bool {
        self.tells_waiting_at_ticks > WAITING_TICKS
    }

    fn hello(&self, asks: bool) -> Hello {
        Hello {
            cluster: self.own.cluster.clone(),
            storage: self.own.storage,
            standing: self.own.standing(if mutated(Mutant::NotDurable) {
                &self.wanted
            } else {
                &self.durable
            }),
            settings: self.own.settings.clone(),
            facts: self.own.facts.clone(),
            absent: self.own.absent.clone(),
            asks,
            reach: self.own.reach,
            levels: self.own.levels,
        }
    }
}
