//! Many appends at a time, through a writer thread.
//!
//! At saturation the disk writes more than in the bare case: frames of five blocks, and as many bytes of
//! zeros for the next segment. So the bare disk is measured with these bytes, too: it reaches 0.69 to 0.74 of
//! its syncs with one block, and the log 0.73 to 0.81. The log can't gain what the disk loses there. Two
//! attempts did not help: one block for each sync (0.76 to 0.81, with a part lost to the zeros), and a
//! submitter that busy-waits without yielding (0.62 to 0.66, because the system's own disk thread needs that
//! core).

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use paxos_core::Value;

use super::figures::{Goal, Table};
use super::raw::{BLOCK_BYTES, RawFile};
use super::writer::{Client, Writer};
use super::{Outcome, Scale, log};

/// Appends under way at saturation, all submitted by one thread, as the driver of a node does.
pub(crate) const WAITING: u32 = 128;
/// Threads that each wait for their own append before the next one.
const WRITERS: u32 = 32;
/// The length of a frame with [`MAX_MERGED`](super::writer::MAX_MERGED) appends.
const FRAME_BYTES: usize = 5 * BLOCK_BYTES;
/// How long a node's driver polls by default.
const BUSY_POLL: Duration = Duration::from_micros(100);
/// How many bytes of the next segment are written at once.
const ZEROS_BYTES: usize = 128 << 10;

/// The result of a turn.
#[derive(Clone, Copy, Debug)]
struct Work {
    appends: u32,
    syncs: u32,
    time: Duration,
}

impl Work {
    fn appends_per_second(&self) -> f64 {
        f64::from(self.appends) / self.time.as_secs_f64()
    }

    fn syncs_per_second(&self) -> f64 {
        f64::from(self.syncs) / self.time.as_secs_f64()
    }
}

/// The bare disk, lone appends, a queue that is never empty, and parallel writers take short turns. The
/// figure is the median of the ratios of neighbouring turns, because other load of the disk comes in bursts.
pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    let mut disk = RawFile::create(&directory.join("raw"))?;
    let mut loaded = LoadedDisk::create(directory)?;
    let mut storage = log::create(&directory.join("lone"), log::FileSettings::default())?;
    let (writer, ending) =
        Writer::start(log::create(&directory.join("thread"), log::FileSettings::default())?, None)?;
    let value = log::value(log::VALUE_BYTES);
    let (mut raw, mut lone, mut saturated, mut parallel) = (vec![], vec![], vec![], vec![]);
    let mut with_its_bytes = vec![];
    let mut number = 0;
    for _ in 0..scale.windows {
        raw.push(repeat(scale.window, || Ok(disk.write()?))?);
        saturated.push(saturate(&writer, &value, scale.window)?);
        with_its_bytes.push(repeat(scale.window, || Ok(loaded.write()?))?);
        lone.push(repeat(scale.window, || {
            number += 1;
            log::append(&mut storage, number, 1, &value)
        })?);
        parallel.push(in_parallel(&writer, &value, scale.window));
    }
    ending.wait(writer);
    let of_turns = format!("medians of {} turns", scale.windows);
    let (one, other) = (rates(&saturated, Work::syncs_per_second), rates(&raw, Work::syncs_per_second));
    let per_sync = middle(saturated.iter().map(|work| f64::from(work.appends) / f64::from(work.syncs)));
    let detail = format!(
        "{:.0}/s / {:.0}/s, {of_turns}; {WAITING} appends under way, {per_sync:.1} to a sync",
        middle(one.clone()),
        middle(other.clone())
    );
    let figure = middle_ratio(one, other);
    table.add("syncs at saturation / raw syncs, rates", detail, figure, Goal::AtLeast(0.9));
    let (one, other) = (rates(&with_its_bytes, Work::syncs_per_second), rates(&raw, Work::syncs_per_second));
    let detail = format!("{:.0}/s, {of_turns}; {FRAME_BYTES} bytes and as many zeros", middle(one.clone()));
    let figure = middle_ratio(one, other);
    table.add("raw syncs of as many bytes / raw syncs, rates", detail, figure, Goal::Told);
    let (one, other) = (rates(&parallel, Work::appends_per_second), rates(&lone, Work::appends_per_second));
    let per_sync = middle(parallel.iter().map(|work| f64::from(work.appends) / f64::from(work.syncs)));
    let detail = format!(
        "{:.0}/s / {:.0}/s inline, {of_turns}; {per_sync:.1} to a sync",
        middle(one.clone()),
        middle(other.clone())
    );
    let figure = middle_ratio(one, other);
    table.add("appends of 32 writers / of one, rates", detail, figure, Goal::AtLeast(10.0));
    Ok(())
}

/// The bare disk with the bytes of a saturated log: long frames, and zeros that a second thread writes.
struct LoadedDisk {
    frames: RawFile,
    frames_bytes: usize,
    zeros: SyncSender<()>,
}

impl LoadedDisk {
    fn create(directory: &Path) -> std::io::Result<LoadedDisk> {
        let frames = RawFile::of_pieces(&directory.join("raw-frames"), FRAME_BYTES)?;
        let mut file = RawFile::of_pieces(&directory.join("raw-zeros"), ZEROS_BYTES)?;
        let (zeros, wanted) = sync_channel(1);
        std::thread::Builder::new().name(String::from("zeros")).spawn(move || {
            for () in wanted {
                // If the disk fails, the writes of frames report it.
                let _ = file.write_unsynced();
            }
        })?;
        Ok(LoadedDisk { frames, frames_bytes: 0, zeros })
    }

    /// One write and one sync.
    fn write(&mut self) -> std::io::Result<()> {
        self.frames_bytes += FRAME_BYTES;
        if self.frames_bytes >= ZEROS_BYTES {
            self.frames_bytes -= ZEROS_BYTES;
            self.zeros.send(()).expect("the thread lives as long as this");
        }
        self.frames.write()
    }
}

fn rates(turns: &[Work], rate: fn(&Work) -> f64) -> impl Iterator<Item = f64> + Clone {
    turns.iter().map(rate)
}

fn middle(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The ratios of neighbouring turns.
fn middle_ratio(one: impl Iterator<Item = f64>, other: impl Iterator<Item = f64>) -> f64 {
    middle(one.zip(other).map(|(one, other)| one / other))
}

/// Appends one after the other on this thread.
fn repeat(window: Duration, mut append: impl FnMut() -> Outcome<()>) -> Outcome<Work> {
    let (start, mut appends) = (Instant::now(), 0);
    while start.elapsed() < window {
        append()?;
        appends += 1;
    }
    Ok(Work { appends, syncs: appends, time: start.elapsed() })
}

/// Submits a new append for each that is done. Waits for the last ones, which count with their time.
fn saturate(writer: &Writer, value: &Value, window: Duration) -> Outcome<Work> {
    let (done, finished) = channel();
    let client = Client::new(done);
    let (start, syncs) = (Instant::now(), writer.syncs());
    (0..WAITING).for_each(|_| writer.submit(value, &client));
    let (mut appends, mut under_way) = (0, WAITING);
    while under_way > 0 {
        let finished = await_done(&finished)?;
        appends += finished;
        under_way -= finished;
        if start.elapsed() < window {
            (0..finished).for_each(|_| writer.submit(value, &client));
            under_way += finished;
        }
    }
    Ok(Work { appends, syncs: writer.syncs() - syncs, time: start.elapsed() })
}

/// Polls for a while before it waits, as a node's driver does.
pub(crate) fn await_done(finished: &Receiver<u32>) -> Result<u32, RecvError> {
    let since = Instant::now();
    while since.elapsed() < BUSY_POLL {
        if let Ok(count) = finished.try_recv() {
            return Ok(count);
        }
        std::thread::yield_now();
    }
    finished.recv()
}

fn in_parallel(writer: &Writer, value: &Value, window: Duration) -> Work {
    let (start, syncs) = (Instant::now(), writer.syncs());
    let append_repeatedly = || {
        let (done, finished) = channel();
        let client = Client::new(done);
        let mut appends = 0;
        while start.elapsed() < window {
            writer.submit(value, &client);
            finished.recv().expect("this thread holds a sender");
            appends += 1;
        }
        appends
    };
    let appends = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(append_repeatedly)).collect();
        writers.into_iter().map(|writer| writer.join().expect("no writer panics")).sum()
    });
    Work { appends, syncs: writer.syncs() - syncs, time: start.elapsed() }
}
