//! The next segment, made ready before it is needed.
//!
//! A thread of its own makes it and has META tell of it, so that the append that finds its segment full has nothing
//! to do but to go on in the next. META may thus name a segment to which no frame has gone yet.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::buffer::round_up;
use super::disk::Disk;
use super::meta::Meta;
use super::segment::{self, MAX_PIECE_BYTES, Segment};

/// A full disk is tried again this often.
const RETRY: Duration = Duration::from_secs(2);
/// However slowly the log has grown, it may soon grow faster: the next segment is made in no longer than this.
const MAX_LEISURE: Duration = Duration::from_millis(500);
/// So often a piece of zeros is written, if the pieces don't get too large or too small for it.
const PIECE_EVERY: Duration = Duration::from_millis(1);
const MIN_PIECE_BYTES: usize = 32 << 10;

/// A segment that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) size_bytes: usize,
    /// In what time it is soon enough; a shorter one is taken if this is very long.
    pub(super) leisure: Duration,
}

/// Pieces of zeros and pauses between them, so that a segment is there in time and who writes frames meanwhile waits
/// little for it.
#[derive(Debug)]
struct Pace {
    piece_bytes: usize,
    interval: Duration,
    piece_began: Instant,
}

impl Pace {
    fn new(order: Order) -> Pace {
        let leisure = order.leisure.min(MAX_LEISURE);
        let pieces = usize::try_from(leisure.as_micros() / PIECE_EVERY.as_micros()).unwrap_or(usize::MAX);
        let piece_bytes = round_up(order.size_bytes / pieces.max(1)).clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES);
        let pieces = u32::try_from(order.size_bytes.div_ceil(piece_bytes)).unwrap_or(u32::MAX);
        Pace { piece_bytes, interval: leisure / pieces, piece_began: Instant::now() }
    }

    /// How long to wait behind a piece: until the next one is due, and no shorter than this one took.
    fn pause(&self) -> Duration {
        let took = self.piece_began.elapsed();
        self.interval.saturating_sub(took).max(took)
    }

    fn next_piece(&mut self) -> usize {
        self.piece_began = Instant::now();
        self.piece_bytes
    }
}

/// Who makes the next segment ahead.
#[derive(Debug)]
pub(super) enum Preparer {
    /// Nobody: it is made when it is needed.
    Nobody,
    /// A thread.
    Thread(PreparerThread),
    /// Whoever orders it, so that every run does the same in the same order.
    #[cfg(test)]
    Orderer { disk: Arc<dyn Disk>, meta: Meta, made: Option<io::Result<Segment>> },
}

impl Preparer {
    /// Has a segment made, unless one is already.
    pub(super) fn order(&mut self, order: Order) {
        match self {
            Preparer::Nobody => {}
            Preparer::Thread(thread) => thread.order(order),
            #[cfg(test)]
            Preparer::Orderer { disk, meta, made } => {
                made.get_or_insert_with(|| make(disk.as_ref(), meta, order, segment::AT_ONCE));
            }
        }
    }

    /// The segment that was ordered; waits for it, but not for space if there is none. `None` if none was.
    pub(super) fn finish(&mut self) -> Option<io::Result<Segment>> {
        match self {
            Preparer::Nobody => None,
            Preparer::Thread(thread) => thread.finish(),
            #[cfg(test)]
            Preparer::Orderer { made, .. } => made.take(),
        }
    }

    /// Whether the disk was too full for the segment when last tried.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Preparer::Thread(thread) if thread.state.has_no_space.load(Ordering::Relaxed))
    }
}

/// Makes a segment and has META tell of it; frames may go there when this returns.
pub(super) fn make(
    disk: &dyn Disk,
    meta: &Meta,
    order: Order,
    next_piece: impl FnMut() -> Option<usize>,
) -> io::Result<Segment> {
    let Order { number, size_bytes, .. } = order;
    let segment = segment::create(disk, number, size_bytes, meta.identity().fingerprint(), next_piece)?;
    // A failure of META is never one that passes when there is space again.
    let failed = |error| io::Error::other(format!("META could not be written: {error}"));
    meta.change(|description| description.last_segment = number).map_err(failed)?;
    Ok(segment)
}

/// Whether the failure is that there is no space.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The thread, from outside. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PreparerThread {
    orders: Option<Sender<Order>>,
    made: Receiver<io::Result<Segment>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<State>,
    is_ordered: bool,
}

#[derive(Debug, Default)]
struct State {
    /// There was no space when last tried.
    has_no_space: AtomicBool,
    /// Someone waits for the segment now, so there is no time to wait for space, nor to make way for others.
    is_awaited: AtomicBool,
    /// Nobody wants the segment any more.
    is_stopping: AtomicBool,
}

impl PreparerThread {
    pub(super) fn start(disk: Arc<dyn Disk>, meta: Meta) -> io::Result<PreparerThread> {
        let (orders, ordered) = channel();
        let (results, made) = channel();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let work = move || {
            for order in ordered {
                if results.send(shared.prepare(disk.as_ref(), &meta, order)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(String::from("paxos-segment")).spawn(work)?;
        Ok(PreparerThread { orders: Some(orders), made, thread: Some(thread), state, is_ordered: false })
    }

    fn order(&mut self, order: Order) {
        if !self.is_ordered
            && let Some(orders) = &self.orders
        {
            self.is_ordered = true;
            let _ = orders.send(order); // That the thread is gone is seen when its segment is needed.
        }
    }

    fn finish(&mut self) -> Option<io::Result<Segment>> {
        if !std::mem::take(&mut self.is_ordered) {
            return None;
        }
        // As a rule it is there: to wake the thread for nothing takes as long as a sync.
        if let Ok(made) = self.made.try_recv() {
            return Some(made);
        }
        self.state.is_awaited.store(true, Ordering::SeqCst);
        self.wake();
        let gone = |_| Err(io::Error::other("the thread that prepares segments has panicked"));
        let made = self.made.recv().unwrap_or_else(gone);
        self.state.is_awaited.store(false, Ordering::SeqCst);
        Some(made)
    }

    /// Wakes the thread if it waits for space.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for PreparerThread {
    fn drop(&mut self) {
        self.state.is_stopping.store(true, Ordering::SeqCst);
        self.orders = None;
        self.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // Nothing may write to the directory once its lock is released.
        }
    }
}

impl State {
    fn prepare(&self, disk: &dyn Disk, meta: &Meta, order: Order) -> io::Result<Segment> {
        loop {
            let mut pace = Pace::new(order);
            let next_piece = || {
                if self.is_awaited.load(Ordering::SeqCst) {
                    return Some(MAX_PIECE_BYTES);
                }
                std::thread::sleep(pace.pause());
                (!self.is_stopping.load(Ordering::SeqCst)).then(|| pace.next_piece())
            };
            match make(disk, meta, order, next_piece) {
                Err(error) if is_no_space(&error) => {
                    if !self.has_no_space.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "no space for the next segment of the log; trying again");
                    }
                    if !self.has_to_give_up() {
                        std::thread::park_timeout(RETRY);
                    }
                    if self.has_to_give_up() {
                        return Err(error);
                    }
                }
                result => {
                    self.has_no_space.store(false, Ordering::Relaxed);
                    return result;
                }
            }
        }
    }

    fn has_to_give_up(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst) || self.is_stopping.load(Ordering::SeqCst)
    }
}
