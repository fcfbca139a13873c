//! Applies chosen values: on the driver's thread if that is quick, else on a thread of its own.
//!
//! [`Applier`] is the driver's end. Its work is done in the order in which it was given, and results come
//! back in that order. The driver itself applies only while nothing waits for the thread and nobody holds the
//! state's lock; it waits for neither. Commands that take long go to the thread, and so do the rest of a slot
//! that has taken long and the slot behind it, with all that follow before the thread is done.

use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{Slot, SnapshotMeta, Time, Value};
use tokio::sync::mpsc;

use crate::error::NodeError;
use crate::runtime::inline_time::InlineTime;
use crate::runtime::replicated::{Executed, SessionAnswer, SessionQuery, SharedState, caught};
use crate::runtime::snapshots::{UnderWay, Unwritten, wait_until_written};
use crate::runtime::writer::JobSender;
use crate::settings::ApplyMode;
use crate::state_machine::StateMachine;
use crate::status::Digest;

/// A slot that has taken this long on the driver's thread, though it was let go after [`InlineTime`], has
/// the next one applied on the applier's: it may be as slow. Longer than a thread waits for its processor as
/// a rule.
const LONG_SLOT: Duration = Duration::from_millis(10);
/// With more values than this waiting to be applied the node takes on no more.
const MAX_QUEUED_VALUES: usize = 1024;
/// The same for their bytes.
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// A slot that takes longer to apply is logged.
const SLOW_APPLY: Duration = Duration::from_millis(100);
/// At most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// If the thread reports nothing for this long, that is logged.
const SILENCE: Duration = Duration::from_secs(3);
/// How often the digest is taken while there is always something to apply.
const DIGEST_INTERVAL: Duration = Duration::from_millis(100);

/// Something to do with the state.
enum Work {
    /// Apply a slot, from its command number `first` on.
    Apply {
        slot: Slot,
        value: Value,
        first: u32,
    },
    Snapshot(UnderWay),
    Restore {
        meta: SnapshotMeta,
        jobs: JobSender,
        queries: Vec<SessionQuery>,
        /// A snapshot of the old state, which is written first.
        under_way: Weak<()>,
    },
}

/// What the applier's thread reports.
pub(crate) enum ApplyResult {
    /// A slot is applied; its value had this many bytes.
    Slot { slot: Slot, value_bytes: usize, executed: Vec<Executed> },
    /// A snapshot of the state after a slot, yet to be written.
    Snapshot(Unwritten),
    /// The state is that of a snapshot.
    Restored { slot: Slot, time: Time, answers: Vec<SessionAnswer> },
    /// A digest of the state.
    Digest(Digest),
    /// The state can't be used any more.
    Failed(NodeError),
}

/// The driver's end of the applier.
pub(crate) struct Applier<S> {
    shared: SharedState<S>,
    mode: ApplyMode,
    work: blocking::Sender<Work>,
    results: mpsc::UnboundedReceiver<ApplyResult>,
    /// How many values the thread has to apply, and their bytes.
    queued_values: usize,
    queued_bytes: usize,
    /// How much other work it has.
    queued_others: usize,
    /// The last slot that was given to the applier, and the last one known to be applied.
    given: Slot,
    applied: Slot,
    digest_of: Slot,
    /// The last slot that was applied on the driver's thread took [`LONG_SLOT`].
    was_long: bool,
    /// Since when the thread has reported nothing, though it has work.
    silent_since: Instant,
    is_silence_told: bool,
    slow: SlowApplies,
}

impl<S: StateMachine> Applier<S> {
    /// Starts the thread; the state has everything up to `applied`.
    pub(crate) fn start(
        shared: SharedState<S>,
        applied: Slot,
        mode: ApplyMode,
    ) -> std::io::Result<Applier<S>> {
        let (work, queue) = blocking::channel();
        let (results_to, results) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&shared);
        let run = move || apply_all(&theirs, &queue, &results_to);
        std::thread::Builder::new().name(String::from("paxos-applier")).spawn(run)?;
        Ok(Applier {
            shared,
            mode,
            work,
            results,
            queued_values: 0,
            queued_bytes: 0,
            queued_others: 0,
            given: applied,
            applied,
            digest_of: Slot::ZERO,
            was_long: false,
            silent_since: Instant::now(),
            is_silence_told: false,
            slow: SlowApplies::default(),
        })
    }

    /// Everything up to here is applied.
    pub(crate) fn applied(&self) -> Slot {
        self.applied
    }

    /// Everything up to here was given to the applier.
    pub(crate) fn given(&self) -> Slot {
        self.given
    }

    /// Whether so much waits to be applied that no more may be taken on.
    pub(crate) fn is_behind(&self) -> bool {
        self.queued_values > MAX_QUEUED_VALUES || self.queued_bytes > MAX_QUEUED_BYTES
    }

    /// Whether the state machine says that a command may make its state larger.
    pub(crate) fn needs_memory(&self, command: &Bytes) -> Result<bool, NodeError> {
        caught(self.applied, || S::needs_memory(command))
    }

    /// What is due at this time; nothing if that can't be looked up without waiting.
    pub(crate) fn due(&self, time: Time) -> Result<Vec<Bytes>, NodeError> {
        let replicated = if self.is_idle() { self.shared.try_read().ok() } else { None };
        replicated.map_or(Ok(Vec::new()), |replicated| replicated.due(time))
    }

    fn is_idle(&self) -> bool {
        self.queued_values + self.queued_others == 0
    }

    /// Applies the next slot. At once, if that is allowed and possible: then the time by then is returned,
    /// and `executed` is called with the outcome of each request. Else on the thread, wholly or the rest of
    /// it.
    pub(crate) fn apply(
        &mut self,
        slot: Slot,
        value: Value,
        now: Instant,
        executed: impl FnMut(Executed),
    ) -> Result<Option<Instant>, NodeError> {
        self.given = slot;
        let mut first = 0;
        if self.mode == ApplyMode::Inline
            && self.is_idle()
            && !std::mem::take(&mut self.was_long)
            && let Ok(mut replicated) = self.shared.try_write()
        {
            let mut time = InlineTime::default();
            let may_apply = |state: &S, command: &Bytes| {
                time.is_left_for_another(|| now.elapsed()) && !state.takes_long(command)
            };
            let stopped_at = replicated.apply(slot, &value, 0, may_apply, executed)?;
            drop(replicated);
            let Some(rest) = stopped_at else {
                self.applied = slot;
                let end = Instant::now();
                self.was_long = end - now > LONG_SLOT;
                self.slow.note(slot, end - now);
                return Ok(Some(end));
            };
            first = rest;
        }
        self.queued_bytes += value.size_bytes();
        self.give(Work::Apply { slot, value, first });
        self.queued_values += 1;
        Ok(None)
    }

    /// Asks for a snapshot of the state after everything that was given until now.
    pub(crate) fn snapshot(&mut self, under_way: UnderWay) {
        self.give(Work::Snapshot(under_way));
        self.queued_others += 1;
    }

    /// Replaces the state by a snapshot, once the one of the old state that is under way is written, and
    /// looks commands up in its sessions.
    pub(crate) fn restore(
        &mut self,
        meta: SnapshotMeta,
        jobs: JobSender,
        queries: Vec<SessionQuery>,
        under_way: Weak<()>,
    ) {
        self.given = meta.slot;
        self.give(Work::Restore { meta, jobs, queries, under_way });
        self.queued_others += 1;
    }

    fn give(&mut self, work: Work) {
        if self.is_idle() {
            self.silent_since = Instant::now();
        }
        let _ = self.work.send(work); // If the thread has failed, it has reported why.
    }

    /// The next result of the thread.
    pub(crate) fn poll_result(&mut self, context: &mut Context<'_>) -> Poll<ApplyResult> {
        let Poll::Ready(result) = self.results.poll_recv(context) else { return Poll::Pending };
        // The thread ends by itself only after it has reported a failure, at which the driver stops.
        let panicked = || {
            ApplyResult::Failed(NodeError::Panicked(String::from(
                "the applier's thread has ended without a result",
            )))
        };
        let result = result.unwrap_or_else(panicked);
        match &result {
            ApplyResult::Slot { slot, value_bytes, .. } => {
                self.queued_values -= 1;
                self.queued_bytes -= value_bytes;
                self.applied = *slot;
            }
            ApplyResult::Restored { slot, .. } => {
                self.queued_others -= 1;
                self.applied = *slot;
            }
            ApplyResult::Snapshot(_) => self.queued_others -= 1,
            ApplyResult::Digest(digest) => self.digest_of = digest.slot,
            ApplyResult::Failed(_) => {}
        }
        if std::mem::take(&mut self.is_silence_told) {
            let seconds = self.silent_since.elapsed().as_secs_f32();
            tracing::warn!(slot = self.applied.0, seconds, "the state machine has returned");
        }
        self.silent_since = Instant::now();
        Poll::Ready(result)
    }

    /// Logs a state machine that does not return; to be called now and then.
    pub(crate) fn watch(&mut self) {
        let seconds = self.silent_since.elapsed();
        if !self.is_idle() && !self.is_silence_told && seconds > SILENCE {
            self.is_silence_told = true;
            tracing::warn!(
                slot = self.applied.next().0,
                seconds = seconds.as_secs_f32(),
                "the state machine has not returned from one slot for long, or a reader holds its state; this node applies nothing meanwhile"
            );
        }
    }

    /// The digest of the state, if it has changed and can be computed without waiting.
    pub(crate) fn digest_now(&mut self) -> Result<Option<Digest>, NodeError> {
        let is_wanted = self.mode == ApplyMode::Inline && self.digest_of != self.applied && self.is_idle();
        let replicated = if is_wanted { self.shared.try_read().ok() } else { None };
        let Some(replicated) = replicated else { return Ok(None) };
        self.digest_of = replicated.applied;
        replicated.digest().map(Some)
    }
}

/// Logs slots that take long to apply.
#[derive(Debug, Default)]
struct SlowApplies {
    warned_at: Option<Instant>,
}

impl SlowApplies {
    fn note(&mut self, slot: Slot, took: Duration) {
        if took < SLOW_APPLY {
            return;
        }
        metrics::counter!("paxos_slow_applies_total").increment(1);
        if self.warned_at.is_none_or(|warned_at| warned_at.elapsed() > WARNING_INTERVAL) {
            self.warned_at = Some(Instant::now());
            let seconds = took.as_secs_f32();
            tracing::warn!(slot = slot.0, seconds, "the state machine was slow to apply a slot");
        }
    }
}

/// The thread: ends when the driver is gone or the state has failed.
fn apply_all<S: StateMachine>(
    shared: &SharedState<S>,
    queue: &blocking::Receiver<Work>,
    results: &mpsc::UnboundedSender<ApplyResult>,
) {
    let mut slow = SlowApplies::default();
    let mut digest_at = Instant::now();
    let mut next = queue.recv().ok();
    while let Some(work) = next.take() {
        let result = work.run(shared, &mut slow).unwrap_or_else(ApplyResult::Failed);
        let has_failed = matches!(result, ApplyResult::Failed(_));
        let _ = results.send(result); // A driver that is gone wants no results.
        if has_failed {
            return;
        }
        next = queue.try_recv().ok();
        if next.is_none() || digest_at.elapsed() > DIGEST_INTERVAL {
            let digest = shared.blocking_read().digest();
            let _ = results.send(digest.map_or_else(ApplyResult::Failed, ApplyResult::Digest));
            digest_at = Instant::now();
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

impl Work {
    fn run<S: StateMachine>(
        self,
        shared: &SharedState<S>,
        slow: &mut SlowApplies,
    ) -> Result<ApplyResult, NodeError> {
        match self {
            Work::Apply { slot, value, first } => {
                let mut replicated = shared.blocking_write();
                let (since, mut executed) = (Instant::now(), Vec::new());
                let stopped_at =
                    replicated.apply(slot, &value, first, |_, _| true, |done| executed.push(done))?;
                assert_eq!(stopped_at, None, "the thread has time for whole slots");
                drop(replicated);
                slow.note(slot, since.elapsed());
                Ok(ApplyResult::Slot { slot, value_bytes: value.size_bytes(), executed })
            }
            Work::Snapshot(under_way) => {
                let replicated = shared.blocking_read();
                let write = replicated.snapshot()?;
                Ok(ApplyResult::Snapshot(Unwritten { slot: replicated.applied, write, under_way }))
            }
            Work::Restore { meta, jobs, queries, under_way } => {
                wait_until_written(&under_way);
                let mut replicated = shared.blocking_write();
                replicated.restore(meta.slot, &mut jobs.read_snapshot(meta.slot))?;
                let answers = queries.into_iter().map(|query| replicated.answer(query)).collect();
                Ok(ApplyResult::Restored { slot: meta.slot, time: replicated.time, answers })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use paxos_core::session::{SessionCommand, SessionLimits};
    use tokio::sync::RwLock;

    use super::*;
    use crate::runtime::replicated::Replicated;
    use crate::state_machine::{Applying, SnapshotWriter};

    /// A state machine that takes its time.
    struct Slow(Duration);

    impl StateMachine for Slow {
        fn apply(&mut self, _: Applying, _: &Bytes) -> Bytes {
            std::thread::sleep(self.0);
            Bytes::new()
        }

        fn snapshot(&self) -> SnapshotWriter {
            Box::new(|_| Ok(()))
        }

        fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> {
            Ok(())
        }

        fn digest(&self) -> u64 {
            0
        }
    }

    #[tokio::test]
    async fn the_slot_behind_a_long_one_is_left_to_the_thread() {
        let shared = Arc::new(RwLock::new(Replicated::new(Slow(2 * LONG_SLOT), SessionLimits::default())));
        let mut applier = Applier::start(shared, Slot::ZERO, ApplyMode::Inline).expect("it starts");
        let value = || {
            let command = SessionCommand::Repeatable { command: Bytes::from_static(b"anything") };
            Value::batch(&[command.encode()])
        };
        let mut is_inline = |slot| {
            let end = applier.apply(Slot(slot), value(), Instant::now(), |_| ()).expect("it is applied");
            end.is_some()
        };
        assert!(is_inline(1), "nobody knows yet that it takes long");
        assert!(!is_inline(2));
        assert!(!is_inline(3), "the thread has work");
        loop {
            // The digest of the last slot is the last thing for which the thread looks at the state.
            let result = poll_fn(|context| applier.poll_result(context)).await;
            if matches!(result, ApplyResult::Digest(Digest { slot: Slot(3), .. })) {
                break;
            }
        }
        let end = applier.apply(Slot(4), value(), Instant::now(), |_| ()).expect("it is applied");
        assert!(end.is_some(), "it may be quick again");
    }

    /// A state machine whose snapshots share its state, which must not be replaced meanwhile.
    #[cfg(feature = "memory")]
    #[derive(Default)]
    struct Shared(Arc<()>);

    #[cfg(feature = "memory")]
    impl StateMachine for Shared {
        fn apply(&mut self, _: Applying, _: &Bytes) -> Bytes {
            Bytes::new()
        }

        fn snapshot(&self) -> SnapshotWriter {
            let state = Arc::clone(&self.0);
            Box::new(move |_| {
                drop(state);
                Ok(())
            })
        }

        fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> {
            assert_eq!(Arc::strong_count(&self.0), 1, "nobody else needs the old state");
            Ok(())
        }

        fn digest(&self) -> u64 {
            0
        }
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn a_state_is_replaced_once_the_snapshot_of_it_is_written() {
        use paxos_core::{Membership, NodeId};
        use paxos_storage::memory::MemoryStorage;
        use paxos_storage::{Identity, Storage};

        use crate::runtime::writer::Writer;
        use crate::settings::WriterMode;

        let replicated = Replicated::new(Shared::default(), SessionLimits::default());
        let mut image = Vec::new();
        replicated.snapshot().expect("it has not panicked")(&mut image).expect("memory takes everything");
        let membership = Membership::new(&[NodeId(1)]).expect("one member");
        let (size_bytes, checksum) = (image.len() as u64, crc32c::crc32c(&image));
        let meta = SnapshotMeta { slot: Slot(9), size_bytes, checksum, membership };
        let mut storage = MemoryStorage::new(Identity::new("applier", NodeId(1)));
        storage.write_snapshot(meta.slot, 0, &image).expect("memory takes everything");
        storage.finish_snapshot(meta.clone()).expect("it is whole");
        let (writer, _results) =
            Writer::start(Box::new(storage), WriterMode::Inline).expect("it needs no thread");

        let shared = Arc::new(RwLock::new(replicated));
        let mut applier = Applier::start(shared, Slot::ZERO, ApplyMode::Inline).expect("it starts");
        let under_way = UnderWay::default();
        let weak = Arc::downgrade(&under_way);
        applier.snapshot(under_way);
        applier.restore(meta, writer.sender(), Vec::new(), weak);
        loop {
            match poll_fn(|context| applier.poll_result(context)).await {
                ApplyResult::Snapshot(unwritten) => {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    drop(unwritten);
                }
                ApplyResult::Restored { slot, .. } => return assert_eq!(slot, Slot(9)),
                ApplyResult::Digest(_) => {}
                ApplyResult::Slot { .. } => panic!("no slot was applied"),
                ApplyResult::Failed(error) => panic!("{error}"),
            }
        }
    }
}
