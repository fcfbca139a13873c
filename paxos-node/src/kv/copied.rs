//! Records that were copied out of the store, in the form in which a snapshot has them.

use std::io::{self, Write};

use bytes::Bytes;

use super::records::{Record, Value};

/// Records of one stripe.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Those with short values, written one behind the other.
    short: Vec<u8>,
    /// Those whose values can be shared.
    long: Vec<LongRecord>,
}

#[derive(Debug)]
struct LongRecord {
    created: u64,
    modified: u64,
    key: Box<[u8]>,
    value: Bytes,
}

impl LongRecord {
    fn record(&self) -> Record<'_> {
        let LongRecord { created, modified, key, value } = self;
        Record { created: *created, modified: *modified, key, value: Value::Long(value) }
    }
}

impl Copied {
    pub(super) fn add(&mut self, record: Record<'_>) {
        let Record { created, modified, key, value } = record;
        match value {
            Value::Short(value) => {
                put_head(&mut self.short, created, modified);
                put_bytes(&mut self.short, key);
                put_bytes(&mut self.short, value);
            }
            Value::Long(value) => {
                self.long.push(LongRecord { created, modified, key: key.into(), value: value.clone() });
            }
        }
    }

    /// Adds all records of another one.
    pub(super) fn append(&mut self, mut other: Copied) {
        self.short.append(&mut other.short);
        self.long.append(&mut other.long);
    }

    /// Forgets all records, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.short.clear();
        self.long.clear();
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.short[..];
        let short = std::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(16)?;
            rest = behind;
            let (key, value) = (take_bytes(&mut rest), take_bytes(&mut rest));
            let number = |part: &[u8]| u64::from_le_bytes(part.try_into().expect("it has 8 bytes"));
            let (created, modified) = (number(&head[..8]), number(&head[8..]));
            Some(Record { created, modified, key, value: Value::Short(value) })
        });
        short.chain(self.long.iter().map(LongRecord::record))
    }

    /// The value of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<Value<'_>> {
        self.records().find(|record| record.key == key).map(|record| record.value)
    }

    /// Writes the records as a snapshot has them.
    pub(super) fn write(&self, target: &mut dyn Write) -> io::Result<()> {
        target.write_all(&self.short)?;
        for LongRecord { created, modified, key, value } in &self.long {
            let mut head = Vec::with_capacity(24 + key.len());
            put_head(&mut head, *created, *modified);
            put_bytes(&mut head, key);
            put_length(&mut head, value);
            target.write_all(&head)?;
            target.write_all(value)?;
        }
        Ok(())
    }
}

fn put_head(target: &mut Vec<u8>, created: u64, modified: u64) {
    target.extend_from_slice(&created.to_le_bytes());
    target.extend_from_slice(&modified.to_le_bytes());
}

fn put_bytes(target: &mut Vec<u8>, bytes: &[u8]) {
    put_length(target, bytes);
    target.extend_from_slice(bytes);
}

fn put_length(target: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a command is shorter than 4 GiB");
    target.extend_from_slice(&length.to_le_bytes());
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, behind) = rest.split_first_chunk().expect("bytes stand behind their length");
    let (bytes, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
    *rest = behind;
    bytes
}
