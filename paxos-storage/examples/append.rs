//! What the log costs beside the disk: a bare write and sync of one block against `persist` of a 256-byte entry,
//! by turns in the same run. `cargo run --release -p paxos-storage --example append -- DIR [ROUNDS]`

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{Ballot, Entry, HardState, NodeId, Slot, Value, Write, WriteNumber};
use paxos_storage::file::{self, FileStorage, Options};
use paxos_storage::{Identity, Storage};

const BLOCK: usize = 4096;
const RAW_BYTES: usize = 16 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().ok_or("name a directory on the disk to measure")?;
    let rounds: u64 = arguments.next().map_or(Ok(3000), |rounds| rounds.parse())?;
    let directory = tempfile::tempdir_in(parent)?;

    let raw = raw_file(&directory.path().join("raw"))?;
    let memory = vec![7; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = &memory[start..start + BLOCK];

    let data = directory.path().join("log");
    file::format(&data, &Identity::new("append", NodeId(1)))?;
    let mut storage = FileStorage::open(&data, Options::default())?;
    storage.recover()?;

    let (mut raw_times, mut log_times) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let offset = (round * BLOCK as u64) % RAW_BYTES as u64;
        raw_times.push(timed(|| raw.write_all_at(block, offset).and_then(|()| raw.sync_data()))?);
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let entry = Entry::Accepted { ballot, value: Value::batch(&[Bytes::from(vec![1; 256])]) };
        let hard_state = HardState { promised: ballot, chosen: Slot(round) };
        let write = Write::new(WriteNumber(round + 1), hard_state, vec![(Slot(round + 1), entry)]);
        log_times.push(timed(|| storage.persist(write).map(drop))?);
    }
    let (raw, log) = (Quantiles::of(raw_times), Quantiles::of(log_times));
    println!("raw write + sync of {BLOCK} bytes: median {:?}, p99 {:?}", raw.median, raw.p99);
    println!("persist of a 256-byte entry:     median {:?}, p99 {:?}", log.median, log.p99);
    println!("ratio of the medians: {:.3}", log.median.as_secs_f64() / raw.median.as_secs_f64());
    Ok(())
}

struct Quantiles {
    median: Duration,
    p99: Duration,
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Quantiles {
        times.sort();
        Quantiles { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// A file full of zeros, written past the page cache where the system can.
fn raw_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    let file = options.open(path)?;
    file.write_all_at(&vec![0; RAW_BYTES], 0)?;
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}
