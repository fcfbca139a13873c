//! Every single fault of a small directory: recovery finds what was acknowledged, or reports it as missing,
//! or fails.

use paxos_core::{Entry, Recovered, Slot};

use super::model::{Model, Start, Step, end_of_frames, names_of, new_and_used, open, open_with, snapshot_of};
use crate::file::disk::Disk;
use crate::file::disk::buffer::BLOCK_BYTES;
use crate::file::disk::simulated::{SECTOR_BYTES, SimulatedDisk};
use crate::file::format::format_on;
use crate::file::layout::segment::MIN_SEGMENT_BYTES;
use crate::file::layout::{meta, segment};
use crate::file::recovery::inspect::inspect_on;
use crate::file::storage::PrepareMode;
use crate::{DamageCause, Error, Identity, Storage, StorageId};

/// A directory after some writes, and its expected contents.
struct Finished {
    disk: SimulatedDisk,
    model: Model,
}

impl Finished {
    fn new(start: Start, steps: &[Step]) -> Finished {
        Finished::with(start, PrepareMode::OnDemand, steps)
    }

    fn with((disk, mut model): Start, prepare_mode: PrepareMode, steps: &[Step]) -> Finished {
        let (mut storage, _) = open_with(&disk, prepare_mode).expect("nothing fails");
        for step in steps {
            model.apply(step, &mut storage).expect("nothing fails");
            model = model.after(step);
        }
        drop(storage);
        Finished { disk: disk.copy(), model }
    }

    /// A few writes of one frame each, in one segment, with a mark at the end: a new segment, and one that
    /// was another before.
    fn small() -> [Finished; 2] {
        let write = |slot| Step::Persist(slot..=slot, 40);
        let steps = [write(1), write(2), Step::Promise, write(3), Step::Persist(4..=5, 20), Step::Mark];
        new_and_used(&steps).map(|(start, steps)| Finished::new(start, &steps))
    }

    /// Several segments before and after a snapshot, writes of several frames, slots that are accepted twice:
    /// in new segments, and in those that were others before.
    fn large() -> [Finished; 2] {
        new_and_used(&large_steps()).map(|(start, steps)| Finished::new(start, &steps))
    }

    fn names(&self) -> Vec<String> {
        let names = self.disk.list().expect("a simulated disk can be listed");
        names.into_iter().filter(|name| self.disk.content(name).iter().any(|byte| *byte != 0)).collect()
    }

    fn segments(&self) -> Vec<String> {
        names_of(&self.disk, segment::number_of)
    }

    /// The end of what is looked at in a file: of all that is not zero, but of a segment that was another
    /// before, only of two blocks behind its frames.
    fn end_of(&self, name: &str) -> usize {
        let content = self.disk.content(name);
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let is_segment = segment::number_of(name).or(segment::number_of_spare(name)).is_some();
        let frames = if is_segment { end_of_frames(&self.disk, name) } else { usize::MAX };
        used.next_multiple_of(BLOCK_BYTES).min(frames.saturating_add(2 * BLOCK_BYTES)).min(content.len())
    }

    /// Damages a copy, and checks what recovery makes of it; returns whether recovery failed.
    fn judge(&self, what: &str, damage: impl FnOnce(&SimulatedDisk)) -> bool {
        let disk = self.disk.copy();
        damage(&disk);
        let (storage, recovered) = match open(&disk) {
            Ok(opened) => opened,
            Err(Error::Damaged(damage)) => {
                assert!(!damage.is_promise_intact, "{what}: refused in spite of an intact promise: {damage}");
                return true;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        self.check(&recovered, what);
        assert!(storage.registry() == self.model.registry, "{what}: the registry is another one");
        drop(storage);
        let (_, again) =
            open(&disk.copy()).unwrap_or_else(|error| panic!("{what}: at the next start: {error}"));
        let told = |recovered: &Recovered| {
            let slots: Vec<_> = recovered.entries.iter().map(|(slot, _)| slot.0).collect();
            (recovered.hard_state, recovered.snapshot.clone(), slots, recovered.incomplete_through)
        };
        assert_eq!(told(&again), told(&recovered), "{what}: the next start finds something else");
        assert!(again == recovered, "{what}: the next start finds other values");
        false
    }

    fn check(&self, recovered: &Recovered, what: &str) {
        let model = &self.model;
        assert_eq!(
            recovered.hard_state.promised, model.hard_state.promised,
            "{what}: the promise is the newest"
        );
        assert!(
            recovered.hard_state.chosen <= model.hard_state.chosen,
            "{what}: nothing is chosen out of the blue"
        );
        let snapshot = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        assert!(snapshot <= model.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot), "{what}");
        if let Some(meta) = &recovered.snapshot {
            assert!(*meta == snapshot_of(meta.slot.0).0, "{what}: a snapshot with another membership");
        }
        for (slot, entry) in &recovered.entries {
            let accepted = &model.entries[slot];
            let is_told_as_chosen = matches!(entry, Entry::Chosen { .. })
                && *slot <= model.hard_state.chosen
                && entry.value() == accepted.value();
            assert!(entry == accepted || is_told_as_chosen, "{what}: slot {slot} holds what is out of date");
        }
        let is_there = |slot: &Slot| recovered.entries.binary_search_by_key(slot, |(slot, _)| *slot).is_ok();
        for slot in model.entries.keys().filter(|slot| **slot > snapshot.max(recovered.incomplete_through)) {
            assert!(is_there(slot), "{what}: slot {slot} is forgotten, and nothing is said of it");
        }
        let mut known = snapshot;
        while known < recovered.hard_state.chosen {
            known = known.next();
            assert!(is_there(&known), "{what}: slot {known} is below the watermark, and not there");
        }
    }
}

fn large_steps() -> Vec<Step> {
    let mut steps: Vec<Step> = (1..9).map(|slot| Step::Persist(slot..=slot + 1, 9_000)).collect();
    steps.extend([Step::Snapshot(3), Step::Snapshot(5), Step::Compact(3), Step::Promise]);
    steps.extend([Step::Persist(10..=14, 18_000), Step::Persist(12..=13, 100)]);
    steps.extend([Step::Found(1), Step::Membership(15), Step::Mark]);
    steps
}

#[test]
fn every_bit_of_a_small_log_may_flip() {
    // Every bit of a new log; in a used one of the first sector of each block, and some of the others.
    for (finished, every) in Finished::small().iter().zip([1, 61]) {
        let mut refused = 0;
        for name in finished.segments() {
            let bits = (0..finished.end_of(&name) * 8)
                .filter(|bit| bit / 8 % BLOCK_BYTES < SECTOR_BYTES || bit % every == 0);
            for bit in bits {
                let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
                refused += usize::from(
                    finished.judge(&format!("{name}, bit {bit}"), |disk| disk.alter(&name, flip)),
                );
            }
        }
        assert_eq!(refused, 0, "one bit never costs the promise where a mark stands behind it");
    }
}

#[test]
fn every_sector_of_every_file_may_be_zero_or_garbage() {
    for finished in Finished::small().into_iter().chain(Finished::large()) {
        for name in finished.names() {
            for at in (0..finished.disk.content(&name).len()).step_by(SECTOR_BYTES) {
                for fill in [0, 0xff, 0xa5] {
                    let overwrite = |bytes: &mut Vec<u8>| {
                        let end = bytes.len().min(at + SECTOR_BYTES);
                        bytes[at..end].fill(fill);
                    };
                    finished.judge(&format!("{name}, sector at {at} full of {fill}"), |disk| {
                        disk.alter(&name, overwrite);
                    });
                }
            }
        }
    }
}

#[test]
fn every_block_of_every_file_may_be_unreadable() {
    for finished in Finished::small().into_iter().chain(Finished::large()) {
        for name in finished.names() {
            for at in (0..finished.disk.content(&name).len()).step_by(BLOCK_BYTES) {
                finished.judge(&format!("{name}, block at {at} can't be read"), |disk| disk.spoil(&name, at));
            }
        }
    }
}

#[test]
fn a_last_frame_that_can_not_be_read_is_no_torn_one() {
    for (start, steps) in new_and_used(&[Step::Persist(1..=1, 40), Step::Persist(2..=2, 18_000)]) {
        let finished = Finished::new(start, &steps);
        let name = finished.segments().pop().expect("there are segments");
        let frame_at = end_of_frames(&finished.disk, &name) - 5 * BLOCK_BYTES;
        for block in 0..5 {
            let refused = finished.judge(&format!("block {block} of the last frame can't be read"), |disk| {
                disk.spoil(&name, frame_at + block * BLOCK_BYTES);
            });
            assert!(refused, "block {block}: a crash does not make a disk unreadable");
        }
    }
}

#[test]
fn a_file_may_end_at_every_sector() {
    for finished in Finished::large() {
        for name in finished.names() {
            for length in (0..finished.disk.content(&name).len()).step_by(SECTOR_BYTES) {
                let what = format!("{name}, cut to {length} bytes");
                let disk = finished.disk.copy();
                disk.alter(&name, |bytes| bytes.truncate(length));
                // A log that ends early in its last segment looks like a shorter log, so only what is there
                // can be checked. Anything else must be noticed.
                let is_end_of_log = Some(&name) == finished.segments().last();
                match open(&disk) {
                    Ok((_, recovered)) if !is_end_of_log => finished.check(&recovered, &what),
                    Ok(_) | Err(Error::Damaged(_)) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
}

#[test]
fn every_block_may_be_overwritten_by_every_other() {
    for finished in Finished::large() {
        let blocks: Vec<(String, usize)> = (finished.names().into_iter())
            .flat_map(|name| {
                let used = finished.end_of(&name).div_ceil(BLOCK_BYTES);
                (0..used).map(move |block| (name.clone(), block * BLOCK_BYTES))
            })
            // META has much room that is not used.
            .filter(|(name, at)| name != meta::NAME || finished.disk.content(name)[*at..][..8] != [0; 8])
            .collect();
        assert!(blocks.len() > 40, "the log takes many blocks: {}", blocks.len());
        let read = |(name, at): &(String, usize)| {
            let mut block = finished.disk.content(name)[*at..].to_vec();
            block.resize(BLOCK_BYTES, 0);
            block
        };
        let write = |disk: &SimulatedDisk, (name, at): &(String, usize), block: &[u8]| {
            disk.alter(name, |bytes| {
                let end = bytes.len().min(at + BLOCK_BYTES);
                bytes[*at..end].copy_from_slice(&block[..end - at]);
            });
        };
        for to in &blocks {
            for from in blocks.iter().filter(|from| *from != to) {
                finished.judge(&format!("{from:?} is written over {to:?}, too"), |disk| {
                    write(disk, to, &read(from));
                });
                if from < to {
                    finished.judge(&format!("{from:?} and {to:?} are swapped"), |disk| {
                        write(disk, to, &read(from));
                        write(disk, from, &read(to));
                    });
                }
            }
        }
    }
}

#[test]
fn every_file_may_be_deleted_or_be_that_of_another_node() {
    for finished in Finished::large() {
        let other = SimulatedDisk::new();
        let identity = Identity::existing(String::from("simulated"), paxos_core::NodeId(2), StorageId(8));
        format_on(&other, &identity, MIN_SEGMENT_BYTES).expect("nothing fails");
        let other = Finished::new((other, Model::default()), &large_steps());
        let last = finished.segments().pop().expect("there are segments");
        for name in finished.names() {
            let must_refuse = name == last;
            let deleted = finished.judge(&format!("{name} is deleted"), |disk| {
                disk.remove(&name).expect("the file is there");
            });
            assert!(deleted || !must_refuse, "{name} held the newest promise");
            if !other.names().contains(&name) || name == meta::NAME {
                continue;
            }
            let replaced = finished.judge(&format!("{name} is that of another node"), |disk| {
                disk.alter(&name, |bytes| *bytes = other.disk.content(&name));
            });
            assert!(replaced || !must_refuse, "{name} held the newest promise");
        }
    }
}

#[test]
fn a_segment_that_is_made_ahead_hides_no_damage() {
    for (start, steps) in new_and_used(&large_steps()) {
        let finished = Finished::with(start, PrepareMode::Inline, &steps);
        let segments = finished.segments();
        let [.., last, ahead] = &segments[..] else { panic!("there are several segments: {segments:?}") };
        let has_frames = |name: &str| end_of_frames(&finished.disk, name) > BLOCK_BYTES;
        assert!(has_frames(last) && !has_frames(ahead), "{ahead} is made ahead");
        for name in &segments {
            let content = finished.disk.content(name);
            for at in (0..content.len()).step_by(SECTOR_BYTES) {
                if content[at..at + SECTOR_BYTES].iter().any(|byte| *byte != 0) {
                    finished.judge(&format!("{name}: the sector at {at} is zero"), |disk| {
                        disk.alter(name, |bytes| bytes[at..at + SECTOR_BYTES].fill(0));
                    });
                }
                finished.judge(&format!("{name}: a bit at {at} is flipped"), |disk| {
                    disk.alter(name, |bytes| bytes[at] ^= 1);
                });
            }
            let is_refused = finished.judge(&format!("{name} is deleted"), |disk| {
                disk.remove(name).expect("the file is there");
            });
            assert!(is_refused || name != last, "{name} held the newest promise");
        }
    }
}

#[test]
fn another_nodes_description_makes_the_log_a_foreign_one() {
    // Of an older log the segments would have other numbers, and be missing.
    let [finished, _] = Finished::small();
    let other = SimulatedDisk::new();
    let identity = Identity::existing(String::from("simulated"), paxos_core::NodeId(2), StorageId(8));
    format_on(&other, &identity, MIN_SEGMENT_BYTES).expect("nothing fails");
    let disk = finished.disk.copy();
    disk.alter(meta::NAME, |bytes| *bytes = other.content(meta::NAME));
    let refused = open(&disk).map(|_| ());
    let Err(Error::Damaged(damage)) = refused else {
        panic!("the log was taken for that of node 2: {refused:?}")
    };
    assert_eq!((damage.cause, damage.is_promise_intact), (DamageCause::ForeignSegment, false));
}

#[test]
fn any_two_faults_are_noticed_or_harmless() {
    for finished in Finished::large() {
        let mut random = fastrand::Rng::with_seed(4);
        let names = finished.names();
        for round in 0..3000 {
            let faults: Vec<(String, usize, u8)> = (0..2)
                .map(|_| {
                    let name = names[random.usize(..names.len())].clone();
                    let at = random.usize(..finished.disk.content(&name).len());
                    (name, at, random.u8(1..))
                })
                .collect();
            let disk = finished.disk.copy();
            for (name, at, mask) in &faults {
                disk.alter(name, |bytes| {
                    let end = bytes.len().min(at + SECTOR_BYTES);
                    bytes[*at..end].iter_mut().for_each(|byte| *byte ^= mask);
                });
            }
            match open(&disk) {
                // If the last write and the mark that proves it are both gone, that looks like a torn tail.
                Ok((_, recovered)) if recovered.hard_state.promised == finished.model.hard_state.promised => {
                    finished.check(&recovered, &format!("round {round}: {faults:?}"));
                }
                Ok(_) | Err(Error::Damaged(_)) => {}
                Err(error) => panic!("round {round}: {faults:?}: {error}"),
            }
        }
    }
}

#[test]
fn an_inspection_finds_what_recovery_finds_and_changes_nothing() {
    for finished in Finished::large() {
        for name in finished.names() {
            let disk = finished.disk.copy();
            disk.alter(&name, |bytes| {
                bytes.iter_mut().skip(2 * BLOCK_BYTES).take(8).for_each(|byte| *byte ^= 1);
            });
            let before: Vec<_> = finished.names().iter().map(|name| disk.content(name)).collect();
            let inspection = inspect_on(&disk).expect("damage is no error");
            let after: Vec<_> = finished.names().iter().map(|name| disk.content(name)).collect();
            assert!(before == after, "{name}: the inspection has changed something");
            match open(&disk) {
                Ok((_, recovered)) => {
                    let found = (inspection.promised, inspection.chosen, inspection.incomplete_through);
                    let hard_state = recovered.hard_state;
                    assert_eq!(
                        found,
                        (hard_state.promised, hard_state.chosen, recovered.incomplete_through),
                        "{name}"
                    );
                    assert!(inspection.is_promise_intact(), "{name}");
                }
                Err(_) => assert!(!inspection.is_promise_intact(), "{name}: {:?}", inspection.damage),
            }
        }
    }
}
