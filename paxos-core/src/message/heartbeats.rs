//! Heartbeats: they keep other members from running for leader, and spread the chosen watermark. The answers
//! confirm reads and renew the leader's lease.

use std::fmt;

use super::Traffic;
use crate::clock::Time;
use crate::id::{Ballot, Slot};

/// Counts the heartbeats of one replica, so that an answer says which of them it answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HeartbeatRound(pub u64);

/// "I lead, under `ballot`."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Every slot up to here is chosen.
    pub chosen: Slot,
    /// The number of this heartbeat.
    pub round: HeartbeatRound,
    /// The leader's time; none if its driver reads no clocks.
    pub time: Time,
}

/// "When your heartbeat came I had promised nothing above `ballot`."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatAck {
    /// The ballot of the heartbeat.
    pub ballot: Ballot,
    /// The number of the heartbeat.
    pub round: HeartbeatRound,
    /// Every slot up to here is known to the sender to be chosen.
    pub chosen: Slot,
}

impl Heartbeat {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl HeartbeatAck {
    pub(super) const TRAFFIC: Traffic = Traffic::Control;
}

impl fmt::Display for Heartbeat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heartbeat { ballot, chosen, round, time } = self;
        write!(formatter, "Heartbeat {ballot}, round {}, chosen {chosen}", round.0)?;
        if *time > Time::NONE { write!(formatter, ", time {time}") } else { Ok(()) }
    }
}

impl fmt::Display for HeartbeatAck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeartbeatAck { ballot, round, chosen } = self;
        write!(formatter, "HeartbeatAck {ballot}, round {}, chosen {chosen}", round.0)
    }
}

#[cfg(feature = "wire")]
pub(crate) mod schema {
    use super::HeartbeatRound;
    use crate::clock::Time;
    use crate::id::Slot;
    use crate::wire::error::WireError;
    use crate::wire::fields::{Ballot, ballot};
    use crate::wire::strict::{BALLOT, Shape, one, one_message, shape};

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Heartbeat {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        chosen: u64,
        #[prost(uint64, tag = "3")]
        round: u64,
        #[prost(uint64, tag = "4")]
        time: u64,
    }

    pub(crate) static HEARTBEAT: Shape =
        shape(&[one_message("ballot", &BALLOT), one("chosen"), one("round"), one("time")]);

    impl From<&super::Heartbeat> for Heartbeat {
        fn from(heartbeat: &super::Heartbeat) -> Heartbeat {
            Heartbeat {
                ballot: Some(heartbeat.ballot.into()),
                chosen: heartbeat.chosen.0,
                round: heartbeat.round.0,
                time: heartbeat.time.0,
            }
        }
    }

    impl TryFrom<Heartbeat> for super::Heartbeat {
        type Error = WireError;

        fn try_from(heartbeat: Heartbeat) -> Result<super::Heartbeat, WireError> {
            Ok(super::Heartbeat {
                ballot: ballot(heartbeat.ballot)?,
                chosen: Slot(heartbeat.chosen),
                round: HeartbeatRound(heartbeat.round),
                time: Time(heartbeat.time),
            })
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct HeartbeatAck {
        #[prost(message, optional, tag = "1")]
        ballot: Option<Ballot>,
        #[prost(uint64, tag = "2")]
        round: u64,
        #[prost(uint64, tag = "3")]
        chosen: u64,
    }

    pub(crate) static HEARTBEAT_ACK: Shape =
        shape(&[one_message("ballot", &BALLOT), one("round"), one("chosen")]);

    impl From<&super::HeartbeatAck> for HeartbeatAck {
        fn from(ack: &super::HeartbeatAck) -> HeartbeatAck {
            HeartbeatAck { ballot: Some(ack.ballot.into()), round: ack.round.0, chosen: ack.chosen.0 }
        }
    }

    impl TryFrom<HeartbeatAck> for super::HeartbeatAck {
        type Error = WireError;

        fn try_from(ack: HeartbeatAck) -> Result<super::HeartbeatAck, WireError> {
            Ok(super::HeartbeatAck {
                ballot: ballot(ack.ballot)?,
                round: HeartbeatRound(ack.round),
                chosen: Slot(ack.chosen),
            })
        }
    }
}
