//! How many bytes and flushes the log needs for what is written to it.
//!
//! Bytes are those that this process has passed to the disk (`write_bytes` in `/proc/self/io`): frames with
//! padding, the zeros of new segments, and META. The number of new segments gives the share of zeros. Each
//! write has one sync; the table also shows the flushes of the whole disk in that time, by all processes
//! (`/sys/dev/block/.../stat`).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::figures::{Goal, Table};
use super::{Outcome, Scale, log};

const SEGMENT_BYTES: u64 = 8 << 20;
const GROUP: u32 = 16;
/// Places in a device's statistics.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;
/// Long enough for a thread to make a segment, or a visible part of it.
const PAUSE: Duration = Duration::from_millis(30);

pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    if written_bytes().is_none() {
        eprintln!("  skipped: needs /proc/self/io");
        return Ok(());
    }
    for (value_bytes, name) in [(256, "256 B"), (4 << 10, "4 KiB"), (64 << 10, "64 KiB")] {
        for group in [1, GROUP] {
            let log_directory = directory.join(format!("{value_bytes}-{group}"));
            measure_one(&log_directory, value_bytes, name, group, scale, table)?;
        }
    }
    Ok(())
}

fn measure_one(
    directory: &Path,
    value_bytes: usize,
    name: &str,
    group: u32,
    scale: Scale,
    table: &mut Table,
) -> Outcome<()> {
    let mut storage = log::create(directory, log::segments_of(SEGMENT_BYTES))?;
    let value = log::value(value_bytes);
    // Small values take one block each.
    let record_bytes = u32::try_from(value_bytes.max(2048))?;
    let writes = u32::try_from(scale.size_bytes)? / record_bytes / group + 1;
    let start = Counters::when_idle(directory)?;
    for number in 1..=u64::from(writes) {
        log::append(&mut storage, number, u64::from(group), &value)?;
    }
    let flushes = device_flushes(directory)?;
    let end = Counters::when_idle(directory)?;
    let records = writes * group;
    let payload_bytes = u64::from(records) * value_bytes as u64;
    let written = end.written_bytes - start.written_bytes;
    let zeros = end.segment_bytes - start.segment_bytes;
    let per_byte = |bytes: u64| mebibytes(bytes) / mebibytes(payload_bytes);
    let of_device = match (start.flushes, flushes) {
        (Some(start), Some(end)) => format!("{:.3}", f64::from(end - start) / f64::from(records)),
        _ => String::from("unknown"),
    };
    let title =
        format!("bytes written per byte, {name}, {}", if group == 1 { "alone" } else { "16 to a write" });
    let detail = format!(
        "frames {:.3}, zeros before them {:.3}; syncs per record {:.3}, flushes of the device {of_device}; {records} records",
        per_byte(written - zeros),
        per_byte(zeros),
        f64::from(writes) / f64::from(records),
    );
    table.add(&title, detail, per_byte(written), Goal::Told);
    Ok(())
}

pub(crate) struct Counters {
    pub(crate) written_bytes: u64,
    /// The size of all segments together.
    segment_bytes: u64,
    flushes: Option<u32>,
    /// What all processes have written to the disk.
    pub(crate) device_bytes: Option<u64>,
}

impl Counters {
    /// Waits until no segment is being made.
    pub(crate) fn when_idle(directory: &Path) -> Outcome<Counters> {
        let mut before = None;
        loop {
            std::thread::sleep(PAUSE);
            let written_bytes = written_bytes().ok_or("/proc/self/io can no longer be read")?;
            if before == Some(written_bytes) {
                let (segment_bytes, flushes) = (segment_bytes(directory)?, device_flushes(directory)?);
                let device_bytes = device_counter(directory, SECTORS_WRITTEN)?.map(|sectors| sectors * 512);
                return Ok(Counters { written_bytes, segment_bytes, flushes, device_bytes });
            }
            before = Some(written_bytes);
        }
    }
}

pub(crate) fn written_bytes() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

fn segment_bytes(directory: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("wal-") {
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn device_flushes(directory: &Path) -> Outcome<Option<u32>> {
    Ok(device_counter(directory, FLUSHES)?.and_then(|flushes| flushes.try_into().ok()))
}

/// `None` where the system has no such counter: only whole disks have one of flushes, not partitions.
fn device_counter(directory: &Path, place: usize) -> Outcome<Option<u64>> {
    let device = std::fs::metadata(directory)?.dev();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let statistics = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok();
    Ok(statistics.and_then(|statistics| statistics.split_whitespace().nth(place)?.parse().ok()))
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).expect("less than 4 TiB")) / 1024.0
}
