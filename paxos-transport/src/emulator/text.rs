//! Settings of links as text: `delay=10ms,loss=1%,rate=100mbit`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::link::{Link, Probability};

/// The longest time that a link takes: what is beyond is a mistake.
const MAX_TIME: Duration = Duration::from_secs(60);

const TIME: &str = "a time of at most one minute, such as 250us, 1.5ms or 2s";
const PERCENTAGE: &str = "a percentage of at most 100%, such as 1% or 0.05%";
const RATE: &str = "a rate, such as 500kbit, 100mbit or 1gbit";
const SIZE: &str = "a size, such as 1500, 64KiB or 1MiB";
const KEYS: &str = "delay, jitter, loss, duplication, reordering, rate, queue and mtu";

/// Why a text is no [`Link`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A part of the text is not of the form `KEY=VALUE`.
    #[error("{part:?} is not of the form KEY=VALUE; the keys are {KEYS}")]
    NoSetting {
        /// The part.
        part: String,
    },
    /// There is no such setting.
    #[error("there is no setting {key:?}; the keys are {KEYS}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The value can't be read.
    #[error("{key}={value}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut link = Link::default();
        change(&mut link, text)?;
        Ok(link)
    }
}

/// Changes the settings that `text` names.
pub(super) fn change(link: &mut Link, text: &str) -> Result<(), LinkError> {
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| LinkError::NoSetting { part: part.trim().to_owned() })?;
        let (key, value) = (key.trim(), value.trim());
        let wrong = |expected| LinkError::Value { key: key.to_owned(), value: value.to_owned(), expected };
        match key {
            "delay" => link.delay = time(value).ok_or_else(|| wrong(TIME))?,
            "jitter" => link.jitter = time(value).ok_or_else(|| wrong(TIME))?,
            "loss" => link.loss = value.parse().map_err(|_| wrong(PERCENTAGE))?,
            "duplication" => link.duplication = value.parse().map_err(|_| wrong(PERCENTAGE))?,
            "reordering" => link.reordering = value.parse().map_err(|_| wrong(PERCENTAGE))?,
            "rate" => link.bits_per_second = Some(rate(value).ok_or_else(|| wrong(RATE))?),
            "queue" => link.queue_bytes = size(value).ok_or_else(|| wrong(SIZE))?,
            "mtu" => link.mtu_bytes = size(value).ok_or_else(|| wrong(SIZE))?,
            _ => return Err(LinkError::UnknownKey { key: key.to_owned() }),
        }
    }
    Ok(())
}

/// Writes the settings that differ from those of a perfect link, and the delay.
impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let perfect = Link::PERFECT;
        write!(formatter, "delay={}", TimeText(self.delay))?;
        if self.jitter != perfect.jitter {
            write!(formatter, ",jitter={}", TimeText(self.jitter))?;
        }
        for (key, probability) in
            [("loss", self.loss), ("duplication", self.duplication), ("reordering", self.reordering)]
        {
            if probability > Probability::ZERO {
                write!(formatter, ",{key}={probability}")?;
            }
        }
        if let Some(rate) = self.bits_per_second {
            write!(formatter, ",rate={}", RateText(rate))?;
        }
        if self.queue_bytes != perfect.queue_bytes {
            write!(formatter, ",queue={}", SizeText(self.queue_bytes))?;
        }
        if self.mtu_bytes != perfect.mtu_bytes {
            write!(formatter, ",mtu={}", self.mtu_bytes)?;
        }
        Ok(())
    }
}

/// Why a text is no [`Probability`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {PERCENTAGE}")]
pub struct ProbabilityError;

impl FromStr for Probability {
    type Err = ProbabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent: f64 =
            text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).ok_or(ProbabilityError)?;
        Probability::new(percent / 100.0).ok_or(ProbabilityError)
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nine digits hide that binary fractions are not decimal ones: 0.07 times 100 is 7.000000000000001.
        let digits = format!("{:.9}", self.part() * 100.0);
        write!(formatter, "{}%", digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn time(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|time| *time <= MAX_TIME)
}

fn rate(text: &str) -> Option<NonZeroU64> {
    let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    NonZeroU64::new(with_unit(text, &units)?)
}

fn size(text: &str) -> Option<usize> {
    let units = [("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
    usize::try_from(with_unit(text, &units)?).ok()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(factor)
}

struct TimeText(Duration);

impl fmt::Display for TimeText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration(self.0).to_string();
        formatter.write_str(&text.replace(' ', ""))
    }
}

struct RateText(NonZeroU64);

impl fmt::Display for RateText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.get();
        match bits {
            _ if bits.is_multiple_of(1_000_000_000) => write!(formatter, "{}gbit", bits / 1_000_000_000),
            _ if bits.is_multiple_of(1_000_000) => write!(formatter, "{}mbit", bits / 1_000_000),
            _ if bits.is_multiple_of(1000) => write!(formatter, "{}kbit", bits / 1000),
            _ => write!(formatter, "{bits}bit"),
        }
    }
}

struct SizeText(usize);

impl fmt::Display for SizeText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("0"),
            bytes if bytes.is_multiple_of(1 << 20) => write!(formatter, "{}MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(formatter, "{}KiB", bytes >> 10),
            bytes => write!(formatter, "{bytes}"),
        }
    }
}
