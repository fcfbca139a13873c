//! Decodes the messages that every command takes, an accept and its answers, faster than the decoder of the
//! schema does.
//!
//! It knows one layout: fields in the order of their tags, as [`encode`](super::encode) writes them, and
//! nothing else. So no field can come twice. Whatever is laid out otherwise is left to the decoder of the
//! schema, which takes it or says what is wrong. Both give the same message where both give one.

use bytes::Bytes;

use super::fields;
use super::strict::varint;
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::message::{Accept, Accepted, Message};

/// The tags of the frame.
const EPOCH: u8 = 1;
const ACCEPT: u8 = 7;
const ACCEPTED: u8 = 8;
/// What the wire type of bytes and messages adds to a key; that of numbers adds 0.
const BYTES: u8 = 2;

/// The message that begins at `start`, if it is one of phase 2 in the layout known here.
pub(super) fn decode(frame: &Bytes, start: usize) -> Option<Message> {
    let mut outer = Fields(&frame[start..]);
    let epoch = Epoch(outer.number(EPOCH)?);
    let message = if outer.begin_with(ACCEPT << 3 | BYTES) {
        Message::new(epoch, accept(frame, Fields(outer.bytes(ACCEPT)?))?)
    } else {
        Message::new(epoch, accepted(Fields(outer.bytes(ACCEPTED)?))?)
    };
    outer.end()?;
    Some(message)
}

fn accept(frame: &Bytes, mut fields: Fields<'_>) -> Option<Accept> {
    let ballot = fields.ballot(1)?;
    let slot = Slot(fields.number(2)?);
    let value = fields.bytes(3)?;
    let chosen = Slot(fields.number_or_0(4)?);
    let kind = u32::try_from(fields.number_or_0(5)?).ok()?;
    let time = fields.number_or_0(6)?;
    fields.end()?;
    let value = fields::value(kind, Some(frame.slice_ref(value)), time).ok()?;
    (slot > Slot::ZERO).then_some(Accept { ballot, slot, value, chosen })
}

fn accepted(mut fields: Fields<'_>) -> Option<Accepted> {
    let ballot = fields.ballot(1)?;
    let (first, last) = (Slot(fields.number(2)?), Slot(fields.number(3)?));
    fields.end()?;
    (first > Slot::ZERO && last > Slot::ZERO).then_some(Accepted { ballot, first, last })
}

/// The fields of a message that are left to be read. All are known by tags below 16, so a key is one byte.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads a number under `tag`.
    #[inline]
    fn number(&mut self, tag: u8) -> Option<u64> {
        self.key(tag << 3)?;
        varint(&mut self.0)
    }

    /// Reads a number under `tag` that is not sent if it is 0.
    #[inline]
    fn number_or_0(&mut self, tag: u8) -> Option<u64> {
        if self.begin_with(tag << 3) { self.number(tag) } else { Some(0) }
    }

    /// Reads bytes, or a message, under `tag`.
    #[inline]
    fn bytes(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.key(tag << 3 | BYTES)?;
        let length = usize::try_from(varint(&mut self.0)?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    #[inline]
    fn ballot(&mut self, tag: u8) -> Option<Ballot> {
        let mut fields = Fields(self.bytes(tag)?);
        let ballot = Ballot { round: fields.number_or_0(1)?, node: NodeId(fields.number_or_0(2)?) };
        fields.end()?;
        Some(ballot)
    }

    #[inline]
    fn begin_with(&self, key: u8) -> bool {
        self.0.first() == Some(&key)
    }

    /// Reads this key and nothing else.
    #[inline]
    fn key(&mut self, key: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[key])?;
        Some(())
    }

    #[inline]
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
