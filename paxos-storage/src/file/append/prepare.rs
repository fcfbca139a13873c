//! Makes the next segment before it is needed.
//!
//! A thread makes it and adds it to META, so that an append which finds its segment full can use the next one
//! at once. So META may name a segment that has no frames yet.
//!
//! It is an old segment with another header and name, if there is a [spare](super::spares). Otherwise it is a
//! new file full of zeros, which costs as many bytes as later the frames. Where there is no space for a whole
//! segment, a smaller one is made, of at most half of what is free: the rest is left to snapshots, which free
//! segments. So only a volume without room for the smallest segment stops the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::file::append::spares::Spares;
use crate::file::disk::Disk;
use crate::file::disk::buffer::{BLOCK_BYTES, round_up};
use crate::file::failure;
use crate::file::layout::meta::Meta;
use crate::file::layout::segment::{self, MAX_PIECE_BYTES, Segment};

/// The pause between attempts to make a segment while there is no space or file descriptor.
const RETRY: Duration = Duration::from_secs(2);
/// The longest time budget for a segment: even a log that has grown slowly may soon grow faster.
const MAX_TIME_BUDGET: Duration = Duration::from_millis(500);
/// Not an error code of any system.
const NO_SHORTAGE: i32 = 0;
/// ENOSPC on every Unix.
const NO_SPACE: i32 = 28;
/// The time between pieces of zeros, unless that makes the pieces too large or too small.
const PIECE_EVERY: Duration = Duration::from_millis(1);
const MIN_PIECE_BYTES: usize = 32 << 10;

/// A request to make a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) size_bytes: usize,
    /// The least size, if there is no space for more.
    pub(crate) least_bytes: usize,
    /// The time to spread the work over, capped by [`MAX_TIME_BUDGET`].
    pub(crate) time_budget: Duration,
}

/// Divides a segment into pieces of zeros with pauses between them, so that the segment is ready in time and
/// syncs of frames are delayed little.
#[derive(Debug)]
struct Pace {
    piece_bytes: usize,
    interval: Duration,
    piece_began: Instant,
}

impl Pace {
    fn new(order: Order) -> Pace {
        let time_budget = order.time_budget.min(MAX_TIME_BUDGET);
        let pieces = usize::try_from(time_budget.as_micros() / PIECE_EVERY.as_micros()).unwrap_or(usize::MAX);
        let piece_bytes = round_up(order.size_bytes / pieces.max(1)).clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES);
        let pieces = u32::try_from(order.size_bytes.div_ceil(piece_bytes)).unwrap_or(u32::MAX);
        Pace { piece_bytes, interval: time_budget / pieces, piece_began: Instant::now() }
    }

    /// The pause after a piece: until the next one is due, and at least as long as this one took.
    fn pause(&self) -> Duration {
        let took = self.piece_began.elapsed();
        self.interval.saturating_sub(took).max(took)
    }

    fn next_piece(&mut self) -> usize {
        self.piece_began = Instant::now();
        self.piece_bytes
    }
}

/// Makes the next segment ahead of time, or does not.
#[derive(Debug)]
pub(crate) enum Preparer {
    /// The log makes each segment when it is needed.
    OnDemand,
    /// A thread makes the next one ahead of time.
    Thread(PreparerThread),
    /// The call to [`order`](Preparer::order) makes it, so that tests are deterministic.
    #[cfg(test)]
    Inline { maker: Maker, made: Option<io::Result<Segment>> },
}

impl Preparer {
    /// Requests a segment, unless one was requested already.
    pub(crate) fn order(&mut self, order: Order) {
        match self {
            Preparer::OnDemand => {}
            Preparer::Thread(thread) => thread.order(order),
            #[cfg(test)]
            Preparer::Inline { maker, made } => {
                made.get_or_insert_with(|| maker.make(order, segment::AT_ONCE));
            }
        }
    }

    /// Waits for the requested segment, but not for the end of a shortage. `None` if none was requested.
    pub(crate) fn finish(&mut self) -> Option<io::Result<Segment>> {
        match self {
            Preparer::OnDemand => None,
            Preparer::Thread(thread) => thread.finish(),
            #[cfg(test)]
            Preparer::Inline { made, .. } => made.take(),
        }
    }

    /// The shortage that the last attempt met, if it met one.
    pub(crate) fn shortage(&self) -> Option<io::Error> {
        let Preparer::Thread(thread) = self else { return None };
        let code = thread.signals.shortage.load(Ordering::Relaxed);
        (code != NO_SHORTAGE).then(|| io::Error::from_raw_os_error(code))
    }
}

/// What it takes to make segments.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) meta: Meta,
    pub(crate) spares: Spares,
}

impl Maker {
    /// Makes a segment and adds it to META. When this returns, frames may be written to it. It may be larger
    /// than ordered.
    pub(crate) fn make(
        &self,
        order: Order,
        mut next_piece: impl FnMut() -> Option<usize>,
    ) -> io::Result<Segment> {
        let Order { number, size_bytes, .. } = order;
        let fingerprint = self.meta.identity().fingerprint();
        let reused = self.spares.reuse(self.disk.as_ref(), number, size_bytes, fingerprint)?;
        let segment = match reused {
            Some(segment) => segment,
            None => self.create(order, fingerprint, &mut next_piece)?,
        };
        self.describe(number)?;
        Ok(segment)
    }

    /// Takes back a segment that has no frames, so that its space can be used for another one.
    pub(crate) fn take_back(&self, segment: Segment) -> io::Result<()> {
        let name = segment::name(segment.number);
        self.describe(segment.number - 1)?;
        drop(segment);
        self.disk.remove(&name)
    }

    fn describe(&self, last_segment: u64) -> io::Result<()> {
        // A failed write of META is final, even if it was for lack of space.
        let failed = |error| io::Error::other(format!("META could not be written: {error}"));
        self.meta.change(|description| description.last_segment = last_segment).map_err(failed)
    }

    /// Creates a segment that fits into the free space.
    fn create(
        &self,
        order: Order,
        fingerprint: u64,
        next_piece: &mut impl FnMut() -> Option<usize>,
    ) -> io::Result<Segment> {
        let disk = self.disk.as_ref();
        let mut size_bytes = self.size_that_fits(order);
        loop {
            let made = segment::create(disk, order.number, size_bytes, fingerprint, &mut *next_piece);
            match made {
                Err(error) if failure::of_space(&error) && self.spares.give_up(disk) => {}
                Err(error) if failure::of_space(&error) && size_bytes > order.least_bytes => {
                    size_bytes = whole_blocks(size_bytes / 2).max(order.least_bytes);
                }
                made => return made,
            }
        }
    }

    /// The ordered size, or half of the free space if it does not fit. What the system says of that is no
    /// promise: the attempt shows.
    fn size_that_fits(&self, order: Order) -> usize {
        let free_bytes = || match self.disk.free_bytes() {
            Ok(free) => usize::try_from(free).unwrap_or(usize::MAX),
            Err(_) => usize::MAX,
        };
        if free_bytes() < order.size_bytes {
            self.spares.give_up(self.disk.as_ref());
        }
        match free_bytes() {
            free if free >= order.size_bytes => order.size_bytes,
            free => whole_blocks(free / 2).max(order.least_bytes),
        }
    }
}

fn whole_blocks(size_bytes: usize) -> usize {
    size_bytes / BLOCK_BYTES * BLOCK_BYTES
}

/// The handle of the thread that makes segments. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct PreparerThread {
    orders: Option<Sender<Order>>,
    made: Receiver<io::Result<Segment>>,
    thread: Option<JoinHandle<()>>,
    signals: Arc<Signals>,
    is_ordered: bool,
}

/// What the thread and the log tell each other.
#[derive(Debug, Default)]
struct Signals {
    /// The system's error code for the shortage that the last attempt met, or [`NO_SHORTAGE`].
    shortage: AtomicI32,
    /// The log waits for the segment: make it without pauses, and report a shortage at once.
    is_awaited: AtomicBool,
    /// The segment is not needed any more.
    is_stopping: AtomicBool,
}

impl PreparerThread {
    pub(crate) fn start(maker: Maker) -> io::Result<PreparerThread> {
        let (orders, ordered) = channel();
        let (results, made) = channel();
        let signals = Arc::new(Signals::default());
        let thread_signals = Arc::clone(&signals);
        let work = move || {
            for order in ordered {
                if results.send(thread_signals.prepare(&maker, order)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(String::from("paxos-segment")).spawn(work)?;
        Ok(PreparerThread { orders: Some(orders), made, thread: Some(thread), signals, is_ordered: false })
    }

    fn order(&mut self, order: Order) {
        if !self.is_ordered
            && let Some(orders) = &self.orders
        {
            self.is_ordered = true;
            let _ = orders.send(order); // If the thread is gone, that is noticed when the segment is needed.
        }
    }

    fn finish(&mut self) -> Option<io::Result<Segment>> {
        if !std::mem::take(&mut self.is_ordered) {
            return None;
        }
        // Usually it is ready, and waking the thread for nothing would take as long as a sync.
        if let Ok(made) = self.made.try_recv() {
            return Some(made);
        }
        self.signals.is_awaited.store(true, Ordering::SeqCst);
        self.wake();
        let gone = |_| Err(io::Error::other("the thread that prepares segments has panicked"));
        let made = self.made.recv().unwrap_or_else(gone);
        self.signals.is_awaited.store(false, Ordering::SeqCst);
        Some(made)
    }

    /// Wakes the thread from its pause after a shortage.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for PreparerThread {
    fn drop(&mut self) {
        self.signals.is_stopping.store(true, Ordering::SeqCst);
        self.orders = None;
        self.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // The thread must not write to the directory after its lock is released.
        }
    }
}

impl Signals {
    fn prepare(&self, maker: &Maker, order: Order) -> io::Result<Segment> {
        loop {
            let mut pace = Pace::new(order);
            let next_piece = || {
                if self.is_awaited.load(Ordering::SeqCst) {
                    return Some(MAX_PIECE_BYTES);
                }
                std::thread::sleep(pace.pause());
                (!self.is_stopping.load(Ordering::SeqCst)).then(|| pace.next_piece())
            };
            match maker.make(order, next_piece) {
                Err(error) if failure::of_space(&error) || failure::of_descriptors(&error) => {
                    let code = error.raw_os_error().unwrap_or(NO_SPACE);
                    if self.shortage.swap(code, Ordering::Relaxed) == NO_SHORTAGE {
                        let what = if failure::of_space(&error) { "space" } else { "file descriptor" };
                        tracing::warn!(%error, "no {what} for the next segment of the log; retrying");
                    }
                    if !self.has_to_give_up() {
                        std::thread::park_timeout(RETRY);
                    }
                    if self.has_to_give_up() {
                        return Err(error);
                    }
                }
                result => {
                    if self.shortage.swap(NO_SHORTAGE, Ordering::Relaxed) != NO_SHORTAGE && result.is_ok() {
                        tracing::warn!("the next segment of the log could be made again");
                    }
                    return result;
                }
            }
        }
    }

    fn has_to_give_up(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst) || self.is_stopping.load(Ordering::SeqCst)
    }
}
