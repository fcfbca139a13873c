//! Handing leadership over: the leader asks one voter to take its place, ahead of any time-out.

use std::fmt;

use super::Traffic;
use crate::id::Ballot;

/// "Prepare a ballot at once: I propose nothing more under `ballot`, unless you decline."
///
/// The sender gives up its lease for good, so acceptors let the prepare pass that names this ballot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TakeOver {
    /// The leader's ballot.
    pub ballot: Ballot,
}

/// "I can't take over from `ballot`."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decline {
    /// The ballot of the leader that asked.
    pub ballot: Ballot,
}

impl TakeOver {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl Decline {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for TakeOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TakeOver from {}", self.ballot)
    }
}

impl fmt::Display for Decline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Decline {}", self.ballot)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, ballot};
    use crate::wire::strict::{BALLOT, Shape, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct TakeOver {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
    }

    pub(crate) static TAKE_OVER: Shape = shape(&[one_message("ballot", &BALLOT)]);

    impl From<&super::TakeOver> for TakeOver {
        fn from(take_over: &super::TakeOver) -> TakeOver {
            TakeOver { ballot: Some(take_over.ballot.into()) }
        }
    }

    impl TryFrom<TakeOver> for super::TakeOver {
        type Error = WireError;

        fn try_from(take_over: TakeOver) -> Result<super::TakeOver, WireError> {
            Ok(super::TakeOver { ballot: ballot(take_over.ballot)? })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Decline {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
    }

    pub(crate) static DECLINE: Shape = shape(&[one_message("ballot", &BALLOT)]);

    impl From<&super::Decline> for Decline {
        fn from(decline: &super::Decline) -> Decline {
            Decline { ballot: Some(decline.ballot.into()) }
        }
    }

    impl TryFrom<Decline> for super::Decline {
        type Error = WireError;

        fn try_from(decline: Decline) -> Result<super::Decline, WireError> {
            Ok(super::Decline { ballot: ballot(decline.ballot)? })
        }
    }
}
