//! Wrong passwords: whoever tries many from one address has to wait.
//!
//! The first few wrong passwords of an address are answered at once. After that, each attempt from there
//! waits for its turn before the password is looked at, and turns get rarer with each, also if they come over
//! many connections. Whoever would have to wait for too long is turned away. An address that has sent no
//! wrong password for a while is forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// So many wrong passwords of an address delay nobody.
const FREE_FAILURES: u32 = 3;
/// The pause after the next attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Whoever would have to wait for longer is turned away.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// After this time without a wrong password an address is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How many addresses are remembered. All others share one place.
const MAX_ADDRESSES: usize = 4096;

/// Remembers the addresses from which wrong passwords came.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    /// Wrong passwords up to the first that delay nobody, and all attempts since.
    count: u32,
    /// When the latest wrong password came.
    latest: Instant,
    /// When the next attempt may be made.
    next_turn: Instant,
}

/// The attempt would have to wait for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany;

impl Logins {
    /// How long an attempt from this address has to wait before its password is looked at.
    pub(super) fn take_turn(&self, from: IpAddr, now: Instant) -> Result<Duration, TooMany> {
        let mut addresses = lock(&self.0);
        let place = place(&addresses, from);
        let Some(failures) = addresses.get_mut(&place) else { return Ok(Duration::ZERO) };
        if now.saturating_duration_since(failures.latest) >= FORGET_AFTER {
            addresses.remove(&place);
            return Ok(Duration::ZERO);
        }
        let Some(paced) = failures.count.checked_sub(FREE_FAILURES) else { return Ok(Duration::ZERO) };
        let turn = failures.next_turn.max(now);
        let wait = turn - now;
        if wait > MAX_WAIT {
            return Err(TooMany);
        }
        failures.count = failures.count.saturating_add(1);
        failures.next_turn = turn + FIRST_PAUSE.saturating_mul(1 << paced.min(16)).min(MAX_PAUSE);
        Ok(wait)
    }

    /// Remembers a wrong password.
    pub(super) fn on_failure(&self, from: IpAddr, now: Instant) {
        let mut addresses = lock(&self.0);
        if addresses.len() >= MAX_ADDRESSES {
            addresses.retain(|_, failures| now.saturating_duration_since(failures.latest) < FORGET_AFTER);
        }
        let place = place(&addresses, from);
        let failures = addresses.entry(place).or_insert(Failures { count: 0, latest: now, next_turn: now });
        failures.count = failures.count.max((failures.count + 1).min(FREE_FAILURES));
        failures.latest = now;
    }
}

/// Under which address the failures of an address are counted.
fn place(addresses: &HashMap<IpAddr, Failures>, from: IpAddr) -> IpAddr {
    let place = match from.to_canonical() {
        // Whoever has one address of IPv6 has all that begin with the same 64 bits.
        IpAddr::V6(address) => IpAddr::from(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    };
    if addresses.contains_key(&place) || addresses.len() < MAX_ADDRESSES {
        place
    } else {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const USER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// How many passwords can be tried from `from` within a time by whoever never waits for an answer.
    fn tried(logins: &Logins, from: impl Fn(u32) -> IpAddr, start: Instant, time: Duration) -> u32 {
        let (mut tried, mut now) = (0, start);
        let mut due: Vec<Instant> = Vec::new();
        for attempt in 0.. {
            now += Duration::from_millis(1);
            if now >= start + time {
                break;
            }
            if let Ok(wait) = logins.take_turn(from(attempt), now) {
                due.push(now + wait);
            }
            let is_due = |turn: &Instant| *turn <= now;
            for turn in due.iter().filter(|turn| is_due(turn)) {
                logins.on_failure(from(attempt), *turn);
                tried += 1;
            }
            due.retain(|turn| !is_due(turn));
        }
        tried
    }

    #[test]
    fn many_wrong_passwords_slow_down_their_address_and_no_other() {
        let (logins, start) = (Logins::default(), Instant::now());
        let count = tried(&logins, |_| ATTACKER, start, Duration::from_secs(60));
        assert!((20..60).contains(&count), "{count} passwords in a minute, however many connections try");
        let end = start + Duration::from_secs(60);
        assert_ne!(logins.take_turn(ATTACKER, end), Ok(Duration::ZERO));
        assert_eq!(logins.take_turn(USER, end), Ok(Duration::ZERO));
        let later = end + FORGET_AFTER + MAX_WAIT;
        assert_eq!(logins.take_turn(ATTACKER, later), Ok(Duration::ZERO), "it is forgotten");
    }

    #[test]
    fn a_mistake_or_two_cost_nothing() {
        let (logins, now) = (Logins::default(), Instant::now());
        for _ in 0..FREE_FAILURES {
            assert_eq!(logins.take_turn(USER, now), Ok(Duration::ZERO));
            logins.on_failure(USER, now);
        }
        assert_eq!(logins.take_turn(USER, now), Ok(Duration::ZERO));
        assert_eq!(logins.take_turn(USER, now), Ok(FIRST_PAUSE), "one more does");
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_help_nobody() {
        let (logins, start) = (Logins::default(), Instant::now());
        let network = |attempt: u32| IpAddr::from(Ipv6Addr::from_bits(u128::from(attempt)));
        let count = tried(&logins, network, start, Duration::from_secs(20));
        assert!(count < 40, "{count} from one network of IPv6");
        for address in 0..2 * u32::try_from(MAX_ADDRESSES).expect("it is small") {
            logins.on_failure(IpAddr::from(address.to_be_bytes()), start);
        }
        assert!(lock(&logins.0).len() <= MAX_ADDRESSES + 1, "one place is for all others");
        let unknown = IpAddr::from([200, 0, 0, 1]);
        assert!((0..10).any(|_| logins.take_turn(unknown, start) == Err(TooMany)));
    }
}
