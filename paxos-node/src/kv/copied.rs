//! Records that were copied out of the store, in the form in which a snapshot has them.

use std::io::{self, Write};

use bytes::Bytes;
use paxos_core::Time;

use super::records::{History, Record, Value};

/// Set in the first number of a record that expires: its deadline follows behind the revisions.
pub(super) const EXPIRES: u64 = 1 << 63;

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
    history: History,
    key: Box<[u8]>,
    value: Bytes,
}

impl LongRecord {
    fn record(&self) -> Record<'_> {
        let History { created, modified, deadline } = self.history;
        Record { created, modified, deadline, key: &self.key, value: Value::Long(&self.value) }
    }
}

impl Copied {
    pub(super) fn add(&mut self, record: Record<'_>) {
        let (history, key) = (record.history(), record.key);
        match record.value {
            Value::Short(value) => {
                put_head(&mut self.short, history);
                put_bytes(&mut self.short, key);
                put_bytes(&mut self.short, value);
            }
            Value::Long(value) => {
                self.long.push(LongRecord { history, key: key.into(), value: value.clone() });
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
            let first = take_number(&mut rest)?;
            let modified = take_number(&mut rest)?;
            let deadline = if first & EXPIRES == 0 { None } else { take_number(&mut rest).map(Time) };
            let (key, value) = (take_bytes(&mut rest), take_bytes(&mut rest));
            Some(Record { created: first & !EXPIRES, modified, deadline, key, value: Value::Short(value) })
        });
        short.chain(self.long.iter().map(LongRecord::record))
    }

    /// The record of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<Record<'_>> {
        self.records().find(|record| record.key == key)
    }

    /// Writes the records as a snapshot has them.
    pub(super) fn write(&self, target: &mut dyn Write) -> io::Result<()> {
        target.write_all(&self.short)?;
        for LongRecord { history, key, value } in &self.long {
            let mut head = Vec::with_capacity(32 + key.len());
            put_head(&mut head, *history);
            put_bytes(&mut head, key);
            put_length(&mut head, value);
            target.write_all(&head)?;
            target.write_all(value)?;
        }
        Ok(())
    }
}

fn put_head(target: &mut Vec<u8>, history: History) {
    let History { created, modified, deadline } = history;
    let first = if deadline.is_some() { created | EXPIRES } else { created };
    target.extend_from_slice(&first.to_le_bytes());
    target.extend_from_slice(&modified.to_le_bytes());
    if let Some(deadline) = deadline {
        target.extend_from_slice(&deadline.0.to_le_bytes());
    }
}

/// The next number; `None` at the end.
fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*number))
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
