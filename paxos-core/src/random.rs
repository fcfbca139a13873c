//! Randomness that comes from the seed alone.

/// A splitmix64 generator (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*): enough to
/// keep candidates apart, and the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number in `0..bound`; 0 if `bound` is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The bias of the remainder is below 2^-40 for the small bounds used here.
        mixed.checked_rem(bound).unwrap_or(0)
    }
}
