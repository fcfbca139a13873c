//! What a node has learned of one peer since it was started.

use std::collections::BTreeMap;

use paxos_storage::{KnownPeer, Start};

use super::frame::{Hello, PeerRefusal, Standing};
use super::reach::Reach;
use super::{BESIDE_TICKS, SILENCE_TICKS};

/// At most this many refused starts of a peer are kept apart.
const MAX_REFUSED_STARTS: usize = 8;
/// A start that was heard within this time is reported as running.
const SPEAKS_TICKS: u128 = 150;
/// Reports of peers older than this do not count.
const TOLD_FOR_TICKS: u128 = 150;
/// A peer that was started again opens fewer than this many connections in place of ones that seem to work,
const MANY_RIVALS: u64 = 6;
/// within this time: more mean that two processes compete, or that one was started several times. Only if as
/// many come while the last one waits, there are two.
const RIVALS_TICKS: u128 = 1000;
/// A start that was refused counts as refused for this long.
const REFUSED_FOR_TICKS: u128 = 1000;
/// The same refusal is logged again after this time.
const TOLD_AGAIN_TICKS: u128 = 60_000;

/// A peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// It is no member of the membership in force: one that was removed, or that is yet to be added. It may
    /// learn, and counts in nothing.
    pub(super) is_guest: bool,
    /// The start that is listened to.
    pub(super) admitted: Option<Start>,
    /// Its latest hello.
    pub(super) hello: Option<Hello>,
    /// The start of the peer that listens to this node.
    pub(super) welcomed_by: Option<Start>,
    /// A hello that is in order, but not durably remembered yet.
    pub(super) pending: Option<(Start, Hello)>,
    /// The most that its storage is known to have held, and the start that told it.
    reach: Option<(Start, Reach)>,
    /// When the admitted start was last heard.
    pub(super) heard_at_ticks: u128,
    /// The admitted start has said farewell.
    pub(super) has_left: bool,
    /// A start that another peer hears, and when it last told so.
    pub(super) heard_elsewhere: Option<(Start, u128)>,
    /// A later start that came while the admitted one was still heard.
    beside: Option<Beside>,
    pub(super) rivals: Rivals,
    /// Why the peer refuses this node.
    pub(super) refused_by: Option<PeerRefusal>,
    /// The starts under the id of the peer that this node refuses.
    refused: BTreeMap<Start, Refused>,
    /// Whether a refusal was logged, so that its end is to be logged too.
    pub(super) is_told: bool,
    /// When the next hello to it is due.
    pub(super) hello_at_ticks: u128,
}

/// Connections that were opened in place of ones that still worked, as counted by the transport.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    count: u64,
    /// The count when the present window of time began.
    before: u64,
    since_ticks: u128,
    /// Whether there were many within a window, and when.
    many_at_ticks: Option<u128>,
}

impl Rivals {
    pub(super) fn note(&mut self, count: u64, now_ticks: u128) {
        if now_ticks >= self.since_ticks + RIVALS_TICKS {
            self.before = self.count;
            self.since_ticks = now_ticks;
        }
        self.count = count;
        if self.count >= self.before + MANY_RIVALS {
            self.many_at_ticks = Some(now_ticks);
        }
    }

    fn are_many(&self, now_ticks: u128) -> bool {
        self.many_at_ticks.is_some_and(|at_ticks| now_ticks < at_ticks + RIVALS_TICKS)
    }
}

/// A start that waits, as an earlier one may still run.
#[derive(Clone, Copy, Debug)]
struct Beside {
    start: Start,
    since_ticks: u128,
    /// How many rivals there had been when it came.
    rivals: u64,
}

/// A refused start.
#[derive(Debug)]
struct Refused {
    refusal: PeerRefusal,
    /// When that was last logged.
    told_at_ticks: u128,
    /// When it last said hello.
    latest_ticks: u128,
}

/// Whether a start may replace the one that is listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Precedence {
    /// It may.
    Free,
    /// Not yet: the earlier one was heard a moment ago.
    Waits,
    /// It may not: this earlier one still runs.
    RunsBeside(Start),
}

impl Peer {
    /// A guest that has just said hello.
    pub(super) fn guest(now_ticks: u128) -> Peer {
        Peer { is_guest: true, heard_at_ticks: now_ticks, ..Peer::default() }
    }

    /// Whether each has accepted the other's hello.
    pub(super) fn is_introduced(&self) -> bool {
        self.admitted.is_some() && self.admitted == self.welcomed_by
    }

    /// Whether there is no need for further hellos.
    pub(super) fn is_done(&self) -> bool {
        self.is_introduced() && self.is_founded()
    }

    /// Whether this node refuses it, or a start under its id, or the other way round.
    pub(super) fn is_refused(&self, now_ticks: u128) -> bool {
        self.refusal(now_ticks).is_some()
    }

    /// Why it refuses this node, or the other way round.
    pub(super) fn refusal(&self, now_ticks: u128) -> Option<&PeerRefusal> {
        let is_recent = |refused: &&Refused| now_ticks < refused.latest_ticks + REFUSED_FOR_TICKS;
        let refused = self.refused.values().find(is_recent).map(|refused| &refused.refusal);
        self.refused_by.as_ref().or(refused)
    }

    /// Whether this start runs, as far as this node hears, so that peers may be told.
    pub(super) fn hears(&self, start: Start, now_ticks: u128) -> bool {
        self.admitted == Some(start) && !self.has_left && now_ticks < self.heard_at_ticks + SPEAKS_TICKS
    }

    /// Whether the admitted start may still run: it has not said farewell, and was not silent for long.
    pub(super) fn is_heard(&self, now_ticks: u128) -> bool {
        self.admitted.is_some() && !self.has_left && now_ticks < self.heard_at_ticks + SILENCE_TICKS
    }

    /// What it says about its membership, if it is admitted.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.admitted.and(self.hello.as_ref()).map(|hello| hello.standing)
    }

    pub(super) fn has_met_all(&self) -> bool {
        matches!(self.standing(), Some(Standing::New { met: Some(_) } | Standing::Founded { .. }))
    }

    pub(super) fn is_founded(&self) -> bool {
        matches!(self.standing(), Some(Standing::Founded { .. }))
    }

    pub(super) fn known(&self) -> Option<KnownPeer> {
        Some(KnownPeer { storage: self.hello.as_ref()?.storage, start: self.admitted? })
    }

    pub(super) fn refuses_as_copy(&self) -> bool {
        matches!(self.refused_by, Some(PeerRefusal::Copy { .. }))
    }

    pub(super) fn refuses_as_other_disk(&self) -> bool {
        matches!(self.refused_by, Some(PeerRefusal::OtherDisk { .. }))
    }

    /// Notes what a start tells of its storage.
    pub(super) fn note_reach(&mut self, start: Start, told: Reach) {
        let known = self.reach().unwrap_or_default();
        if known.is_short_of(told) {
            self.reach = Some((start, known.and(told)));
        }
    }

    pub(super) fn reach(&self) -> Option<Reach> {
        self.reach.map(|(_, reach)| reach)
    }

    /// The start that is known to have stored more than this other one found when it started.
    pub(super) fn falls_short(&self, start: Start, hello: &Hello) -> Option<Start> {
        let (known, reach) = self.reach?;
        (start != known && hello.reach.is_short_of(reach)).then_some(known)
    }

    /// The admitted start, if its storage lacks something, and the start that is known to have stored it.
    pub(super) fn admitted_falls_short(&self) -> Option<(Start, Start)> {
        let admitted = self.admitted?;
        Some((admitted, self.falls_short(admitted, self.hello.as_ref()?)?))
    }

    /// Whether a start may replace the one that this node or another peer has heard.
    pub(super) fn precedence(&mut self, start: Start, now_ticks: u128) -> Precedence {
        let is_other = |before: &Start| *before != start;
        let admitted = self.admitted.filter(is_other);
        let heard_here = admitted.filter(|_| self.is_heard(now_ticks));
        let elsewhere = self.heard_elsewhere.filter(|(_, at_ticks)| now_ticks < at_ticks + TOLD_FOR_TICKS);
        let heard_elsewhere = elsewhere.map(|(start, _)| start).filter(is_other).filter(|_| !self.has_left);
        let heard = heard_here.or(heard_elsewhere);
        // A node that loses its connections to a rival again and again may seem silent.
        let is_fought_over = !self.has_left && self.rivals.are_many(now_ticks);
        let Some(before) = heard.or(admitted.filter(|_| is_fought_over)) else { return Precedence::Free };
        let comes = Beside { start, since_ticks: now_ticks, rivals: self.rivals.count };
        let beside = *self.beside.insert(self.beside.filter(|beside| beside.start == start).unwrap_or(comes));
        if now_ticks < beside.since_ticks + BESIDE_TICKS {
            Precedence::Waits
        } else if heard.is_some() || self.rivals.count >= beside.rivals + MANY_RIVALS {
            Precedence::RunsBeside(before)
        } else {
            Precedence::Free // The one before died after some quick restarts, and nobody competes any more.
        }
    }

    pub(super) fn admit(&mut self, start: Start, hello: Hello, now_ticks: u128) {
        if self.admitted != Some(start) {
            // Answers and refusals of the earlier start do not hold for this one, and it had no hello yet.
            self.welcomed_by = self.welcomed_by.filter(|welcomed_by| *welcomed_by == start);
            self.refused_by = None;
            self.hello_at_ticks = now_ticks;
            self.has_left = false;
            self.beside = None;
        }
        self.admitted = Some(start);
        self.hello = Some(hello);
        self.heard_at_ticks = now_ticks;
        self.refused.retain(|refused, _| refused.number > start.number);
    }

    /// Stops listening to this start. If another one is admitted, that one stays.
    pub(super) fn refuse(&mut self, start: Start) {
        if self.admitted == Some(start) {
            self.admitted = None;
            self.hello = None;
        }
    }

    /// Notes that a start is refused. Returns whether that is to be logged.
    pub(super) fn note_refused(&mut self, start: Start, refusal: &PeerRefusal, now_ticks: u128) -> bool {
        let told = self.refused.values().filter(|refused| refused.refusal == *refusal);
        let told_at_ticks = told.map(|refused| refused.told_at_ticks).max();
        let told_at_ticks = told_at_ticks.filter(|told| now_ticks < told + TOLD_AGAIN_TICKS);
        let refused = Refused {
            refusal: refusal.clone(),
            told_at_ticks: told_at_ticks.unwrap_or(now_ticks),
            latest_ticks: now_ticks,
        };
        self.refused.insert(start, refused);
        if self.refused.len() > MAX_REFUSED_STARTS {
            self.refused.pop_first();
        }
        self.is_told = true;
        told_at_ticks.is_none()
    }

    pub(super) fn refuses_nobody(&self) -> bool {
        self.refused.is_empty()
    }

    pub(super) fn is_of_other_founding(&self) -> bool {
        self.refused.values().any(|refused| refused.refusal == PeerRefusal::OtherFounding)
    }

    /// Whether the same was logged already from this node's point of view.
    pub(super) fn is_told_alike(&self, refusal: &PeerRefusal) -> bool {
        match refusal {
            PeerRefusal::Settings(_) => {
                self.refused.values().any(|refused| matches!(refused.refusal, PeerRefusal::Settings(_)))
            }
            PeerRefusal::OtherFounding => self.is_of_other_founding(),
            _ => false,
        }
    }
}
