//! Applying what is chosen: sessions first, then the user's state machine.
//!
//! A snapshot is the length of the sessions (8 bytes, little-endian), the sessions, and the state machine's own
//! bytes.

use std::io::{self, Read};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use paxos_core::session::{Outcome, Request, SessionId, SessionLimits, Sessions};
use paxos_core::{Slot, Value};

use crate::client::{Replicated, Shared};
use crate::state_machine::{SnapshotWriter, StateMachine};

/// The longest encoding of sessions that a snapshot may claim to hold: twice what the limits allow is far below.
const MAX_SESSIONS_BYTES: u64 = 4 << 30;

/// The replicated state of this node.
#[derive(Debug)]
pub(crate) struct Applier<S> {
    shared: Shared<S>,
    sessions: Sessions,
    limits: SessionLimits,
}

/// What became of one request in the log.
#[derive(Debug)]
pub(crate) struct Executed {
    /// Session and sequence of a command; `None` for a request that opens a session.
    pub(crate) command: Option<(SessionId, u64)>,
    pub(crate) outcome: Outcome,
}

impl<S: StateMachine> Applier<S> {
    pub(crate) fn new(state: S, limits: SessionLimits) -> Applier<S> {
        let replicated = Replicated { state, applied: Slot::ZERO };
        Applier { shared: Arc::new(replicated.into()), sessions: Sessions::new(limits), limits }
    }

    pub(crate) fn shared(&self) -> Shared<S> {
        Arc::clone(&self.shared)
    }

    /// Applies the value of the next slot; `executed` hears what became of each request in it.
    pub(crate) fn apply(&mut self, slot: Slot, value: &Value, mut executed: impl FnMut(Executed)) {
        let mut replicated = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(slot, replicated.applied.next(), "slots are applied in order, each once");
        for (index, command) in (0..).zip(value.commands()) {
            // What is no request was proposed by a program that does not use sessions; all nodes skip it alike.
            let Ok(request) = Request::decode(command) else { continue };
            let command = match &request {
                Request::Apply { session, sequence, .. } => Some((*session, *sequence)),
                Request::Open { .. } => None,
            };
            let apply = |command: Bytes| replicated.state.apply(slot, &command);
            let outcome = self.sessions.execute(slot, index, request, apply);
            executed(Executed { command, outcome });
        }
        replicated.applied = slot;
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// A picture of everything replicated, as of the slot that is returned with it.
    pub(crate) fn snapshot(&self) -> (Slot, SnapshotWriter) {
        let replicated = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let sessions = self.sessions.encode();
        let write_state = replicated.state.snapshot();
        let write = move |target: &mut dyn io::Write| {
            target.write_all(&(sessions.len() as u64).to_le_bytes())?;
            target.write_all(&sessions)?;
            write_state(target)
        };
        (replicated.applied, Box::new(write))
    }

    /// What [`Applier::restored`] needs, to be run wherever the snapshot's bytes are.
    pub(crate) fn restorer(&self, slot: Slot) -> impl FnOnce(&mut dyn Read) -> io::Result<Sessions> + use<S> {
        let (shared, limits) = (Arc::clone(&self.shared), self.limits);
        move |snapshot: &mut dyn Read| {
            let mut length = [0; 8];
            snapshot.read_exact(&mut length)?;
            let length = u64::from_le_bytes(length);
            let mut sessions = Vec::new();
            (&mut *snapshot).take(length.min(MAX_SESSIONS_BYTES)).read_to_end(&mut sessions)?;
            if sessions.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let sessions = Sessions::decode(Bytes::from(sessions), limits)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let mut replicated = shared.write().unwrap_or_else(PoisonError::into_inner);
            replicated.state.restore(snapshot)?;
            replicated.applied = slot;
            Ok(sessions)
        }
    }

    /// Takes over the sessions of a snapshot whose state has been restored.
    pub(crate) fn restored(&mut self, sessions: Sessions) {
        self.sessions = sessions;
    }
}
