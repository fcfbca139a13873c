//! Measures the write-ahead log against the bare disk: `cargo bench -p paxos-storage [-- OPTIONS]`.
//!
//! Every figure is a ratio to the bare disk, measured in the same run in turns with the log, because the
//! speed of a shared disk changes from minute to minute. The bare disk means: one block of 4096 bytes written
//! past the page cache (`O_DIRECT`) into a file full of zeros, and an `fdatasync`.
//!
//! ```text
//! DIRECTORY            where to measure; else PAXOS_BENCH_DIRECTORY, else below target/
//! --recovery-mib N     length of the log that is recovered, 1024 by default
//! --only WORD          only the parts whose name begins so: append, longest, throughput, bytes, rotation, size,
//!                      recovery
//! --check              fail if a figure that the speed of the disk does not change is beyond its limit
//! ```
//!
//! Without `--bench`, which `cargo bench` passes, or with `--test`, everything runs once and briefly to show
//! that it works. The figures mean nothing then.

mod append;
mod bytes;
mod figures;
mod log;
mod longest;
mod raw;
mod recovery;
mod rotation;
mod size;
mod throughput;
mod writer;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use figures::Table;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Appends of each kind, one at a time.
    lone_rounds: usize,
    /// Lone appends of which the longest is told.
    longest_of: u64,
    /// How long the disk and the log take turns for, and how often.
    window: Duration,
    windows: usize,
    /// Bytes of commands written at saturation.
    saturated_bytes: u64,
    rotations: u64,
    /// Bytes of values written for each of the figures about size.
    size_bytes: usize,
    recovery_mib: u32,
}

impl Scale {
    const FULL: Scale = Scale {
        lone_rounds: 6_000,
        longest_of: 200_000,
        window: Duration::from_millis(50),
        windows: 100,
        saturated_bytes: 256 << 20,
        rotations: 64,
        size_bytes: 64 << 20,
        recovery_mib: 1024,
    };
    const BRIEF: Scale = Scale {
        lone_rounds: 20,
        longest_of: 100,
        window: Duration::from_millis(5),
        windows: 2,
        saturated_bytes: 1 << 20,
        rotations: 1,
        size_bytes: 256 << 10,
        recovery_mib: 4,
    };
}

#[derive(Debug)]
struct Options {
    directory: PathBuf,
    scale: Scale,
    only: String,
    is_check: bool,
}

type Part = fn(&Path, Scale, &mut Table) -> Outcome<()>;

const PARTS: [(&str, Part); 7] = [
    ("append", append::measure),
    ("longest", longest::measure),
    ("throughput", throughput::measure),
    ("bytes", bytes::measure),
    ("rotation", rotation::measure),
    ("size", size::measure),
    ("recovery", recovery::measure),
];

fn main() -> Outcome<()> {
    let options = options(std::env::args().skip(1))?;
    std::fs::create_dir_all(&options.directory)?;
    let mut table = Table::default();
    for (name, part) in PARTS.into_iter().filter(|(name, _)| name.starts_with(&options.only)) {
        eprintln!("{name}: measuring in {} ...", options.directory.display());
        let start = Instant::now();
        let load = load_average();
        let directory = tempfile::tempdir_in(&options.directory)?;
        part(directory.path(), options.scale, &mut table)?;
        eprintln!("{name}: took {:.1} s; load before and after: {load}, {}", seconds(start), load_average());
    }
    println!("{table}");
    match table.beyond() {
        [_, ..] if options.is_check => Err(table.beyond().join("; ").into()),
        _ => Ok(()),
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Outcome<Options> {
    let (mut is_bench, mut is_test, mut is_check, mut recovery_mib) = (false, false, false, None);
    let mut only = String::new();
    let mut directory = std::env::var_os("PAXOS_BENCH_DIRECTORY").map(PathBuf::from);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--test" => is_test = true,
            "--check" => is_check = true,
            "--only" => only = arguments.next().ok_or("--only needs the name of a part")?,
            "--recovery-mib" => {
                let value = arguments.next().ok_or("--recovery-mib needs a number")?;
                recovery_mib =
                    Some(value.parse().map_err(|error| format!("--recovery-mib {value}: {error}"))?);
            }
            other if other.starts_with('-') => eprintln!("{other} means nothing here"),
            path => directory = Some(PathBuf::from(path)),
        }
    }
    let mut scale = if is_bench && !is_test { Scale::FULL } else { Scale::BRIEF };
    scale.recovery_mib = recovery_mib.unwrap_or(scale.recovery_mib);
    let directory = directory.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    Ok(Options { directory, scale, only, is_check })
}

/// The load of the last minute: figures from a busy machine say little.
fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
