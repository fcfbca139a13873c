//! The store as a stream of bytes.
//!
//! In this order: the magic `PAXOSKV2`, the revision, the time of the last command, the number of records,
//! the records in any order, the sum of their hashes, and further parts, each behind its name of 8 bytes. A
//! record is the revisions at which it was created and modified, its deadline if the highest bit of the first
//! revision is set, its key and its value, the last two behind their lengths of 4 bytes. All other numbers
//! have 8 bytes; numbers are little-endian.
//!
//! There is one further part, `REMOVALS`: see [`Removals::write`].
//!
//! A later form has another digit in the magic; it, and a part that is not known, is told as that of a newer
//! version ([`io::ErrorKind::Unsupported`]), not as damage.
//!
//! `PAXOSKV1`, which knows no time and no deadlines, is still read, with that part or without.

use std::io::{self, BufRead, BufReader, Read, Write};

use paxos_core::Time;

use super::copied::EXPIRES;
use super::creation::ByCreation;
use super::picture::Picture;
use super::records::{Record, Value};
use super::removals::Removals;
use super::store::Store;

const MAGIC: &[u8; 8] = b"PAXOSKV2";
const MAGIC_WITHOUT_TIME: &[u8; 8] = b"PAXOSKV1";
/// How the magic of every version begins.
const NAME: &[u8; 7] = b"PAXOSKV";
const REMOVALS: &[u8; 8] = b"REMOVALS";
/// A snapshot is read in parts of this size: a record has six short pieces.
const BUFFER_BYTES: usize = 256 << 10;
/// There is room for this many records before the first is read, however many there are said to be.
const MAX_ROOM: usize = 1 << 20;
const CONTRADICTION: &str = "its revisions contradict each other";

pub(super) fn write(picture: Picture, removals: &Removals, target: &mut dyn Write) -> io::Result<()> {
    target.write_all(MAGIC)?;
    target.write_all(&picture.revision.to_le_bytes())?;
    target.write_all(&picture.time.0.to_le_bytes())?;
    target.write_all(&(picture.len as u64).to_le_bytes())?;
    let digest = picture.digest;
    picture.for_each_piece(|copied| copied.write(target))?;
    target.write_all(&digest.to_le_bytes())?;
    target.write_all(REMOVALS)?;
    removals.write(target)
}

/// Fills an empty store.
pub(super) fn read(store: &mut Store, source: &mut dyn Read) -> io::Result<()> {
    let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
    read_records(store, &mut source).map_err(|error| match error.kind() {
        // The file could be read, but its contents are not a snapshot.
        io::ErrorKind::UnexpectedEof => malformed("it ends too early"),
        _ => error,
    })
}

fn read_records(store: &mut Store, source: &mut impl BufRead) -> io::Result<()> {
    read_unsealed(store, source)?;
    if read_u64(source)? != store.records_digest {
        return Err(malformed("its digest does not match"));
    }
    store.removals = Removals::unknown_through(store.revision);
    while let Some(name) = read_name(source)? {
        match &name {
            REMOVALS => {
                let removals = Removals::read(source)?;
                store.removals = removals.ok_or_else(|| malformed("its removals are damaged"))?;
            }
            _ => return Err(unsupported("it has a part that this version does not know")),
        }
    }
    Ok(())
}

/// The name of the next part; `None` at the end.
fn read_name(source: &mut dyn Read) -> io::Result<Option<[u8; 8]>> {
    let mut name = Vec::with_capacity(8);
    source.take(8).read_to_end(&mut name)?;
    match &name[..] {
        [] => Ok(None),
        name => name.try_into().map(Some).map_err(|_| io::ErrorKind::UnexpectedEof.into()),
    }
}

/// How many bytes the part about removals takes in the snapshot of this store.
#[cfg(test)]
pub(super) fn removals_bytes(store: &Store) -> usize {
    let mut part = Vec::new();
    store.removals.write(&mut part).expect("memory takes everything");
    REMOVALS.len() + part.len()
}

/// Everything but the sum at the end.
fn read_unsealed(store: &mut Store, source: &mut impl BufRead) -> io::Result<()> {
    let has_time = match &read_array::<8>(source)? {
        MAGIC => true,
        MAGIC_WITHOUT_TIME => false,
        magic if magic.starts_with(NAME) => return Err(unsupported("it is of a later form")),
        _ => return Err(malformed("it does not begin with the magic bytes")),
    };
    store.revision = read_u64(source)?;
    store.time = if has_time { Time(read_u64(source)?) } else { Time::NONE };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let count = read_u64(source)?;
    let room = usize::try_from(count).map_or(MAX_ROOM, |count| count.min(MAX_ROOM));
    let mut created_at = Vec::with_capacity(room);
    for _ in 0..count {
        let (first, modified) = (read_u64(source)?, read_u64(source)?);
        let expires = has_time && first & EXPIRES != 0;
        let created = if expires { first & !EXPIRES } else { first };
        let deadline = if expires { Some(Time(read_u64(source)?)) } else { None };
        read_bytes(source, &mut key)?;
        read_bytes(source, &mut value)?;
        let are_possible =
            0 < created && created < EXPIRES && created <= modified && modified <= store.revision;
        if !are_possible {
            return Err(malformed(CONTRADICTION));
        }
        let record = Record { created, modified, deadline, key: &key, value: Value::Short(&value) };
        let hash = store.restore_record(record).ok_or_else(|| malformed("it has a key twice"))?;
        created_at.push((created, hash));
    }
    store.by_creation = ByCreation::of(created_at).ok_or_else(|| malformed(CONTRADICTION))?;
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
fn read_bytes(source: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::from_le_bytes(read_array(source)?) as usize;
    bytes.clear();
    // Grows with the bytes that are there, not with the length that is claimed.
    while bytes.len() < length {
        let buffered = source.fill_buf()?;
        if buffered.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = buffered.len().min(length - bytes.len());
        bytes.extend_from_slice(&buffered[..count]);
        source.consume(count);
    }
    Ok(())
}

fn read_u64(source: &mut impl BufRead) -> io::Result<u64> {
    read_array(source).map(u64::from_le_bytes)
}

fn read_array<const N: usize>(source: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A snapshot of a newer version.
fn unsupported(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, problem)
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a snapshot of the store: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, contents};
    use super::*;
    use crate::state_machine::StateMachine;

    /// A snapshot of keys and the revisions at which they were created.
    fn image(records: &[(&[u8], u64)]) -> Vec<u8> {
        let head = [&9_u64.to_le_bytes()[..], &7_u64.to_le_bytes()].concat();
        let mut image = [&MAGIC[..], &head, &(records.len() as u64).to_le_bytes()].concat();
        for (key, created) in records {
            image.extend([created.to_le_bytes(), created.to_le_bytes()].concat());
            image.extend([&u32::try_from(key.len()).expect("it is short").to_le_bytes(), *key].concat());
            image.extend(0_u32.to_le_bytes());
        }
        image
    }

    /// A snapshot as it was written before there were times.
    const WITHOUT_TIME: &[u8] = include_bytes!("../../fuzz/corpus/snapshot/two-keys-without-time");

    #[test]
    fn a_snapshot_from_before_there_were_times_is_read() {
        let mut store = Store::default();
        read(&mut store, &mut &WITHOUT_TIME[..]).expect("it is whole");
        let [a, b, one, two] = ["a", "b", "1", "22"].map(bytes);
        assert_eq!(contents(&store), [(1, 1, a, one), (2, 3, b, two)]);
        assert_eq!(
            (store.revision(), store.time(), store.deadlines.first_due(Time(u64::MAX))),
            (3, Time::NONE, None)
        );
        let mut image = Vec::new();
        store.snapshot()(&mut image).expect("memory takes everything");
        let expected = [&MAGIC[..], &WITHOUT_TIME[8..16], &[0; 8], &WITHOUT_TIME[16..24]].concat();
        assert_eq!(image[..32], expected, "it goes on in the newest form");
    }

    #[test]
    fn a_snapshot_from_before_there_were_times_may_tell_of_removals() {
        let mut removals = Removals::unknown_through(1);
        removals.note(b"gone", 2);
        let mut image = WITHOUT_TIME.to_vec();
        image.extend(REMOVALS);
        removals.write(&mut image).expect("memory takes everything");
        let mut store = Store::default();
        read(&mut store, &mut &image[..]).expect("it is whole");
        assert_eq!((store.len(), &store.removals), (2, &removals));
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
