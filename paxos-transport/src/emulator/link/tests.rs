//! What becomes of packets; no clock is involved.

use proptest::prelude::*;

use super::*;

const SEED: u64 = 11;
const MILLI: Duration = Duration::from_millis(1);

fn state(change: impl FnOnce(&mut Link)) -> LinkState {
    LinkState::new(Link::default().with(change), SEED)
}

fn percent(percent: f64) -> Probability {
    Probability::new(percent / 100.0).expect("it is a percentage")
}

fn rate(bits_per_second: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bits_per_second)
}

/// The time of arrival of a packet that must arrive.
fn arrival(fate: Fate) -> Duration {
    match fate {
        Fate::Delivered { at, .. } => at,
        other => panic!("the packet arrives, but {other:?}"),
    }
}

#[test]
fn a_perfect_link_delivers_at_once_and_once() {
    let mut state = state(|_| {});
    for millis in 0..1000 {
        let now = Duration::from_millis(millis);
        assert_eq!(state.on_packet(now, 1500), Fate::Delivered { at: now, copy_at: None });
    }
}

#[test]
fn a_packet_longer_than_the_mtu_is_dropped() {
    let mut state = state(|link| link.mtu_bytes = 1280);
    assert_eq!(arrival(state.on_packet(MILLI, 1280)), MILLI);
    assert_eq!(state.on_packet(MILLI, 1281), Fate::TooLarge);
}

#[test]
fn as_many_packets_are_lost_and_doubled_as_asked() {
    const PACKETS: u32 = 100_000;
    let mut state = state(|link| {
        link.loss = percent(1.0);
        link.duplication = percent(2.0);
    });
    let (mut lost, mut doubled) = (0, 0);
    for _ in 0..PACKETS {
        match state.on_packet(MILLI, 100) {
            Fate::Lost => lost += 1,
            Fate::Delivered { copy_at: Some(_), .. } => doubled += 1,
            _ => {}
        }
    }
    // The standard deviations are 31 and 44.
    assert!((850..1150).contains(&lost), "1 % of {PACKETS}, not {lost}");
    assert!((1760..2200).contains(&doubled), "2 % of the rest of {PACKETS}, not {doubled}");
}

#[test]
fn a_link_that_loses_everything_delivers_nothing() {
    let mut state = state(|link| link.loss = Probability::ONE);
    for _ in 0..10_000 {
        assert_eq!(state.on_packet(MILLI, 100), Fate::Lost);
    }
}

#[test]
fn jitter_adds_its_mean_and_has_a_bound() {
    const PACKETS: u32 = 20_000;
    let (delay, jitter) = (10 * MILLI, 2 * MILLI);
    let mut state = state(|link| (link.delay, link.jitter) = (delay, jitter));
    let mut sum = Duration::ZERO;
    for number in 0..PACKETS {
        // So far apart that no packet waits for the one before.
        let now = 100 * MILLI * number;
        let extra = arrival(state.on_packet(now, 100)).saturating_sub(now + delay);
        assert!(extra <= jitter.mul_f64(MAX_JITTER_FACTOR), "{extra:?} is too long");
        sum += extra;
    }
    let mean = sum / PACKETS;
    // The standard deviation of the mean is 14 us.
    assert!(mean.abs_diff(jitter) < MILLI / 10, "the mean is {jitter:?}, not {mean:?}");
}

#[test]
fn a_reordered_packet_is_overtaken_but_not_held_for_long() {
    let delay = 20 * MILLI;
    let mut state = state(|link| (link.delay, link.reordering) = (delay, percent(5.0)));
    let (mut latest, mut overtaken) = (Duration::ZERO, 0);
    for number in 0..10_000 {
        let now = Duration::from_micros(100) * number;
        let at = arrival(state.on_packet(now, 100));
        assert!((now + delay..=now + delay + delay / 4).contains(&at), "{at:?} of a packet sent at {now:?}");
        overtaken += u32::from(at < latest);
        latest = latest.max(at);
    }
    assert!(
        overtaken > 400,
        "a held packet is overtaken by those of up to 5 ms, so many see it: {overtaken}"
    );
}

#[test]
fn the_queue_holds_no_more_than_its_bound_and_drains() {
    let mut state = state(|link| {
        link.bits_per_second = rate(8_000_000); // One byte in a microsecond.
        link.queue_bytes = 10_000;
    });
    let fates: Vec<Fate> = (0..20).map(|_| state.on_packet(Duration::ZERO, 1000)).collect();
    for (place, fate) in fates.iter().enumerate() {
        let expected = match u32::try_from(place).expect("it is small") {
            place @ 0..10 => Fate::Delivered { at: MILLI * (place + 1), copy_at: None },
            _ => Fate::QueueFull,
        };
        assert_eq!(*fate, expected, "packet {place}");
    }
    assert_eq!(state.waiting_bytes(4 * MILLI), 6000);
    assert_eq!(state.drained_to(6000), 4 * MILLI);
    assert_eq!(arrival(state.on_packet(4 * MILLI, 1000)), 11 * MILLI);
}

#[test]
fn a_packet_longer_than_the_queue_passes_alone() {
    let mut state = state(|link| {
        link.bits_per_second = rate(8_000_000);
        link.queue_bytes = 0;
    });
    assert_eq!(arrival(state.on_packet(Duration::ZERO, 1000)), MILLI);
    assert_eq!(state.on_packet(Duration::ZERO, 1000), Fate::QueueFull);
    assert_eq!(arrival(state.on_packet(MILLI, 1000)), 2 * MILLI);
}

#[test]
fn a_segment_that_is_lost_costs_a_round_trip_each_time() {
    let round_trip = 50 * MILLI;
    let mut state = state(|link| (link.delay, link.loss) = (20 * MILLI, percent(30.0)));
    let mut retransmissions = 0;
    for _ in 0..1000 {
        let segment = state.on_segment(Duration::ZERO, 1500, round_trip);
        assert_eq!(segment.at, 20 * MILLI + round_trip * segment.retransmissions);
        retransmissions += segment.retransmissions;
    }
    // 30 % of 1000, and again 30 % of those, and so on: 429.
    assert!((350..510).contains(&retransmissions), "{retransmissions} retransmissions");
}

#[test]
fn a_segment_arrives_even_over_a_link_that_loses_everything() {
    let mut state = state(|link| link.loss = Probability::ONE);
    let segment = state.on_segment(Duration::ZERO, 1500, MILLI);
    assert_eq!(segment, Segment { at: MILLI * MAX_RETRANSMISSIONS, retransmissions: MAX_RETRANSMISSIONS });
}

#[test]
fn packets_of_a_link_that_was_changed_do_not_wait_for_earlier_ones() {
    let mut state = state(|link| (link.delay, link.bits_per_second) = (500 * MILLI, rate(1000)));
    assert_eq!(arrival(state.on_packet(Duration::ZERO, 1000)), 8500 * MILLI);
    state.set(Link::default().with(|link| link.delay = MILLI));
    assert_eq!(arrival(state.on_packet(MILLI, 1000)), 2 * MILLI);
}

#[test]
fn another_seed_brings_other_fates() {
    let fates = |seed| {
        let mut state = LinkState::new(Link::default().with(|link| link.loss = percent(50.0)), seed);
        (0..64).map(|_| state.on_packet(MILLI, 100)).collect::<Vec<_>>()
    };
    assert_ne!(fates(1), fates(2));
}

fn any_link() -> impl Strategy<Value = Link> {
    let probability = || (0.0..0.3_f64).prop_map(Probability);
    let times = (0..50_000_u64, 0..20_000_u64);
    let rates = (proptest::option::of(10_000..10_000_000_000_u64), 0..300_000_usize);
    (times, probability(), probability(), rates).prop_map(|((delay, jitter), loss, duplication, rates)| {
        Link {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            loss,
            duplication,
            bits_per_second: rates.0.and_then(NonZeroU64::new),
            queue_bytes: rates.1,
            ..Link::PERFECT
        }
    })
}

/// Gaps in microseconds, and lengths.
fn any_packets() -> impl Strategy<Value = Vec<(u64, usize)>> {
    proptest::collection::vec((0..3000_u64, 0..1500_usize), 1..300)
}

fn fates(state: &mut LinkState, packets: &[(u64, usize)]) -> Vec<(Duration, Fate)> {
    let mut now = Duration::ZERO;
    let fates = packets.iter().map(|(gap, bytes)| {
        now += Duration::from_micros(*gap);
        (now, state.on_packet(now, *bytes))
    });
    fates.collect()
}

proptest! {
    #[test]
    fn the_same_seed_brings_the_same_fates(link in any_link(), packets in any_packets(), seed: u64) {
        let mut one = LinkState::new(link.clone(), seed);
        let mut two = LinkState::new(link, seed);
        prop_assert_eq!(fates(&mut one, &packets), fates(&mut two, &packets));
    }

    #[test]
    fn without_reordering_packets_keep_their_order_and_none_is_early(
        link in any_link(), packets in any_packets(), seed: u64,
    ) {
        let delay = link.delay;
        let mut latest = Duration::ZERO;
        for (now, fate) in fates(&mut LinkState::new(link, seed), &packets) {
            if let Fate::Delivered { at, copy_at } = fate {
                prop_assert!(at >= latest && at >= now + delay);
                prop_assert!(copy_at.is_none_or(|copy_at| copy_at >= at));
                latest = copy_at.unwrap_or(at);
            }
        }
    }

    #[test]
    fn the_rate_is_exact(
        bits_per_second in 1_000..10_000_000_000_u64,
        lengths in proptest::collection::vec(0..1500_usize, 1..300),
    ) {
        let mut state = state(|link| {
            link.bits_per_second = rate(bits_per_second);
            link.queue_bytes = usize::MAX;
        });
        let last = lengths.iter().map(|length| arrival(state.on_packet(MILLI, *length))).last();
        let bits = lengths.iter().sum::<usize>() as u128 * 8;
        let nanos = bits * 1_000_000_000 / u128::from(bits_per_second);
        prop_assert_eq!(last, Some(MILLI + from_nanos(nanos)));
    }

    #[test]
    fn no_more_waits_than_the_queue_holds(link in any_link(), packets in any_packets()) {
        let queue_bytes = link.queue_bytes;
        let mut state = LinkState::new(link, SEED);
        let mut now = Duration::ZERO;
        for (gap, bytes) in packets {
            now += Duration::from_micros(gap);
            let _ = state.on_packet(now, bytes);
            // A packet that is alone may be longer than the queue.
            prop_assert!(state.waiting_bytes(now) <= queue_bytes.max(bytes).max(1500));
            let half = queue_bytes / 2;
            prop_assert!(state.waiting_bytes(now.max(state.drained_to(half))) <= half + 1);
        }
    }
}
