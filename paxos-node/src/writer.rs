//! The one who owns the storage: a thread of its own, or the driver's if the storage never blocks.
//!
//! Writes go before everything else, and all that queued during the last sync are merged into the next. Jobs
//! are bounded by what the replica has under way: its window, and one piece of each snapshot in transfer.
//!
//! While nothing is queued the driver may also persist a write itself: a lone command then waits for the disk
//! and not for two threads to wake each other up, which on an idle machine takes as long as a fast disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::{Durable, NodeId, Slot, SnapshotMeta, Write};
use paxos_storage::{ErrorKind, Room, Storage, StorageId};
use tokio::sync::{mpsc, oneshot};

use crate::settings::WriterMode;

/// After so long without a write the last one is marked, so that a crash later can't be taken for a torn tail.
const IDLE: Duration = Duration::from_millis(100);
/// How long to wait before a write for which the disk is too full is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How much of a snapshot is read at once to restore it.
const READ_BYTES: usize = 1 << 20;

/// Reads a state from the bytes of a snapshot.
pub(crate) type Restore = Box<dyn FnOnce(&mut dyn io::Read) -> io::Result<()> + Send>;

/// Something to do with the storage.
pub(crate) enum Job {
    Persist(Write),
    /// Write a piece of a snapshot: one from a peer is reported to the driver, one of our own to its author.
    StoreSnapshot {
        slot: Slot,
        offset: u64,
        data: Bytes,
        author: Option<blocking::SyncSender<()>>,
    },
    FinishSnapshot {
        meta: SnapshotMeta,
        is_own: bool,
    },
    LoadSnapshot {
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        max_bytes: usize,
    },
    Restore {
        meta: SnapshotMeta,
        restore: Restore,
        done: oneshot::Sender<io::Result<()>>,
    },
    Compact {
        through: Slot,
    },
    RememberPeers {
        peers: BTreeMap<NodeId, StorageId>,
    },
}

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Done {
    Durable(Durable),
    SnapshotStored {
        slot: Slot,
        offset: u64,
    },
    SnapshotFinished {
        meta: SnapshotMeta,
        is_own: bool,
    },
    SnapshotRejected {
        slot: Slot,
    },
    SnapshotLoaded {
        to: NodeId,
        meta: SnapshotMeta,
        offset: u64,
        data: Bytes,
    },
    PeersRemembered {
        peers: BTreeMap<NodeId, StorageId>,
    },
    /// There is room for more writes again, or soon there will be none.
    Room(Room),
    /// The storage does nothing more.
    Failed(paxos_storage::Error),
}

/// The driver's end.
pub(crate) enum Writer {
    Thread { sender: JobSender, thread: std::thread::JoinHandle<()> },
    Inline { storage: Box<dyn Storage>, done: mpsc::UnboundedSender<Done> },
}

/// The storage, and how many jobs wait for it.
struct Shared {
    storage: Mutex<Box<dyn Storage>>,
    queued: AtomicUsize,
    /// Who waits for space on the disk is to give up.
    is_stopping: AtomicBool,
}

impl Shared {
    fn storage(&self) -> MutexGuard<'_, Box<dyn Storage>> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way to hand in jobs from any thread.
#[derive(Clone)]
pub(crate) struct JobSender {
    jobs: blocking::Sender<Job>,
    done: mpsc::UnboundedSender<Done>,
    shared: Arc<Shared>,
}

impl JobSender {
    /// Hands a job in; `false` if the writer has stopped, of which it has told why.
    pub(crate) fn submit(&self, job: Job) -> bool {
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        self.jobs.send(job).is_ok()
    }

    fn persist_now(&self, write: Write) -> Result<(), Write> {
        if self.shared.queued.load(Ordering::Acquire) > 0 {
            return Err(write);
        }
        let Ok(mut storage) = self.shared.storage.try_lock() else { return Err(write) };
        // Whatever goes wrong is left to the thread: it finds the storage as full or as stopped.
        let durable = storage.persist(write.clone()).map_err(|_| write)?;
        // Behind the results of all earlier jobs, as those are sent before the jobs stop counting as queued.
        let _ = self.done.send(Done::Durable(durable));
        Ok(())
    }
}

impl Writer {
    /// Starts to work on `storage`; what comes of it arrives at the receiver, in order.
    pub(crate) fn start(
        storage: Box<dyn Storage>,
        mode: WriterMode,
    ) -> io::Result<(Writer, mpsc::UnboundedReceiver<Done>)> {
        let (done, results) = mpsc::unbounded_channel();
        let writer = match mode {
            WriterMode::Inline => Writer::Inline { storage, done },
            WriterMode::Thread => {
                let (jobs, queue) = blocking::channel();
                let name = String::from("paxos-writer");
                let (queued, is_stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
                let shared = Arc::new(Shared { storage: storage.into(), queued, is_stopping });
                let theirs = Arc::clone(&shared);
                let sender = JobSender { jobs, done: done.clone(), shared };
                let work = move || work(&theirs, &queue, &done);
                let thread = std::thread::Builder::new().name(name).spawn(work)?;
                Writer::Thread { sender, thread }
            }
        };
        Ok((writer, results))
    }

    pub(crate) fn submit(&mut self, job: Job) {
        match self {
            // If the thread has stopped, it has said why, and the driver is about to read that.
            Writer::Thread { sender, .. } => {
                sender.submit(job);
            }
            Writer::Inline { storage, done } => {
                // A storage that may have to wait for space has a thread of its own.
                if let Err(error) = run(storage.as_mut(), job, done, &AtomicBool::new(true)) {
                    let _ = done.send(Done::Failed(error));
                }
            }
        }
    }

    /// Persists a write at once, on the caller's thread, if nothing else is under way, and reports it like any
    /// other; gives it back otherwise.
    pub(crate) fn persist_now(&self, write: Write) -> Result<(), Write> {
        match self {
            Writer::Thread { sender, .. } => sender.persist_now(write),
            Writer::Inline { .. } => Err(write),
        }
    }

    /// `None` where the storage is inline.
    pub(crate) fn sender(&self) -> Option<JobSender> {
        match self {
            Writer::Thread { sender, .. } => Some(sender.clone()),
            Writer::Inline { .. } => None,
        }
    }

    /// Finishes all jobs, but for writes that there is no space for, and marks the log as whole.
    pub(crate) async fn stop(self) {
        match self {
            Writer::Thread { sender, thread } => {
                sender.shared.is_stopping.store(true, Ordering::Release);
                thread.thread().unpark();
                drop(sender);
                let joined = tokio::task::spawn_blocking(move || thread.join()).await;
                assert!(matches!(joined, Ok(Ok(()))), "the writer thread does not panic");
            }
            Writer::Inline { mut storage, .. } => {
                if let Err(error) = storage.mark() {
                    tracing::warn!(%error, "the log could not be marked as whole");
                }
            }
        }
    }
}

/// The writer thread: ends when the driver is gone or the storage has failed.
fn work(shared: &Shared, queue: &blocking::Receiver<Job>, done: &mpsc::UnboundedSender<Done>) {
    let mut jobs = VecDeque::new();
    let mut room = Room::Ample;
    loop {
        let now = shared.storage().room();
        if now != room {
            room = now;
            let _ = done.send(Done::Room(room));
        }
        if jobs.is_empty() {
            match queue.recv_timeout(IDLE) {
                Ok(job) => jobs.push_back(job),
                Err(blocking::RecvTimeoutError::Timeout) => {
                    // The storage knows whether anything was written since the last mark.
                    if !mark(shared, done) {
                        return;
                    }
                    continue;
                }
                Err(blocking::RecvTimeoutError::Disconnected) => {
                    mark(shared, done);
                    return;
                }
            }
        }
        jobs.extend(queue.try_iter());
        let before = jobs.len();
        let job = take_merged_write(&mut jobs).map(Job::Persist).or_else(|| jobs.pop_front());
        let result = job.map(|job| run(shared.storage().as_mut(), job, done, &shared.is_stopping));
        shared.queued.fetch_sub(before - jobs.len(), Ordering::AcqRel);
        if let Some(Err(error)) = result {
            let _ = done.send(Done::Failed(error));
            return;
        }
    }
}

/// Takes all writes out of the queue, as one.
fn take_merged_write(jobs: &mut VecDeque<Job>) -> Option<Write> {
    let mut merged: Option<Write> = None;
    let mut others = VecDeque::new();
    for job in jobs.drain(..) {
        match job {
            Job::Persist(write) => match &mut merged {
                Some(merged) => merged.merge(write),
                None => merged = Some(write),
            },
            other => others.push_back(other),
        }
    }
    *jobs = others;
    merged
}

fn run(
    storage: &mut dyn Storage,
    job: Job,
    done: &mpsc::UnboundedSender<Done>,
    is_stopping: &AtomicBool,
) -> Result<(), paxos_storage::Error> {
    let result = match job {
        Job::Persist(write) => Done::Durable(persist(storage, &write, done, is_stopping)?),
        Job::StoreSnapshot { slot, offset, data, author } => {
            if let Err(error) = storage.write_snapshot(slot, offset, &data) {
                return reject_snapshot(slot, error, done);
            }
            match author {
                Some(author) => {
                    let _ = author.send(()); // Its thread may have given up.
                    return Ok(());
                }
                None => Done::SnapshotStored { slot, offset: offset + data.len() as u64 },
            }
        }
        Job::FinishSnapshot { meta, is_own } => match storage.finish_snapshot(meta) {
            Ok(()) => Done::SnapshotFinished { meta, is_own },
            Err(error) => return reject_snapshot(meta.slot, error, done),
        },
        Job::LoadSnapshot { to, meta, offset, max_bytes } => {
            match storage.read_snapshot(meta.slot, offset, max_bytes)? {
                Some(data) => Done::SnapshotLoaded { to, meta, offset, data },
                None => return Ok(()),
            }
        }
        Job::Restore { meta, restore, done } => {
            let mut reader = SnapshotReader::new(storage, meta.slot);
            let _ = done.send(restore(&mut reader));
            return Ok(());
        }
        Job::Compact { through } => return storage.compact(through),
        Job::RememberPeers { peers } => {
            storage.remember_peers(&peers)?;
            Done::PeersRemembered { peers }
        }
    };
    let _ = done.send(result);
    Ok(())
}

/// A snapshot that is not whole, or for which there is no room, is given up; the storage goes on.
fn reject_snapshot(
    slot: Slot,
    error: paxos_storage::Error,
    done: &mpsc::UnboundedSender<Done>,
) -> Result<(), paxos_storage::Error> {
    if !matches!(error.kind(), ErrorKind::SnapshotMismatch | ErrorKind::Full) {
        return Err(error);
    }
    tracing::warn!(slot = slot.0, %error, "a snapshot could not be stored");
    let _ = done.send(Done::SnapshotRejected { slot });
    Ok(())
}

/// Persists a write; waits for as long as the disk is full and the node is not to stop. Nobody is told of the write
/// meanwhile, so the rest of the cluster goes on without this node.
fn persist(
    storage: &mut dyn Storage,
    write: &Write,
    done: &mpsc::UnboundedSender<Done>,
    is_stopping: &AtomicBool,
) -> Result<Durable, paxos_storage::Error> {
    let mut waits = false;
    let result = loop {
        match storage.persist(write.clone()) {
            Err(error) if error.kind() == ErrorKind::Full && !is_stopping.load(Ordering::Acquire) => {
                tracing::warn!(%error, "waiting for space on the disk");
                if !std::mem::replace(&mut waits, true) {
                    let _ = done.send(Done::Room(Room::Low));
                }
                std::thread::park_timeout(FULL_PAUSE);
            }
            result => break result,
        }
    };
    if waits {
        let _ = done.send(Done::Room(storage.room()));
    }
    result
}

/// Marks the log as whole. Tells the driver if the disk fails at that, and gives `false`; one that is full has lost
/// nothing.
fn mark(shared: &Shared, done: &mpsc::UnboundedSender<Done>) -> bool {
    let Err(error) = shared.storage().mark() else { return true };
    tracing::warn!(%error, "the log could not be marked as whole");
    let is_sound = error.kind() == ErrorKind::Full;
    if !is_sound {
        let _ = done.send(Done::Failed(error));
    }
    is_sound
}

/// A snapshot in the storage as a stream of bytes.
pub(crate) struct SnapshotReader<'a> {
    storage: &'a mut dyn Storage,
    slot: Slot,
    offset: u64,
    buffered: Bytes,
}

impl<'a> SnapshotReader<'a> {
    pub(crate) fn new(storage: &'a mut dyn Storage, slot: Slot) -> Self {
        SnapshotReader { storage, slot, offset: 0, buffered: Bytes::new() }
    }
}

impl io::Read for SnapshotReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.buffered.is_empty() {
            let piece = self.storage.read_snapshot(self.slot, self.offset, READ_BYTES);
            let piece = piece.map_err(io::Error::other)?;
            self.buffered = piece.ok_or_else(|| io::Error::other("the snapshot is gone"))?;
            self.offset += self.buffered.len() as u64;
        }
        let length = self.buffered.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.buffered.split_to(length));
        Ok(length)
    }
}
