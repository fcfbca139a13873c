//! Named networks, and where their numbers come from.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::link::{Link, Probability};

/// A named network. The numbers are typical ones, not measurements of a certain network:
///
/// - `lan`: two hops through a switch with 1 Gbit/s. Hosts and the switch take about 100 us for one way.
/// - `wifi`: one access point. Stations wait for the air, so that jitter is as large as the delay itself.
/// - `metro`: sites within about 100 km. Light takes 5 us for a kilometre of fibre.
/// - `wan`: regions of a cloud, in this order: Virginia, Ireland, Oregon, Tokyo, Sydney. A delay is that of
///   light in fibre along the great circle, times 1.1 to 2.1, because cables take detours; so half a round
///   trip. Nodes of one region are connected as in `metro`.
/// - `lossy`: a bad path over the public internet, with more than a transport should have to bear.
/// - `satellite`: over a geostationary satellite, to which light takes 120 ms and as long back, plus the
///   processing at both ends. `satellite:leo` is over one at a height of about 550 km, where most of the
///   delay is the processing, and where loss comes from handing over between satellites.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    /// The arguments that may follow the name and a colon. The first is that of the name alone.
    pub arguments: &'static [&'static str],
    /// What it is, in one line.
    pub description: &'static str,
}

/// Writes one line for a list of profiles, such as `lan: one switch, 0.1 ms`.
impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name)?;
        if !self.arguments.is_empty() {
            write!(formatter, "[:{}]", self.arguments.join("|"))?;
        }
        write!(formatter, ": {}", self.description)
    }
}

pub(super) const PROFILES: &[Profile] = &[
    Profile { name: "lan", arguments: &[], description: "one switch: 0.1 ms, 1 Gbit/s" },
    Profile {
        name: "wifi",
        arguments: &[],
        description: "one access point: 1.5 ms with as much jitter, 0.1 % loss, 100 Mbit/s",
    },
    Profile { name: "metro", arguments: &[], description: "sites or zones within 100 km: 0.5 ms, 1 Gbit/s" },
    Profile {
        name: "wan",
        arguments: &["3-regions", "2-regions", "4-regions", "5-regions"],
        description: "regions on several continents: 32 to 128 ms, 0.01 % loss, 500 Mbit/s",
    },
    Profile {
        name: "lossy",
        arguments: &[],
        description: "a bad path: 20 ms, jitter 5 ms, 2 % loss, 1 % reordering, 0.1 % doubled, 50 Mbit/s",
    },
    Profile {
        name: "satellite",
        arguments: &["geo", "leo"],
        description: "geostationary: 270 ms, 20 Mbit/s; leo, low orbit: 15 ms, jitter 5 ms, 100 Mbit/s",
    },
];

const WAN_REGIONS: usize = 5;

/// The delays of one way between the regions of `wan`, in milliseconds; the order is told at [`Profile`].
const WAN_DELAY_MILLIS: [[u64; WAN_REGIONS]; WAN_REGIONS] = [
    [0, 35, 32, 75, 100],
    [35, 0, 65, 100, 128],
    [32, 65, 0, 50, 70],
    [75, 100, 50, 0, 52],
    [100, 128, 70, 52, 0],
];

const LAN: Link = Link {
    delay: Duration::from_micros(100),
    jitter: Duration::from_micros(10),
    bits_per_second: mbit(1000),
    queue_bytes: 512 << 10,
    ..Link::PERFECT
};

const WIFI: Link = Link {
    delay: Duration::from_micros(1500),
    jitter: Duration::from_micros(1500),
    loss: Probability::percent(0.1),
    bits_per_second: mbit(100),
    queue_bytes: 256 << 10,
    ..Link::PERFECT
};

const METRO: Link = Link {
    delay: Duration::from_micros(500),
    jitter: Duration::from_micros(20),
    bits_per_second: mbit(1000),
    queue_bytes: 1 << 20,
    ..Link::PERFECT
};

/// Without the delay.
const BETWEEN_REGIONS: Link = Link {
    jitter: Duration::from_micros(300),
    loss: Probability::percent(0.01),
    bits_per_second: mbit(500),
    queue_bytes: 4 << 20,
    ..Link::PERFECT
};

const LOSSY: Link = Link {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(5),
    loss: Probability::percent(2.0),
    duplication: Probability::percent(0.1),
    reordering: Probability::percent(1.0),
    bits_per_second: mbit(50),
    queue_bytes: 256 << 10,
    ..Link::PERFECT
};

const GEOSTATIONARY: Link = Link {
    delay: Duration::from_millis(270),
    jitter: Duration::from_millis(3),
    loss: Probability::percent(0.1),
    bits_per_second: mbit(20),
    queue_bytes: 1 << 20,
    ..Link::PERFECT
};

const LOW_ORBIT: Link = Link {
    delay: Duration::from_millis(15),
    jitter: Duration::from_millis(5),
    loss: Probability::percent(0.5),
    bits_per_second: mbit(100),
    queue_bytes: 512 << 10,
    ..Link::PERFECT
};

const fn mbit(rate: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(rate * 1_000_000)
}

/// The names of all profiles, for messages.
pub(super) fn names() -> String {
    PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ")
}

impl Profile {
    /// The links between regions. `None` if the profile does not take this argument.
    pub(super) fn links(&self, argument: Option<&str>) -> Option<Vec<Vec<Link>>> {
        if argument.is_some_and(|argument| !self.arguments.contains(&argument)) {
            return None;
        }
        let one = |link: Link| Some(vec![vec![link]]);
        match (self.name, argument.or(self.arguments.first().copied())) {
            ("lan", _) => one(LAN),
            ("wifi", _) => one(WIFI),
            ("metro", _) => one(METRO),
            ("lossy", _) => one(LOSSY),
            ("satellite", Some("leo")) => one(LOW_ORBIT),
            ("satellite", _) => one(GEOSTATIONARY),
            ("wan", Some(argument)) => Some(wan(argument.strip_suffix("-regions")?.parse().ok()?)),
            _ => None,
        }
    }
}

fn wan(regions: usize) -> Vec<Vec<Link>> {
    let link = |from: usize, to: usize| match WAN_DELAY_MILLIS[from][to] {
        0 => METRO,
        millis => Link { delay: Duration::from_millis(millis), ..BETWEEN_REGIONS },
    };
    (0..regions).map(|from| (0..regions).map(|to| link(from, to)).collect()).collect()
}
