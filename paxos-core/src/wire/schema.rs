//! The frame around every message: its tags, each for one kind of body. The schema of a body stands beside
//! the message itself, in [`crate::message`].

use prost::{Message, Oneof};

use super::error::WireError;
use super::strict::{Field, Shape, one, one_of, shape_with_bodies};
use crate::id::GroupId;
use crate::message::{
    self, catching_up, election, forwarding, handover, heartbeats, phase_one, phase_two, reads,
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Frame {
    /// Sent even if it is 0: otherwise bytes that follow the message by mistake could fill it in.
    #[prost(uint64, optional, tag = "1")]
    pub(super) epoch: Option<u64>,
    #[prost(
        oneof = "Body",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22"
    )]
    pub(super) body: Option<Body>,
    /// Not sent: there is one group of replicas, [`GroupId::ONLY`], and a 0 takes no bytes.
    #[prost(uint64, tag = "64")]
    pub(super) group: u64,
}

/// Which fields a frame without its header may have, in the order of their tags.
pub(super) static FRAME: Shape = shape_with_bodies(FRAME_FIELDS, 63);

static FRAME_FIELDS: &[Field] = &[
    one("epoch"),
    body(&election::schema::PROBE),
    body(&election::schema::CONSENT),
    body(&phase_one::schema::PREPARE),
    body(&phase_one::schema::PROMISE),
    body(&catching_up::schema::TRIMMED),
    body(&phase_two::schema::ACCEPT),
    body(&phase_two::schema::ACCEPTED),
    body(&phase_two::schema::REJECT),
    body(&heartbeats::schema::HEARTBEAT),
    body(&heartbeats::schema::HEARTBEAT_ACK),
    body(&forwarding::schema::FORWARD),
    body(&reads::schema::READ_REQUEST),
    body(&reads::schema::READ_GRANT),
    body(&catching_up::schema::FETCH),
    body(&catching_up::schema::CHOSEN),
    body(&catching_up::schema::FETCH_SNAPSHOT),
    body(&catching_up::schema::SNAPSHOT_CHUNK),
    body(&forwarding::schema::TOO_LONG),
    body(&catching_up::schema::NEW_EPOCH),
    body(&handover::schema::TAKE_OVER),
    body(&handover::schema::DECLINE),
];

const fn body(message: &'static Shape) -> Field {
    one_of("body", message)
}

impl From<&message::Message> for Frame {
    fn from(message: &message::Message) -> Frame {
        Frame { epoch: Some(message.epoch.0), body: Some(Body::from(&message.body)), group: GroupId::ONLY.0 }
    }
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "2")]
    Probe(election::schema::Probe),
    #[prost(message, tag = "3")]
    Consent(election::schema::Consent),
    #[prost(message, tag = "4")]
    Prepare(phase_one::schema::Prepare),
    #[prost(message, tag = "5")]
    Promise(phase_one::schema::Promise),
    #[prost(message, tag = "6")]
    Trimmed(catching_up::schema::Trimmed),
    #[prost(message, tag = "7")]
    Accept(phase_two::schema::Accept),
    #[prost(message, tag = "8")]
    Accepted(phase_two::schema::Accepted),
    #[prost(message, tag = "9")]
    Reject(phase_two::schema::Reject),
    #[prost(message, tag = "10")]
    Heartbeat(heartbeats::schema::Heartbeat),
    #[prost(message, tag = "11")]
    HeartbeatAck(heartbeats::schema::HeartbeatAck),
    #[prost(message, tag = "12")]
    Forward(forwarding::schema::Forward),
    #[prost(message, tag = "13")]
    ReadRequest(reads::schema::ReadRequest),
    #[prost(message, tag = "14")]
    ReadGrant(reads::schema::ReadGrant),
    #[prost(message, tag = "15")]
    Fetch(catching_up::schema::Fetch),
    #[prost(message, tag = "16")]
    Chosen(catching_up::schema::Chosen),
    #[prost(message, tag = "17")]
    FetchSnapshot(catching_up::schema::FetchSnapshot),
    /// In memory of its own, so that it does not make every other message longer.
    #[prost(message, boxed, tag = "18")]
    SnapshotChunk(Box<catching_up::schema::SnapshotChunk>),
    #[prost(message, tag = "19")]
    TooLong(forwarding::schema::TooLong),
    #[prost(message, tag = "20")]
    NewEpoch(catching_up::schema::NewEpoch),
    #[prost(message, tag = "21")]
    TakeOver(handover::schema::TakeOver),
    #[prost(message, tag = "22")]
    Decline(handover::schema::Decline),
}

/// Converts every kind of body from and to its schema. The compiler misses a kind that is not listed.
macro_rules! convert_bodies {
    ($($message:ident,)+) => {
        impl From<&message::Body> for Body {
            fn from(body: &message::Body) -> Body {
                match body {
                    $(message::Body::$message(body) => Body::$message(body.into()),)+
                }
            }
        }

        impl TryFrom<Body> for message::Body {
            type Error = WireError;

            fn try_from(body: Body) -> Result<message::Body, WireError> {
                Ok(match body {
                    $(Body::$message(body) => message::Body::$message(body.try_into()?),)+
                })
            }
        }
    };
}

convert_bodies! {
    Probe,
    Consent,
    Prepare,
    Promise,
    Trimmed,
    Accept,
    Accepted,
    Reject,
    Heartbeat,
    HeartbeatAck,
    Forward,
    ReadRequest,
    ReadGrant,
    Fetch,
    Chosen,
    FetchSnapshot,
    SnapshotChunk,
    TooLong,
    NewEpoch,
    TakeOver,
    Decline,
}
