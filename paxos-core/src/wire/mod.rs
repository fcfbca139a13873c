//! Messages as bytes: Protocol Buffers, so that nodes of two neighbouring versions can talk with each other.
//!
//! A frame is one [`Message`]; the transport frames messages and limits their length. No bytes make
//! [`decode`] panic: bytes that are no message give a [`WireError`]. Payloads are not copied. The memory for
//! lists of them is, even for a malicious frame, below a hundred times the frame's length: a bound on frames
//! bounds memory.
//!
//! # A message is bound to its frame
//!
//! Protocol Buffers do not mark where a message ends, and merge into it whatever follows. So that no mistake
//! of framing or of memory turns one message into another, a frame begins with 8 bytes that describe what
//! must follow:
//!
//! ```text
//! offset size
//!      0    4  length of what follows, in bytes, little-endian
//!      4    4  CRC32C of what the sender has put before the frame, if anything, and of what follows; little-endian
//!      8       the message, as below
//! ```
//!
//! So missing, changed or additional bytes are refused. Independently of that, a message is refused in which
//! a body, or a field that is no list, comes twice, at any level: that is what two messages merged into one
//! look like. All this guards against mistakes; a malicious peer can compute checksums, too.
//!
//! # Schema
//!
//! Each line is a message of Protocol Buffers with the tags and names of its fields. A field is a `uint64`
//! unless it says otherwise; those with a name of a message hold that message.
//!
//! ```text
//! Frame     1 epoch*, 64 group, and one of the bodies below under the tag that stands before it
//! Ballot    1 round        2 node
//! Entry     1 slot*        2 value* bytes     and one of*  3 accepted Ballot   4 chosen Empty
//!           5 kind uint32  6 time
//! Snapshot  1 slot         2 size_bytes       3 checksum fixed32               4 membership* bytes
//! Empty
//!
//!  2 Probe          1 ballot* Ballot
//!  3 Consent        1 ballot* Ballot     2 promised* Ballot
//!  4 Prepare        1 ballot* Ballot     2 first*      3 handed_over Ballot
//!  5 Promise        1 ballot* Ballot     2 first*      3 reports repeated Entry     4 rest (0: none)
//!                  5 time_of Ballot     6 time
//!  6 Trimmed        1 below*
//!  7 Accept         1 ballot* Ballot     2 slot*       3 value* bytes               4 chosen
//!                  5 kind uint32        6 time
//!  8 Accepted       1 ballot* Ballot     2 first*      3 last*
//!  9 Reject         1 ballot* Ballot     2 promised* Ballot
//! 10 Heartbeat      1 ballot* Ballot     2 chosen      3 round                      4 time
//! 11 HeartbeatAck   1 ballot* Ballot     2 round       3 chosen
//! 12 Forward        1 commands repeated bytes
//! 13 ReadRequest    1 read fixed64
//! 14 ReadGrant      1 read fixed64       2 slot        3 ballot* Ballot             4 chosen
//!                  5 time
//! 15 Fetch          1 first*             2 last (0: none)                           3 ahead_slots
//! 16 Chosen         1 first*             2 values repeated bytes                    3 chosen
//!                  4 kinds bytes (one byte each; none if all are 0)
//!                  5 times bytes (eight bytes each, little-endian; none if all are 0)
//! 17 FetchSnapshot  1 slot (0: newest)   2 offset
//! 18 SnapshotChunk  1 snapshot* Snapshot 2 offset      3 data bytes
//! 19 TooLong        1 limit_bytes        2 commands repeated bytes
//! 20 NewEpoch       1 chosen
//! 21 TakeOver       1 ballot* Ballot
//! 22 Decline        1 ballot* Ballot
//! ```
//!
//! A field with a star is required: a message without it is refused, so that a missing field never means that
//! a value is chosen, or is a no-op. A `uint64` of 0 is not sent, except for the epoch; so a starred slot is
//! never 0 (the first slot is 1). Values must be well-formed for their kind
//! ([`Value::parse`](crate::Value::parse)). The group is for clusters of several logs; there is one so far,
//! of number 0, and a message for another is refused.
//!
//! # How it may change
//!
//! - Fields and bodies may be added, under tags that were never used; a tag keeps its meaning and its type
//!   for ever, even when no version sends it any more.
//! - A node ignores fields that it does not know. So a message must stay true, and safe to act upon, for a
//!   node that does not read its new field.
//! - A node refuses bodies, and kinds of entries, that it does not know. That is as if the message were lost,
//!   and any message may be lost.
//! - In a frame, the tags from 2 to 63 are for bodies: a second body is refused, whether its tag is known or
//!   not. Other fields of a frame have higher tags.
//! - A field that holds a single thing never becomes a list: older nodes would refuse it.
//! - A starred field stays starred, and is sent as long as any version in use requires it.

pub(crate) mod error;
pub(crate) mod fields;
mod phase_two;
mod reader;
mod schema;
pub(crate) mod strict;

#[cfg(test)]
mod tails;
#[cfg(test)]
mod tests;

pub use self::error::WireError;

use bytes::Bytes;
use prost::Message as _;

use self::reader::Reader;
use crate::id::{Epoch, GroupId};
use crate::message::Message;
use crate::mutant::{Mutant, mutated};

/// The length of the header before a message: the message's length and checksum.
const HEADER_BYTES: usize = 8;

/// The message as bytes, in one allocation of exactly their length.
///
/// # Panics
///
/// If the message has 4 GiB.
///
/// ```
/// use paxos_core::message::Prepare;
/// use paxos_core::{Ballot, Epoch, Message, NodeId, Slot, wire};
///
/// let ballot = Ballot { round: 1, node: NodeId(2) };
/// let message = Message::new(Epoch(0), Prepare { ballot, first: Slot::FIRST, handed_over: None });
/// let frame = wire::encode(&message);
/// assert_eq!(frame.len(), wire::encoded_len(&message));
/// assert_eq!(wire::decode(frame)?, message);
/// # Ok::<(), wire::WireError>(())
/// ```
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    encode_behind(&[], message)
}

/// A message as bytes, behind a prefix of the sender's own, in one piece of memory. The checksum covers the
/// prefix, too: only [`decode_behind`] decodes it, and only behind the same prefix.
///
/// # Panics
///
/// As [`encode`] does.
#[must_use]
pub fn encode_behind(prefix: &[u8], message: &Message) -> Bytes {
    let frame = schema::Frame::from(message);
    framed(prefix, frame.encoded_len(), |bytes| frame.encode_raw(bytes))
}

/// How many bytes [`encode`] gives.
#[must_use]
pub fn encoded_len(message: &Message) -> usize {
    HEADER_BYTES + schema::Frame::from(message).encoded_len()
}

/// Frames a message: the prefix, the header, and the message that `write` appends.
fn framed(prefix: &[u8], message_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let start = prefix.len() + HEADER_BYTES;
    let mut bytes = Vec::with_capacity(start + message_bytes);
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    write(&mut bytes);
    let length = u32::try_from(bytes.len() - start).expect("the settings bound messages far below 4 GiB");
    let checksum = checksum(prefix, &bytes[start..]);
    let header = u64::from(checksum) << 32 | u64::from(length);
    bytes[prefix.len()..start].copy_from_slice(&header.to_le_bytes());
    Bytes::from(bytes)
}

fn checksum(prefix: &[u8], message: &[u8]) -> u32 {
    let of_prefix = if prefix.is_empty() { 0 } else { crc32c::crc32c(prefix) };
    crc32c::crc32c_append(of_prefix, message)
}

/// Frames any bytes with a correct header, to test what comes after the checks of length and checksum.
#[cfg(any(test, feature = "fuzz", feature = "sim"))]
pub(crate) fn framed_bytes(message: &[u8]) -> Bytes {
    framed(&[], message.len(), |bytes| bytes.extend_from_slice(message))
}

/// The message in a frame that was encoded here, without its header.
#[cfg(feature = "sim")]
pub(crate) fn unframed_part(frame: &[u8]) -> &[u8] {
    &frame[HEADER_BYTES..]
}

/// Decodes a message.
///
/// Values, commands and pieces of snapshots in it are slices of the frame and keep it alive.
///
/// # Errors
///
/// [`WireError`] if the bytes are no message.
pub fn decode(frame: Bytes) -> Result<Message, WireError> {
    decode_behind(0, frame)
}

/// Decodes a message behind a prefix of `prefix_bytes`, as [`encode_behind`] has put it there.
///
/// # Errors
///
/// [`WireError`] if the bytes are no message, or if a byte of the prefix has changed.
#[expect(clippy::needless_pass_by_value, reason = "the message in it keeps it alive: nobody else needs it")]
pub fn decode_behind(prefix_bytes: usize, frame: Bytes) -> Result<Message, WireError> {
    check_header(prefix_bytes, &frame)?;
    decode_unframed(&frame, prefix_bytes + HEADER_BYTES)
}

/// Checks that the message is what the header behind the prefix describes.
fn check_header(prefix_bytes: usize, frame: &[u8]) -> Result<(), WireError> {
    let found_bytes = frame.len();
    let Some((prefix, rest)) = frame.split_at_checked(prefix_bytes) else {
        return Err(WireError::WrongLength { expected_bytes: prefix_bytes, found_bytes });
    };
    let Some((header, message)) = rest.split_first_chunk::<HEADER_BYTES>() else {
        return Err(WireError::WrongLength { expected_bytes: HEADER_BYTES, found_bytes: rest.len() });
    };
    if mutated(Mutant::ChecksumIgnored) {
        return Ok(());
    }
    let [a, b, c, d, told @ ..] = *header;
    let expected_bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if message.len() != expected_bytes {
        return Err(WireError::WrongLength { expected_bytes, found_bytes: message.len() });
    }
    if checksum(prefix, message) != u32::from_le_bytes(told) {
        return Err(WireError::WrongChecksum);
    }
    Ok(())
}

/// Decodes the message that begins at `start`, behind its header.
fn decode_unframed(frame: &Bytes, start: usize) -> Result<Message, WireError> {
    phase_two::decode(frame, start).map_or_else(|| decode_by_schema(frame, start), Ok)
}

fn decode_by_schema(frame: &Bytes, start: usize) -> Result<Message, WireError> {
    let decoded = schema::Frame::decode(Reader::new(frame, start));
    // What is decoded holds each field once, and would be encoded in as few bytes as can be. So a message of
    // just that length has no field twice; only others are looked through.
    let has_no_more = decoded.as_ref().is_ok_and(|decoded| start + decoded.encoded_len() == frame.len());
    if !has_no_more && !mutated(Mutant::RepeatedFieldsMerged) {
        strict::check(&frame[start..], &schema::FRAME)?;
    }
    let decoded = decoded?;
    let group = GroupId(decoded.group);
    if group != GroupId::ONLY {
        return Err(WireError::UnknownGroup { group });
    }
    let body = decoded.body.ok_or(WireError::UnknownBody)?.try_into()?;
    Ok(Message { epoch: Epoch(fields::required(decoded.epoch, "epoch")?), body })
}
