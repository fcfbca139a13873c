//! The value of a slot: a no-op, a batch of commands, or a membership.
//!
//! A [`Value`] is a [kind](ValueKind) and one contiguous run of bytes. The leader lays a batch out once;
//! after that the same bytes go to every peer and to disk without another copy, and the commands handed to
//! the state machine are slices of them. Commands are opaque to the protocol; [`crate::session`] gives them
//! identity.
//!
//! Layout of commands: for each its length as four little-endian bytes, then the command. No bytes at all is
//! the no-op that fills a hole (*Paxos Made Simple*, section 3). A membership is laid out as
//! [`Membership::encode`] does.
//!
//! Commands have a [time](Value::time), too, which the leader gives them. It is a part of the value: whoever
//! proposes the value again proposes it with this time (P2c).

use std::iter::FusedIterator;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Time;
use crate::membership::Membership;

/// Bytes that each command takes in a batch beyond its own.
const LENGTH_BYTES: usize = 4;

/// The value of one slot. Cheap to clone: clones share the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Value {
    kind: ValueKind,
    bytes: Bytes,
    /// None if there are no commands.
    time: Time,
}

/// What a value is, and how its bytes are laid out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum ValueKind {
    /// A batch of commands, or the no-op.
    #[default]
    Commands,
    /// The membership that is in force behind the slot.
    Membership,
}

impl ValueKind {
    /// The number of the kind on disks and in messages. It never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            ValueKind::Commands => 0,
            ValueKind::Membership => 1,
        }
    }

    /// The kind with this number; `None` if this version knows none.
    #[must_use]
    pub fn from_number(number: u8) -> Option<ValueKind> {
        [ValueKind::Commands, ValueKind::Membership].into_iter().find(|kind| kind.number() == number)
    }
}

/// The bytes are not the layout of a value of their kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MalformedValue;

impl std::fmt::Display for MalformedValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value is not well-formed")
    }
}

impl std::error::Error for MalformedValue {}

impl Value {
    /// The value that does nothing.
    #[must_use]
    pub fn no_op() -> Value {
        Value::default()
    }

    /// A batch of `commands`, in this order. No commands make a no-op.
    ///
    /// # Panics
    ///
    /// If a command is longer than `u32::MAX` bytes; [`crate::Config`] bounds commands far below.
    #[must_use]
    pub fn batch<'a>(commands: impl IntoIterator<Item = &'a Bytes> + Clone) -> Value {
        let total = commands.clone().into_iter().map(Value::bytes_for).sum();
        let mut bytes = BytesMut::with_capacity(total);
        for command in commands {
            let length = u32::try_from(command.len()).expect("a command is bounded far below 4 GiB");
            bytes.put_u32_le(length);
            bytes.extend_from_slice(command);
        }
        Value { kind: ValueKind::Commands, bytes: bytes.freeze(), time: Time::NONE }
    }

    /// The same commands at this time. A no-op and a membership have none, and stay without.
    #[must_use]
    pub fn at(self, time: Time) -> Value {
        let has_commands = self.kind == ValueKind::Commands && !self.bytes.is_empty();
        Value { time: if has_commands { time } else { Time::NONE }, ..self }
    }

    /// A membership, which is in force behind the slot of this value once it is chosen.
    #[must_use]
    pub fn membership(membership: &Membership) -> Value {
        Value { kind: ValueKind::Membership, bytes: membership.encode(), time: Time::NONE }
    }

    /// Parses bytes that come from a peer or a disk.
    ///
    /// # Errors
    ///
    /// [`MalformedValue`] if the lengths inside commands do not add up to the length of `bytes`, or if they
    /// are no membership.
    pub fn parse(kind: ValueKind, bytes: Bytes) -> Result<Value, MalformedValue> {
        match kind {
            ValueKind::Commands => Value::parse_commands(bytes),
            ValueKind::Membership => match Membership::decode(&bytes) {
                Ok(_) => Ok(Value { kind, bytes, time: Time::NONE }),
                Err(_) => Err(MalformedValue),
            },
        }
    }

    /// As [`parse`](Value::parse), of a value that comes with a time.
    ///
    /// # Errors
    ///
    /// Also if this is a value that can have no time, and there is one.
    pub fn parse_at(kind: ValueKind, bytes: Bytes, time: Time) -> Result<Value, MalformedValue> {
        let value = Value::parse(kind, bytes)?.at(time);
        if value.time == time { Ok(value) } else { Err(MalformedValue) }
    }

    fn parse_commands(bytes: Bytes) -> Result<Value, MalformedValue> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(MalformedValue)?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = after.get(length..).ok_or(MalformedValue)?;
        }
        Ok(Value { kind: ValueKind::Commands, bytes, time: Time::NONE })
    }

    /// What this value is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// When its leader has proposed it first, by the cluster's clock: see [`Time`]. The times of a log may go
    /// back, where a new leader proposes again what was accepted under an old one; the time of a state does
    /// not: [`Time::after`].
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// The commands, in order; none for a no-op or a membership. Each shares this value's bytes.
    #[must_use]
    pub fn commands(&self) -> Commands<'_> {
        let position = match self.kind {
            ValueKind::Commands => 0,
            ValueKind::Membership => self.bytes.len(),
        };
        Commands { bytes: &self.bytes, position }
    }

    /// The membership, if this value is one.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "a value of this kind was encoded or parsed as one")]
    pub fn as_membership(&self) -> Option<Membership> {
        match self.kind {
            ValueKind::Commands => None,
            ValueKind::Membership => Some(
                Membership::decode(&self.bytes).expect("a value of this kind was encoded or parsed as one"),
            ),
        }
    }

    /// Whether this is the no-op.
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.kind == ValueKind::Commands && self.bytes.is_empty()
    }

    /// The bytes as they go to peers and disks; [`Value::parse`] takes them back, with the kind.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes the value has.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes `command` adds to a batch.
    #[must_use]
    pub fn bytes_for(command: &Bytes) -> usize {
        LENGTH_BYTES + command.len()
    }
}

/// The commands in brackets, for traces and logs: short text as it is, other commands by length and a
/// fingerprint, which is the same on every node.
impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_membership() {
            Some(membership) => write!(formatter, "[{membership}]"),
            None if self.is_no_op() => formatter.write_str("no-op"),
            None if self.time == Time::NONE => ShownCommands(self.commands()).fmt(formatter),
            None => write!(formatter, "{} at {}", ShownCommands(self.commands()), self.time),
        }
    }
}

/// Shows commands as [`Value`] does.
pub(crate) struct ShownCommands<I>(pub(crate) I);

/// More commands of one value are counted, not shown.
const MAX_SHOWN_COMMANDS: usize = 8;
/// Longer commands are shown by their fingerprint.
const MAX_SHOWN_BYTES: usize = 32;

impl<I: Iterator<Item: AsRef<[u8]>> + Clone> std::fmt::Display for ShownCommands<I> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[")?;
        for (index, command) in self.0.clone().take(MAX_SHOWN_COMMANDS).enumerate() {
            let command = command.as_ref();
            formatter.write_str(if index == 0 { "" } else { ", " })?;
            let is_text = command.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
            match std::str::from_utf8(command) {
                Ok(text) if is_text && text.len() <= MAX_SHOWN_BYTES => formatter.write_str(text)?,
                _ => write!(formatter, "{} bytes #{:08x}", command.len(), fingerprint(command))?,
            }
        }
        match self.0.clone().count().saturating_sub(MAX_SHOWN_COMMANDS) {
            0 => formatter.write_str("]"),
            more => write!(formatter, " and {more} more]"),
        }
    }
}

/// FNV-1a: tells commands apart in a trace, and nothing else.
fn fingerprint(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The commands of a [`Value`], in order: see [`Value::commands`]. Counting or skipping them touches no
/// reference count.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    bytes: &'a Bytes,
    position: usize,
}

impl Commands<'_> {
    /// Where the next command lies.
    fn advance(&mut self) -> Option<Range<usize>> {
        let (length, _) = self.bytes.get(self.position..)?.split_first_chunk::<LENGTH_BYTES>()?;
        let start = self.position + LENGTH_BYTES;
        self.position = start + u32::from_le_bytes(*length) as usize;
        Some(start..self.position)
    }
}

impl Iterator for Commands<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let range = self.advance()?;
        Some(self.bytes.slice(range))
    }

    fn nth(&mut self, skipped: usize) -> Option<Bytes> {
        for _ in 0..skipped {
            self.advance()?;
        }
        self.next()
    }

    fn count(mut self) -> usize {
        std::iter::from_fn(|| self.advance()).count()
    }
}

impl FusedIterator for Commands<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn commands_come_back_in_order(commands: Vec<Vec<u8>>) {
            let commands: Vec<Bytes> = commands.into_iter().map(Bytes::from).collect();
            let value = Value::batch(&commands);
            let parsed = Value::parse(ValueKind::Commands, value.as_bytes().clone()).expect("what batch lays out is well formed");
            prop_assert_eq!(parsed.commands().collect::<Vec<_>>(), commands);
        }

        #[test]
        fn any_bytes_are_refused_or_taken_whole(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(value) = Value::parse(ValueKind::Commands, bytes.clone()) {
                let commands: Vec<Bytes> = value.commands().collect();
                let again = Value::batch(&commands);
                prop_assert_eq!(again.as_bytes(), &bytes);
            }
        }
    }

    #[test]
    fn a_batch_cut_short_is_refused() {
        let value = Value::batch(&[Bytes::from_static(b"command")]);
        for length in 1..value.size_bytes() {
            assert_eq!(
                Value::parse(ValueKind::Commands, value.as_bytes().slice(..length)),
                Err(MalformedValue),
                "cut to {length}"
            );
        }
    }

    #[test]
    fn commands_are_counted_and_skipped_as_they_are_taken() {
        let commands = ["one", "", "three"].map(Bytes::from);
        let value = Value::batch(&commands);
        for skipped in 0..=commands.len() + 1 {
            assert_eq!(value.commands().nth(skipped).as_ref(), commands.get(skipped), "after {skipped}");
            let mut rest = value.commands();
            rest.by_ref().take(skipped).for_each(drop);
            assert_eq!(rest.count(), commands.len().saturating_sub(skipped), "after {skipped}");
        }
    }

    #[test]
    fn a_membership_is_a_value_without_commands() {
        let membership = Membership::new(&[1, 2, 3].map(crate::NodeId)).expect("these members fit");
        let value = Value::membership(&membership);
        assert_eq!((value.kind(), value.is_no_op()), (ValueKind::Membership, false));
        assert_eq!((value.commands().count(), value.as_membership()), (0, Some(membership)));
        assert_eq!(value.to_string(), "[epoch 0: 1 2 3]");
        let parse = |kind| Value::parse(kind, value.as_bytes().clone());
        assert_eq!(parse(ValueKind::Membership), Ok(value.clone()));
        assert_eq!(parse(ValueKind::Commands), Err(MalformedValue));
        let commands = Value::batch(&[Bytes::from_static(b"x")]);
        assert_eq!(Value::parse(ValueKind::Membership, commands.as_bytes().clone()), Err(MalformedValue));
        assert_eq!(commands.as_membership(), None);
    }

    #[test]
    fn commands_have_a_time_and_other_values_have_none() {
        let (value, time) = (Value::batch(&[Bytes::from_static(b"x")]), Time(1234));
        let timed = value.clone().at(time);
        assert_ne!(timed, value, "the time is a part of the value");
        assert_eq!((timed.time(), timed.to_string()), (time, String::from("[x] at 1234")));
        let membership = Membership::new(&[1, 2, 3].map(crate::NodeId)).expect("these members fit");
        for (value, may_have_time) in
            [(value, true), (Value::no_op(), false), (Value::membership(&membership), false)]
        {
            let parse = |time| Value::parse_at(value.kind(), value.as_bytes().clone(), time);
            assert_eq!(parse(Time::NONE), Ok(value.clone()));
            let expected = if may_have_time { Ok(value.clone().at(time)) } else { Err(MalformedValue) };
            assert_eq!(parse(time), expected);
            assert_eq!(value.clone().at(time) == value, !may_have_time);
        }
    }

    #[test]
    fn a_kind_is_known_by_its_number() {
        for kind in [ValueKind::Commands, ValueKind::Membership] {
            assert_eq!(ValueKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(ValueKind::from_number(2), None);
    }

    #[test]
    fn an_empty_command_is_not_a_no_op() {
        let value = Value::batch(&[Bytes::new()]);
        assert!(!value.is_no_op());
        assert_eq!(value.commands().count(), 1);
    }

    #[test]
    fn a_value_is_shown_in_a_line_of_bounded_length() {
        let shown = |commands: &[&'static [u8]]| {
            let commands: Vec<Bytes> = commands.iter().map(|command| Bytes::from_static(command)).collect();
            Value::batch(&commands).to_string()
        };
        assert_eq!(shown(&[]), "no-op");
        assert_eq!(shown(&[b"x = 1", b""]), "[x = 1, ]");
        assert_eq!(shown(&[b"a\nb"]), "[3 bytes #28e4c710]");
        assert_eq!(shown(&[&[b'x'; 33]]), "[33 bytes #e997d407]");
        assert_eq!(shown(&[&b"x"[..]; 10]), "[x, x, x, x, x, x, x, x and 2 more]");
    }

    #[test]
    fn a_batch_is_as_long_as_its_commands_and_their_lengths() {
        let commands = [Bytes::from_static(b"one"), Bytes::from_static(b"three")];
        let value = Value::batch(&commands);
        assert_eq!(commands.each_ref().map(Value::bytes_for), [4 + 3, 4 + 5]);
        assert_eq!((value.size_bytes(), value.as_bytes().len()), (16, 16));
        assert_eq!(Value::no_op().size_bytes(), 0);
        assert!(MalformedValue.to_string().contains("not well-formed"));
    }
}
