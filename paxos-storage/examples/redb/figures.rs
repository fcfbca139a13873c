//! Runs the conformance suite, and measures the storage beside the backend `file`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value, Write, WriteNumber};
use paxos_storage::conformance::{self, Backend};
use paxos_storage::file::{self, FileSettings, FileStorage};
use paxos_storage::{Identity, Storage};
use tempfile::TempDir;

use super::storage::RedbStorage;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

const VALUE_BYTES: usize = 256;
/// Appends of one value, one after the other.
const LONE_APPENDS: u64 = 1000;
/// At saturation, one sync serves this many commands.
const COMMANDS_A_WRITE: u64 = 64;
/// The storages take turns of this many writes.
const TURN_WRITES: u64 = 100;
/// What is written at saturation, and recovered.
const ENTRIES: u64 = 100_000;

/// Makes the storages that the suite tests.
pub(crate) struct Databases {
    parent: PathBuf,
    directory: Option<TempDir>,
}

impl Databases {
    /// Each storage is in a directory of its own in `parent`.
    pub(crate) fn new(parent: PathBuf) -> Databases {
        Databases { parent, directory: None }
    }
}

impl Backend for Databases {
    fn make(&mut self) -> Box<dyn Storage> {
        let directory = tempfile::tempdir_in(&self.parent).expect("a directory can be made");
        let identity = Identity::new("example", NodeId(1));
        let storage = RedbStorage::make(directory.path(), &identity).expect("the storage is made");
        self.directory = Some(directory);
        Box::new(storage)
    }

    fn open_again(&mut self) -> Box<dyn Storage> {
        let directory = self.directory.as_ref().expect("a storage was made");
        Box::new(RedbStorage::open(directory.path()).expect("the storage is opened"))
    }
}

pub(crate) fn run(directory: Option<PathBuf>) -> Outcome<()> {
    let directory = directory.unwrap_or_else(|| PathBuf::from("target"));
    std::fs::create_dir_all(&directory)?;
    let report = conformance::check(&mut Databases::new(directory.clone()));
    println!("redb conforms; {report}\n");
    let directory = tempfile::tempdir_in(directory)?;
    let mut measured = [Measured::new("file", directory.path())?, Measured::new("redb", directory.path())?];
    for turn in 0..2 * LONE_APPENDS {
        measured[usize::from(turn % 2 == 1)].append_one()?;
    }
    while measured.iter().any(|one| one.entries < ENTRIES) {
        for one in &mut measured {
            one.saturate()?;
        }
    }
    println!(
        "| storage | lone append, median | commands a second, {COMMANDS_A_WRITE} a write \
         | bytes written per byte | recovery of {ENTRIES} entries |"
    );
    println!("|---|---|---|---|---|");
    for one in measured {
        println!("{}", one.recover_and_tell()?);
    }
    Ok(())
}

/// A storage, and what was measured of it.
struct Measured {
    name: &'static str,
    directory: PathBuf,
    storage: Box<dyn Storage>,
    lone: Vec<Duration>,
    writes: u64,
    slots: u64,
    /// At saturation.
    entries: u64,
    time: Duration,
    written_bytes: u64,
}

impl Measured {
    fn new(name: &'static str, parent: &Path) -> Outcome<Measured> {
        let directory = parent.join(name);
        std::fs::create_dir(&directory)?;
        let identity = Identity::new("example", NodeId(1));
        match name {
            "file" => file::format(&directory, &identity)?,
            _ => drop(RedbStorage::make(&directory, &identity)?),
        }
        let mut storage = open(name, &directory)?;
        storage.recover()?;
        let (lone, time) = (Vec::new(), Duration::ZERO);
        Ok(Measured {
            name,
            directory,
            storage,
            lone,
            writes: 0,
            slots: 0,
            entries: 0,
            time,
            written_bytes: 0,
        })
    }

    /// The next write, of values in as many slots.
    fn next(&mut self, values: u64) -> Write {
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let value = Value::batch(&[Bytes::from(vec![7; VALUE_BYTES])]);
        let entry = |slot| (Slot(slot), Entry::Accepted { ballot, value: value.clone() });
        let entries = (self.slots + 1..=self.slots + values).map(entry).collect();
        let hard_state = HardState { promised: ballot, chosen: Slot(self.slots) };
        self.writes += 1;
        self.slots += values;
        Write::new(WriteNumber(self.writes), hard_state, entries)
    }

    fn append_one(&mut self) -> Outcome<()> {
        let write = self.next(1);
        let start = Instant::now();
        let _ = self.storage.persist(write)?;
        self.lone.push(start.elapsed());
        Ok(())
    }

    /// A turn of writes at saturation.
    fn saturate(&mut self) -> Outcome<()> {
        let (start, before) = (Instant::now(), written_bytes()?);
        for _ in 0..TURN_WRITES {
            if self.entries < ENTRIES {
                let values = COMMANDS_A_WRITE.min(ENTRIES - self.entries);
                let write = self.next(values);
                let _ = self.storage.persist(write)?;
                self.entries += values;
            }
        }
        self.time += start.elapsed();
        self.written_bytes += written_bytes()? - before;
        Ok(())
    }

    /// Recovers what was written, and returns a line of the table.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn recover_and_tell(mut self) -> Outcome<String> {
        drop(self.storage);
        let start = Instant::now();
        let recovered = open(self.name, &self.directory)?.recover()?;
        let recovery = start.elapsed();
        assert_eq!(recovered.entries.len() as u64, self.slots, "everything is recovered");
        self.lone.sort();
        let rate = self.entries as f64 / self.time.as_secs_f64();
        let factor = self.written_bytes as f64 / (self.entries * VALUE_BYTES as u64) as f64;
        let (name, median) = (self.name, self.lone[self.lone.len() / 2]);
        Ok(format!("| {name} | {median:.0?} | {rate:.0} | {factor:.2} | {recovery:.0?} |"))
    }
}

fn open(name: &str, directory: &Path) -> Outcome<Box<dyn Storage>> {
    Ok(match name {
        "file" => Box::new(FileStorage::open(directory, FileSettings::default())?),
        _ => Box::new(RedbStorage::open(directory)?),
    })
}

/// How many bytes this process has passed to the disk. Not every system tells.
fn written_bytes() -> Outcome<u64> {
    let counters = std::fs::read_to_string("/proc/self/io")?;
    let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.ok_or("/proc/self/io has no write_bytes")?.parse()?)
}
