//! `paxos-node wal`: inspects a data directory.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use paxos_core::Slot;
use paxos_storage::file::{self, FrameReport, Inspection, SpareReport};
use serde_json::json;

use super::Failure;

/// Inspect a node's data directory.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(Inspect),
}

const EXAMPLES: &str = "\
Examples:
  paxos-node wal inspect data               segments, slots, promise and damage
  paxos-node wal inspect data --frames      each frame, too
  paxos-node wal inspect data --json | jq .damage

Exit code 4 if anything is damaged. Beside a running node the newest write may look torn.";

/// Show what a data directory holds and what is damaged in it. Changes nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Inspect {
    /// The data directory.
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// List each frame. A frame holds what one sync has written to the log.
    #[arg(long)]
    frames: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Command::Inspect(arguments) = &arguments.command;
    let inspection = file::inspect(&arguments.data)?;
    let report = if arguments.json {
        format!("{:#}\n", to_json(&inspection, arguments.frames))
    } else {
        Report { inspection: &inspection, with_frames: arguments.frames }.to_string()
    };
    match std::io::stdout().write_all(report.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // The reader has left, as `head` does.
        written => written.map_err(Failure::other)?,
    }
    match inspection.damage.len() {
        0 => Ok(()),
        _ if inspection.is_promise_intact() => Err(Failure::damaged(format!(
            "{} is damaged, but its promise is intact: start the node, and it learns from its peers what it lost",
            arguments.data.display()
        ))),
        _ => Err(Failure::damaged(format!(
            "{} is damaged, and its promise may be lost: no node can start on it",
            arguments.data.display()
        ))),
    }
}

/// An inspection for people.
struct Report<'a> {
    inspection: &'a Inspection,
    with_frames: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(to)?;
        self.segments(to)?;
        self.damage(to)
    }
}

impl Report<'_> {
    fn summary(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inspection = self.inspection;
        match &inspection.identity {
            Some(identity) => {
                writeln!(to, "node      {} of cluster {}", identity.node(), identity.cluster())?;
                writeln!(to, "storage   {}", identity.storage())?;
            }
            None => writeln!(to, "node      unknown: META can't be read")?,
        }
        writeln!(to, "promised  {}", inspection.promised)?;
        writeln!(to, "chosen    through slot {}", inspection.chosen)?;
        writeln!(to, "log       {}", range(inspection.slots))?;
        for snapshot in &inspection.snapshots {
            let state = if snapshot.is_whole { "whole" } else { "BAD" };
            let meta = snapshot;
            writeln!(to, "snapshot  of slot {}, {} bytes, {state}", meta.slot, meta.size_bytes)?;
        }
        writeln!(to)
    }

    fn segments(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "{:<18} {:>12} {:>12} {:>8} {:>10} {:>23}",
            "SEGMENT", "BYTES", "USED", "FRAMES", "RECORDS", "SLOTS"
        )?;
        for segment in &self.inspection.segments {
            let name = segment.file.file_name().unwrap_or_default().to_string_lossy();
            let records: u64 = segment.frames.iter().map(|frame| u64::from(frame.records)).sum();
            writeln!(
                to,
                "{name:<18} {:>12} {:>12} {:>8} {records:>10} {:>23}",
                segment.size_bytes,
                segment.used_bytes(),
                segment.frames.len(),
                range(segment.slots()),
            )?;
            if self.with_frames {
                segment.frames.iter().try_for_each(|frame| write_frame(to, frame))?;
            }
        }
        for spare in &self.inspection.spares {
            let name = spare.file.file_name().unwrap_or_default().to_string_lossy();
            writeln!(to, "{name:<22} {:>8} kept to be used again", spare.size_bytes)?;
        }
        writeln!(to)
    }

    fn damage(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inspection = self.inspection;
        if let Some((file, offset)) = &inspection.torn_tail {
            writeln!(
                to,
                "{} ends at byte {offset} in a write that was never acknowledged; the next start cuts it",
                file.display()
            )?;
        }
        for damage in &inspection.damage {
            writeln!(to, "{damage}")?;
        }
        if inspection.incomplete_through > Slot::ZERO {
            writeln!(to, "acceptances may be lost through slot {}", inspection.incomplete_through)?;
        }
        if inspection.damage.is_empty() {
            writeln!(to, "nothing is damaged")?;
        }
        Ok(())
    }
}

fn write_frame(to: &mut fmt::Formatter<'_>, frame: &FrameReport) -> fmt::Result {
    let kind = match (frame.is_mark, frame.is_last_of_write) {
        (true, _) => "mark",
        (false, true) => "write",
        (false, false) => "part of a write",
    };
    writeln!(
        to,
        "  frame {:>8} at {:>10}, {:>9} bytes, {:>5} records, slots {}, promised {}, chosen {}, {kind}",
        frame.sequence,
        frame.offset,
        frame.length_bytes,
        frame.records,
        range(frame.slots),
        frame.promised,
        frame.chosen,
    )
}

fn range(slots: Option<(Slot, Slot)>) -> String {
    slots.map_or_else(|| String::from("-"), |(first, last)| format!("{first}..={last}"))
}

fn to_json(inspection: &Inspection, with_frames: bool) -> serde_json::Value {
    let slots = |slots: Option<(Slot, Slot)>| slots.map(|(first, last)| [first.0, last.0]);
    let frame = |frame: &FrameReport| {
        json!({
            "sequence": frame.sequence,
            "offset": frame.offset,
            "length_bytes": frame.length_bytes,
            "records": frame.records,
            "slots": slots(frame.slots),
            "promised": frame.promised.to_string(),
            "chosen": frame.chosen.0,
            "is_mark": frame.is_mark,
            "is_last_of_write": frame.is_last_of_write,
        })
    };
    let segments = inspection.segments.iter().map(|segment| {
        let frames = with_frames.then(|| segment.frames.iter().map(frame).collect::<Vec<_>>());
        json!({
            "file": segment.file,
            "number": segment.number,
            "size_bytes": segment.size_bytes,
            "used_bytes": segment.used_bytes(),
            "frame_count": segment.frames.len(),
            "slots": slots(segment.slots()),
            "frames": frames,
        })
    });
    let spare = |spare: &SpareReport| json!({"file": spare.file, "size_bytes": spare.size_bytes});
    let snapshots = inspection.snapshots.iter().map(|snapshot| {
        json!({
            "file": snapshot.file,
            "slot": snapshot.slot.0,
            "size_bytes": snapshot.size_bytes,
            "is_whole": snapshot.is_whole,
        })
    });
    let damage = inspection.damage.iter().map(|damage| {
        json!({
            "file": damage.file,
            "offset": damage.offset,
            "cause": damage.cause.to_string(),
            "slots": slots(damage.slots),
            "is_promise_intact": damage.is_promise_intact,
        })
    });
    let identity = inspection.identity.as_ref();
    json!({
        "node": identity.map(|identity| identity.node().0),
        "cluster": identity.map(paxos_storage::Identity::cluster),
        "storage": identity.map(|identity| identity.storage().to_string()),
        "promised": inspection.promised.to_string(),
        "chosen": inspection.chosen.0,
        "slots": slots(inspection.slots),
        "segments": segments.collect::<Vec<_>>(),
        "spares": inspection.spares.iter().map(spare).collect::<Vec<_>>(),
        "snapshots": snapshots.collect::<Vec<_>>(),
        "torn_tail": inspection.torn_tail.as_ref().map(|(file, offset)| json!({"file": file, "offset": offset})),
        "damage": damage.collect::<Vec<_>>(),
        "incomplete_through": inspection.incomplete_through.0,
        "is_promise_intact": inspection.is_promise_intact(),
    })
}
