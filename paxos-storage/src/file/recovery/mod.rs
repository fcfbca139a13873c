//! Reads the log back, and prepares its end for writes.
//!
//! - A **torn tail** is cut off, with all frames of the same write. All behind it is overwritten with zeros
//!   before anything is written there, so that no frame of it can look like a later one. What an earlier use
//!   of the segment has left can't, so where nothing is torn, nothing is overwritten.
//! - **Damage** is passed over if the newest promise behind it is still known. The replica learns up to which
//!   slot it may have lost acceptances. The files stay as they are, so that each later start finds the same
//!   until the segment is removed.
//! - After any other damage, recovery fails and changes nothing.
//!
//! If the last acknowledged frame is damaged, it looks like a torn one, because no frame follows. A mark
//! behind it prevents that.

pub(crate) mod inspect;
pub(crate) mod losses;
pub(crate) mod scan;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use paxos_core::{Entry, Slot};

use self::scan::{Scan, ScanEvent, Span};
use crate::file::append::log::Tail;
use crate::file::disk::Disk;
use crate::file::failure::During;
use crate::file::layout::meta::{self, Description, Meta};
use crate::file::layout::segment::{self, Extent, Segment};
use crate::{Damage, DamageCause, Error, RecoveryProgress};

/// The contents of the log, and its end.
#[derive(Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) entries: BTreeMap<Slot, Entry>,
    /// The ranges of slots that are lost to damage.
    pub(crate) lost: Vec<(Slot, Slot)>,
    pub(crate) tail: Tail,
}

/// Reads the log that `meta` describes, and prepares its end for writes.
///
/// `lost_snapshot_slot` is the slot of a newest snapshot that is lost, or zero: the watermark relied on that
/// snapshot for the slots up to there. `progress` shows how far it has come.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    meta: &Meta,
    lost_snapshot_slot: Slot,
    progress: &RecoveryProgress,
) -> Result<RecoveredLog, Error> {
    disk.sync_directory().during("sync", &disk.path(""))?;
    let span = Span::of(&meta.description(), lost_snapshot_slot);
    let mut reading = Reading { span, segment: span.first_segment, size_bytes: 0, progress };
    let mut observe = |sight: ScanEvent<'_>| match sight {
        ScanEvent::Damage(damage) => tracing::warn!("{damage}"),
        ScanEvent::Segment { number, size_bytes } => reading.begin(number, size_bytes),
        ScanEvent::Frame { offset, .. } => reading.show(offset),
    };
    let found = Scan::run(disk.as_ref(), span, &mut observe)?;
    if let Some(damage) = found.fatal_damage() {
        return Err(Error::Damaged(damage));
    }
    cut(disk.as_ref(), found, meta)
}

/// The segment that is being read, for those who watch the progress.
struct Reading<'a> {
    span: Span,
    segment: u64,
    size_bytes: usize,
    progress: &'a RecoveryProgress,
}

impl Reading<'_> {
    /// The progress of one segment, in the parts that are shown: segments differ in size, and the sizes of
    /// later ones are not known yet.
    const PARTS: u64 = 1000;

    fn begin(&mut self, number: u64, size_bytes: usize) {
        (self.segment, self.size_bytes) = (number, size_bytes);
        self.show(0);
    }

    fn show(&self, offset: usize) {
        let share = (offset as u64 * Self::PARTS).checked_div(self.size_bytes as u64).unwrap_or_default();
        let before = self.segment - self.span.first_segment;
        let all = self.span.last_segment - self.span.first_segment + 1;
        self.progress.set(before * Self::PARTS + share, all * Self::PARTS);
    }
}

/// Cuts the log after the last whole write, and removes files that are not part of it.
fn cut(disk: &dyn Disk, mut found: Scan<'_>, meta: &Meta) -> Result<RecoveredLog, Error> {
    let (end, has_tail) = (found.whole, found.has_tail());
    let Description { first_segment: first, last_segment: last, .. } = meta.description();
    found.segments.truncate(end.segment_index + 1);
    let extents: VecDeque<Extent> = found.segments.iter().map(|(_, extent)| *extent).collect();
    let Some(segment) = found.segments.pop().and_then(|(segment, _)| segment) else {
        let file = disk.path(&segment::name(first));
        let cause = DamageCause::MissingSegment;
        return Err(Error::Damaged(Damage { file, offset: 0, cause, slots: None, is_promise_intact: false }));
    };
    if segment.number != last {
        let change = meta.change(|description| description.last_segment = segment.number);
        change.during("write", &disk.path(meta::NAME))?;
    }
    for name in disk.list().during("list", &disk.path(""))? {
        let number = segment::number_of(&name);
        let is_outside = number.is_some_and(|number| number > segment.number || number < first);
        if is_outside || segment::is_unfinished(&name) {
            disk.remove(&name).during("remove", &disk.path(&name))?;
        }
    }
    if has_tail {
        clear_tail(disk, &segment, end.offset)?;
    }
    let tail = Tail {
        segment,
        extents,
        offset: end.offset,
        next: end.next,
        hard_state: found.hard_state,
        last_slots: end.last_slots,
        highest_slot: end.highest_slot,
        is_marked: end.is_marked,
    };
    Ok(RecoveredLog { entries: found.entries, lost: found.lost, tail })
}

fn clear_tail(disk: &dyn Disk, segment: &Segment, offset: usize) -> Result<(), Error> {
    let path = disk.path(&segment::name(segment.number));
    tracing::warn!(
        file = %path.display(),
        offset,
        "the log ends in a write that was never acknowledged; cutting it off"
    );
    disk.sync_directory().during("sync", &disk.path(""))?;
    segment::clear_from(segment, offset).during("write", &path)
}
