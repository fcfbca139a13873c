//! The store as a stream of bytes.
//!
//! In this order: the magic `PAXOSKV1`, the revision, the number of records, the records in any order, and the
//! sum of their hashes. A record is the revisions at which it was created and modified, its
//! key and its value, the last two behind their lengths of 4 bytes. All other numbers have 8 bytes; numbers
//! are little-endian.

use std::io::{self, Read, Write};

use super::picture::Picture;
use super::records::{Record, Value};
use super::store::{Store, Twice};

const MAGIC: &[u8; 8] = b"PAXOSKV1";
const CONTRADICTION: &str = "its revisions contradict each other";

pub(super) fn write(picture: Picture, target: &mut dyn Write) -> io::Result<()> {
    target.write_all(MAGIC)?;
    target.write_all(&picture.revision.to_le_bytes())?;
    target.write_all(&(picture.len as u64).to_le_bytes())?;
    let digest = picture.digest;
    picture.for_each_piece(|copied| copied.write(target))?;
    target.write_all(&digest.to_le_bytes())
}

/// Fills an empty store.
pub(super) fn read(store: &mut Store, source: &mut dyn Read) -> io::Result<()> {
    read_records(store, source).map_err(|error| match error.kind() {
        // The file could be read, but its contents are not a snapshot.
        io::ErrorKind::UnexpectedEof => malformed("it ends too early"),
        _ => error,
    })
}

fn read_records(store: &mut Store, source: &mut dyn Read) -> io::Result<()> {
    read_unsealed(store, source)?;
    if read_u64(source)? == store.records_digest {
        Ok(())
    } else {
        Err(malformed("its digest does not match"))
    }
}

/// Everything but the sum at the end.
fn read_unsealed(store: &mut Store, source: &mut dyn Read) -> io::Result<()> {
    if &read_array::<8>(source)? != MAGIC {
        return Err(malformed("it does not begin with the magic bytes"));
    }
    store.revision = read_u64(source)?;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for _ in 0..read_u64(source)? {
        let (created, modified) = (read_u64(source)?, read_u64(source)?);
        read_bytes(source, &mut key)?;
        read_bytes(source, &mut value)?;
        let are_possible = 0 < created && created <= modified && modified <= store.revision;
        if !are_possible {
            return Err(malformed(CONTRADICTION));
        }
        let record = Record { created, modified, key: &key, value: Value::Short(&value) };
        store.insert(record).map_err(|twice| match twice {
            Twice::Key => malformed("it has a key twice"),
            Twice::Revision => malformed(CONTRADICTION),
        })?;
    }
    store.free_unused();
    Ok(())
}

/// The snapshot of these bytes, which are one but for the sum at the end.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn sealed(records: &[u8]) -> Option<Vec<u8>> {
    let (mut store, mut rest) = (Store::default(), records);
    read_unsealed(&mut store, &mut rest).ok()?;
    let length = records.len() - rest.len();
    Some([&records[..length], &store.records_digest.to_le_bytes()].concat())
}

/// Reads bytes behind their length, in place of what `bytes` holds.
fn read_bytes(source: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::from_le_bytes(read_array(source)?);
    bytes.clear();
    // Grows with the bytes that are there, not with the length that is claimed.
    source.take(u64::from(length)).read_to_end(bytes)?;
    if bytes.len() == length as usize { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
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

#[cfg(test)]
mod tests {
    use super::super::testing::contents;
    use super::*;
    use crate::state_machine::StateMachine;

    /// A snapshot of keys and the revisions at which they were created.
    fn image(records: &[(&[u8], u64)]) -> Vec<u8> {
        let mut image = [&MAGIC[..], &9_u64.to_le_bytes(), &(records.len() as u64).to_le_bytes()].concat();
        for (key, created) in records {
            image.extend([created.to_le_bytes(), created.to_le_bytes()].concat());
            image.extend([&u32::try_from(key.len()).expect("it is short").to_le_bytes(), *key].concat());
            image.extend(0_u32.to_le_bytes());
        }
        image
    }

    #[test]
    fn records_come_in_any_order_but_each_key_and_each_revision_once() {
        let snapshots = [[(&b"a"[..], 1), (b"b", 2)], [(b"b", 2), (b"a", 1)]].map(|records| {
            let sealed = sealed(&image(&records)).expect("it is whole");
            let mut store = Store::default();
            read(&mut store, &mut &sealed[..]).expect("it is whole");
            store
        });
        assert_eq!(contents(&snapshots[0]), contents(&snapshots[1]));
        assert_eq!(snapshots[0].digest(), snapshots[1].digest());
        for (records, problem) in
            [([(&b"a"[..], 1), (b"a", 2)], "a key twice"), ([(b"a", 2), (b"b", 2)], "contradict")]
        {
            let error = read(&mut Store::default(), &mut &image(&records)[..]).expect_err(problem);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
