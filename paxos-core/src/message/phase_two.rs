//! Phase 2 (*Paxos Made Simple*, section 2.2), for one slot at a time.

use std::fmt;

use super::Traffic;
use crate::id::{Ballot, Slot};
use crate::value::Value;

/// Phase 2a: a proposal for one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accept {
    /// The proposer's ballot.
    pub ballot: Ballot,
    /// The slot of the proposal.
    pub slot: Slot,
    /// Its value.
    pub value: Value,
    /// Every slot up to here is chosen.
    pub chosen: Slot,
}

/// Phase 2b, for all slots in `first..=last`: the sender has accepted the proposal under `ballot`, or already
/// knew its value to be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The ballot of the accepts.
    pub ballot: Ballot,
    /// The first accepted slot.
    pub first: Slot,
    /// The last accepted slot.
    pub last: Slot,
}

/// Refuses a prepare, accept or heartbeat under `ballot`, which came too late.
///
/// Not needed for safety: it spares a proposer the wait for answers that will never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The ballot that is refused.
    pub ballot: Ballot,
    /// The higher ballot that the sender has promised.
    pub promised: Ballot,
}

impl Accept {
    pub(super) const TRAFFIC: Traffic = Traffic::Log;
}

impl Accepted {
    pub(super) const TRAFFIC: Traffic = Traffic::Log;
}

impl Reject {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for Accept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Accept { ballot, slot, value, chosen } = self;
        write!(formatter, "Accept {ballot}, slot {slot} = {value}, chosen {chosen}")
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Accepted {}, ", self.ballot)?;
        if self.first == self.last {
            write!(formatter, "slot {}", self.first)
        } else {
            write!(formatter, "slots {}..={}", self.first, self.last)
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reject {}, promised {}", self.ballot, self.promised)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use bytes::Bytes;

    use crate::id::Slot;
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, ballot, promised, slot, value};
    use crate::wire::strict::{BALLOT, Shape, one, one_message, shape};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Accept {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        slot: u64,
        #[prost(bytes = "bytes", optional, tag = "3")]
        value: Option<Bytes>,
        #[prost(uint64, tag = "4")]
        chosen: u64,
        #[prost(uint32, tag = "5")]
        kind: u32,
        #[prost(uint64, tag = "6")]
        time: u64,
    }

    pub(crate) static ACCEPT: Shape = shape(&[
        one_message("ballot", &BALLOT),
        one("slot"),
        one("value"),
        one("chosen"),
        one("kind"),
        one("time"),
    ]);

    impl From<&super::Accept> for Accept {
        fn from(accept: &super::Accept) -> Accept {
            Accept {
                ballot: Some(accept.ballot.into()),
                slot: accept.slot.0,
                value: Some(accept.value.as_bytes().clone()),
                chosen: accept.chosen.0,
                kind: accept.value.kind().number().into(),
                time: accept.value.time().0,
            }
        }
    }

    impl TryFrom<Accept> for super::Accept {
        type Error = WireError;

        fn try_from(accept: Accept) -> Result<super::Accept, WireError> {
            Ok(super::Accept {
                ballot: ballot(accept.ballot)?,
                slot: slot(accept.slot, "slot")?,
                value: value(accept.kind, accept.value, accept.time)?,
                chosen: Slot(accept.chosen),
            })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Accepted {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        first: u64,
        #[prost(uint64, tag = "3")]
        last: u64,
    }

    pub(crate) static ACCEPTED: Shape = shape(&[one_message("ballot", &BALLOT), one("first"), one("last")]);

    impl From<&super::Accepted> for Accepted {
        fn from(accepted: &super::Accepted) -> Accepted {
            Accepted { ballot: Some(accepted.ballot.into()), first: accepted.first.0, last: accepted.last.0 }
        }
    }

    impl TryFrom<Accepted> for super::Accepted {
        type Error = WireError;

        fn try_from(accepted: Accepted) -> Result<super::Accepted, WireError> {
            Ok(super::Accepted {
                ballot: ballot(accepted.ballot)?,
                first: slot(accepted.first, "first")?,
                last: slot(accepted.last, "last")?,
            })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Reject {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(message, optional, tag = "2")]
        promised: Option<Ballot>,
    }

    pub(crate) static REJECT: Shape =
        shape(&[one_message("ballot", &BALLOT), one_message("promised", &BALLOT)]);

    impl From<&super::Reject> for Reject {
        fn from(reject: &super::Reject) -> Reject {
            Reject { ballot: Some(reject.ballot.into()), promised: Some(reject.promised.into()) }
        }
    }

    impl TryFrom<Reject> for super::Reject {
        type Error = WireError;

        fn try_from(reject: Reject) -> Result<super::Reject, WireError> {
            Ok(super::Reject { ballot: ballot(reject.ballot)?, promised: promised(reject.promised)? })
        }
    }
}
