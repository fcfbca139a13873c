//! Exactly once: sessions remember which commands of a client were applied, and the replies.
//!
//! A message may be lost, so commands are sent again, and then one command may be chosen in two slots.
//! Sessions make the second one harmless. They are replicated state: every replica keeps the same
//! [`Sessions`], changed by the log alone, and every snapshot must hold them beside the state that they
//! protect.
//!
//! A session is named by the place in the log where it was opened, so no two ever share a name and a late
//! copy of the opening command opens another, unused one. Within a session the client numbers its commands
//! and may have many unanswered at once. Each command says from which number on the client still waits for
//! answers; the session forgets the replies below that (Lee et al., *Implementing Linearizability at Large
//! Scale and Low Latency*, section 3).
//!
//! [`SessionLimits`] bounds everything. When there are too many sessions, all replicas evict the same one,
//! which was not used for the longest part of the log. Its client gets [`Outcome::UnknownSession`], and must
//! not send again a command whose outcome it does not know.

mod encoding;
mod replies;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::id::Slot;
use crate::mutant::{Mutant, mutated};

pub use self::encoding::MalformedSession;
use self::replies::{Kept, Replies};

/// The name of a session: the place of the command that opened it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId {
    /// The slot of the opening command.
    pub slot: Slot,
    /// Its position in the slot's batch.
    pub index: u32,
}

/// A command in the log for [`Sessions`]: it opens a session, or holds a command for the state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionCommand {
    /// Open a session.
    Open {
        /// A number that the outcome repeats, so that the client finds its own session among those opened.
        nonce: u64,
    },
    /// Apply a command, unless it was applied before.
    Apply {
        /// The client's session.
        session: SessionId,
        /// The client's number for the command, from 1 on, each used for one command only.
        sequence: u64,
        /// The lowest sequence whose answer the client still waits for; at most `sequence`.
        unanswered_from: u64,
        /// The command for the state machine.
        command: Bytes,
    },
    /// Apply a command that does no harm if it is applied more than once, as what has expired is removed. It
    /// belongs to no session, and nobody waits for its outcome.
    Repeatable {
        /// The command for the state machine.
        command: Bytes,
    },
}

/// Bounds of [`Sessions`]; must be the same on all replicas, as they decide what is evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SessionLimits {
    /// How many sessions there may be.
    pub sessions: usize,
    /// How many commands of one session may be unanswered.
    pub unanswered: usize,
    /// The longest reply that is kept, in bytes. Of a command with a longer one only the slot is kept.
    pub reply_bytes: usize,
    /// How many bytes all kept replies together may have; at least `reply_bytes`.
    pub total_bytes: usize,
}

impl SessionLimits {
    /// These limits with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits { sessions: 1024, unanswered: 16 << 10, reply_bytes: 4 << 10, total_bytes: 64 << 20 }
    }
}

/// What executing a session command has brought about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The session is open.
    Opened {
        /// Its name.
        session: SessionId,
        /// The nonce of the opening command.
        nonce: u64,
    },
    /// The command was applied just now.
    Applied {
        /// The state machine's reply.
        reply: Bytes,
    },
    /// The command had been applied before.
    Repeated {
        /// Where.
        slot: Slot,
        /// The reply it got then, unless that was too long to be kept.
        reply: Option<Bytes>,
    },
    /// The client has acknowledged this command's answer before. Nothing was applied.
    AlreadyAnswered,
    /// There is no such session; it may have been evicted. Nothing was applied.
    UnknownSession,
    /// The session has too many unanswered commands. Nothing was applied.
    TooManyUnanswered,
}

/// All sessions of the cluster, as of some slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sessions {
    limits: SessionLimits,
    by_id: BTreeMap<SessionId, SessionRecord>,
    /// The sessions by the slot of their last use.
    by_use: BTreeSet<(Slot, SessionId)>,
    reply_bytes: usize,
}

/// What the replicas remember of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
struct SessionRecord {
    last_used: Slot,
    unanswered_from: u64,
    replies: Replies,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Sessions {
        Sessions { limits, by_id: BTreeMap::new(), by_use: BTreeSet::new(), reply_bytes: 0 }
    }

    /// Executes the command at position `index` of the batch chosen in `slot`; calls `apply` with the inner
    /// command, unless that was applied before. Call it for every command of the log, in order.
    pub fn execute(
        &mut self,
        slot: Slot,
        index: u32,
        command: SessionCommand,
        apply: impl FnOnce(Bytes) -> Bytes,
    ) -> Outcome {
        match command {
            SessionCommand::Open { nonce } => {
                let session = SessionId { slot, index };
                self.open(session);
                Outcome::Opened { session, nonce }
            }
            SessionCommand::Repeatable { command } => Outcome::Applied { reply: apply(command) },
            SessionCommand::Apply { session: id, sequence, unanswered_from, command } => {
                let Some(session) = self.by_id.get_mut(&id) else { return Outcome::UnknownSession };
                if session.last_used != slot {
                    self.by_use.remove(&(session.last_used, id));
                    session.last_used = slot;
                    self.by_use.insert((slot, id));
                }
                self.reply_bytes -= session.forget_below(unanswered_from.min(sequence));
                if session.is_acknowledged(sequence) {
                    return Outcome::AlreadyAnswered;
                }
                if let Some(kept) = session.applied_before(sequence) {
                    return Outcome::Repeated { slot: kept.slot, reply: kept.reply.clone() };
                }
                if session.replies.len() >= self.limits.unanswered {
                    return Outcome::TooManyUnanswered;
                }
                let reply = apply(command);
                let kept = (reply.len() <= self.limits.reply_bytes).then(|| reply.clone());
                self.reply_bytes += kept.as_ref().map_or(0, Bytes::len);
                session.replies.insert(sequence, Kept { slot, reply: kept });
                self.evict(id);
                Outcome::Applied { reply }
            }
        }
    }

    /// The slot and reply of a command, if it was applied and its client still waits for it.
    #[must_use]
    pub fn find(&self, session: SessionId, sequence: u64) -> Option<(Slot, Option<Bytes>)> {
        let kept = self.by_id.get(&session)?.replies.find(sequence)?;
        Some((kept.slot, kept.reply.clone()))
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is such a session.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.by_id.contains_key(&session)
    }

    fn open(&mut self, id: SessionId) {
        let session = SessionRecord { last_used: id.slot, unanswered_from: 1, replies: Replies::default() };
        self.by_id.insert(id, session);
        self.by_use.insert((id.slot, id));
        self.evict(id);
    }

    /// Evicts the sessions that were not used for longest, but never the one `in_use`, until the limits hold.
    fn evict(&mut self, in_use: SessionId) {
        while self.by_id.len() > self.limits.sessions || self.reply_bytes > self.limits.total_bytes {
            let Some(&(last_used, oldest)) = self.by_use.iter().find(|(_, id)| *id != in_use) else { return };
            self.by_use.remove(&(last_used, oldest));
            let evicted = self.by_id.remove(&oldest).expect("every session in use order exists");
            self.reply_bytes -= evicted.replies.size_bytes();
        }
    }
}

impl SessionRecord {
    /// Whether the client has acknowledged the answer to this command.
    fn is_acknowledged(&self, sequence: u64) -> bool {
        sequence < self.unanswered_from && !mutated(Mutant::AnsweredAppliedAgain)
    }

    /// The reply to a command that was applied before.
    fn applied_before(&self, sequence: u64) -> Option<&Kept> {
        self.replies.find(sequence).filter(|_| !mutated(Mutant::DuplicateApplied))
    }

    /// Forgets the replies that the client has; returns how many bytes that frees.
    fn forget_below(&mut self, unanswered_from: u64) -> usize {
        if unanswered_from <= self.unanswered_from {
            return 0;
        }
        self.unanswered_from = unanswered_from;
        self.replies.forget_below(unanswered_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn limits() -> SessionLimits {
        SessionLimits { sessions: 2, unanswered: 3, reply_bytes: 8, total_bytes: 64 }
    }

    pub(super) fn apply(session: SessionId, sequence: u64, unanswered_from: u64) -> SessionCommand {
        SessionCommand::Apply { session, sequence, unanswered_from, command: Bytes::from_static(b"command") }
    }

    fn open(sessions: &mut Sessions, slot: u64) -> SessionId {
        match sessions
            .execute(Slot(slot), 0, SessionCommand::Open { nonce: slot }, |_| panic!("nothing is applied"))
        {
            Outcome::Opened { session, .. } => session,
            other => panic!("a session opens, but this came: {other:?}"),
        }
    }

    #[test]
    fn a_command_chosen_twice_is_applied_once_and_answered_alike() {
        let mut sessions = Sessions::new(limits());
        let session = open(&mut sessions, 1);
        let first = sessions.execute(Slot(2), 0, apply(session, 1, 1), |_| Bytes::from_static(b"reply"));
        assert_eq!(first, Outcome::Applied { reply: Bytes::from_static(b"reply") });
        let again = sessions.execute(Slot(3), 0, apply(session, 1, 1), |_| panic!("applied twice"));
        assert_eq!(again, Outcome::Repeated { slot: Slot(2), reply: Some(Bytes::from_static(b"reply")) });
        let next = sessions.execute(Slot(4), 0, apply(session, 2, 2), |_| Bytes::new());
        assert_eq!(next, Outcome::Applied { reply: Bytes::new() });
        let late = sessions.execute(Slot(5), 0, apply(session, 1, 1), |_| panic!("applied twice"));
        assert_eq!(late, Outcome::AlreadyAnswered);
    }

    #[test]
    fn commands_of_a_session_may_be_chosen_in_any_order() {
        let mut sessions = Sessions::new(limits());
        let session = open(&mut sessions, 1);
        for sequence in [3, 1, 2] {
            let outcome = sessions.execute(Slot(2), 0, apply(session, sequence, 1), |_| Bytes::new());
            assert_eq!(outcome, Outcome::Applied { reply: Bytes::new() }, "sequence {sequence}");
        }
        let outcome = sessions.execute(Slot(3), 0, apply(session, 4, 1), |_| panic!("one too many"));
        assert_eq!(outcome, Outcome::TooManyUnanswered);
    }

    #[test]
    fn the_session_unused_for_longest_is_evicted_and_its_commands_are_not_applied() {
        let mut sessions = Sessions::new(limits());
        let (old, used) = (open(&mut sessions, 1), open(&mut sessions, 2));
        sessions.execute(Slot(3), 0, apply(old, 1, 1), |_| Bytes::new());
        open(&mut sessions, 4);
        assert!(sessions.contains(old) && !sessions.contains(used));
        let outcome =
            sessions.execute(Slot(5), 0, apply(used, 1, 1), |_| panic!("applied without a session"));
        assert_eq!(outcome, Outcome::UnknownSession);
    }

    #[test]
    fn a_reply_too_long_to_keep_is_still_known_to_have_been_given() {
        let mut sessions = Sessions::new(limits());
        let session = open(&mut sessions, 1);
        sessions
            .execute(Slot(2), 0, apply(session, 1, 1), |_| Bytes::from_static(b"longer than eight bytes"));
        assert_eq!(sessions.find(session, 1), Some((Slot(2), None)));
    }

    #[test]
    fn kept_replies_are_bounded_together_and_make_room_when_answered() {
        let eight = |_| Bytes::from_static(b"8 bytes.");
        let mut sessions = Sessions::new(SessionLimits { total_bytes: 16, ..limits() });
        let (idle, busy) = (open(&mut sessions, 1), open(&mut sessions, 2));
        sessions.execute(Slot(3), 0, apply(idle, 1, 1), eight);
        sessions.execute(Slot(4), 0, apply(busy, 1, 1), eight);
        assert!(sessions.contains(idle), "two replies are what may be kept");
        sessions.execute(Slot(5), 0, apply(busy, 2, 2), eight);
        assert!(sessions.contains(idle), "the first reply was received and is forgotten");
        sessions.execute(Slot(6), 0, apply(busy, 3, 2), eight);
        assert!(!sessions.contains(idle) && sessions.contains(busy), "three are too many");
        sessions.execute(Slot(7), 0, apply(busy, 4, 4), eight);
        assert_eq!(sessions.reply_bytes, 8);
    }
}
