//! Checks a backup, without a cluster.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use paxos_node::backup::{self, Description, Verified};
use serde_json::json;

use super::unreadable;
use crate::cli::Failure;
use crate::cli::terminal::say;

/// Check all of a backup, and show what it is of. Needs no cluster, and as much memory as a node.
#[derive(Args)]
pub(super) struct Verify {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Verify) -> Result<(), Failure> {
    let path = &arguments.file;
    let file = open(path)?;
    let size_bytes = file.metadata().map_err(|error| unreadable(path, error.into()))?.len();
    let verified = backup::verify(file).map_err(|error| unreadable(path, error))?;
    if arguments.json {
        say!("{:#}", to_json(&verified, size_bytes));
        return Ok(());
    }
    show(&verified.description);
    say!("sha-256    {}", verified.sha256);
    say!("{} is whole: {size_bytes} bytes", path.display());
    Ok(())
}

pub(in crate::cli) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Shows what a backup is of, in one screen.
pub(in crate::cli) fn show(description: &Description) {
    say!("cluster    {} ({})", description.cluster, description.cluster_id);
    say!("slot       {}, from node {}", description.slot, description.node);
    let facts = description.facts.iter().map(|(name, value)| format!("{name} {value}"));
    say!("state      {}", facts.collect::<Vec<_>>().join(", "));
    say!("log time   {}", when(description.time_millis));
    say!("taken at   {}", when(description.taken_at_millis));
    say!("epoch      {}", description.epoch);
    for member in &description.members {
        let address = if member.address.is_empty() { "an unknown address" } else { &member.address };
        say!("member     {}, {} at {address}", member.id, member.role);
    }
    if !description.removed.is_empty() {
        let removed: Vec<String> = description.removed.iter().map(u64::to_string).collect();
        say!("removed    {}", removed.join(", "));
    }
    say!("written by paxos-node {}, format {}", description.program, backup::FORMAT_VERSION);
}

/// A time, by the calendar.
pub(in crate::cli) fn when(millis: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_millis(millis)) {
        // Beyond that the calendar has more than four digits for a year, and this library none.
        Some(time) if millis < 253_402_300_800_000 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{millis} ms after 1970"),
    }
}

fn to_json(verified: &Verified, size_bytes: u64) -> serde_json::Value {
    let mut report = json!(verified.description);
    report["format"] = json!(backup::FORMAT_VERSION);
    report["sha256"] = json!(verified.sha256.to_string());
    report["size_bytes"] = json!(size_bytes);
    report["state_bytes"] = json!(verified.state_bytes);
    report["keys"] = json!(verified.keys);
    report["revision"] = json!(verified.revision);
    report
}
