//! A batch of requests: what of it travels and is written, and what becomes of it in a table.
//!
//! A header holds the length of what follows, the CRC32C of the rest, and how many batches were known to be
//! chosen when it was sent. The SETs follow, each with the lengths of its key and its value in front.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hashbrown::HashMap;

use super::super::MAX_COPY_BYTES;

/// Length and checksum, 4 bytes each, and the number of chosen batches.
pub(super) const HEADER_BYTES: usize = 16;
/// Where that begins what the checksum is about.
const CHECKED_FROM: usize = 8;
/// Memory for batches is taken in pieces of this.
const PIECE_BYTES: usize = 1 << 20;

/// What a client has asked, in the order in which it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Ping,
    /// The next key of [`Sent::keys`].
    Get,
    /// The next SET of the batch.
    Set,
}

/// A batch that is still gathered.
#[derive(Default)]
pub(super) struct Batch {
    /// Header and SETs; empty before the first request.
    bytes: BytesMut,
    keys: Vec<u8>,
    asked: Vec<(usize, Asked)>,
}

/// A batch that was sent.
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    /// The keys of GETs, each with its length in front.
    pub(super) keys: Vec<u8>,
    /// Of which client each request is.
    pub(super) asked: Vec<(usize, Asked)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    pub(super) fn ping(&mut self, client: usize) {
        self.asked.push((client, Asked::Ping));
    }

    pub(super) fn get(&mut self, client: usize, key: &[u8]) {
        self.keys.put_u32_le(length_of(key));
        self.keys.put_slice(key);
        self.asked.push((client, Asked::Get));
    }

    pub(super) fn set(&mut self, client: usize, key: &[u8], value: &[u8]) {
        self.begin();
        self.bytes.put_u32_le(length_of(key));
        self.bytes.put_u32_le(length_of(value));
        self.bytes.put_slice(key);
        self.bytes.put_slice(value);
        self.asked.push((client, Asked::Set));
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            if self.bytes.capacity() < PIECE_BYTES / 4 {
                self.bytes.reserve(PIECE_BYTES);
            }
            self.bytes.put_bytes(0, HEADER_BYTES);
        }
    }

    /// Completes it; `chosen` batches have been chosen so far.
    ///
    /// # Errors
    ///
    /// If it is longer than a copy may be.
    pub(super) fn complete(&mut self, chosen: u64) -> io::Result<Sent> {
        self.begin();
        let mut bytes = self.bytes.split();
        if bytes.len() > MAX_COPY_BYTES {
            return Err(io::Error::other("more is under way than the bench ever asks for"));
        }
        let length = u32::try_from(bytes.len() - HEADER_BYTES).expect("it was compared with what is allowed");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[CHECKED_FROM..HEADER_BYTES].copy_from_slice(&chosen.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
        let asked = Vec::with_capacity(self.asked.len());
        Ok(Sent {
            bytes: bytes.freeze(),
            keys: std::mem::take(&mut self.keys),
            asked: std::mem::replace(&mut self.asked, asked),
        })
    }
}

/// A batch as a follower finds it in what has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrived {
    /// With its header.
    pub(super) bytes: usize,
    pub(super) chosen: u64,
}

impl Arrived {
    /// The first batch of `received`; `None` if not all of it has arrived.
    ///
    /// # Errors
    ///
    /// If its length or its checksum can't be right.
    pub(super) fn first_of(received: &[u8]) -> io::Result<Option<Arrived>> {
        let Some(mut header) = received.get(..HEADER_BYTES) else { return Ok(None) };
        let bytes = HEADER_BYTES + header.get_u32_le() as usize;
        let (checksum, chosen) = (header.get_u32_le(), header.get_u64_le());
        if bytes > MAX_COPY_BYTES {
            return Err(io::Error::other("a copy is longer than anything that the leader sends"));
        }
        let Some(checked) = received.get(CHECKED_FROM..bytes) else { return Ok(None) };
        if crc32c::crc32c(checked) != checksum {
            return Err(io::Error::other("a copy is not what was sent"));
        }
        Ok(Some(Arrived { bytes, chosen }))
    }
}

/// The keys and values.
#[derive(Default)]
pub(super) struct Table(HashMap<Box<[u8]>, Vec<u8>>);

impl Table {
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// Takes the SET at the front of `sets`, and cuts it off there.
    ///
    /// # Errors
    ///
    /// If it is cut off itself.
    pub(super) fn apply_first(&mut self, sets: &mut &[u8]) -> io::Result<()> {
        let (key, value, rest) = first_set(sets).ok_or_else(|| io::Error::other("a SET is cut off"))?;
        *sets = rest;
        match self.0.get_mut(key) {
            // In its place: a new value would cost an allocation.
            Some(present) => {
                present.clear();
                present.extend_from_slice(value);
            }
            None => drop(self.0.insert(key.into(), value.to_vec())),
        }
        Ok(())
    }
}

/// Key and value at the front of `sets`, and what is behind them.
fn first_set(sets: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_bytes, rest) = sets.split_first_chunk()?;
    let (value_bytes, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
    Some((key, value, rest))
}

/// Takes the key at the front of `keys`, which [`Batch::get`] has put there.
pub(super) fn first_key<'a>(keys: &mut &'a [u8]) -> &'a [u8] {
    let bytes = keys.get_u32_le() as usize;
    let (key, rest) = keys.split_at(bytes);
    *keys = rest;
    key
}

fn length_of(argument: &[u8]) -> u32 {
    u32::try_from(argument.len()).expect("the length of an argument was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_whole_and_undamaged_or_not_at_all() {
        let mut batch = Batch::default();
        batch.set(3, b"key", b"old");
        batch.get(4, b"key");
        batch.set(3, b"key", b"value");
        let sent = batch.complete(7).expect("it is short");
        assert!(batch.is_empty());
        assert_eq!(sent.asked, [(3, Asked::Set), (4, Asked::Get), (3, Asked::Set)]);
        assert_eq!(first_key(&mut &sent.keys[..]), b"key");
        let arrived = Arrived { bytes: sent.bytes.len(), chosen: 7 };
        assert_eq!(Arrived::first_of(&sent.bytes).expect("it is undamaged"), Some(arrived));
        for bytes in 0..sent.bytes.len() {
            assert_eq!(Arrived::first_of(&sent.bytes[..bytes]).expect("so far it is right"), None);
        }
        for place in 4..sent.bytes.len() {
            let mut damaged = sent.bytes.to_vec();
            damaged[place] ^= 1;
            assert!(Arrived::first_of(&damaged).is_err(), "byte {place}");
        }
        let (mut table, mut sets) = (Table::default(), &sent.bytes[HEADER_BYTES..]);
        table.apply_first(&mut sets).expect("it is whole");
        assert_eq!(table.value(b"key"), Some(&b"old"[..]));
        table.apply_first(&mut sets).expect("it is whole");
        assert_eq!(table.value(b"key"), Some(&b"value"[..]));
        assert!(sets.is_empty());
    }
}
