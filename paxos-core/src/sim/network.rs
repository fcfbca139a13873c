//! The network: which links work, and whether, when and how often a message arrives.

use super::scenario::Weather;
use crate::Message;
use crate::random::Random;

/// How many old messages are kept, to be delivered once more.
const ATTIC_MESSAGES: usize = 32;
/// One message in this many is kept.
const ATTIC_SHARE: u64 = 16;
/// The longest that a message takes which is delayed for long.
const LONG_DELAY_UNITS: u64 = 30_000;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Message,
}

#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
    /// For each pair, from and to, whether the link is cut.
    cut: Vec<bool>,
    /// For each node, how much longer than usual everything takes to get there.
    late_units: Vec<u64>,
    flapping: Option<(usize, usize)>,
    pub(super) weather: Weather,
    attic: Vec<Parcel>,
    random: Random,
}

impl Network {
    pub(super) fn new(nodes: usize, weather: Weather, seed: u64) -> Network {
        let random = Random::stream(seed, "network");
        let (cut, late_units) = (vec![false; nodes * nodes], vec![0; nodes]);
        Network { nodes, cut, late_units, flapping: None, weather, attic: Vec::new(), random }
    }

    /// Loses, delays or doubles a message: calls `deliver` for each copy with the time until it arrives.
    pub(super) fn send(&mut self, parcel: Parcel, mut deliver: impl FnMut(u64, Parcel)) {
        let weather = self.weather;
        if self.random.per_mille(weather.ancient) && !self.attic.is_empty() {
            let old = self.attic[self.random.index(self.attic.len())].clone();
            if !self.is_cut(old.from, old.to) {
                deliver(self.latency_units(old.to), old);
            }
        }
        if self.is_cut(parcel.from, parcel.to) || self.random.per_mille(weather.loss) {
            return;
        }
        if weather.ancient > 0 && self.random.one_in(ATTIC_SHARE) {
            if self.attic.len() < ATTIC_MESSAGES {
                self.attic.push(parcel.clone());
            } else {
                let place = self.random.index(ATTIC_MESSAGES);
                self.attic[place] = parcel.clone();
            }
        }
        if self.random.per_mille(weather.doubling) {
            deliver(self.latency_units(parcel.to), parcel.clone());
        }
        deliver(self.latency_units(parcel.to), parcel);
    }

    fn latency_units(&mut self, to: usize) -> u64 {
        let weather = self.weather;
        let long =
            if self.random.per_mille(weather.long_delay) { self.random.below(LONG_DELAY_UNITS) } else { 0 };
        self.late_units[to] + weather.latency_units + self.random.below(weather.jitter_units + 1) + long
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from * self.nodes + to]
    }

    pub(super) fn set_cut(&mut self, from: usize, to: usize, is_cut: bool) {
        if from != to {
            self.cut[from * self.nodes + to] = is_cut;
        }
    }

    pub(super) fn set_cut_both_ways(&mut self, one: usize, other: usize, is_cut: bool) {
        self.set_cut(one, other, is_cut);
        self.set_cut(other, one, is_cut);
    }

    /// Cuts each pair that has no group in common.
    pub(super) fn split(&mut self, groups_of: impl Fn(usize) -> u8) {
        for one in 0..self.nodes {
            for other in 0..self.nodes {
                self.set_cut(one, other, groups_of(one) & groups_of(other) == 0);
            }
        }
    }

    /// From now on every message takes this much longer to get to `node`.
    pub(super) fn set_late(&mut self, node: usize, late_units: u64) {
        self.late_units[node] = late_units;
    }

    /// From now on the link goes down or up at each call of [`flap`](Network::flap).
    pub(super) fn set_flapping(&mut self, one: usize, other: usize) {
        self.flapping = Some((one, other));
    }

    /// Whether there is a link that flaps.
    pub(super) fn flap(&mut self) -> bool {
        if let Some((one, other)) = self.flapping {
            let is_cut = self.is_cut(one, other);
            self.set_cut_both_ways(one, other, !is_cut);
        }
        self.flapping.is_some()
    }

    pub(super) fn mend(&mut self) {
        self.cut.fill(false);
        self.late_units.fill(0);
        self.flapping = None;
    }

    pub(super) fn calm(&mut self) {
        self.mend();
        self.attic.clear();
        self.weather = Weather { latency_units: 10, jitter_units: 20, ..Weather::default() };
    }
}
