//! Exactly once: who asked, and what was answered.
//!
//! A message may be lost, so commands are sent again, and then one command may be chosen in two slots. Sessions
//! make the second one harmless. They are replicated state: every replica keeps the same [`Sessions`], changed
//! by the log alone, and they belong into every snapshot beside the state that they protect.
//!
//! A session is named by the place in the log where it was opened, so no two ever share a name and a late copy
//! of the opening command opens another, unused one. Within a session the client numbers its commands and may
//! have many unanswered at once; each command tells from which number on answers are still missing, and what
//! lies below is forgotten (Lee et al., *Implementing Linearizability at Large Scale and Low Latency*, section 3).
//!
//! Everything is bounded by [`SessionLimits`]. When there are too many sessions the one that was not used for
//! the longest part of the log is evicted, the same everywhere; its client is told and must not try again what
//! it does not know the outcome of.

mod replies;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::id::Slot;
use crate::mutant::{Mutant, mutated};

use self::replies::{Kept, Replies};

const OPEN: u8 = 1;
const APPLY: u8 = 2;
const SNAPSHOT_VERSION: u8 = 1;

/// The name of a session: the place of the command that opened it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId {
    /// The slot of the opening command.
    pub slot: Slot,
    /// Its position in the slot's batch.
    pub index: u32,
}

/// What a client says to the sessions; the payload of a command in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Open a session.
    Open {
        /// Tells the client which of the sessions that open is its own.
        nonce: u64,
    },
    /// Apply a command, unless that has been done.
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
}

/// The bytes given are not a [`Request`], or not [`Sessions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MalformedSession;

impl std::fmt::Display for MalformedSession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("malformed session data")
    }
}

impl std::error::Error for MalformedSession {}

impl Request {
    /// How many bytes [`encode`](Request::encode) adds to a command.
    pub const OVERHEAD_BYTES: usize = 1 + 8 + 4 + 8 + 8;

    /// The request as the bytes of a command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Request::Open { nonce } => {
                let mut bytes = BytesMut::with_capacity(9);
                bytes.put_u8(OPEN);
                bytes.put_u64_le(*nonce);
                bytes.freeze()
            }
            Request::Apply { session, sequence, unanswered_from, command } => {
                let mut bytes = BytesMut::with_capacity(Request::OVERHEAD_BYTES + command.len());
                bytes.put_u8(APPLY);
                put_session_id(&mut bytes, *session);
                bytes.put_u64_le(*sequence);
                bytes.put_u64_le(*unanswered_from);
                bytes.extend_from_slice(command);
                bytes.freeze()
            }
        }
    }

    /// Takes a command's bytes for a request; the inner command shares them.
    ///
    /// # Errors
    ///
    /// [`MalformedSession`] if they are none.
    pub fn decode(mut bytes: Bytes) -> Result<Request, MalformedSession> {
        match bytes.try_get_u8() {
            Ok(OPEN) if bytes.len() == 8 => Ok(Request::Open { nonce: bytes.get_u64_le() }),
            Ok(APPLY) => {
                let session = take_session_id(&mut bytes)?;
                let sequence = take_u64(&mut bytes)?;
                let unanswered_from = take_u64(&mut bytes)?;
                Ok(Request::Apply { session, sequence, unanswered_from, command: bytes })
            }
            _ => Err(MalformedSession),
        }
    }
}

/// Bounds of [`Sessions`]; must be the same on all replicas, as they decide what is evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// How many sessions there may be.
    pub sessions: usize,
    /// How many commands of one session may be unanswered.
    pub unanswered: usize,
    /// The longest reply that is kept, in bytes; of a longer one only that it was given.
    pub reply_bytes: usize,
    /// How many bytes all kept replies together may have; at least `reply_bytes`.
    pub total_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits { sessions: 1024, unanswered: 16 << 10, reply_bytes: 4 << 10, total_bytes: 64 << 20 }
    }
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The session is open.
    Opened {
        /// Its name.
        session: SessionId,
        /// The nonce of the request.
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
    /// The client has said itself that it has this command's answer. Nothing was applied.
    AlreadyAnswered,
    /// There is no such session (any more). Nothing was applied.
    UnknownSession,
    /// The session has too many unanswered commands. Nothing was applied.
    TooManyUnanswered,
}

/// All sessions of the cluster, as of some slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sessions {
    limits: SessionLimits,
    by_id: BTreeMap<SessionId, Session>,
    /// The sessions by the slot of their last use.
    by_use: BTreeSet<(Slot, SessionId)>,
    reply_bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
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

    /// Carries out the request at position `index` of the batch chosen in `slot`; `apply` runs the command
    /// unless that was done before. Call it for every request of the log, in order.
    pub fn execute(
        &mut self,
        slot: Slot,
        index: u32,
        request: Request,
        apply: impl FnOnce(Bytes) -> Bytes,
    ) -> Outcome {
        match request {
            Request::Open { nonce } => {
                let session = SessionId { slot, index };
                self.open(session);
                Outcome::Opened { session, nonce }
            }
            Request::Apply { session: id, sequence, unanswered_from, command } => {
                let Some(session) = self.by_id.get_mut(&id) else { return Outcome::UnknownSession };
                if session.last_used != slot {
                    self.by_use.remove(&(session.last_used, id));
                    session.last_used = slot;
                    self.by_use.insert((slot, id));
                }
                self.reply_bytes -= session.forget_below(unanswered_from.min(sequence));
                if sequence < session.unanswered_from && !mutated(Mutant::AnsweredAppliedAgain) {
                    return Outcome::AlreadyAnswered;
                }
                if let Some(kept) = session.replies.find(sequence)
                    && !mutated(Mutant::DuplicateApplied)
                {
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

    /// Whether there is such a session.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.by_id.contains_key(&session)
    }

    /// The sessions as bytes for a snapshot: the same for equal sessions.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(SNAPSHOT_VERSION);
        let count = if mutated(Mutant::SessionsLostInSnapshot) { 0 } else { self.by_id.len() };
        bytes.put_u64_le(count as u64);
        for (id, session) in self.by_id.iter().take(count) {
            put_session_id(&mut bytes, *id);
            bytes.put_u64_le(session.last_used.0);
            bytes.put_u64_le(session.unanswered_from);
            let count = if mutated(Mutant::RepliesLostInSnapshot) { 0 } else { session.replies.len() };
            bytes.put_u64_le(count as u64);
            for (sequence, kept) in session.replies.iter().take(count) {
                bytes.put_u64_le(*sequence);
                bytes.put_u64_le(kept.slot.0);
                bytes.put_u8(u8::from(kept.reply.is_some()));
                let reply = kept.reply.clone().unwrap_or_default();
                bytes.put_u64_le(reply.len() as u64);
                bytes.extend_from_slice(&reply);
            }
        }
        bytes.freeze()
    }

    /// Takes back what [`encode`](Sessions::encode) made.
    ///
    /// # Errors
    ///
    /// [`MalformedSession`] for anything else.
    pub fn decode(mut bytes: Bytes, limits: SessionLimits) -> Result<Sessions, MalformedSession> {
        let mut sessions = Sessions::new(limits);
        if bytes.try_get_u8() != Ok(SNAPSHOT_VERSION) {
            return Err(MalformedSession);
        }
        for _ in 0..take_u64(&mut bytes)? {
            let id = take_session_id(&mut bytes)?;
            let last_used = Slot(take_u64(&mut bytes)?);
            let unanswered_from = take_u64(&mut bytes)?;
            let mut session = Session { last_used, unanswered_from, replies: Replies::default() };
            for _ in 0..take_u64(&mut bytes)? {
                let sequence = take_u64(&mut bytes)?;
                let slot = Slot(take_u64(&mut bytes)?);
                let is_kept = bytes.try_get_u8().map_err(|_| MalformedSession)? != 0;
                let length = usize::try_from(take_u64(&mut bytes)?).map_err(|_| MalformedSession)?;
                if length > bytes.len() {
                    return Err(MalformedSession);
                }
                let reply = Bytes::copy_from_slice(&bytes.split_to(length));
                sessions.reply_bytes += reply.len();
                let kept = Kept { slot, reply: is_kept.then_some(reply) };
                if session.replies.insert(sequence, kept).is_some() {
                    return Err(MalformedSession);
                }
            }
            sessions.by_use.insert((last_used, id));
            sessions.by_id.insert(id, session);
        }
        if bytes.is_empty() { Ok(sessions) } else { Err(MalformedSession) }
    }

    fn open(&mut self, id: SessionId) {
        let session = Session { last_used: id.slot, unanswered_from: 1, replies: Replies::default() };
        self.by_id.insert(id, session);
        self.by_use.insert((id.slot, id));
        self.evict(id);
    }

    /// Drops the sessions that were not used for longest, but never the one `in_use`, until the limits hold.
    fn evict(&mut self, in_use: SessionId) {
        while self.by_id.len() > self.limits.sessions || self.reply_bytes > self.limits.total_bytes {
            let Some(&(last_used, oldest)) = self.by_use.iter().find(|(_, id)| *id != in_use) else { return };
            self.by_use.remove(&(last_used, oldest));
            let evicted = self.by_id.remove(&oldest).expect("every session in use order exists");
            self.reply_bytes -= evicted.replies.size_bytes();
        }
    }
}

impl Session {
    /// Forgets the replies that the client has; returns how many bytes that frees.
    fn forget_below(&mut self, unanswered_from: u64) -> usize {
        if unanswered_from <= self.unanswered_from {
            return 0;
        }
        self.unanswered_from = unanswered_from;
        self.replies.forget_below(unanswered_from)
    }
}

fn put_session_id(bytes: &mut BytesMut, id: SessionId) {
    bytes.put_u64_le(id.slot.0);
    bytes.put_u32_le(id.index);
}

fn take_session_id(bytes: &mut Bytes) -> Result<SessionId, MalformedSession> {
    let slot = Slot(take_u64(bytes)?);
    let index = bytes.try_get_u32_le().map_err(|_| MalformedSession)?;
    Ok(SessionId { slot, index })
}

fn take_u64(bytes: &mut Bytes) -> Result<u64, MalformedSession> {
    bytes.try_get_u64_le().map_err(|_| MalformedSession)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> SessionLimits {
        SessionLimits { sessions: 2, unanswered: 3, reply_bytes: 8, total_bytes: 64 }
    }

    fn apply(session: SessionId, sequence: u64, unanswered_from: u64) -> Request {
        Request::Apply { session, sequence, unanswered_from, command: Bytes::from_static(b"command") }
    }

    fn open(sessions: &mut Sessions, slot: u64) -> SessionId {
        match sessions.execute(Slot(slot), 0, Request::Open { nonce: slot }, |_| panic!("nothing is applied"))
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

    #[test]
    fn requests_come_back_as_they_went_and_take_what_is_told() {
        let opening = Request::Open { nonce: 7 };
        assert_eq!(Request::decode(opening.encode()), Ok(opening.clone()));
        let id = SessionId { slot: Slot(5), index: 3 };
        let applying = apply(id, 2, 1);
        let bytes = applying.encode();
        assert_eq!(bytes.len(), Request::OVERHEAD_BYTES + b"command".len());
        assert_eq!(Request::decode(bytes), Ok(applying));
        let cut = opening.encode().slice(..8);
        assert_eq!(Request::decode(cut), Err(MalformedSession));
        let mut long = BytesMut::from(&opening.encode()[..]);
        long.put_u8(0);
        assert_eq!(Request::decode(long.freeze()), Err(MalformedSession));
        assert_eq!(Request::decode(Bytes::from_static(&[99])), Err(MalformedSession));
        assert_eq!(MalformedSession.to_string(), "malformed session data");
    }

    proptest! {
        #[test]
        fn a_snapshot_holds_everything(commands in prop::collection::vec((0..4u64, 1..6u64, 1..6u64), 0..60)) {
            let mut sessions = Sessions::new(limits());
            for (slot, (kind, sequence, unanswered_from)) in (1..).zip(commands) {
                let session = SessionId { slot: Slot(sequence), index: 0 };
                let request = if kind == 0 { Request::Open { nonce: 7 } }
                    else { apply(session, sequence, unanswered_from) };
                sessions.execute(Slot(slot), 0, request, |_| Bytes::from(vec![0; (slot % 12) as usize]));
            }
            let decoded = Sessions::decode(sessions.encode(), limits());
            prop_assert_eq!(decoded.as_ref(), Ok(&sessions));
            let bytes = sessions.encode();
            for length in 0..bytes.len() {
                prop_assert!(Sessions::decode(bytes.slice(..length), limits()).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_refused(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(request) = Request::decode(bytes.clone()) {
                prop_assert_eq!(request.encode(), bytes);
            }
        }
    }
}
