//! The messages that replicas send to each other.
//!
//! A message may be lost, doubled, delayed and overtaken; none relies on another to arrive first. The table
//! on the [crate's front page](crate) shows which replica sends which message, and why.
//!
//! Each message is a struct, in the file of the exchange it belongs to. That file holds everything about it:
//! its documentation, its [`Traffic`] class, how traces show it and, under the feature `wire`, its schema.
//! `.github/CONTRIBUTING.md` lists what else a new message needs.

pub(crate) mod catching_up;
pub(crate) mod election;
pub(crate) mod forwarding;
pub(crate) mod handover;
pub(crate) mod heartbeats;
pub(crate) mod phase_one;
pub(crate) mod phase_two;
pub(crate) mod reads;

pub use self::catching_up::{Chosen, Fetch, FetchSnapshot, NewEpoch, SnapshotChunk, Trimmed};
pub use self::election::{Consent, Probe};
pub use self::forwarding::{Forward, TooLong};
pub use self::handover::{Decline, TakeOver};
pub use self::heartbeats::{Heartbeat, HeartbeatAck, HeartbeatRound};
pub use self::phase_one::{Prepare, Promise};
pub use self::phase_two::{Accept, Accepted, Reject};
pub use self::reads::{ReadGrant, ReadId, ReadRequest};

use std::fmt;

use crate::id::Epoch;

/// A message between two nodes of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The configuration whose members the sender counts into quorums. A receiver with another one counts
    /// no vote in the message.
    pub epoch: Epoch,
    /// The message itself.
    pub body: Body,
}

impl Message {
    /// A message in the configuration `epoch`.
    #[must_use]
    pub fn new(epoch: Epoch, body: impl Into<Body>) -> Message {
        Message { epoch, body: body.into() }
    }
}

/// What a message weighs on the network, and how urgent it is: a transport should let no class delay the one
/// before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Traffic {
    /// Small and urgent: elections, heartbeats, reads.
    Control,
    /// Commands on their way to be chosen, and the answers.
    Log,
    /// Large and not urgent: what a replica that lags behind catches up with.
    Bulk,
}

/// Declares [`Body`] as one variant for each message, each named after its struct.
macro_rules! bodies {
    ($($(#[doc = $sentence:literal])+ $message:ident,)+) => {
        /// The message itself, one variant for each kind.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Body {
            $($(#[doc = $sentence])+ $message($message),)+
        }

        impl Body {
            /// The names of all messages.
            #[cfg(all(test, feature = "wire"))]
            pub(crate) const NAMES: &[&str] = &[$(stringify!($message),)+];

            /// What this message weighs, and how urgent it is.
            #[must_use]
            pub fn traffic(&self) -> Traffic {
                match self {
                    $(Body::$message(_) => $message::TRAFFIC,)+
                }
            }
        }

        /// The name of the message and what it says, in a line, for traces and logs.
        impl fmt::Display for Body {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Body::$message(message) => message.fmt(formatter),)+
                }
            }
        }

        $(
            impl From<$message> for Body {
                fn from(message: $message) -> Body {
                    Body::$message(message)
                }
            }
        )+
    };
}

bodies! {
    /// Asks whether others have lost the leader, too.
    Probe,
    /// Answers a probe: yes.
    Consent,
    /// Phase 1a.
    Prepare,
    /// Phase 1b.
    Promise,
    /// Answers a prepare or a fetch: the slots asked for exist only in a snapshot.
    Trimmed,
    /// Phase 2a.
    Accept,
    /// Phase 2b.
    Accepted,
    /// Answers a prepare, accept or heartbeat: a higher ballot is promised.
    Reject,
    /// The leader shows that it is there.
    Heartbeat,
    /// Answers a heartbeat.
    HeartbeatAck,
    /// Brings commands to the leader.
    Forward,
    /// Answers a forward: these commands are too long.
    TooLong,
    /// Asks the leader which slot a read must wait for.
    ReadRequest,
    /// Answers a read request.
    ReadGrant,
    /// Asks for chosen values.
    Fetch,
    /// Answers a fetch.
    Chosen,
    /// Asks for a piece of a snapshot.
    FetchSnapshot,
    /// Answers a fetch of a snapshot.
    SnapshotChunk,
    /// Tells that another membership is in force.
    NewEpoch,
    /// The leader asks for a successor.
    TakeOver,
    /// Answers a request to take over: no.
    Decline,
}
