//! Takes in frames of peers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos_core::{Epoch, NodeId};
use paxos_storage::{Origin, Registry, Start};

use super::frame::{self, Answer, Contents, Hello, PeerNews, PeerRefusal, Standing};
use super::levels::are_of_levels;
use super::mutant::{Mutant, mutated};
use super::peer::{Peer, Precedence};
use super::rules::Judgement;
use super::{Action, Arrival, CONTESTED, HELLO_TICKS, Introductions, MAX_GUESTS, MAX_STRANGERS, Notice};

impl Introductions {
    /// Takes in a frame of a peer.
    pub(crate) fn receive(&mut self, from: NodeId, frame: Bytes) -> Arrival {
        let (start, contents) = match frame::decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => return Arrival::Malformed(error),
        };
        let is_founded = self.may_take_part();
        let Some(peer) = self.peers.get_mut(&from) else {
            self.on_stranger(from, start, contents);
            return Arrival::Consumed;
        };
        if peer.admitted == Some(start) {
            peer.heard_at_ticks = self.now_ticks;
        }
        let is_heard = is_founded && peer.is_introduced() && peer.admitted == Some(start);
        match contents {
            Contents::Message(message) if is_heard => return Arrival::Message(message),
            Contents::News(news) if is_heard => {
                peer.note_reach(start, news.reach);
                self.on_news(news.peers);
                return Arrival::Checkpoints(news.checkpoints);
            }
            Contents::Farewell if peer.admitted == Some(start) => peer.has_left = true,
            Contents::Message(_) | Contents::News(_) | Contents::Farewell => {}
            Contents::Hello(hello) => self.on_hello(from, start, hello),
            Contents::Answer(answer) => self.on_answer(from, start, answer),
        }
        Arrival::Consumed
    }

    pub(super) fn on_hello(&mut self, from: NodeId, start: Start, hello: Hello) {
        let members: BTreeSet<NodeId> = self.members().map(|(node, _)| *node).collect();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let short_of = peer.falls_short(start, &hello);
        let refusal = match self.own.judge(&self.wanted, from, start, &hello) {
            Judgement::Refuse(refusal) => Some(given_up(&self.removed, &self.wanted, from, &hello, refusal)),
            _ if short_of.is_some() => short_of.map(|known| PeerRefusal::Copy { known }),
            Judgement::Admit => None,
            Judgement::Remember(known) => match peer.precedence(start, self.now_ticks) {
                Precedence::Free => {
                    self.wanted.peers.insert(from, known);
                    let is_member = |node: &NodeId| self.own.members.contains(node) || members.contains(node);
                    make_room(&mut self.wanted, is_member);
                    None
                }
                Precedence::Waits => return, // It says hello again.
                Precedence::RunsBeside(known) => Some(PeerRefusal::Copy { known }),
            },
        };
        let is_durable =
            mutated(Mutant::NotDurable) || self.wanted.peers.get(&from) == self.durable.peers.get(&from);
        match refusal {
            Some(refusal) => {
                peer.refuse(start);
                if peer.note_refused(start, &refusal, self.now_ticks) {
                    self.actions
                        .push_back(Action::Tell(Notice::Refuses { peer: from, refusal: refusal.clone() }));
                }
                self.answer(from, start, Some(refusal));
            }
            None if is_durable => {
                let asks = hello.asks;
                peer.admit(start, hello, self.now_ticks);
                let is_done = peer.is_done() && self.may_take_part();
                self.answer(from, start, None);
                if asks && is_done {
                    // It may still know this node as it was before the founding.
                    let frame = frame::encode(self.start, &Contents::Hello(self.hello(false)));
                    self.actions.push_back(Action::Send { to: from, frame });
                }
                self.tell_if_admitted(from);
            }
            None => peer.pending = Some((start, hello)),
        }
        self.progress();
    }

    fn on_answer(&mut self, from: NodeId, start: Start, answer: Answer) {
        let Some(peer) = self.peers.get_mut(&from).filter(|_| answer.to == self.start) else { return };
        match answer.refusal {
            None => {
                peer.welcomed_by = Some(start);
                peer.refused_by = None;
                self.tell_if_admitted(from);
            }
            Some(refusal) => {
                peer.welcomed_by = None;
                let given_up_in =
                    if let PeerRefusal::GivenUp { epoch } = refusal { Some(epoch) } else { None };
                let is_known = peer.refused_by.replace(refusal.clone()).is_some_and(|known| known == refusal);
                if !is_known && !peer.is_told_alike(&refusal) {
                    peer.is_told = true;
                    self.actions.push_back(Action::Tell(Notice::RefusedBy { peer: from, refusal }));
                }
                if let Some(epoch) = given_up_in
                    && self.may_take_part()
                {
                    self.actions.push_back(Action::StopIfAlone { epoch });
                }
                self.stop_if_most_refuse();
            }
        }
        self.progress();
    }

    /// Takes over what a peer knows better about starts of the others.
    fn on_news(&mut self, news: BTreeMap<NodeId, PeerNews>) {
        for (node, PeerNews { known: told, is_heard, reach }) in news {
            let (Some(known), Some(peer)) = (self.wanted.peers.get_mut(&node), self.peers.get_mut(&node))
            else {
                continue;
            };
            if known.storage != told.storage {
                continue;
            }
            if is_heard {
                peer.heard_elsewhere = Some((told.start, self.now_ticks));
            }
            peer.note_reach(told.start, reach);
            if let Some((short, known)) = peer.admitted_falls_short() {
                peer.refuse(short);
                self.answer(node, short, Some(PeerRefusal::Copy { known }));
                continue;
            }
            let is_contested =
                told.start.number == known.start.number && told.start.nonce != known.start.nonce;
            if is_contested {
                // Two processes started with the same number, and each was admitted somewhere. Neither knows
                // what the other has promised, so neither may take part: no start has this nonce.
                known.start.nonce = CONTESTED;
            } else if told.start.number > known.start.number && !peer.is_heard(self.now_ticks) {
                known.start = told.start;
            } else {
                continue;
            }
            let known = known.start;
            if let Some(outdated) =
                peer.admitted.filter(|admitted| *admitted != known && admitted.number <= known.number)
            {
                peer.refuse(outdated);
                self.answer(node, outdated, Some(PeerRefusal::Copy { known }));
            }
        }
        self.progress();
    }

    /// Takes in a node that is no member. If it belongs to this cluster it is a guest: it was removed, or is
    /// yet to be added. By its own settings it may be a member of another one.
    fn on_stranger(&mut self, from: NodeId, start: Start, contents: Contents) {
        let hello = match contents {
            Contents::Hello(hello) => hello,
            Contents::Message(_) | Contents::News(_) => return self.ask_stranger(from),
            Contents::Answer(_) | Contents::Farewell => return,
        };
        let refusal = match self.own.judge(&self.wanted, from, start, &hello) {
            Judgement::Refuse(refusal) => given_up(&self.removed, &self.wanted, from, &hello, refusal),
            Judgement::Admit | Judgement::Remember(_) if self.has_room_for_guest() => {
                self.peers.insert(from, Peer::guest(self.now_ticks));
                return self.on_hello(from, start, hello);
            }
            Judgement::Admit | Judgement::Remember(_) => PeerRefusal::OtherFounding,
        };
        if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(from) {
            let notice = match &refusal {
                PeerRefusal::Settings(differences) if are_of_levels(differences) => {
                    Notice::Refuses { peer: from, refusal: refusal.clone() }
                }
                _ => Notice::Stranger { node: from, was_removed: self.removed.0.contains(&from) },
            };
            self.actions.push_back(Action::Tell(notice));
        }
        self.answer(from, start, Some(refusal));
    }

    /// Has a node introduce itself that was cut off while it was removed, and does not know that it was
    /// forgotten here: else it would never hear of its removal.
    fn ask_stranger(&mut self, node: NodeId) {
        let is_due = self.now_ticks >= self.asks_stranger_at_ticks && !mutated(Mutant::StrangerNotAsked);
        if is_due && self.has_room_for_guest() {
            self.asks_stranger_at_ticks = self.now_ticks + HELLO_TICKS;
            let frame = frame::encode(self.start, &Contents::Hello(self.hello(true)));
            self.actions.push_back(Action::Send { to: node, frame });
        }
    }

    fn has_room_for_guest(&self) -> bool {
        self.may_take_part() && self.peers.len() - self.members().count() < MAX_GUESTS
    }

    fn answer(&mut self, to: NodeId, start: Start, refusal: Option<PeerRefusal>) {
        let frame = frame::encode(self.start, &Contents::Answer(Answer { to: start, refusal }));
        self.actions.push_back(Action::Send { to, frame });
    }

    fn tell_if_admitted(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.is_introduced() && peer.refuses_nobody() && std::mem::take(&mut peer.is_told) {
            self.actions.push_back(Action::Tell(Notice::Admitted { peer: node }));
        }
    }

    /// Stops if more than half of the peers know of a newer or another storage of this node.
    fn stop_if_most_refuse(&mut self) {
        // A node of another founding says nothing about this one.
        let counts = |peer: &&Peer| !self.may_take_part() || !peer.is_of_other_founding();
        let refusing =
            |is_so: fn(&Peer) -> bool| self.members().filter(|(_, peer)| counts(peer) && is_so(peer)).count();
        let is_most = |count: usize| 2 * count > self.members().count();
        let first =
            |is_so: fn(&Peer) -> bool| self.peers.iter().find(|(_, peer)| is_so(peer)).map(|(node, _)| *node);
        if is_most(refusing(Peer::refuses_as_copy)) {
            self.wanted.is_superseded = true;
        } else if is_most(refusing(Peer::refuses_as_other_disk))
            && let Some(by) = first(Peer::refuses_as_other_disk)
        {
            self.actions.push_back(Action::StopForOtherDisk { by });
        }
    }
}

/// A refusal for another founding says more if that is the one from which this cluster was rescued.
fn given_up(
    (removed, epoch): &(Vec<NodeId>, Epoch),
    registry: &Registry,
    peer: NodeId,
    hello: &Hello,
    refusal: PeerRefusal,
) -> PeerRefusal {
    let is_from_before = match (registry.origin, hello.standing) {
        (Some(Origin::Rescue { of }), Standing::Founded { id }) => id == Some(of),
        _ => false,
    };
    match refusal {
        PeerRefusal::OtherFounding if is_from_before && removed.contains(&peer) => {
            PeerRefusal::GivenUp { epoch: *epoch }
        }
        other => other,
    }
}

/// Forgets nodes that are no members if there are too many peers to remember.
fn make_room(registry: &mut Registry, is_member: impl Fn(&NodeId) -> bool) {
    if registry.peers.len() > Registry::MAX_PEERS {
        registry.peers.retain(|node, _| is_member(node));
    }
}
