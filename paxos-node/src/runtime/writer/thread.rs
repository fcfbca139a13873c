//! The writer thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use paxos_core::Write;
use paxos_storage::{Capacity, Error, ErrorKind, Storage};
use tokio::sync::{mpsc, oneshot};

use super::activity::Activity;
use super::job::{Job, JobResult, take_writes};
use super::pace::DiskPace;

/// After this long without a write the last one is marked, so that a later crash can't make it look like a
/// torn tail.
const IDLE: Duration = Duration::from_millis(100);
/// How long to wait before a write for which the disk is too full is tried again, unless room is made before.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long a node that stops waits for the thread: a disk that hangs must not keep it from ending.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// The handle of the thread. To drop it tells the thread to stop.
pub(super) struct ThreadHandle {
    thread: std::thread::Thread,
    activity: Arc<Activity>,
    /// Resolves when the thread has closed the storage.
    ended: oneshot::Receiver<()>,
}

impl ThreadHandle {
    /// How long the present call of the storage has taken so far; `None` between calls.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.activity.busy_for()
    }

    fn tell_to_stop(&self) {
        self.activity.stop();
        self.thread.unpark();
    }

    /// Waits until the thread has closed the storage; `false` if the disk did not return in time.
    pub(super) async fn stop(mut self) -> bool {
        self.tell_to_stop();
        // A thread that panics ends as well; its storage is closed all the same.
        tokio::time::timeout(STOP_PATIENCE, &mut self.ended).await.is_ok()
    }
}

impl Drop for ThreadHandle {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

/// Starts the thread. It ends when the queue is closed or the storage has failed.
pub(super) fn start(
    storage: Box<dyn Storage>,
    queue: blocking::Receiver<Job>,
    results: mpsc::UnboundedSender<JobResult>,
) -> io::Result<ThreadHandle> {
    let activity = Arc::new(Activity::new());
    let (end, ended) = oneshot::channel();
    let writer = WriterThread {
        storage,
        queue,
        results,
        activity: Arc::clone(&activity),
        capacity: Capacity::Ample,
        held: None,
        pace: DiskPace::new(Instant::now()),
    };
    let run = move || {
        writer.run();
        let _ = end.send(()); // The storage is closed: somebody may be waiting to open it again.
    };
    let spawned = std::thread::Builder::new().name(String::from("paxos-writer")).spawn(run)?;
    Ok(ThreadHandle { thread: spawned.thread().clone(), activity, ended })
}

struct WriterThread {
    storage: Box<dyn Storage>,
    queue: blocking::Receiver<Job>,
    results: mpsc::UnboundedSender<JobResult>,
    activity: Arc<Activity>,
    /// What the driver knows of the room that is left.
    capacity: Capacity,
    /// A write for which the disk has no space, and when it is tried again.
    held: Option<(Write, Instant)>,
    pace: DiskPace,
}

impl WriterThread {
    fn run(mut self) {
        if let Err(error) = self.work() {
            let _ = self.results.send(JobResult::Failed(error));
        }
    }

    /// Runs jobs until the queue is closed.
    fn work(&mut self) -> Result<(), Error> {
        let mut jobs = VecDeque::new();
        loop {
            self.tell_capacity();
            if jobs.is_empty() && self.held.as_ref().is_none_or(|(_, again_at)| Instant::now() < *again_at) {
                match self.next_job() {
                    Ok(job) => jobs.push_back(job),
                    Err(blocking::RecvTimeoutError::Timeout) if self.held.is_some() => {}
                    // The storage knows whether anything was written since the last mark.
                    Err(blocking::RecvTimeoutError::Timeout) => self.mark()?,
                    Err(blocking::RecvTimeoutError::Disconnected) => return self.mark(),
                }
            }
            jobs.extend(self.queue.try_iter());
            self.write(&mut jobs)?;
            let Some(job) = jobs.pop_front() else { continue };
            let makes_room = job.makes_room();
            job.run(self.storage.as_mut(), &self.results, &self.activity)?;
            if let Some((_, again_at)) = self.held.as_mut().filter(|_| makes_room) {
                *again_at = Instant::now();
            }
        }
    }

    /// Persists all writes that are queued. While the disk is full they are held, and tried again, unless the
    /// node is stopping; meanwhile they are not acknowledged, so the rest of the cluster goes on without this
    /// node, and other jobs go on: a snapshot that gets finished makes room.
    fn write(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), Error> {
        let held = self.held.take();
        let again_at = held.as_ref().map(|(_, again_at)| *again_at);
        let Some(write) = take_writes(held.map(|(write, _)| write), jobs) else { return Ok(()) };
        if let Some(again_at) = again_at.filter(|again_at| Instant::now() < *again_at) {
            self.held = Some((write, again_at));
            return Ok(());
        }
        let began = Instant::now();
        let persisted = self.activity.watch(|| self.storage.persist(write.clone()));
        if let Some(line) = self.pace.on_write(began, Instant::now()) {
            tracing::warn!("{line}");
        }
        match persisted {
            Err(error) if error.kind() == ErrorKind::Full && !self.activity.is_stopping() => {
                if again_at.is_none() {
                    tracing::warn!(%error, "waiting for space on the disk");
                }
                self.held = Some((write, Instant::now() + FULL_PAUSE));
            }
            persisted => {
                let _ = self.results.send(JobResult::Durable(persisted?));
                if again_at.is_some() {
                    tracing::warn!("there is space on the disk again");
                }
            }
        }
        Ok(())
    }

    fn tell_capacity(&mut self) {
        let now = if self.held.is_some() { Capacity::Low } else { self.storage.capacity() };
        if now != self.capacity {
            self.capacity = now;
            let _ = self.results.send(JobResult::Capacity(now));
        }
    }

    /// The next job, if one comes within [`IDLE`]. On shutdown only those already queued: a thread that
    /// writes or restores a snapshot could hand in more for a long time.
    fn next_job(&self) -> Result<Job, blocking::RecvTimeoutError> {
        let next = self.queue.recv_timeout(IDLE);
        if self.activity.is_stopping() && next.is_err() {
            return Err(blocking::RecvTimeoutError::Disconnected);
        }
        next
    }

    /// Marks the log as whole. A full disk has lost nothing.
    ///
    /// # Errors
    ///
    /// If the disk fails at that.
    fn mark(&mut self) -> Result<(), Error> {
        let Err(error) = self.activity.watch(|| self.storage.prove_last_write()) else { return Ok(()) };
        tracing::warn!(%error, "the log could not be marked as whole");
        if error.kind() == ErrorKind::Full { Ok(()) } else { Err(error) }
    }
}
