//! How many bytes reach the disk for each byte of commands, at saturation.
//!
//! As in a node, old segments are freed from time to time, here by empty snapshots, so that no bytes of
//! snapshots count. The log gets into its stride before it is measured: until then its segments are new
//! files, and each byte of them reaches the disk twice, once as a zero. The bytes are those that this process
//! has passed to the disk (`write_bytes` in `/proc/self/io`): frames with padding, segments, META, and what
//! is left of snapshots. The table also shows what the whole disk has written in that time, for all
//! processes.

use std::path::Path;
use std::sync::mpsc::channel;

use bytes::Bytes;
use paxos_core::Value;

use super::figures::{Goal, Table};
use super::size::{Counters, mebibytes, written_bytes};
use super::throughput::{WAITING, await_done};
use super::writer::{Client, TrimEvery, Writer};
use super::{Outcome, Scale, log};

const SEGMENT_BYTES: u64 = 16 << 20;
/// The bytes per byte that `--check` allows.
const MOST: f64 = 1.3;
/// How many segments are written before the measurement.
const FIRST_SEGMENTS: u64 = 6;

pub(crate) fn measure(directory: &Path, scale: Scale, table: &mut Table) -> Outcome<()> {
    if written_bytes().is_none() {
        eprintln!("  skipped: needs /proc/self/io");
        return Ok(());
    }
    for (commands, name) in [(1, "a slot each"), (16, "16 to a slot")] {
        measure_one(&directory.join(format!("{commands}")), commands, name, scale, table)?;
    }
    Ok(())
}

fn measure_one(directory: &Path, commands: u32, name: &str, scale: Scale, table: &mut Table) -> Outcome<()> {
    let storage = log::create(directory, log::segments_of(SEGMENT_BYTES))?;
    let (writer, ending) = Writer::start(storage, Some(TrimEvery(SEGMENT_BYTES)))?;
    let value = Value::batch(&vec![Bytes::from(vec![7; log::VALUE_BYTES]); commands as usize]);
    let each_bytes = u64::from(commands) * log::VALUE_BYTES as u64;
    saturate(&writer, &value, scale.saturated_bytes.min(FIRST_SEGMENTS * SEGMENT_BYTES) / each_bytes)?;
    let start = Counters::when_idle(directory)?;
    let syncs = writer.syncs();
    let appends = u32::try_from(scale.saturated_bytes / each_bytes)?;
    saturate(&writer, &value, u64::from(appends))?;
    let syncs = writer.syncs() - syncs;
    let end = Counters::when_idle(directory)?;
    ending.wait(writer);
    let commands_bytes = mebibytes(u64::from(appends) * each_bytes);
    let written = mebibytes(end.written_bytes - start.written_bytes);
    let device = start.device_bytes.zip(end.device_bytes);
    let device = device.map_or_else(
        || String::from("unknown"),
        |(start, end)| format!("{:.3}", mebibytes(end - start) / commands_bytes),
    );
    let detail = format!(
        "{written:.1} MiB / {commands_bytes:.1} MiB; {:.1} commands to a sync; the whole disk {device}",
        f64::from(appends) * f64::from(commands) / f64::from(syncs)
    );
    let title = format!("bytes written per byte of commands at saturation, 256 B, {name}");
    table.add(&title, detail, written / commands_bytes, Goal::Limit(MOST));
    Ok(())
}

/// Appends so often, with as many appends under way as a busy node has.
fn saturate(writer: &Writer, value: &Value, appends: u64) -> Outcome<()> {
    let (done, finished) = channel();
    let client = Client::new(done);
    let (mut submitted, mut durable) = (0, 0);
    while durable < appends {
        while submitted < appends.min(durable + u64::from(WAITING)) {
            writer.submit(value, &client);
            submitted += 1;
        }
        durable += u64::from(await_done(&finished)?);
    }
    Ok(())
}
