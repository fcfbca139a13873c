//! The longest of many lone appends, beside the longest sync of the bare disk in the same run.
//!
//! Both take turns, so that other load of the disk hits both. As in a node, old segments are freed when about
//! one was filled; that is not a part of any append.

use std::path::Path;

use paxos_core::Slot;

use super::figures::{Goal, Table, Times, ratio, timed};
use super::raw::{BLOCK_BYTES, RawFile};
use super::{Outcome, Scale, log};

pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    let settings = log::FileSettings::default();
    let mut raw = RawFile::create(&directory.join("raw"))?;
    let mut storage = log::create(&directory.join("log"), settings)?;
    let value = log::value(log::VALUE_BYTES);
    let trim_every = settings.segment_bytes / BLOCK_BYTES as u64;
    let (mut raw_times, mut times) = (Vec::new(), Vec::new());
    for number in 1..=scale.longest_of {
        let (time, result) = timed(|| raw.write());
        result?;
        raw_times.push(time);
        let (time, result) = timed(|| log::append(&mut storage, number, 1, &value));
        result?;
        times.push(time);
        if number % trim_every == 0 {
            log::trim(&mut storage, Slot(number))?;
        }
    }
    let (raw, times) = (Times::of(raw_times), Times::of(times));
    let detail = format!(
        "{:.1?} / {:.1?}; p99.99 {:.1?} / {:.1?}; medians {:.1?} / {:.1?}; {} each",
        times.longest(),
        raw.longest(),
        times.p9999(),
        raw.p9999(),
        times.median(),
        raw.median(),
        times.count()
    );
    table.add(
        "longest lone append / longest raw sync",
        detail,
        ratio(times.longest(), raw.longest()),
        Goal::Told,
    );
    Ok(())
}
