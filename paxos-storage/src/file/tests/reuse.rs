//! Segments whose files are used again, and known mistakes with them that other tests must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::crash::crash_everywhere_from;
use super::model::{
    Model, PREPARE_MODES, Step, live_on, names_of, new, new_and_used, older, open, open_with, used,
};
use crate::file::append::spares::MAX_SPARES;
use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::disk::simulated::{Kept, SimulatedDisk};
use crate::file::disk::{Access, Disk};
use crate::file::layout::segment::{self, MIN_SEGMENT_BYTES};
use crate::file::mutant::{Mutant, activate};
use crate::file::recovery::inspect::inspect_on;

/// Writes that fill a segment and go on in the next one, a snapshot, and a write that goes on in a third.
fn through_three_segments() -> Vec<Step> {
    let mut steps: Vec<Step> = (1..6).map(|slot| Step::Persist(slot..=slot, 18_000)).collect();
    steps.extend([Step::Forge(6), Step::Snapshot(6), Step::Compact(6), Step::Persist(7..=7, 10)]);
    steps.extend([Step::Persist(8..=10, 18_000), Step::Mark]);
    steps
}

fn put_file(disk: &SimulatedDisk, name: &str, content: &[u8]) {
    let file = disk.create(name, Access::Cached).expect("nothing fails");
    file.write_at(content, 0).and_then(|()| file.sync()).expect("nothing fails");
}

#[test]
fn behind_snapshots_each_byte_reaches_the_disk_once() {
    for prepare_mode in PREPARE_MODES {
        let (disk, mut model) = used();
        let (mut storage, _) = open_with(&disk, prepare_mode).expect("nothing fails");
        let before_bytes = disk.written_bytes();
        let (mut frames_bytes, mut snapshots_bytes) = (0, 0);
        for slot in 50..350 {
            model = live_on(&mut storage, model, &[Step::Persist(slot..=slot, 18_000)]).0;
            frames_bytes += 5 * BLOCK_BYTES;
            if slot % 3 == 0 {
                let without_bytes = disk.written_bytes();
                model = live_on(&mut storage, model, &[Step::Snapshot(slot)]).0;
                snapshots_bytes += disk.written_bytes() - without_bytes;
                model = live_on(&mut storage, model, &[Step::Compact(slot)]).0;
            }
        }
        // A segment of 16 blocks costs its header, and two changes of META of two blocks each.
        let written_bytes = disk.written_bytes() - before_bytes - snapshots_bytes;
        assert!(
            15 * written_bytes <= 20 * frames_bytes,
            "{prepare_mode:?}: {written_bytes} bytes for {frames_bytes} bytes of frames"
        );
        let (_, recovered) = open(&disk.after_crash(Kept::Nothing)).expect("nothing is damaged");
        assert!(recovered == model.recovered());
    }
}

#[test]
fn a_value_that_holds_frames_is_never_taken_for_them() {
    for prepare_mode in PREPARE_MODES {
        let (disk, mut model) = used();
        // Each segment that follows is one that the value has forged frames of.
        for slot in 41..60 {
            let (mut storage, recovered) = open_with(&disk, prepare_mode).expect("nothing is damaged");
            assert!(recovered == model.recovered(), "slot {slot}");
            let steps = [Step::Persist(slot..=slot, 18_000), Step::Snapshot(slot), Step::Compact(slot)];
            let steps = if slot % 2 == 0 { &steps[..] } else { &steps[..1] };
            let (next, failed) = live_on(&mut storage, model, steps);
            assert_eq!(failed, None);
            model = next;
        }
    }
}

#[test]
fn a_spare_that_may_not_be_used_is_removed() {
    let (disk, model) = used();
    let spare = names_of(&disk, segment::number_of_spare).remove(0);
    let content = disk.content(&spare);
    let in_use = names_of(&disk, segment::number_of).remove(0);
    let number = segment::number_of(&in_use).expect("it is a segment");
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut content = content.clone();
        change(&mut content);
        content
    };
    let other = {
        let other = new().0;
        other.content(&names_of(&other, segment::number_of)[0]).iter().map(|byte| byte ^ 1).collect()
    };
    for (what, name, content) in [
        ("a later segment, of another state of the directory", segment::spare_name(number), content.clone()),
        ("its header is torn", spare.clone(), changed(|content| content[20] ^= 1)),
        ("it has no header", spare.clone(), changed(|content| content[..4096].fill(0))),
        ("it is too short", spare.clone(), changed(|content| content.truncate(MIN_SEGMENT_BYTES - 4096))),
        ("it is another node's", spare.clone(), other),
        ("it is empty", spare.clone(), Vec::new()),
    ] {
        let disk = disk.copy();
        for name in names_of(&disk, segment::number_of_spare) {
            disk.remove(&name).expect("the file is there");
        }
        put_file(&disk, &name, &content);
        let (mut storage, recovered) = open(&disk).expect("nothing of the log is damaged");
        assert!(recovered == model.recovered(), "{what}");
        assert!(names_of(&disk, segment::number_of_spare).is_empty(), "{what}, and is kept");
        let steps: Vec<Step> = (41..47).map(|slot| Step::Persist(slot..=slot, 18_000)).collect();
        let (model, failed) = live_on(&mut storage, model.clone(), &steps);
        assert_eq!(failed, None, "{what}");
        assert!(open(&disk).expect("nothing is damaged").1 == model.recovered(), "{what}");
    }
}

#[test]
fn no_more_spares_are_kept_than_allowed_and_none_of_another_version_or_size() {
    let spares = |disk: &SimulatedDisk| names_of(disk, segment::number_of_spare).len();
    let life = |(disk, model): (SimulatedDisk, Model), steps: Vec<Step>| {
        let (mut storage, _) = open(&disk).expect("nothing fails");
        assert_eq!(live_on(&mut storage, model, &steps).1, None);
        disk
    };
    let mut steps: Vec<Step> = (10..40).map(|slot| Step::Persist(slot..=slot, 18_000)).collect();
    steps.extend([Step::Snapshot(39), Step::Compact(39)]);
    let disk = life(new(), steps);
    assert_eq!(spares(&disk), MAX_SPARES);
    let inspected: Vec<_> = inspect_on(&disk).expect("nothing is damaged").spares;
    assert_eq!(inspected.iter().map(|spare| spare.size_bytes).collect::<Vec<_>>(), [65_536; MAX_SPARES]);
    let steps = vec![Step::Found(3), Step::Persist(6..=6, 10), Step::Snapshot(6), Step::Compact(6)];
    assert_eq!(spares(&life(older(), steps)), 0, "a segment of an older version");
    let steps = vec![Step::Persist(1..=1, 70_000), Step::Persist(2..=2, 18_000)];
    let mut steps: Vec<Step> = steps;
    steps.extend([Step::Snapshot(2), Step::Compact(2)]);
    let disk = life(new(), steps);
    let sizes = names_of(&disk, segment::number_of_spare).iter().map(|name| disk.content(name).len()).max();
    assert_eq!(sizes, Some(MIN_SEGMENT_BYTES), "not the one for a long frame");
}

#[test]
fn a_damaged_segment_is_not_used_again() {
    for (start, steps) in new_and_used(&through_three_segments()[..5]) {
        let (disk, model) = start;
        let (mut storage, _) = open(&disk).expect("nothing fails");
        let (model, _) = live_on(&mut storage, model, &steps);
        drop(storage);
        let spares = names_of(&disk, segment::number_of_spare).len();
        // The second frame of the segment before the last.
        let segments = names_of(&disk, segment::number_of);
        let damaged = &segments[segments.len() - 2];
        disk.alter(damaged, |bytes| bytes[6 * 4096 + 9] ^= 1);
        let (mut storage, recovered) = open(&disk).expect("the promise is intact");
        assert!(recovered.incomplete_through > paxos_core::Slot::ZERO);
        let steps = [Step::Snapshot(300), Step::Compact(300)];
        assert_eq!(live_on(&mut storage, model, &steps).1, None);
        assert!(!disk.list().expect("it can be listed").contains(damaged), "it is not part of the log");
        let name = segment::spare_name(segment::number_of(damaged).expect("it is a segment"));
        let now = names_of(&disk, segment::number_of_spare);
        assert!(!now.contains(&name), "{spares} spares before, {now:?} now");
    }
}

/// What the tests of crashes say of these segments with a known mistake.
fn verdict(mutant: Option<Mutant>) -> Result<(), String> {
    activate(mutant);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for prepare_mode in PREPARE_MODES {
            for (start, steps) in new_and_used(&through_three_segments()) {
                crash_everywhere_from(&start, &steps, prepare_mode);
            }
        }
    }));
    activate(None);
    result.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn each_known_mistake_is_noticed() {
    assert_eq!(verdict(None), Ok(()));
    for mutant in [
        Mutant::NumberUnchecked,
        Mutant::PayloadNotMasked,
        Mutant::HeaderNotSynced,
        Mutant::NameNotSynced,
        Mutant::KeptTooEarly,
    ] {
        let said = verdict(Some(mutant)).expect_err(&format!("{mutant:?} harms nothing"));
        assert!(said.starts_with("crash at"), "{mutant:?}: {said}");
    }
}
