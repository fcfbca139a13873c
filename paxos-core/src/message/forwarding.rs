//! Commands that a client gave to a follower, on their way to the leader.

use std::fmt;

use bytes::Bytes;

use super::Traffic;
use crate::value::ShownCommands;

/// Commands for the leader to propose.
///
/// The leader does not answer for those that it takes: the sender sees them applied, or sends them again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The commands.
    pub commands: Vec<Bytes>,
}

/// Answers a forward: these of its commands are too long for the leader, which has not taken them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TooLong {
    /// The longest command that the leader takes, in bytes.
    pub limit_bytes: u64,
    /// The commands, as they came.
    pub commands: Vec<Bytes>,
}

impl Forward {
    pub(super) const TRAFFIC: Traffic = Traffic::Log;
}

impl TooLong {
    pub(super) const TRAFFIC: Traffic = Traffic::Log;
}

impl fmt::Display for Forward {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Forward {}", ShownCommands(self.commands.iter()))
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TooLong {}, limit {} bytes", ShownCommands(self.commands.iter()), self.limit_bytes)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use bytes::Bytes;

    use crate::wire::error::WireError;
    use crate::wire::strict::{Shape, list, one, shape};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Forward {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        commands: Vec<Bytes>,
    }

    pub(crate) static FORWARD: Shape = shape(&[list("commands", None)]);

    impl From<&super::Forward> for Forward {
        fn from(forward: &super::Forward) -> Forward {
            Forward { commands: forward.commands.clone() }
        }
    }

    impl TryFrom<Forward> for super::Forward {
        type Error = WireError;

        fn try_from(forward: Forward) -> Result<super::Forward, WireError> {
            Ok(super::Forward { commands: forward.commands })
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TooLong {
        #[prost(uint64, tag = "1")]
        limit_bytes: u64,
        #[prost(bytes = "bytes", repeated, tag = "2")]
        commands: Vec<Bytes>,
    }

    pub(crate) static TOO_LONG: Shape = shape(&[one("limit_bytes"), list("commands", None)]);

    impl From<&super::TooLong> for TooLong {
        fn from(too_long: &super::TooLong) -> TooLong {
            TooLong { limit_bytes: too_long.limit_bytes, commands: too_long.commands.clone() }
        }
    }

    impl TryFrom<TooLong> for super::TooLong {
        type Error = WireError;

        fn try_from(too_long: TooLong) -> Result<super::TooLong, WireError> {
            Ok(super::TooLong { limit_bytes: too_long.limit_bytes, commands: too_long.commands })
        }
    }
}
