//! The settings of one direction between two nodes, and the state machine that applies them to packets.

use std::num::NonZeroU64;
use std::time::Duration;

/// The longest jitter that is drawn, as a multiple of [`Link::jitter`].
const MAX_JITTER_FACTOR: f64 = 10.0;
/// How long a reordered packet is held back at least, if the link's delay does not ask for more.
const MIN_HOLD: Duration = Duration::from_millis(1);
/// How often a segment of a stream is lost in a row at most.
const MAX_RETRANSMISSIONS: u32 = 16;

/// A part of 1: how likely it is that something happens to a packet.
///
/// Parsed from and printed as a percentage: `1%`, `0.05%`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const ZERO: Probability = Probability(0.0);
    /// Always.
    pub const ONE: Probability = Probability(1.0);

    /// The probability as a part of 1. `None` if it is not within 0 and 1.
    #[must_use]
    pub fn new(part: f64) -> Option<Probability> {
        (0.0..=1.0).contains(&part).then_some(Probability(part))
    }

    /// The probability as a part of 1.
    #[must_use]
    pub fn part(self) -> f64 {
        self.0
    }

    /// A probability in percent, for constants.
    pub(super) const fn percent(percent: f64) -> Probability {
        assert!(percent >= 0.0 && percent <= 100.0, "a probability is at most 100 %");
        Probability(percent / 100.0)
    }
}

/// How one node reaches another: the settings of one direction.
///
/// The default is a perfect link: no delay, no loss, no limit of its rate, and packets as long as Ethernet
/// carries them.
///
/// ```
/// use std::time::Duration;
/// use paxos_transport::emulator::{Link, Probability};
///
/// let link = Link::default().with(|link| {
///     link.delay = Duration::from_millis(10);
///     link.loss = Probability::new(0.01).expect("it is a part of 1");
/// });
/// assert_eq!("delay=10ms,loss=1%".parse(), Ok(link));
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Link {
    /// How long every packet takes from one node to the other at least.
    pub delay: Duration,
    /// The mean of what a packet takes longer than `delay`. It is distributed exponentially, as waiting times
    /// in the queues of a path roughly are, and cut at ten times the mean. Jitter alone never reorders
    /// packets: like in a queue, a packet does not arrive before those that were sent earlier.
    pub jitter: Duration,
    /// How likely a packet is lost, independently of others.
    pub loss: Probability,
    /// How likely a packet arrives twice.
    pub duplication: Probability,
    /// How likely a packet is held back so that later ones overtake it: for up to a quarter of `delay`, or up
    /// to one millisecond if that is longer, with equal likelihood of all times.
    pub reordering: Probability,
    /// The rate of the bottleneck, in bits per second. `None` for no limit.
    pub bits_per_second: Option<NonZeroU64>,
    /// How many bytes may wait at the bottleneck, with the packet that it is sending. A packet that does not
    /// fit is dropped, unless it is alone. A stream is not read from while this much waits. Without a limit
    /// of the rate nothing waits.
    pub queue_bytes: usize,
    /// The longest packet in bytes, with headers of IP and UDP or TCP. A longer datagram is dropped; a stream
    /// is cut into packets of this size.
    pub mtu_bytes: usize,
}

impl Default for Link {
    fn default() -> Self {
        Link::PERFECT
    }
}

impl Link {
    pub(super) const PERFECT: Link = Link {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: Probability::ZERO,
        duplication: Probability::ZERO,
        reordering: Probability::ZERO,
        bits_per_second: None,
        queue_bytes: 1 << 20,
        mtu_bytes: 1500,
    };

    /// Changes fields in one expression; see the example above.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Link)) -> Link {
        change(&mut self);
        self
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fate {
    /// It arrives.
    Delivered {
        /// When, on the clock of the caller.
        at: Duration,
        /// When a second copy arrives, if the packet is doubled.
        copy_at: Option<Duration>,
    },
    /// It is lost on the way.
    Lost,
    /// The queue of the bottleneck is full.
    QueueFull,
    /// It is longer than the MTU.
    TooLarge,
}

/// When a segment of a stream arrives, and how often it was lost before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) at: Duration,
    pub(super) retransmissions: u32,
}

/// Decides the fate of every packet of one link. It has no clock: it is told the time, and the same seed and
/// the same packets at the same times have the same fates.
#[derive(Clone, Debug)]
pub struct LinkState {
    link: Link,
    random: fastrand::Rng,
    /// When the bottleneck has sent all that it was given.
    free_at: Duration,
    /// What rounding to nanoseconds left of the time that the bottleneck needs, in nanoseconds times the
    /// rate.
    free_at_remainder: u128,
    /// When the last packet arrives that keeps its place in the order.
    last_arrival: Duration,
}

impl LinkState {
    /// A link on which nothing is under way.
    #[must_use]
    pub fn new(link: Link, seed: u64) -> LinkState {
        LinkState {
            link,
            random: fastrand::Rng::with_seed(seed),
            free_at: Duration::ZERO,
            free_at_remainder: 0,
            last_arrival: Duration::ZERO,
        }
    }

    /// The present settings.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Changes the settings. What is under way arrives as it was to; later packets may overtake it.
    pub fn set(&mut self, link: Link) {
        self.link = link;
        self.free_at = Duration::ZERO;
        self.free_at_remainder = 0;
        self.last_arrival = Duration::ZERO;
    }

    /// Decides the fate of a packet of this length that is sent now. `now` must not be earlier than at the
    /// call before.
    pub fn on_packet(&mut self, now: Duration, bytes: usize) -> Fate {
        if bytes > self.link.mtu_bytes {
            return Fate::TooLarge;
        }
        self.on_frame(now, bytes)
    }

    /// Like [`on_packet`](Self::on_packet), for frames of a transport, which have no MTU.
    pub(super) fn on_frame(&mut self, now: Duration, bytes: usize) -> Fate {
        let waiting_bytes = self.waiting_bytes(now);
        if waiting_bytes > 0 && waiting_bytes.saturating_add(bytes) > self.link.queue_bytes {
            return Fate::QueueFull;
        }
        let sent_at = self.pass_bottleneck(now, bytes);
        if self.happens(self.link.loss) {
            return Fate::Lost;
        }
        let at = self.arrival(sent_at);
        let copy_at = self.happens(self.link.duplication).then(|| self.arrival(sent_at));
        Fate::Delivered { at, copy_at }
    }

    /// Decides when a segment of a stream arrives. Each time that it is lost costs a round trip more.
    pub(super) fn on_segment(&mut self, now: Duration, bytes: usize, round_trip: Duration) -> Segment {
        let sent_at = self.pass_bottleneck(now, bytes);
        let mut at = self.arrival_in_order(sent_at);
        let mut retransmissions = 0;
        while retransmissions < MAX_RETRANSMISSIONS && self.happens(self.link.loss) {
            retransmissions += 1;
            at = at.saturating_add(round_trip);
        }
        Segment { at, retransmissions }
    }

    /// How many bytes wait at the bottleneck.
    pub(super) fn waiting_bytes(&self, now: Duration) -> usize {
        let Some(rate) = self.link.bits_per_second else { return 0 };
        let nanos = self.free_at.saturating_sub(now).as_nanos();
        usize::try_from(nanos.saturating_mul(rate.get().into()).div_ceil(8_000_000_000)).unwrap_or(usize::MAX)
    }

    /// When no more than `bytes` wait at the bottleneck, if nothing is added.
    pub(super) fn drained_to(&self, bytes: usize) -> Duration {
        let Some(rate) = self.link.bits_per_second else { return Duration::ZERO };
        self.free_at.saturating_sub(from_nanos(nanos_times_rate(bytes) / u128::from(rate.get())))
    }

    /// When the bottleneck has sent the packet.
    fn pass_bottleneck(&mut self, now: Duration, bytes: usize) -> Duration {
        let Some(rate) = self.link.bits_per_second else { return now };
        if self.free_at < now {
            self.free_at = now;
            self.free_at_remainder = 0;
        }
        let needed = nanos_times_rate(bytes) + self.free_at_remainder;
        let rate = u128::from(rate.get());
        self.free_at = self.free_at.saturating_add(from_nanos(needed / rate));
        self.free_at_remainder = needed % rate;
        self.free_at
    }

    fn arrival(&mut self, sent_at: Duration) -> Duration {
        if self.happens(self.link.reordering) {
            let longest_hold = MIN_HOLD.max(self.link.delay / 4);
            let hold = longest_hold.mul_f64(self.random.f64());
            return sent_at.saturating_add(self.link.delay).saturating_add(hold);
        }
        self.arrival_in_order(sent_at)
    }

    fn arrival_in_order(&mut self, sent_at: Duration) -> Duration {
        let at = sent_at.saturating_add(self.link.delay).saturating_add(self.draw_jitter());
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    fn draw_jitter(&mut self) -> Duration {
        if self.link.jitter.is_zero() {
            return Duration::ZERO;
        }
        // An exponential distribution with mean 1, from a number above 0 and up to 1.
        let factor = -(1.0 - self.random.f64()).ln();
        Duration::try_from_secs_f64(self.link.jitter.as_secs_f64() * factor.min(MAX_JITTER_FACTOR))
            .unwrap_or(Duration::MAX)
    }

    fn happens(&mut self, probability: Probability) -> bool {
        probability > Probability::ZERO && self.random.f64() < probability.0
    }
}

/// The time that a rate of one bit per second would need for so many bytes, in nanoseconds.
fn nanos_times_rate(bytes: usize) -> u128 {
    bytes as u128 * 8_000_000_000
}

fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
