//! The speed of recovery, against a bare read of the same files.

use std::path::Path;

use paxos_storage::Storage;
use paxos_storage::file::FileStorage;

use super::figures::{Goal, Table, timed};
use super::raw::{self, Aligned};
use super::{Outcome, Scale, log};

const BARE_READ_BYTES: usize = 4 << 20;
/// The number of turns of bare read and recovery. The fastest of each counts, since disturbances only slow
/// down.
const TURNS: usize = 2;
const MIB: u64 = 1 << 20;

/// Logs of small values, 64 to a write, and of large ones.
pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    for (value_bytes, group, name) in
        [(256, 64, "256 B, 64 to a write"), (64 << 10, 16, "64 KiB, 16 to a write")]
    {
        let log_directory = directory.join("log");
        fill(&log_directory, value_bytes, group, scale.recovery_mib)?;
        measure_one(&log_directory, name, table)?;
        std::fs::remove_dir_all(&log_directory)?;
    }
    Ok(())
}

/// Writes until the frames have the requested length.
fn fill(directory: &Path, value_bytes: usize, group: u64, length_mib: u32) -> Outcome<()> {
    eprintln!("  writing {length_mib} MiB of log ...");
    let mut storage = log::create(directory, log::FileSettings::default())?;
    let value = log::value(value_bytes);
    let least_frame_bytes = group * value_bytes as u64;
    let writes = u64::from(length_mib) * MIB / least_frame_bytes;
    for number in 1..=writes {
        log::append(&mut storage, number, group, &value)?;
    }
    storage.prove_last_write()?;
    Ok(())
}

fn measure_one(directory: &Path, name: &str, table: &mut Table) -> Outcome<()> {
    let (mut bare_mib_per_second, mut recovery_mib_per_second) = (0.0_f64, 0.0_f64);
    let (mut log_bytes, mut entries) = (0, 0);
    for _ in 0..TURNS {
        let mut storage = FileStorage::open(directory, log::FileSettings::default())?;
        let (time, recovered) = timed(|| storage.recover());
        entries = recovered?.entries.len();
        drop(storage);
        let (bare_time, length_bytes) = timed(|| bare_read(directory));
        log_bytes = length_bytes?;
        let length_mib = f64::from(u32::try_from(log_bytes / MIB)?);
        bare_mib_per_second = bare_mib_per_second.max(length_mib / bare_time.as_secs_f64());
        recovery_mib_per_second = recovery_mib_per_second.max(length_mib / time.as_secs_f64());
    }
    let detail = format!(
        "{recovery_mib_per_second:.0} MiB/s / {bare_mib_per_second:.0} MiB/s; segments of {} MiB with {entries} entries",
        log_bytes / MIB
    );
    let ratio = recovery_mib_per_second / bare_mib_per_second;
    table.add(&format!("recovery / bare read, speeds, {name}"), detail, ratio, Goal::Told);
    Ok(())
}

/// Reads all segments of the log, except one that was made ahead and has no frames.
fn bare_read(directory: &Path) -> Outcome<u64> {
    let mut buffer = Aligned::new(BARE_READ_BYTES);
    let mut length_bytes = 0;
    for file in std::fs::read_dir(directory)? {
        let path = file?.path();
        if raw::has_at(&path, log::FRAME_MAGIC, log::FIRST_FRAME_AT)? {
            length_bytes += raw::read(&path, &mut buffer)?;
        }
    }
    Ok(length_bytes)
}
