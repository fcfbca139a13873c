//! Loads the records of many keys into the processor's caches at once, before they are changed.
//!
//! To find a record takes five loads, of which each needs the one before: the stripe, the shard, its table,
//! the list of its pages, and the page. Among many keys each of them waits for memory, and changes of one
//! key after the other wait for all of them one by one. Here a group of keys goes through the first load
//! together, then through the second, and so on, so that the processor waits for all loads of a step at the
//! same time.
//!
//! Guaranteed: nothing is changed. Deliberately absent: locks. No load can begin before the atomic
//! instruction of a lock is done, so that with one for each key nothing is gained.

use std::hint::black_box;

use super::{Hash, Records};

/// How many keys are loaded together.
pub(in crate::kv) const WARMED_AT_ONCE: usize = 32;
/// What the processor loads at once.
const LINE_BYTES: usize = 64;

impl Records {
    /// Loads the records of the first [`WARMED_AT_ONCE`] of these hashes, and what finds them.
    pub(in crate::kv) fn warm(&mut self, hashes: &(impl Iterator<Item = Hash> + Clone)) {
        let group = || hashes.clone().take(WARMED_AT_ONCE);
        // The compiler leaves out a load whose result goes nowhere.
        let mut loaded = 0;
        for hash in group() {
            loaded ^= self.stripe_mut(hash).shard_count();
        }
        for hash in group() {
            let shard = self.stripe_mut(hash).shard(hash);
            loaded ^= shard.map_or(0, |shard| usize::from(shard.is_crowded() ^ shard.is_nearly_full()));
        }
        let mut found = [None; WARMED_AT_ONCE];
        for (at, hash) in found.iter_mut().zip(group()) {
            *at = self.stripe_mut(hash).guess(hash);
        }
        let found = || group().zip(&found).filter_map(|(hash, at)| Some((hash, (*at)?)));
        for (hash, at) in found() {
            let (heap, place) = self.stripe_mut(hash).heap(at);
            loaded ^= heap.page_bytes(place);
        }
        for (hash, at) in found() {
            let (heap, place) = self.stripe_mut(hash).heap(at);
            loaded ^= heap.bytes(place).len();
        }
        for (hash, at) in found() {
            let (heap, place) = self.stripe_mut(hash).heap(at);
            let lines = heap.bytes(place).iter().step_by(LINE_BYTES);
            loaded = lines.fold(loaded, |loaded, byte| loaded ^ usize::from(*byte));
        }
        black_box(loaded);
    }
}
