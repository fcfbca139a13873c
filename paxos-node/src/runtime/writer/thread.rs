//! The writer thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use paxos_storage::{Capacity, ErrorKind, Storage};
use tokio::sync::{mpsc, oneshot};

use super::activity::Activity;
use super::job::{Job, JobResult, take_next};

/// After this long without a write the last one is marked, so that a later crash can't make it look like a
/// torn tail.
const IDLE: Duration = Duration::from_millis(100);
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
    let writer = WriterThread { storage, queue, results, activity: Arc::clone(&activity) };
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
}

impl WriterThread {
    fn run(mut self) {
        let mut jobs = VecDeque::new();
        let mut capacity = Capacity::Ample;
        loop {
            let now = self.storage.capacity();
            if now != capacity {
                capacity = now;
                let _ = self.results.send(JobResult::Capacity(capacity));
            }
            if jobs.is_empty() {
                match self.next_job() {
                    Ok(job) => jobs.push_back(job),
                    Err(blocking::RecvTimeoutError::Timeout) => {
                        // The storage knows whether anything was written since the last mark.
                        if !self.mark() {
                            return;
                        }
                        continue;
                    }
                    Err(blocking::RecvTimeoutError::Disconnected) => {
                        self.mark();
                        return;
                    }
                }
            }
            jobs.extend(self.queue.try_iter());
            let Some(job) = take_next(&mut jobs) else { continue };
            if let Err(error) = job.run(self.storage.as_mut(), &self.results, &self.activity) {
                let _ = self.results.send(JobResult::Failed(error));
                return;
            }
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

    /// Marks the log as whole. If the disk fails at that, reports it and returns `false`; a full disk has
    /// lost nothing.
    fn mark(&mut self) -> bool {
        let Err(error) = self.activity.watch(|| self.storage.prove_last_write()) else { return true };
        tracing::warn!(%error, "the log could not be marked as whole");
        let is_sound = error.kind() == ErrorKind::Full;
        if !is_sound {
            let _ = self.results.send(JobResult::Failed(error));
        }
        is_sound
    }
}
