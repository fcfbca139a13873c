//! Messages as bytes: Protocol Buffers, so that nodes of two neighbouring versions can talk with each other.
//!
//! A frame is one [`Message`]; framing and limits on length are the transport's. No bytes make [`decode`]
//! panic: what is no message gives a [`WireError`]. Payloads are not copied; what is allocated for lists of
//! them is, for the most malicious of frames, below a hundred times its length. So whoever bounds frames
//! bounds memory.
//!
//! # Schema
//!
//! Each line is a message of Protocol Buffers with the tags and names of its fields. A field is a `uint64`
//! unless it says otherwise; those with a name of a message hold that message.
//!
//! ```text
//! Frame     1 epoch, and one of the bodies below under the tag that stands before it
//! Ballot    1 round        2 node
//! Entry     1 slot*        2 value* bytes     and one of*  3 accepted Ballot   4 chosen Empty
//! Snapshot  1 slot         2 size_bytes       3 checksum fixed32
//! Empty
//!
//!  2 Probe          1 ballot* Ballot
//!  3 Consent        1 ballot* Ballot     2 promised* Ballot
//!  4 Prepare        1 ballot* Ballot     2 first*
//!  5 Promise        1 ballot* Ballot     2 first*      3 reports repeated Entry     4 rest (0: none)
//!  6 Trimmed        1 below*
//!  7 Accept         1 ballot* Ballot     2 slot*       3 value* bytes               4 chosen
//!  8 Accepted       1 ballot* Ballot     2 first*      3 last*
//!  9 Reject         1 ballot* Ballot     2 promised* Ballot
//! 10 Heartbeat      1 ballot* Ballot     2 chosen      3 round
//! 11 HeartbeatAck   1 ballot* Ballot     2 round
//! 12 Forward        1 commands repeated bytes
//! 13 ReadRequest    1 read fixed64
//! 14 ReadGrant      1 read fixed64       2 slot        3 ballot* Ballot             4 chosen
//! 15 Fetch          1 first*
//! 16 Chosen         1 first*             2 values repeated bytes                    3 chosen
//! 17 FetchSnapshot  1 slot (0: newest)   2 offset
//! 18 SnapshotChunk  1 snapshot* Snapshot 2 offset      3 data bytes
//! ```
//!
//! A field with a star must be there; a missing one is refused, so that nothing of weight, such as that a
//! value is chosen or a no-op, is ever read out of an absence. As a `uint64` of 0 is never sent, a starred
//! slot is never 0, and indeed the first slot is 1. Values must be well-formed batches
//! ([`Value::parse`](crate::Value::parse)).
//!
//! # How it may change
//!
//! - Fields and bodies may be added, under tags that were never used; a tag keeps its meaning and its type
//!   for ever, also when it is not sent any more.
//! - A node ignores fields that it does not know. So a new field must leave the message true, and safe to act
//!   upon, for a node that does not read it.
//! - A node refuses bodies, and standings of an entry, that it does not know. That is as if the message were
//!   lost, and any message may be lost.
//! - A starred field stays starred, and is sent for as long as a version that asks for it may listen.

mod convert;
mod schema;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message as _;

use crate::id::Epoch;
use crate::message::Message;
use crate::value::MalformedValue;

/// Why bytes are not a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// They are not Protocol Buffers of this schema.
    Undecodable {
        /// What is wrong with them, for a log.
        problem: String,
    },
    /// The body is missing, or of a kind that this version does not know.
    UnknownBody,
    /// A field without which the message has no meaning is missing, or of a kind that this version does not
    /// know.
    MissingField {
        /// Its name in the schema.
        field: &'static str,
    },
    /// A value in it is no batch of commands.
    MalformedValue,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::Undecodable { problem } => write!(formatter, "not a message: {problem}"),
            WireError::UnknownBody => {
                formatter.write_str("a message of an unknown kind, perhaps of a newer version")
            }
            WireError::MissingField { field } => write!(formatter, "a message without its field {field}"),
            WireError::MalformedValue => write!(formatter, "not a message: {MalformedValue}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<MalformedValue> for WireError {
    fn from(_: MalformedValue) -> WireError {
        WireError::MalformedValue
    }
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> WireError {
        WireError::Undecodable { problem: error.to_string() }
    }
}

/// The message as bytes, in one allocation of exactly their length.
///
/// ```
/// use paxos_core::{Ballot, Body, Epoch, Message, NodeId, Slot, wire};
///
/// let ballot = Ballot { round: 1, node: NodeId(2) };
/// let message = Message { epoch: Epoch(0), body: Body::Prepare { ballot, first: Slot::FIRST } };
/// let frame = wire::encode(&message);
/// assert_eq!(frame.len(), wire::encoded_len(&message));
/// assert_eq!(wire::decode(frame)?, message);
/// # Ok::<(), wire::WireError>(())
/// ```
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    encode_behind(&[], message)
}

/// A message as bytes behind others that are the sender's own, in one piece of memory.
#[must_use]
pub fn encode_behind(prefix: &[u8], message: &Message) -> Bytes {
    let frame = schema::Frame::from(message);
    let mut bytes = Vec::with_capacity(prefix.len() + frame.encoded_len());
    bytes.extend_from_slice(prefix);
    frame.encode_raw(&mut bytes);
    Bytes::from(bytes)
}

/// How many bytes [`encode`] gives.
#[must_use]
pub fn encoded_len(message: &Message) -> usize {
    schema::Frame::from(message).encoded_len()
}

/// Takes bytes for a message.
///
/// Values, commands and pieces of snapshots in it are slices of the frame and keep it alive.
///
/// # Errors
///
/// [`WireError`] if they are none.
pub fn decode(frame: Bytes) -> Result<Message, WireError> {
    let frame = schema::Frame::decode(frame)?;
    let body = frame.body.ok_or(WireError::UnknownBody)?.try_into()?;
    Ok(Message { epoch: Epoch(frame.epoch), body })
}
