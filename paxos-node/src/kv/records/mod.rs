//! The records of the store, found by the hashes of their keys.
//!
//! They are spread over a fixed number of *stripes*, each behind a lock; a stripe has *shards* of a few
//! hundred records, and splits one at a time as it grows; a shard has *pages* with the records' bytes, and a
//! table of their places. So no step of growing or shrinking moves more than one shard, and a picture of the
//! state ([`picture`](super::picture)) can be read shard by shard beside changes.
//!
//! Guaranteed: a record takes 60 bytes or so beside its key and value. Deliberately absent: any order.

mod heap;
mod record;
mod shard;
mod stripe;
mod warm;

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(super) use record::{History, Record, Value, hash_of, memory_of};
pub(super) use stripe::{END, Rank, Stripe};
pub(super) use warm::WARMED_AT_ONCE;

/// How many bits of a hash choose a stripe. There are few of them in tests, so that each has many shards.
const STRIPE_BITS: u32 = if cfg!(test) { 2 } else { 10 };
/// How many stripes there are: what changes records seldom meets who reads a picture of them.
pub(super) const STRIPES: usize = 1 << STRIPE_BITS;

/// All records.
#[derive(Debug)]
pub(super) struct Records {
    hasher: Hasher,
    stripes: Box<[RwLock<Stripe>]>,
}

/// Hashes keys, differently in each store: so nobody can choose keys that all get the same hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Hasher(RandomState);

/// The hash of a key. It differs from one node to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hash(u32);

impl Hasher {
    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        #[expect(clippy::cast_possible_truncation, reason = "each part of it is as good as any other")]
        let low = hasher.finish() as u32;
        Hash(low)
    }
}

impl Hash {
    pub(super) fn from_bits(bits: u32) -> Hash {
        Hash(bits)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn stripe(self) -> usize {
        self.0 as usize & (STRIPES - 1)
    }

    pub(super) fn rank(self) -> Rank {
        Rank::of(self)
    }

    /// The bits that tell hashes of a stripe apart.
    fn in_stripe(self) -> u32 {
        self.0 >> STRIPE_BITS
    }

    /// As a table wants it: the hashes of one shard have their low bits in common, and a table needs ones
    /// that differ, at both ends.
    fn spread(self) -> u64 {
        let product = u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    }
}

impl Default for Records {
    fn default() -> Records {
        Records { hasher: Hasher::default(), stripes: (0..STRIPES).map(|_| RwLock::default()).collect() }
    }
}

impl Records {
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The stripe with this number, to be looked at. It waits for who changes it, for some microseconds.
    pub(super) fn read(&self, stripe: usize) -> RwLockReadGuard<'_, Stripe> {
        // A panic breaks the whole state machine: it is not read any more.
        self.stripes[stripe].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stripe with this number, to be changed. It waits for who reads a picture of it.
    pub(super) fn write(&self, stripe: usize) -> RwLockWriteGuard<'_, Stripe> {
        self.stripes[stripe].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all records; their memory stays for those that are added next, until
    /// [`free_unused`](Records::free_unused).
    pub(super) fn clear(&mut self) {
        self.stripes_mut().for_each(|(_, stripe)| stripe.clear());
    }

    pub(super) fn free_unused(&mut self) {
        self.stripes_mut().for_each(|(hasher, stripe)| stripe.free_unused(hasher));
    }

    fn stripe_mut(&mut self, hash: Hash) -> &mut Stripe {
        self.stripes[hash.stripe()].get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripes_mut(&mut self) -> impl Iterator<Item = (&Hasher, &mut Stripe)> {
        let Records { hasher, stripes } = self;
        let stripes = stripes.iter_mut();
        stripes.map(|stripe| (&*hasher, stripe.get_mut().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Whether somebody reads the stripe of this key just now, so that a change of it would wait.
    pub(super) fn is_held(&self, key: &[u8]) -> bool {
        self.stripes[self.hasher.hash(key).stripe()].try_write().is_err()
    }

    /// Calls `look` with the record of a key, if there is one.
    pub(super) fn look<R>(&self, key: &[u8], look: impl FnOnce(Option<Record<'_>>) -> R) -> R {
        let hash = self.hasher.hash(key);
        let stripe = self.read(hash.stripe());
        look(stripe.find(hash, key).map(|at| stripe.record(at)))
    }

    /// Calls `look` with the record of this hash that was created at this revision, if there is one.
    pub(super) fn look_created<R>(
        &self,
        hash: Hash,
        created: u64,
        look: impl FnOnce(Option<Record<'_>>) -> R,
    ) -> R {
        let stripe = self.read(hash.stripe());
        look(stripe.find_created(hash, created).map(|at| stripe.record(at)))
    }
}
