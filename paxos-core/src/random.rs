//! Randomness that comes from the seed alone.

/// A splitmix64 generator (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*): enough to
/// keep candidates apart, and the same on every machine.
#[derive(Clone, Debug)]
#[allow(unreachable_pub, reason = "reachable with the feature `sim`")]
pub struct Random(u64);

#[allow(unreachable_pub, reason = "reachable with the feature `sim`")]
impl Random {
    /// The numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number in `0..bound`; 0 if `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The bias of the remainder is below 2^-40 for the small bounds used here.
        mixed.checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(feature = "sim")]
impl Random {
    /// The stream of one concern: drawing more of one does not change another.
    pub(crate) fn stream(seed: u64, concern: &str) -> Random {
        let name = concern.bytes().fold(seed, |name, byte| Random(name ^ u64::from(byte)).below(u64::MAX));
        Random(name)
    }

    /// A position in something of `length`.
    #[expect(clippy::cast_possible_truncation, reason = "it is below a length")]
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Whether a chance of one in `many` comes true.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// Whether a chance of `rate` in a thousand comes true.
    pub(crate) fn per_mille(&mut self, rate: u64) -> bool {
        rate > 0 && self.below(1000) < rate
    }
}
