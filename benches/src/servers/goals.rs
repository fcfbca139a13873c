//! The goals of paxos-node, and whether it reaches them.

use std::fmt;

use serde::Serialize;

use super::contender::Contender;
use super::figures::{Median, Medians};
use super::row::Row;

/// A goal that was judged.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    goal: &'static str,
    bound: Bound,
    /// `None` if one of the two was not measured.
    ratio: Option<f64>,
}

/// Where a ratio has to lie.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// Judges all goals.
pub(super) fn judge(medians: &Medians) -> Vec<Verdict> {
    let rate = |median: &Median| median.requests_per_second;
    let wait = |median: &Median| median.p50_milliseconds;
    let lone = medians.rows.get(&(Row::SetLone, Contender::PaxosNode));
    let syncs = lone.map(|lone| lone.p50_milliseconds / medians.sync_milliseconds);
    let lock = medians.rows.get(&(Row::LockLone, Contender::PaxosNode));
    let lock_over_set = lock.zip(lone).map(|(lock, set)| lock.p50_milliseconds / set.p50_milliseconds);
    let locks = medians.rows.get(&(Row::LockMany, Contender::PaxosNode));
    let goals = [
        (
            "SET/s at 64 clients, over etcd",
            Bound::AtLeast(20.0),
            medians.ratio(Row::SetMany, Contender::Etcd, rate),
        ),
        (
            "SET/s at 64 clients, over Redis",
            Bound::AtLeast(1.0),
            medians.ratio(Row::SetMany, Contender::Redis, rate),
        ),
        (
            "SET/s at 64 clients, 16 at once, over Redis",
            Bound::AtLeast(1.0),
            medians.ratio(Row::SetPipelined, Contender::Redis, rate),
        ),
        (
            "median of a lone SET, over etcd",
            Bound::AtMost(0.4),
            medians.ratio(Row::SetLone, Contender::Etcd, wait),
        ),
        ("median of a lone SET, over the disk's write and sync", Bound::Below(3.0), syncs),
        (
            "GET/s at 64 clients, over etcd",
            Bound::AtLeast(20.0),
            medians.ratio(Row::GetMany, Contender::Etcd, rate),
        ),
        (
            "GET/s at 64 clients, over Redis",
            Bound::AtLeast(0.7),
            medians.ratio(Row::GetMany, Contender::Redis, rate),
        ),
    ];
    let of_locks = [
        ("median of lone lock + release, over a lone SET", Bound::AtMost(2.2), lock_over_set),
        (
            "locks taken and released/s at 64 clients",
            Bound::AtLeast(10_000.0),
            locks.map(|locks| locks.requests_per_second),
        ),
        (
            "locks taken and released/s at 64 clients, over etcd",
            Bound::AtLeast(5.0),
            medians.ratio(Row::LockMany, Contender::Etcd, rate),
        ),
    ];
    goals.into_iter().chain(of_locks).map(|(goal, bound, ratio)| Verdict { goal, bound, ratio }).collect()
}

impl Verdict {
    /// `None` if that was not measured.
    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio.filter(|ratio| ratio.is_finite())?;
        Some(match self.bound {
            Bound::AtLeast(bound) => ratio >= bound,
            Bound::AtMost(bound) => ratio <= bound,
            Bound::Below(bound) => ratio < bound,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let ratio = self.ratio.map_or_else(|| String::from("-"), |ratio| format!("{ratio:.2}"));
        let Verdict { goal, bound, .. } = self;
        write!(formatter, "{word:<13}{goal:<54}{ratio:>8}  {bound}")
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(bound) => write!(formatter, "at least {bound}"),
            Bound::AtMost(bound) => write!(formatter, "at most {bound}"),
            Bound::Below(bound) => write!(formatter, "below {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::row;
    use super::*;

    fn verdicts(medians: &Medians) -> Vec<Option<bool>> {
        judge(medians).iter().map(Verdict::is_met).collect()
    }

    /// Figures that reach each goal exactly, but for that of the disk, which has to be passed.
    fn just_enough() -> Medians {
        let mut medians = Medians { sync_milliseconds: 0.25, ..Medians::default() };
        let mut set = |row_: Row, contender: Contender, rate: f64, milliseconds: f64| {
            medians.rows.insert((row_, contender), row(rate, milliseconds));
        };
        set(Row::SetLone, Contender::PaxosNode, 1.0, 0.5);
        set(Row::SetLone, Contender::Etcd, 1.0, 1.25);
        set(Row::SetMany, Contender::PaxosNode, 200.0, 1.0);
        set(Row::SetMany, Contender::Etcd, 10.0, 1.0);
        set(Row::SetMany, Contender::Redis, 200.0, 1.0);
        set(Row::SetPipelined, Contender::PaxosNode, 900.0, 1.0);
        set(Row::SetPipelined, Contender::Redis, 900.0, 1.0);
        set(Row::GetMany, Contender::PaxosNode, 700.0, 1.0);
        set(Row::GetMany, Contender::Etcd, 35.0, 1.0);
        set(Row::GetMany, Contender::Redis, 1000.0, 1.0);
        set(Row::LockLone, Contender::PaxosNode, 1.0, 1.1);
        set(Row::LockMany, Contender::PaxosNode, 10_000.0, 1.0);
        set(Row::LockMany, Contender::Etcd, 2_000.0, 1.0);
        medians
    }

    #[test]
    fn what_is_just_enough_is_enough_and_a_little_less_is_not() {
        let mut medians = just_enough();
        assert_eq!(verdicts(&medians), [Some(true); 10]);
        for ((place, contender), row) in &mut medians.rows {
            if *contender == Contender::PaxosNode {
                row.requests_per_second *= 0.999;
                row.p50_milliseconds *= if *place == Row::LockLone { 1.6 } else { 1.5 };
            }
        }
        assert_eq!(verdicts(&medians), [Some(false); 10]);
    }

    #[test]
    fn what_was_not_measured_is_neither() {
        let mut medians = just_enough();
        medians.rows.retain(|(_, contender), _| *contender != Contender::Redis);
        let (yes, unknown) = (Some(true), None);
        assert_eq!(verdicts(&medians), [yes, unknown, unknown, yes, yes, yes, unknown, yes, yes, yes]);
        assert!(judge(&medians)[1].to_string().starts_with("not measured"));
        assert!(judge(&medians)[0].to_string().contains("20.00  at least 20"));
    }
}
