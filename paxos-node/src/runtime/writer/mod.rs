//! Owns the storage and runs its jobs: on a thread of its own, or on the caller's if the storage never
//! blocks.
//!
//! [`Writer`] is the driver's end and [`JobSender`] a handle for other threads; [`job`] defines what a
//! storage is asked to do and runs it; [`thread`] is the loop of the writer thread.
//!
//! Writes go before everything else, and all that queued during the last sync are merged into the next. The
//! number of jobs is bounded by what the replica has under way: its window, and a window of pieces of each
//! snapshot in transfer.
//!
//! A write for which the disk has no space waits, and is tried again; only other writes wait behind it.
//!
//! Nobody waits for the thread: a disk may neither fail nor return. [`Writer::busy_for`] tells how long the
//! present call takes.

mod activity;
mod job;
mod pace;
mod snapshot_reader;
mod thread;

use std::io;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paxos_core::{Slot, Write};
use paxos_storage::Storage;
use tokio::sync::mpsc;

use self::activity::Activity;
use self::snapshot_reader::SnapshotReader;
use self::thread::ThreadHandle;
use crate::lock::lock;
use crate::settings::WriterMode;

pub(crate) use self::job::{Author, Job, JobResult};
pub(crate) use self::snapshot_reader::read_stored;

/// A slot with more commands than this shows that the node is busy.
const CROWDED_SLOT_COMMANDS: usize = 8;

/// The driver's end of the writer.
pub(crate) struct Writer {
    jobs: JobSender,
    /// `None` where the storage is inline.
    thread: Option<ThreadHandle>,
}

/// A way to hand in jobs from any thread.
#[derive(Clone)]
pub(crate) struct JobSender(Target);

#[derive(Clone)]
enum Target {
    Thread(blocking::Sender<Job>),
    Inline { storage: Arc<Mutex<Option<Box<dyn Storage>>>>, results: mpsc::UnboundedSender<JobResult> },
}

impl JobSender {
    /// Hands a job in; `false` if the writer has stopped, which it has reported with the reason.
    pub(crate) fn submit(&self, job: Job) -> bool {
        match &self.0 {
            Target::Thread(jobs) => jobs.send(job).is_ok(),
            Target::Inline { storage, results } => {
                // No call of such a storage blocks, so neither does this lock.
                let mut storage = lock(storage);
                let Some(storage) = storage.as_deref_mut() else { return false };
                // A storage that may have to wait for space has a thread of its own; this one does not wait.
                let result = job.run(storage, results, &Activity::stopping());
                let is_running = result.is_ok();
                if let Err(error) = result {
                    let _ = results.send(JobResult::Failed(error));
                }
                is_running
            }
        }
    }

    /// A reader of the finished snapshot of `slot`. Its calls block until the writer has run them.
    pub(crate) fn read_snapshot(self, slot: Slot) -> impl io::Read {
        let stopped = || io::Error::other("the writer has stopped");
        SnapshotReader::new(move |offset| {
            let (reader, piece) = blocking::sync_channel(1);
            if !self.submit(Job::ReadSnapshot { slot, offset, reader }) {
                return Err(stopped());
            }
            piece.recv().map_err(|_| stopped())?
        })
    }
}

impl Writer {
    /// Starts to work on `storage`; the results of its jobs arrive at the receiver, in order.
    pub(crate) fn start(
        storage: Box<dyn Storage>,
        mode: WriterMode,
    ) -> io::Result<(Writer, mpsc::UnboundedReceiver<JobResult>)> {
        let (results_to, results) = mpsc::unbounded_channel();
        let writer = match mode {
            WriterMode::Inline => {
                let storage = Arc::new(Mutex::new(Some(storage)));
                let jobs = JobSender(Target::Inline { storage, results: results_to });
                Writer { jobs, thread: None }
            }
            WriterMode::Thread => {
                let (jobs, queue) = blocking::channel();
                let thread = thread::start(storage, queue, results_to)?;
                Writer { jobs: JobSender(Target::Thread(jobs)), thread: Some(thread) }
            }
        };
        Ok((writer, results))
    }

    /// Hands a job in. If the writer has stopped, the driver is about to read its [`JobResult::Failed`].
    pub(crate) fn submit(&self, job: Job) {
        self.jobs.submit(job);
    }

    pub(crate) fn sender(&self) -> JobSender {
        self.jobs.clone()
    }

    /// How long the present call of the storage has taken so far; `None` between calls.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        self.thread.as_ref()?.busy_for()
    }

    /// Finishes all jobs except writes for which the disk has no space, marks the log as whole and closes the
    /// storage. `false` if the disk did not return in time: then the thread keeps the storage and is left
    /// alone.
    pub(crate) async fn stop(self) -> bool {
        let Writer { jobs: JobSender(target), thread } = self;
        match target {
            Target::Thread(jobs) => {
                drop(jobs);
                match thread {
                    Some(thread) => thread.stop().await,
                    None => true,
                }
            }
            Target::Inline { storage, .. } => {
                let storage = lock(&storage).take();
                if let Some(Err(error)) = storage.map(|mut storage| storage.prove_last_write()) {
                    tracing::warn!(%error, "the log could not be marked as whole");
                }
                true
            }
        }
    }
}

/// Whether a write holds a slot with so many commands that the node must be busy.
pub(crate) fn is_crowded(write: &Write) -> bool {
    write.entries().iter().any(|(_, entry)| entry.value().commands().nth(CROWDED_SLOT_COMMANDS).is_some())
}
