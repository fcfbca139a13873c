//! The next segment, made ready on a thread of its own before it is needed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::segment::{self, Segment};

/// A full disk is tried again this often.
const RETRY: Duration = Duration::from_secs(2);

/// A segment in the making. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Preparation {
    /// A message wakes the thread if it waits for space; dropped, it tells it to stop.
    wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<io::Result<Segment>>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// There was no space when last tried.
    is_full: AtomicBool,
    /// Someone waits for the segment now, so there is no time to wait for space.
    is_awaited: AtomicBool,
}

impl Preparation {
    /// Begins to make a segment.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        number: u64,
        size_bytes: usize,
        fingerprint: u64,
    ) -> io::Result<Preparation> {
        let (wanted, watch) = channel();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let work = move || prepare(disk.as_ref(), number, size_bytes, fingerprint, &watch, &shared);
        let thread = std::thread::Builder::new().name(String::from("paxos-segment")).spawn(work)?;
        Ok(Preparation { wanted: Some(wanted), thread: Some(thread), state })
    }

    /// Whether the disk was too full for the segment when last tried.
    pub(super) fn is_full(&self) -> bool {
        self.state.is_full.load(Ordering::Relaxed)
    }

    /// Waits for the segment, but not for space if there is none.
    pub(super) fn finish(mut self) -> io::Result<Segment> {
        self.state.is_awaited.store(true, Ordering::SeqCst);
        if let Some(wanted) = &self.wanted {
            let _ = wanted.send(()); // A thread that has ended needs no waking.
        }
        let thread =
            self.thread.take().expect("only finish and drop take the thread, and each ends the preparation");
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that prepares segments panicked")))
    }
}

impl Drop for Preparation {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // Nothing may write to the directory once its lock is released.
        }
    }
}

/// Whether the failure is that there is no space.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn prepare(
    disk: &dyn Disk,
    number: u64,
    size_bytes: usize,
    fingerprint: u64,
    watch: &Receiver<()>,
    state: &State,
) -> io::Result<Segment> {
    loop {
        // Between two pieces of zeros as much time goes to whoever else writes as the piece has taken.
        let mut piece_began = Instant::now();
        let is_wanted = || {
            if !state.is_awaited.load(Ordering::SeqCst) {
                std::thread::sleep(piece_began.elapsed());
            }
            piece_began = Instant::now();
            watch.try_recv() != Err(TryRecvError::Disconnected)
        };
        match segment::create(disk, number, size_bytes, fingerprint, is_wanted) {
            Err(error) if is_no_space(&error) => {
                if !state.is_full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "no space for the next segment of the log; trying again");
                }
                if state.is_awaited.load(Ordering::SeqCst)
                    || watch.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout)
                {
                    return Err(error);
                }
            }
            result => {
                state.is_full.store(false, Ordering::Relaxed);
                return result;
            }
        }
    }
}
