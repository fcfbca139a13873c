//! A network that loses packets, made of the kernel's own loopback, and what is measured on it.
//!
//! In a network namespace of its own a process has a loopback that nobody else uses. There a rule of nftables
//! drops packets at random as they arrive: UDP and TCP alike, and without either of them being told by an
//! error, as on a real network. [`SETUP`] makes packets as long as those of Ethernet, and has the kernel cut
//! what it is given in one piece (GSO) into packets before they get there, so that one loss is one packet for
//! both.
//!
//! Deliberately absent: delay. A packet takes some ten microseconds, so that what is seen of a loss is how
//! long it takes until it is noticed and made good.

use std::fmt;
use std::str::FromStr;

/// The longest IP packet.
pub const MTU_BYTES: u32 = 1500;
/// What to run in the namespace, in this order: program and arguments.
pub const SETUP: [&[&str]; 2] =
    [&["ip", "link", "set", "lo", "mtu", "1500", "up"], &["ip", "link", "set", "lo", "gso_max_segs", "1"]];
/// Probabilities are told to the kernel in so many parts.
const PARTS: u32 = 100_000;

/// How many packets are lost, in parts of a hundred thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LossRate(u32);

impl FromStr for LossRate {
    type Err = LossError;

    /// From percent, as `0.1`; less than half of all.
    fn from_str(text: &str) -> Result<LossRate, LossError> {
        let percent: f64 = text.parse().map_err(|_| LossError::NoRate(text.to_owned()))?;
        if !(0.0..50.0).contains(&percent) {
            return Err(LossError::NoRate(text.to_owned()));
        }
        let parts = (percent / 100.0 * f64::from(PARTS)).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in 0..50000")]
        Ok(LossRate(parts as u32))
    }
}

impl fmt::Display for LossRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", f64::from(self.0) * 100.0 / f64::from(PARTS))
    }
}

impl LossRate {
    /// What `nft -f -` takes to lose and to count packets.
    #[must_use]
    pub fn rules(self) -> String {
        let lose = match self.0 {
            0 => String::new(),
            parts => format!("numgen random mod {PARTS} < {parts} counter name lost drop"),
        };
        format!(
            "table inet loss {{\n counter arriving {{}}\n counter lost {{}}\n chain input {{\n \
             type filter hook input priority 0; policy accept;\n counter name arriving\n {lose}\n }}\n}}\n"
        )
    }
}

/// Packets since the rules were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packets {
    /// All that were sent.
    pub arriving: u64,
    /// Those that were dropped.
    pub lost: u64,
}

impl Packets {
    /// Reads what `nft list counters` prints.
    ///
    /// # Errors
    ///
    /// [`LossError::NoCounter`] if one is missing.
    pub fn parse(text: &str) -> Result<Packets, LossError> {
        Ok(Packets { arriving: counter(text, "arriving")?, lost: counter(text, "lost")? })
    }

    /// What has come to it since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Packets) -> Packets {
        Packets { arriving: self.arriving - earlier.arriving, lost: self.lost - earlier.lost }
    }

    /// How many of a hundred were lost.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn percent_lost(self) -> f64 {
        100.0 * self.lost as f64 / self.arriving.max(1) as f64
    }
}

fn counter(text: &str, name: &'static str) -> Result<u64, LossError> {
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    let count = words.find(|word| *word == "packets").and_then(|_| words.next());
    count.and_then(|count| count.parse().ok()).ok_or(LossError::NoCounter(name))
}

/// What is wrong with something about losses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// It is no rate.
    #[error("{0} is no loss rate: give percent, from 0 to less than 50")]
    NoRate(String),
    /// The system does not tell how many packets there were.
    #[error("nft does not tell the counter {0}")]
    NoCounter(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_given_in_percent() {
        let rate = |text: &str| text.parse::<LossRate>();
        assert_eq!(rate("0.1"), Ok(LossRate(100)));
        assert_eq!(rate("3"), Ok(LossRate(3000)));
        assert_eq!(rate("0.1").expect("it is one").to_string(), "0.1");
        for nonsense in ["50", "-1", "NaN", "much", ""] {
            assert_eq!(rate(nonsense), Err(LossError::NoRate(nonsense.to_owned())));
        }
    }

    #[test]
    fn the_rules_lose_as_many_as_asked_for_and_none_if_none() {
        assert!(LossRate(100).rules().contains("mod 100000 < 100 counter name lost drop"));
        assert!(!LossRate(0).rules().contains("drop"));
    }

    #[test]
    fn counters_are_read_whatever_their_order() {
        let text = "table inet loss {\n\tcounter lost {\n\t\tpackets 218 bytes 237804\n\t}\n\
                    \tcounter arriving {\n\t\tpackets 2293 bytes 2476704\n\t}\n}\n";
        let packets = Packets::parse(text).expect("both are there");
        assert_eq!(packets, Packets { arriving: 2293, lost: 218 });
        assert_eq!(Packets::parse(&text.replace("lost", "found")), Err(LossError::NoCounter("lost")));
        let later = Packets { arriving: 2493, lost: 220 };
        assert!((later.since(packets).percent_lost() - 1.0).abs() < 1e-9);
    }
}
