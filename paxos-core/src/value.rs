//! What a slot holds: a no-op, or a batch of commands.
//!
//! A [`Value`] is one contiguous run of bytes. The leader lays a batch out once; after that the same bytes go
//! to every peer and to disk without another copy, and the commands handed to the state machine are slices of
//! them. Commands are opaque to the protocol; [`crate::session`] gives them identity.
//!
//! Layout: for each command its length as four little-endian bytes, then the command. No bytes at all is the
//! no-op that fills a hole (*Paxos Made Simple*, section 3).

use std::iter::FusedIterator;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that each command takes in a batch beyond its own.
const LENGTH_BYTES: usize = 4;

/// The value of one slot. Cheap to clone: clones share the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Value(Bytes);

/// The bytes given are not the layout of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MalformedValue;

impl std::fmt::Display for MalformedValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value is not a well-formed batch of commands")
    }
}

impl std::error::Error for MalformedValue {}

impl Value {
    /// The value that does nothing.
    #[must_use]
    pub fn no_op() -> Value {
        Value(Bytes::new())
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
        Value(bytes.freeze())
    }

    /// Takes bytes from a peer or a disk for a value, if they are one.
    ///
    /// # Errors
    ///
    /// [`MalformedValue`] if the lengths inside do not add up to the length of `bytes`.
    pub fn parse(bytes: Bytes) -> Result<Value, MalformedValue> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(MalformedValue)?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = after.get(length..).ok_or(MalformedValue)?;
        }
        Ok(Value(bytes))
    }

    /// The commands, in order; none for a no-op. Each shares this value's bytes.
    #[must_use]
    pub fn commands(&self) -> Commands<'_> {
        Commands { bytes: &self.0, position: 0 }
    }

    /// Whether this is the no-op.
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes as they go to peers and disks; [`Value::parse`] takes them back.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes the value has.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// How many bytes `command` adds to a batch.
    #[must_use]
    pub fn bytes_for(command: &Bytes) -> usize {
        LENGTH_BYTES + command.len()
    }
}

/// The commands of a [`Value`], in order: see [`Value::commands`]. Counting or skipping them touches no reference count.
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
            let parsed = Value::parse(value.as_bytes().clone()).expect("what batch lays out is well formed");
            prop_assert_eq!(parsed.commands().collect::<Vec<_>>(), commands);
        }

        #[test]
        fn any_bytes_are_refused_or_taken_whole(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(value) = Value::parse(bytes.clone()) {
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
                Value::parse(value.as_bytes().slice(..length)),
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
    fn an_empty_command_is_not_a_no_op() {
        let value = Value::batch(&[Bytes::new()]);
        assert!(!value.is_no_op());
        assert_eq!(value.commands().count(), 1);
    }

    #[test]
    fn a_batch_is_as_long_as_its_commands_and_their_lengths() {
        let commands = [Bytes::from_static(b"one"), Bytes::from_static(b"three")];
        let value = Value::batch(&commands);
        assert_eq!(commands.each_ref().map(Value::bytes_for), [4 + 3, 4 + 5]);
        assert_eq!((value.size_bytes(), value.as_bytes().len()), (16, 16));
        assert_eq!(Value::no_op().size_bytes(), 0);
        assert!(MalformedValue.to_string().contains("not a well-formed batch"));
    }
}
