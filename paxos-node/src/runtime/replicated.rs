//! The replicated state of a node: sessions, and behind them the user's state machine.
//!
//! The state machine is the user's code: it may be slow, and it may panic. So the driver calls it only where
//! it is known to be quick, and a panic in it becomes an error with its slot.
//!
//! A snapshot is the length of the sessions (8 bytes, little-endian) with its highest bit set, the time of
//! the state (as many), the sessions, and the state machine's own bytes. One from before there were times
//! lacks that bit and the time.

use std::any::Any;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use paxos_core::session::{Outcome, SessionCommand, SessionId, SessionLimits, Sessions};
use paxos_core::{Slot, Time, Value};
use tokio::sync::RwLock;

use crate::error::NodeError;
use crate::runtime::checkpoints::{DigestPace, Taken};
use crate::state_machine::{Applying, SnapshotWriter, StateMachine, UnknownCommand};
use crate::status::Digest;

/// The longest encoding of sessions that a snapshot may claim to hold. Twice what the limits allow is far
/// less.
const MAX_SESSIONS_BYTES: u64 = 4 << 30;
/// Set in the first number of a snapshot that has a time.
const HAS_TIME: u64 = 1 << 63;
/// The bits of that number that hold the length of the sessions. Those in between are zero: a snapshot in
/// which one is set is of a newer version.
const LENGTH_BITS: u64 = (1 << 48) - 1;
/// What is not known if a state machine says that it does not know a command.
const UNKNOWN_COMMAND: &str = "a command of an unknown kind";

/// The replicated state of this node, shared between its applier and its readers.
///
/// Only the applier's thread and recovery block on this lock; readers wait for it asynchronously, and the
/// driver never waits for it.
pub(crate) type SharedState<S> = Arc<RwLock<Replicated<S>>>;

/// A state machine and all that is replicated with it.
#[derive(Debug)]
pub(crate) struct Replicated<S> {
    pub(crate) state: S,
    /// Every slot up to here is applied.
    pub(crate) applied: Slot,
    /// The time of the state: it never goes back.
    pub(crate) time: Time,
    sessions: Sessions,
    limits: SessionLimits,
    /// Set when the state machine has panicked: its state may be half changed, so nobody may read it.
    is_broken: AtomicBool,
    /// How much memory the state machine says that it takes.
    state_bytes: Arc<AtomicU64>,
    /// Decides after which slots the digest is taken, to be compared with those of peers.
    pace: DigestPace,
}

/// The outcome of one request in the log.
#[derive(Debug)]
pub(crate) struct Executed {
    /// Session and sequence of a command; `None` for a request that opens a session.
    pub(crate) command: Option<(SessionId, u64)>,
    pub(crate) outcome: Outcome,
}

/// Commands of one session whose answers may have come with a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct SessionQuery {
    pub(crate) session: SessionId,
    pub(crate) sequences: Vec<u64>,
}

/// What the sessions know of a query: `found` is `None` if the session does not exist any more, else it has
/// the sequence, slot and reply of each command that was applied.
#[derive(Debug)]
pub(crate) struct SessionAnswer {
    pub(crate) session: SessionId,
    pub(crate) found: Option<Vec<(u64, Slot, Option<Bytes>)>>,
}

impl<S: StateMachine> Replicated<S> {
    /// How many sessions there are.
    #[cfg(feature = "server")]
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.count()
    }

    pub(crate) fn new(state: S, limits: SessionLimits) -> Replicated<S> {
        let sessions = Sessions::new(limits);
        let (is_broken, state_bytes) = (AtomicBool::new(false), Arc::default());
        Replicated {
            state,
            applied: Slot::ZERO,
            time: Time::NONE,
            sessions,
            limits,
            is_broken,
            state_bytes,
            pace: DigestPace::new(),
        }
    }

    /// Applies the value of the next slot from its command number `first` on; calls `executed` with the
    /// outcome of each request in it. `may_apply` is called before each command of the state machine; if it
    /// returns `false`, the number of that command is returned, and the slot must be continued from there
    /// before anything else is applied.
    pub(crate) fn apply(
        &mut self,
        slot: Slot,
        value: &Value,
        first: u32,
        mut may_apply: impl FnMut(&S, &Bytes) -> bool,
        mut executed: impl FnMut(Executed),
    ) -> Result<Option<u32>, NodeError> {
        assert_eq!(slot, self.applied.next(), "slots are applied in order, each once");
        self.time = self.time.after(value);
        let at = Applying::new(slot, self.time);
        let Replicated { state, sessions, is_broken, .. } = self;
        for (index, command) in (0..).zip(value.commands()).skip(first as usize) {
            let is_unknown = SessionCommand::is_of_unknown_kind(&command);
            let request = match SessionCommand::decode(command) {
                Ok(request) => request,
                Err(_) if is_unknown => {
                    return Err(needs_newer(slot, is_broken, "a request of an unknown kind"));
                }
                // A program without sessions has proposed what is no request; all versions skip it alike.
                Err(_) => continue,
            };
            let (key, command) = match &request {
                SessionCommand::Apply { session, sequence, command, .. } => {
                    (Some((*session, *sequence)), Some(command))
                }
                SessionCommand::Repeatable { command } => (None, Some(command)),
                SessionCommand::Open { .. } => (None, None),
            };
            if let Some(command) = command
                && !guarded(slot, is_broken, || may_apply(state, command))?
            {
                return Ok(Some(index));
            }
            let mut failed = None;
            let outcome = sessions.execute(slot, index, request, |command| {
                let applied = guarded(slot, is_broken, || state.try_apply(at, &command));
                let unknown = |UnknownCommand| needs_newer(slot, is_broken, UNKNOWN_COMMAND);
                applied.and_then(|applied| applied.map_err(unknown)).unwrap_or_else(|error| {
                    failed = Some(error);
                    Bytes::new()
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            executed(Executed { command: key, outcome });
        }
        self.applied = slot;
        if self.pace.is_due(slot, Instant::now()) {
            self.pace.put(slot, self.digest()?.value);
        }
        self.count_memory()?;
        Ok(None)
    }

    /// What is due at this time.
    pub(crate) fn due(&self, time: Time) -> Result<Vec<Bytes>, NodeError> {
        guarded(self.applied, &self.is_broken, || self.state.due(time))
    }

    /// Where the digests go that are taken after slots.
    pub(crate) fn taken(&self) -> Taken {
        self.pace.taken()
    }

    /// The running count of the memory that the state takes.
    pub(crate) fn state_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.state_bytes)
    }

    fn count_memory(&self) -> Result<(), NodeError> {
        let bytes = guarded(self.applied, &self.is_broken, || self.state.memory_bytes())?;
        self.state_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A snapshot of everything replicated, up to the applied slot.
    pub(crate) fn snapshot(&self) -> Result<SnapshotWriter, NodeError> {
        let (sessions, time) = (self.sessions.encode(), self.time);
        let write_state = guarded(self.applied, &self.is_broken, || self.state.snapshot())?;
        Ok(Box::new(move |target: &mut dyn io::Write| {
            target.write_all(&(sessions.len() as u64 | HAS_TIME).to_le_bytes())?;
            target.write_all(&time.0.to_le_bytes())?;
            target.write_all(&sessions)?;
            write_state(target)
        }))
    }

    /// Forgets all sessions: those of another cluster mean nothing in this one.
    #[cfg(all(feature = "server", feature = "file"))]
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions = Sessions::new(self.limits);
    }

    /// Replaces everything by the snapshot of `slot`.
    pub(crate) fn restore(&mut self, slot: Slot, snapshot: &mut dyn Read) -> Result<(), NodeError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::Unsupported => NodeError::NeedsNewerProgram {
                slot,
                content: format!("a snapshot of a newer version ({error})"),
            },
            _ => NodeError::Restore { slot, error },
        };
        let (time, sessions) = read_head(snapshot, self.limits).map_err(failed)?;
        guarded(slot, &self.is_broken, || self.state.restore(snapshot))?.map_err(failed)?;
        self.sessions = sessions;
        (self.applied, self.time) = (slot, time);
        self.count_memory()
    }

    /// The digest of the state.
    pub(crate) fn digest(&self) -> Result<Digest, NodeError> {
        let slot = self.applied;
        let value = guarded(slot, &self.is_broken, || self.state.digest())?;
        Ok(Digest { slot, value })
    }

    /// Looks up the outcomes of commands.
    pub(crate) fn answer(&self, query: SessionQuery) -> SessionAnswer {
        let SessionQuery { session, sequences } = query;
        let find = |sequence: u64| {
            let (slot, reply) = self.sessions.find(session, sequence)?;
            Some((sequence, slot, reply))
        };
        let found = self.sessions.contains(session).then(|| sequences.into_iter().filter_map(find).collect());
        SessionAnswer { session, found }
    }

    /// Whether the state machine has panicked, so that its state may be half changed.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

/// The error for what this program does not know. The slot may be half applied, so nobody may read the state.
fn needs_newer(slot: Slot, is_broken: &AtomicBool, content: &str) -> NodeError {
    is_broken.store(true, Ordering::Relaxed);
    NodeError::NeedsNewerProgram { slot, content: content.to_owned() }
}

/// Runs code of the user's state machine; after a panic the state is broken.
fn guarded<T>(slot: Slot, is_broken: &AtomicBool, call: impl FnOnce() -> T) -> Result<T, NodeError> {
    caught(slot, call).inspect_err(|_| is_broken.store(true, Ordering::Relaxed))
}

/// Runs code of the user's that does not see the state: its panic is an error.
pub(crate) fn caught<T>(slot: Slot, call: impl FnOnce() -> T) -> Result<T, NodeError> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| NodeError::StateMachinePanicked { slot, message: message_of(panic.as_ref()) })
}

/// The message of a panic.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it does not say why").to_owned()
}

/// Reads what stands before the state machine's own bytes.
fn read_head(snapshot: &mut dyn Read, limits: SessionLimits) -> io::Result<(Time, Sessions)> {
    let first = read_number(snapshot)?;
    if first & !(HAS_TIME | LENGTH_BITS) != 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it begins in an unknown way"));
    }
    let time = if first & HAS_TIME == 0 { Time::NONE } else { Time(read_number(snapshot)?) };
    Ok((time, read_sessions(snapshot, first & !HAS_TIME, limits)?))
}

fn read_number(snapshot: &mut dyn Read) -> io::Result<u64> {
    let mut number = [0; 8];
    snapshot.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

fn read_sessions(snapshot: &mut dyn Read, length: u64, limits: SessionLimits) -> io::Result<Sessions> {
    let mut sessions = Vec::new();
    snapshot.take(length.min(MAX_SESSIONS_BYTES)).read_to_end(&mut sessions)?;
    if sessions.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let is_newer = Sessions::is_of_newer_version(&sessions);
    let kind = if is_newer { io::ErrorKind::Unsupported } else { io::ErrorKind::InvalidData };
    Sessions::decode(Bytes::from(sessions), limits).map_err(|error| io::Error::new(kind, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers the times of its commands.
    #[derive(Default)]
    struct Times(Vec<u8>);

    impl StateMachine for Times {
        fn apply(&mut self, at: Applying, _: &Bytes) -> Bytes {
            self.0.extend(at.time.0.to_le_bytes());
            Bytes::new()
        }

        fn snapshot(&self) -> SnapshotWriter {
            let times = self.0.clone();
            Box::new(move |target| target.write_all(&times))
        }

        fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
            self.0.clear();
            snapshot.read_to_end(&mut self.0).map(drop)
        }

        fn digest(&self) -> u64 {
            0
        }
    }

    fn replicated() -> Replicated<Times> {
        Replicated::new(Times::default(), SessionLimits::default())
    }

    fn apply(replicated: &mut Replicated<Times>, slot: u64, time: u64) {
        let command = SessionCommand::Repeatable { command: Bytes::new() }.encode();
        let value = Value::batch(&[command]).at(Time(time));
        replicated.apply(Slot(slot), &value, 0, |_, _| true, |_| {}).expect("it does not panic");
    }

    #[test]
    fn the_time_of_a_state_never_goes_back_and_survives_a_snapshot() {
        let mut first = replicated();
        for (slot, time) in [(1, 5), (2, 9), (3, 7)] {
            apply(&mut first, slot, time);
        }
        let mut image = Vec::new();
        first.snapshot().expect("it does not panic")(&mut image).expect("memory takes everything");
        let mut second = replicated();
        second.restore(Slot(3), &mut &image[..]).expect("the image is whole");
        assert_eq!(second.time, Time(9));
        for replicated in [&mut first, &mut second] {
            apply(replicated, 4, 8);
            apply(replicated, 5, 10);
            let times = [5_u64, 9, 9, 9, 10].map(u64::to_le_bytes);
            assert_eq!(replicated.state.0, times.as_flattened());
        }
    }

    #[test]
    fn a_request_of_an_unknown_kind_is_not_skipped_and_a_malformed_one_is() {
        let mut replicated = replicated();
        let batch = |command: &'static [u8]| Value::batch(&[Bytes::from_static(command)]);
        // A request to open a session that is cut short: every version takes it for nothing.
        let malformed = replicated.apply(Slot(1), &batch(&[1, 2, 3]), 0, |_, _| true, |_| {});
        assert_eq!(malformed.expect("all versions skip it"), None);
        let error = replicated.apply(Slot(2), &batch(&[4, 2, 3]), 0, |_, _| true, |_| {});
        let error = error.expect_err("a newer version does something");
        assert!(matches!(error, NodeError::NeedsNewerProgram { slot: Slot(2), .. }), "{error}");
        assert_eq!((replicated.applied, replicated.is_broken()), (Slot(1), true));
    }

    #[test]
    fn a_snapshot_of_a_newer_version_is_told_from_a_damaged_one() {
        let is_newer = |image: &[u8]| match replicated().restore(Slot(3), &mut &*image) {
            Err(NodeError::NeedsNewerProgram { slot: Slot(3), .. }) => true,
            Err(NodeError::Restore { .. }) => false,
            other => panic!("it can't be read: {other:?}"),
        };
        let mut image = Vec::new();
        replicated().snapshot().expect("it does not panic")(&mut image).expect("memory takes everything");
        assert!(!is_newer(&image[..10]), "it is cut short");
        let changed = |at: usize, byte: u8| {
            let mut image = image.clone();
            image[at] = byte;
            image
        };
        assert!(is_newer(&changed(6, 1)), "a bit between the time and the length");
        assert!(is_newer(&changed(16, 2)), "the version of the sessions");
        assert!(!is_newer(&changed(16, 0)));
    }

    #[test]
    fn a_snapshot_from_before_there_were_times_is_read() {
        let sessions = Sessions::new(SessionLimits::default()).encode();
        let image = [&(sessions.len() as u64).to_le_bytes()[..], &sessions, b"state"].concat();
        let mut restored = replicated();
        restored.restore(Slot(3), &mut &image[..]).expect("the image is whole");
        assert_eq!(
            (restored.time, restored.applied, &restored.state.0[..]),
            (Time::NONE, Slot(3), &b"state"[..])
        );
    }
}
