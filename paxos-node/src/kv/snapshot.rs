//! The store as a stream of bytes.
//!
//! Magic `PAXOSKV1`, the revision, the number of records, the records in the order of their keys (created,
//! modified, key and value behind their lengths of 4 bytes), and the sum of their hashes. Numbers are
//! little-endian and of 8 bytes unless said otherwise.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::{Record, Store};

const MAGIC: &[u8; 8] = b"PAXOSKV1";

pub(super) fn write(store: &Store, target: &mut dyn Write) -> io::Result<()> {
    target.write_all(MAGIC)?;
    target.write_all(&store.revision.to_le_bytes())?;
    target.write_all(&(store.records.len() as u64).to_le_bytes())?;
    for key in &store.keys {
        let record = store.records.get(key).expect("every key has a record");
        target.write_all(&record.created.to_le_bytes())?;
        target.write_all(&record.modified.to_le_bytes())?;
        write_bytes(target, key)?;
        write_bytes(target, &record.value)?;
    }
    target.write_all(&store.records_digest.to_le_bytes())
}

pub(super) fn read(source: &mut dyn Read) -> io::Result<Store> {
    read_records(source).map_err(|error| match error.kind() {
        // The file could be read; it is what is in it that is not as it should be.
        io::ErrorKind::UnexpectedEof => malformed("it ends too early"),
        _ => error,
    })
}

fn read_records(source: &mut dyn Read) -> io::Result<Store> {
    let store = read_unsealed(source)?;
    if read_u64(source)? == store.records_digest {
        Ok(store)
    } else {
        Err(malformed("its digest is another"))
    }
}

/// Everything but the sum at the end.
fn read_unsealed(source: &mut dyn Read) -> io::Result<Store> {
    if &read_array::<8>(source)? != MAGIC {
        return Err(malformed("it does not begin like one"));
    }
    let mut store = Store { revision: read_u64(source)?, ..Store::default() };
    for _ in 0..read_u64(source)? {
        let (created, modified) = (read_u64(source)?, read_u64(source)?);
        let (key, value) = (read_bytes(source)?, read_bytes(source)?);
        if store.keys.get_max().is_some_and(|last| *last >= key) {
            return Err(malformed("its keys are not in order"));
        }
        let are_possible = 0 < created && created <= modified && modified <= store.revision;
        if !are_possible || store.by_creation.contains_key(&created) {
            return Err(malformed("its revisions contradict each other"));
        }
        let record = Record::new(&key, value, created, modified);
        store.insert(key, record);
    }
    Ok(store)
}

/// A snapshot of these records, which are one but for the sum at its end.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn sealed(records: &[u8]) -> Option<Vec<u8>> {
    let mut rest = records;
    let store = read_unsealed(&mut rest).ok()?;
    let length = records.len() - rest.len();
    Some([&records[..length], &store.records_digest.to_le_bytes()].concat())
}

fn write_bytes(target: &mut dyn Write, bytes: &Bytes) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    target.write_all(&length.to_le_bytes())?;
    target.write_all(bytes)
}

fn read_bytes(source: &mut dyn Read) -> io::Result<Bytes> {
    let length = u32::from_le_bytes(read_array(source)?);
    let mut bytes = Vec::new();
    // Grows with what is really there, not with what is claimed.
    source.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize {
        Ok(Bytes::from(bytes))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_u64(source: &mut dyn Read) -> io::Result<u64> {
    read_array(source).map(u64::from_le_bytes)
}

fn read_array<const N: usize>(source: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a snapshot of the store: {problem}"))
}
