//! Session commands and sessions as bytes: in the log and in snapshots.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::replies::{Kept, Replies};
use super::{SessionCommand, SessionId, SessionLimits, SessionRecord, Sessions};
use crate::id::Slot;
use crate::mutant::{Mutant, mutated};

const OPEN: u8 = 1;
const APPLY: u8 = 2;
const REPEATABLE: u8 = 3;
const SNAPSHOT_VERSION: u8 = 1;

/// The bytes given are not a [`SessionCommand`], or not [`Sessions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MalformedSession;

impl std::fmt::Display for MalformedSession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("malformed session data")
    }
}

impl std::error::Error for MalformedSession {}

impl SessionCommand {
    /// How many bytes [`encode`](SessionCommand::encode) adds to a command.
    pub const OVERHEAD_BYTES: usize = 1 + 8 + 4 + 8 + 8;

    /// Encodes it as a command of the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            SessionCommand::Open { nonce } => {
                let mut bytes = BytesMut::with_capacity(9);
                bytes.put_u8(OPEN);
                bytes.put_u64_le(*nonce);
                bytes.freeze()
            }
            SessionCommand::Repeatable { command } => {
                let mut bytes = BytesMut::with_capacity(1 + command.len());
                bytes.put_u8(REPEATABLE);
                bytes.extend_from_slice(command);
                bytes.freeze()
            }
            SessionCommand::Apply { session, sequence, unanswered_from, command } => {
                let mut bytes = BytesMut::with_capacity(SessionCommand::OVERHEAD_BYTES + command.len());
                bytes.put_u8(APPLY);
                put_session_id(&mut bytes, *session);
                bytes.put_u64_le(*sequence);
                bytes.put_u64_le(*unanswered_from);
                bytes.extend_from_slice(command);
                bytes.freeze()
            }
        }
    }

    /// Whether bytes that can't be [decoded](SessionCommand::decode) may be a command of a newer version: one
    /// whose kind is not known. A node must not skip it, as a newer one does not. What has a known kind, or
    /// no bytes, is malformed in all versions.
    #[must_use]
    pub fn is_of_unknown_kind(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|kind| !matches!(*kind, OPEN | APPLY | REPEATABLE))
    }

    /// Decodes a command of the log; the inner command shares its bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedSession`] if it is no session command.
    pub fn decode(mut bytes: Bytes) -> Result<SessionCommand, MalformedSession> {
        match bytes.try_get_u8() {
            Ok(OPEN) if bytes.len() == 8 => Ok(SessionCommand::Open { nonce: bytes.get_u64_le() }),
            Ok(APPLY) => {
                let session = take_session_id(&mut bytes)?;
                let sequence = take_u64(&mut bytes)?;
                let unanswered_from = take_u64(&mut bytes)?;
                Ok(SessionCommand::Apply { session, sequence, unanswered_from, command: bytes })
            }
            Ok(REPEATABLE) => Ok(SessionCommand::Repeatable { command: bytes }),
            _ => Err(MalformedSession),
        }
    }
}

impl Sessions {
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

    /// Whether bytes that can't be [decoded](Sessions::decode) are of a version that this program does not
    /// know.
    #[must_use]
    pub fn is_of_newer_version(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|version| *version > SNAPSHOT_VERSION)
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
            let mut session = SessionRecord { last_used, unanswered_from, replies: Replies::default() };
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
    use super::super::tests::{apply, limits};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_come_back_as_they_went_and_take_what_is_told() {
        let opening = SessionCommand::Open { nonce: 7 };
        assert_eq!(SessionCommand::decode(opening.encode()), Ok(opening.clone()));
        let id = SessionId { slot: Slot(5), index: 3 };
        let applying = apply(id, 2, 1);
        let bytes = applying.encode();
        assert_eq!(bytes.len(), SessionCommand::OVERHEAD_BYTES + b"command".len());
        assert_eq!(SessionCommand::decode(bytes), Ok(applying));
        let repeatable = SessionCommand::Repeatable { command: Bytes::from_static(b"command") };
        assert_eq!(SessionCommand::decode(repeatable.encode()), Ok(repeatable));
        let cut = opening.encode().slice(..8);
        assert_eq!(SessionCommand::decode(cut), Err(MalformedSession));
        let mut long = BytesMut::from(&opening.encode()[..]);
        long.put_u8(0);
        assert_eq!(SessionCommand::decode(long.freeze()), Err(MalformedSession));
        assert_eq!(SessionCommand::decode(Bytes::from_static(&[99])), Err(MalformedSession));
        assert_eq!(MalformedSession.to_string(), "malformed session data");
    }

    proptest! {
        #[test]
        fn a_snapshot_holds_everything(commands in prop::collection::vec((0..4u64, 1..6u64, 1..6u64), 0..60)) {
            let mut sessions = Sessions::new(limits());
            for (slot, (kind, sequence, unanswered_from)) in (1..).zip(commands) {
                let session = SessionId { slot: Slot(sequence), index: 0 };
                let request = if kind == 0 { SessionCommand::Open { nonce: 7 } }
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
        fn any_bytes_are_a_command_or_refused(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(request) = SessionCommand::decode(bytes.clone()) {
                prop_assert_eq!(request.encode(), bytes);
            }
        }
    }
}
