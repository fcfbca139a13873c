//! A follower's question to the leader about a linearizable read.

use std::fmt;

use super::Traffic;
use crate::clock::Time;
use crate::id::{Ballot, Slot};

/// Names a read (or a group of reads that share one) on the node where it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Asks the leader up to which slot a linearizable read must wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The sender's name for the read.
    pub read: ReadId,
}

/// "At some moment after you asked I was the leader, and nothing beyond `slot` had been chosen."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadGrant {
    /// The name of the read.
    pub read: ReadId,
    /// The slot that the reader must have applied before it looks at its state.
    pub slot: Slot,
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Every slot up to here is chosen.
    pub chosen: Slot,
    /// The leader's time at that moment.
    pub time: Time,
}

impl ReadRequest {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl ReadGrant {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for ReadRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReadRequest {}", self.read.0)
    }
}

impl fmt::Display for ReadGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadGrant { read, slot, ballot, chosen, time } = self;
        write!(formatter, "ReadGrant {}, slot {slot}, ballot {ballot}, chosen {chosen}", read.0)?;
        if *time > Time::NONE { write!(formatter, ", time {time}") } else { Ok(()) }
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use super::ReadId;
    use crate::clock::Time;
    use crate::id::Slot;
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, ballot};
    use crate::wire::strict::{BALLOT, Shape, one, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct ReadRequest {
        #[prost(fixed64, tag = "1")]
        read: u64,
    }

    pub(crate) static READ_REQUEST: Shape = shape(&[one("read")]);

    impl From<&super::ReadRequest> for ReadRequest {
        fn from(request: &super::ReadRequest) -> ReadRequest {
            ReadRequest { read: request.read.0 }
        }
    }

    impl TryFrom<ReadRequest> for super::ReadRequest {
        type Error = WireError;

        fn try_from(request: ReadRequest) -> Result<super::ReadRequest, WireError> {
            Ok(super::ReadRequest { read: ReadId(request.read) })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct ReadGrant {
        #[prost(fixed64, tag = "1")]
        read: u64,
        #[prost(uint64, tag = "2")]
        slot: u64,
        #[prost(message, optional, tag = "3")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "4")]
        chosen: u64,
        #[prost(uint64, tag = "5")]
        time: u64,
    }

    pub(crate) static READ_GRANT: Shape =
        shape(&[one("read"), one("slot"), one_message("ballot", &BALLOT), one("chosen"), one("time")]);

    impl From<&super::ReadGrant> for ReadGrant {
        fn from(grant: &super::ReadGrant) -> ReadGrant {
            ReadGrant {
                read: grant.read.0,
                slot: grant.slot.0,
                ballot: Some(grant.ballot.into()),
                chosen: grant.chosen.0,
                time: grant.time.0,
            }
        }
    }

    impl TryFrom<ReadGrant> for super::ReadGrant {
        type Error = WireError;

        fn try_from(grant: ReadGrant) -> Result<super::ReadGrant, WireError> {
            Ok(super::ReadGrant {
                read: ReadId(grant.read),
                slot: Slot(grant.slot),
                ballot: ballot(grant.ballot)?,
                chosen: Slot(grant.chosen),
                time: Time(grant.time),
            })
        }
    }
}
