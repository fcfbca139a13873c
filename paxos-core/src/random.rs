//! Random numbers that depend on the seed alone.

/// A splitmix64 generator (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*): enough
/// to keep candidates apart, and the same on every machine.
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

    /// A number in `0..bound`; 0 if `bound` is 0.
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
    /// The stream of numbers for one concern: drawing more of one stream does not change another.
    pub(crate) fn stream(seed: u64, concern: &str) -> Random {
        let name = concern.bytes().fold(seed, |name, byte| Random(name ^ u64::from(byte)).below(u64::MAX));
        Random(name)
    }

    /// A position below `length`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut random = Random::new(1_234_567);
        // As the paper's reference implementation gives them.
        let numbers = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.below(u64::MAX)), numbers);
        assert_eq!(random.below(0), 0);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn chances_come_true_about_as_often_as_asked_for() {
        let mut random = Random::new(1);
        let mut often = |mut chance: Box<dyn FnMut(&mut Random) -> bool>| {
            (0..100_000).filter(|_| chance(&mut random)).count()
        };
        assert_eq!(often(Box::new(|random| random.per_mille(0))), 0);
        assert_eq!(often(Box::new(|random| random.per_mille(1000))), 100_000);
        assert!((800..1_200).contains(&often(Box::new(|random| random.per_mille(10)))));
        assert!((9_500..10_500).contains(&often(Box::new(|random| random.one_in(10)))));
        assert!((9_500..10_500).contains(&often(Box::new(|random| random.index(10) == 9))));
        assert_eq!(often(Box::new(|random| random.index(10) == 10)), 0);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_chance_is_met_by_the_numbers_below_it_and_none_is_drawn_for_no_chance() {
        let mut random = Random::new(1);
        let number = Random::new(1).below(1000);
        assert!(!random.per_mille(0));
        assert!(!random.clone().per_mille(number) && random.per_mille(number + 1));
    }

    #[cfg(feature = "sim")]
    #[test]
    fn concerns_and_seeds_have_streams_of_their_own() {
        let first = |seed, concern| Random::stream(seed, concern).below(u64::MAX);
        let firsts = [first(1, "ab"), first(1, "ba"), first(1, "b"), first(2, "ab"), first(3, "ab")];
        let distinct: std::collections::BTreeSet<u64> = firsts.into_iter().collect();
        assert_eq!(distinct.len(), firsts.len());
        assert_eq!(first(1, "ab"), firsts[0]);
    }
}
