//! Phase 1 (*Paxos Made Simple*, section 2.2), once for all slots from the first unchosen one on (section 3).

use std::fmt;

use super::Traffic;
use crate::clock::LeaderTime;
use crate::durable::Entry;
use crate::id::{Ballot, Slot};

/// Phase 1a, for all slots from `first` to infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepare {
    /// The proposer's ballot.
    pub ballot: Ballot,
    /// The first slot to report: the proposer's first unchosen one, or the `rest` of the promise before.
    pub first: Slot,
    /// The ballot of the leader that has asked the sender to [take over](super::TakeOver), if one has. A
    /// lease that was granted under this ballot does not hold the promise back.
    pub handed_over: Option<Ballot>,
}

/// Phase 1b: the sender accepts no more proposals below `ballot`, in any slot. Reports every slot of
/// `first..` (before `rest`, if that is given) in which it has accepted a value or knows which one is chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The promised ballot.
    pub ballot: Ballot,
    /// Where the report begins: as the prepare asked.
    pub first: Slot,
    /// The accepted and chosen values, in ascending order of slots.
    pub reports: Vec<(Slot, Entry)>,
    /// If the report is not complete: the slot from which the proposer asks for the next part, by another
    /// prepare.
    pub rest: Option<Slot>,
    /// The time of the latest leader that the sender has heard since it started, carried on until now.
    pub time: Option<LeaderTime>,
}

impl Prepare {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl Promise {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for Prepare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Prepare {}, slots {}..", self.ballot, self.first)?;
        match self.handed_over {
            Some(before) => write!(formatter, ", handed over by {before}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Promise {}, slots {}..", self.ballot, self.first)?;
        if let Some(rest) = self.rest {
            write!(formatter, "{rest}")?;
        }
        if self.reports.is_empty() {
            return formatter.write_str(": nothing accepted");
        }
        for (index, (slot, entry)) in self.reports.iter().enumerate() {
            write!(formatter, "{} slot {slot} = {entry}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use crate::clock::{LeaderTime, Time};
    use crate::id::Slot;
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, Entry, ballot, entry, slot};
    use crate::wire::strict::{BALLOT, ENTRY, Shape, list, one, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Prepare {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        first: u64,
        #[prost(message, optional, tag = "3")]
        handed_over: Option<Ballot>,
    }

    pub(crate) static PREPARE: Shape =
        shape(&[one_message("ballot", &BALLOT), one("first"), one_message("handed_over", &BALLOT)]);

    impl From<&super::Prepare> for Prepare {
        fn from(prepare: &super::Prepare) -> Prepare {
            Prepare {
                ballot: Some(prepare.ballot.into()),
                first: prepare.first.0,
                handed_over: prepare.handed_over.map(Ballot::from),
            }
        }
    }

    impl TryFrom<Prepare> for super::Prepare {
        type Error = WireError;

        fn try_from(prepare: Prepare) -> Result<super::Prepare, WireError> {
            Ok(super::Prepare {
                ballot: ballot(prepare.ballot)?,
                first: slot(prepare.first, "first")?,
                handed_over: prepare.handed_over.map(Into::into),
            })
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Promise {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        first: u64,
        #[prost(message, repeated, tag = "3")]
        reports: Vec<Entry>,
        #[prost(uint64, tag = "4")]
        rest: u64,
        #[prost(message, optional, tag = "5")]
        time_of: Option<Ballot>,
        #[prost(uint64, tag = "6")]
        time: u64,
    }

    pub(crate) static PROMISE: Shape = shape(&[
        one_message("ballot", &BALLOT),
        one("first"),
        list("reports", Some(&ENTRY)),
        one("rest"),
        one_message("time_of", &BALLOT),
        one("time"),
    ]);

    impl From<&super::Promise> for Promise {
        fn from(promise: &super::Promise) -> Promise {
            Promise {
                ballot: Some(promise.ballot.into()),
                first: promise.first.0,
                reports: promise.reports.iter().map(Entry::from).collect(),
                rest: promise.rest.map_or(0, |rest| rest.0),
                time_of: promise.time.map(|of| of.ballot.into()),
                time: promise.time.map_or(0, |of| of.time.0),
            }
        }
    }

    impl TryFrom<Promise> for super::Promise {
        type Error = WireError;

        fn try_from(promise: Promise) -> Result<super::Promise, WireError> {
            Ok(super::Promise {
                ballot: ballot(promise.ballot)?,
                first: slot(promise.first, "first")?,
                reports: promise.reports.into_iter().map(entry).collect::<Result<_, _>>()?,
                rest: (promise.rest != 0).then_some(Slot(promise.rest)),
                time: promise
                    .time_of
                    .map(|ballot| LeaderTime { ballot: ballot.into(), time: Time(promise.time) }),
            })
        }
    }
}
