//! What a change of segments costs appends at the same time.
//!
//! A segment of 4 MiB holds 1023 appends of one block each. The [`AROUND`] appends that start shortly before
//! a rotation form its window: it includes the rotation itself, which requests the segment after the next,
//! and the time in which a thread starts to fill that with zeros. All other appends, during which the thread
//! finishes and updates META, form the steady state. All windows are evaluated together, and so is the whole
//! steady state. One append in 64 rotates, so the p99 around rotations is a time that most rotations take.

use std::path::Path;
use std::time::Duration;

use super::figures::{Goal, Table, Times, ratio, timed};
use super::raw::{self, BLOCK_BYTES, RawFile};
use super::{Outcome, Scale, log};

const SEGMENT_BYTES: u64 = 4 << 20;
/// The first segment has this size regardless of the settings.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
const AROUND: u64 = 64;
const BEFORE: u64 = 16;

/// After each of this many appends of the steady state, a write goes to the bare disk.
const RAW_EVERY: u64 = 16;

/// The durations of appends, around rotations and in the steady state.
#[derive(Default)]
struct Measured {
    around: Vec<Duration>,
    steady: Vec<Duration>,
    rotating: Vec<Duration>,
    raw: Vec<Duration>,
}

pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    let Measured { around, steady, rotating, raw } = append_and_rotate(directory, scale.rotations)?;
    let (around, steady) = (Times::of(around), Times::of(steady));
    let (rotating, raw) = (Times::of(rotating), Times::of(raw));
    let detail = format!(
        "{:.1?} / {:.1?}; the {} appends that rotated: median {:.1?}, p99 {:.1?}; raw p99 {:.1?}",
        around.p99(),
        steady.p99(),
        rotating.count(),
        rotating.median(),
        rotating.p99(),
        raw.p99()
    );
    let figure = ratio(around.p99(), steady.p99());
    table.add("append p99 around rotations / steady", detail, figure, Goal::AtMost(2.0));
    Ok(())
}

fn append_and_rotate(directory: &Path, rotations: u64) -> Outcome<Measured> {
    let mut raw = RawFile::create(&directory.join("raw"))?;
    let log_directory = directory.join("log");
    let mut storage = log::create(&log_directory, log::segments_of(SEGMENT_BYTES))?;
    let value = log::value(log::VALUE_BYTES);
    let frames = |segment_bytes: u64| segment_bytes / BLOCK_BYTES as u64 - 1;
    let (first, each) = (frames(FIRST_SEGMENT_BYTES), frames(SEGMENT_BYTES));
    let mut measured = Measured::default();
    for append in 0..first + rotations * each {
        let (time, result) = timed(|| log::append(&mut storage, append + 1, 1, &value));
        result?;
        // Only the end of the first segment belongs to a rotation.
        let Some(since_first_window) = (append + BEFORE).checked_sub(first) else { continue };
        let place = since_first_window % each;
        if place == BEFORE {
            measured.rotating.push(time);
        }
        if place < AROUND {
            measured.around.push(time);
            continue;
        }
        measured.steady.push(time);
        if place.is_multiple_of(RAW_EVERY) {
            let (time, result) = timed(|| raw.write());
            result?;
            measured.raw.push(time);
        }
    }
    check_segments(&log_directory, rotations)?;
    Ok(measured)
}

/// The places of rotations follow from the sizes of segments and frames; if these change, so must they.
fn check_segments(directory: &Path, rotations: u64) -> Outcome<()> {
    let current = directory.join(format!("wal-{:012}", rotations + 1));
    let after = directory.join(format!("wal-{:012}", rotations + 2));
    let is_in_use = |path| raw::has_at(path, log::FRAME_MAGIC, log::FIRST_FRAME_AT);
    if !is_in_use(&current)? || after.exists() && is_in_use(&after)? {
        return Err(format!("not {rotations} rotations: {} is not the last in use", current.display()).into());
    }
    Ok(())
}
