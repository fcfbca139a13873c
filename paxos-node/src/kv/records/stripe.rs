//! The records behind one lock: as many shards as they need, of which one at a time is split or merged.
//!
//! This is linear hashing: with *n* shards, the first of them are told apart by one more bit of the hash than
//! those behind. A shard has the hashes of a range of [`Rank`]s, however many shards there are.

use paxos_core::Time;

use super::heap::{Heap, Place};
use super::record::{History, Record};
use super::shard::Shard;
use super::{Hash, Hasher};

/// How many bits of a hash tell shards apart.
const RANK_BITS: u32 = 22;
/// A rank that no hash has: behind all others.
pub(in crate::kv) const END: Rank = Rank(1 << RANK_BITS);

/// A hash within a stripe, its lowest bit being the most significant: splitting a shard cuts a range of
/// ranks in half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::kv) struct Rank(pub(in crate::kv) u32);

impl Rank {
    pub(super) fn of(hash: Hash) -> Rank {
        Rank::of_bits(hash.in_stripe())
    }

    fn of_bits(bits: u32) -> Rank {
        Rank(bits.reverse_bits() >> (u32::BITS - RANK_BITS))
    }

    fn bits(self) -> u32 {
        self.0.reverse_bits() >> (u32::BITS - RANK_BITS)
    }
}

/// Records whose hashes agree in the bits that choose a stripe.
#[derive(Debug, Default)]
pub(in crate::kv) struct Stripe {
    shards: Vec<Shard>,
}

/// Where a record is, until its stripe is changed.
#[derive(Clone, Copy, Debug)]
pub(in crate::kv) struct At {
    hash: Hash,
    shard: usize,
    place: Place,
}

impl Stripe {
    pub(in crate::kv) fn find(&self, hash: Hash, key: &[u8]) -> Option<At> {
        self.locate(hash, |shard| shard.find(hash, key))
    }

    /// Finds the record of this hash that was created at this revision.
    pub(in crate::kv) fn find_created(&self, hash: Hash, created: u64) -> Option<At> {
        self.locate(hash, |shard| shard.find_created(hash, created))
    }

    fn locate(&self, hash: Hash, find: impl FnOnce(&Shard) -> Option<Place>) -> Option<At> {
        if self.shards.is_empty() {
            return None;
        }
        let shard = self.shard_of(hash.in_stripe());
        find(&self.shards[shard]).map(|place| At { hash, shard, place })
    }

    /// Where the record of this hash is in all likelihood: its key is not compared.
    pub(super) fn guess(&self, hash: Hash) -> Option<At> {
        self.locate(hash, |shard| shard.guess(hash))
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The shard that has this hash, or would have it.
    pub(super) fn shard(&self, hash: Hash) -> Option<&Shard> {
        (!self.shards.is_empty()).then(|| &self.shards[self.shard_of(hash.in_stripe())])
    }

    /// Where the bytes of a record are.
    pub(super) fn heap(&self, at: At) -> (&Heap, Place) {
        (self.shards[at.shard].heap(), at.place)
    }

    pub(in crate::kv) fn record(&self, at: At) -> Record<'_> {
        self.shards[at.shard].record(at.place)
    }

    /// Adds a record whose key is not there.
    pub(in crate::kv) fn add(
        &mut self,
        hasher: &Hasher,
        hash: Hash,
        history: History,
        key: &[u8],
        value: &[u8],
    ) {
        if self.shards.is_empty() {
            self.shards.push(Shard::default());
        }
        self.make_room(hasher, hash);
        let shard = self.shard_of(hash.in_stripe());
        self.shards[shard].add(hasher, hash, history, key, value);
    }

    /// Forgets all records; their memory stays for others.
    pub(super) fn clear(&mut self) {
        self.shards.iter_mut().for_each(Shard::clear);
    }

    /// Frees what [`clear`](Stripe::clear) left and nothing has used since.
    pub(super) fn free_unused(&mut self, hasher: &Hasher) {
        while self.merge_if_sparse(hasher) {}
        self.shards.iter_mut().for_each(|shard| shard.free_unused(hasher));
    }

    pub(in crate::kv) fn remove(&mut self, hasher: &Hasher, at: At) {
        self.shards[at.shard].remove(hasher, at.hash, at.place);
        self.merge_if_sparse(hasher);
    }

    /// Replaces the value of a record, and its deadline.
    pub(in crate::kv) fn overwrite(
        &mut self,
        hasher: &Hasher,
        at: At,
        (modified, deadline): (u64, Option<Time>),
        value: &[u8],
    ) {
        self.shards[at.shard].overwrite(hasher, at.hash, at.place, (modified, deadline), value);
        self.make_room(hasher, at.hash);
    }

    /// Replaces the deadline of a record.
    pub(in crate::kv) fn set_deadline(
        &mut self,
        hasher: &Hasher,
        at: At,
        modified: u64,
        deadline: Option<Time>,
    ) {
        self.shards[at.shard].set_deadline(at.hash, at.place, (modified, deadline));
        self.make_room(hasher, at.hash);
    }

    /// Appends to the value of a record.
    pub(in crate::kv) fn append<R>(
        &mut self,
        hasher: &Hasher,
        at: At,
        modified: u64,
        tail: &[u8],
        look: impl FnOnce(Record<'_>) -> R,
    ) -> R {
        let result = look(self.shards[at.shard].append(hasher, at.hash, at.place, modified, tail));
        self.make_room(hasher, at.hash);
        result
    }

    /// The records of the shard that has `rank`, and the ranks that it has: from the first up to the second.
    pub(in crate::kv) fn at_rank(&self, rank: Rank) -> (impl Iterator<Item = Record<'_>>, Rank, Rank) {
        let (mut first, mut end, mut shard) = (Rank(0), END, None);
        if !self.shards.is_empty() {
            let number = self.shard_of(rank.bits());
            let whole = 1 << self.level();
            let is_split = number >= whole || number < self.shards.len() - whole;
            let bits = self.level() + u32::from(is_split);
            first = Rank::of_bits(u32::try_from(number).expect("there are fewer shards than hashes"));
            end = Rank(first.0 + (1 << (RANK_BITS - bits)));
            shard = Some(&self.shards[number]);
        }
        (shard.into_iter().flat_map(Shard::records), first, end)
    }

    /// The greatest power of two that is no more than the number of shards, as its exponent.
    fn level(&self) -> u32 {
        self.shards.len().ilog2()
    }

    /// The number of the shard for these bits of a hash.
    fn shard_of(&self, bits: u32) -> usize {
        let (bits, whole) = (bits as usize, 1 << self.level());
        let number = bits & (2 * whole - 1);
        if number < self.shards.len() { number } else { number & (whole - 1) }
    }

    /// Splits a shard if that of `hash` is crowded: the next one in turn, which may be another. So each
    /// change splits one at most. Only a shard that is nearly full is not left to wait for its turn.
    fn make_room(&mut self, hasher: &Hasher, hash: Hash) {
        let shard = |stripe: &Stripe| stripe.shard_of(hash.in_stripe());
        if self.shards[shard(self)].is_crowded() {
            self.split(hasher);
        }
        while self.shards[shard(self)].is_nearly_full() && self.shards.len() < 1 << RANK_BITS {
            self.split(hasher);
        }
    }

    fn split(&mut self, hasher: &Hasher) {
        let whole = 1 << self.level();
        let next = self.shards.len() - whole;
        let new = self.shards[next].split(hasher, |hash| hash.in_stripe() as usize & whole != 0);
        self.shards.push(new);
    }

    /// Undoes the last split if the two shards have become small; tells whether it did.
    fn merge_if_sparse(&mut self, hasher: &Hasher) -> bool {
        let Some((last, others)) = self.shards.split_last() else { return false };
        if others.is_empty() {
            return false;
        }
        let first = others.len() - (1 << others.len().ilog2());
        let is_sparse = last.is_sparse_with(&others[first]);
        if is_sparse {
            let last = self.shards.pop().expect("there are two");
            self.shards[first].merge(hasher, last);
        }
        is_sparse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripe_that_was_cleared_and_has_few_records_has_one_shard() {
        let (hasher, mut stripe) = (Hasher::default(), Stripe::default());
        let add = |stripe: &mut Stripe, count: u64| {
            for revision in 1..=count {
                let key = revision.to_le_bytes();
                let history = History { created: revision, modified: revision, deadline: None };
                stripe.add(&hasher, hasher.hash(&key), history, &key, b"value");
            }
        };
        add(&mut stripe, 10_000);
        let shards = stripe.shards.len();
        stripe.clear();
        assert!(stripe.find(hasher.hash(&[1; 8]), &[1; 8]).is_none());
        add(&mut stripe, 10);
        assert_eq!(stripe.shards.len(), shards, "they wait for more records");
        stripe.free_unused(&hasher);
        assert_eq!(stripe.shards.len(), 1);
        for revision in 1..=10_u64 {
            let key = revision.to_le_bytes();
            assert!(stripe.find(hasher.hash(&key), &key).is_some(), "record {revision} is gone");
        }
    }
}
