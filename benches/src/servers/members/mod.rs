//! How long clients wait while the members of a cluster change: paxos-node beside etcd.
//!
//! In each round each server is started as a new cluster of three processes, with their data on a disk. Some
//! clients write all the time, each with one request under way, through all nodes that stay. Meanwhile the
//! cluster goes through the actions of `action`, one after the other. For each, the longest time that any
//! client waited for an answer is noted, from when anything was begun for it until half a second after its
//! end, and 1.5 s at least; and beside it the longest of 1.5 s just before, while nothing was done. Only one
//! server runs at a time.
//!
//! A client that gets an error, or whose connection breaks, asks the next node; all of that is one wait.
//!
//! It does not measure what is lost when nodes fail, how long a new node takes to catch up with much data, or
//! networks.

use std::collections::BTreeMap;

mod action;
mod arguments;
mod cluster;
mod etcd;
mod figures;
mod floor;
mod goals;
mod paxos;
mod report;
mod round;
mod waits;
mod writers;

pub use self::arguments::Arguments;
use self::arguments::Server;
use self::figures::Figures;
use self::report::Report;
use super::contender::Contender;
use super::disk::Disk;
use super::failure::Failure;
use super::server::version_of;
use super::until_stopped;

/// Measures all that is asked for, prints the results, and judges them.
///
/// # Errors
///
/// If a server can't be started, ends by itself or refuses a change, if a file can't be written, if the
/// program is interrupted, and with `--check` if a goal is not met.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check()?;
    until_stopped(async { measure(arguments).await?.tell(arguments) })
}

async fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("{}: {error}", arguments.data().display()));
    std::fs::create_dir_all(arguments.data()).map_err(fail)?;
    let directory = tempfile::Builder::new().prefix("members-").tempdir_in(arguments.data()).map_err(fail)?;
    let sync = Disk::look(directory.path())?.sync_time()?;
    let versions = versions(arguments);
    if versions.is_empty() {
        return Err(Failure::new("there is nothing to measure"));
    }
    let (mut figures, mut loads) = (Figures::default(), Vec::new());
    for round in 1..=arguments.rounds {
        for server in versions.keys().copied() {
            eprintln!("round {round} of {}: {}", arguments.rounds, server.name());
            loads.push(load());
            let own = directory.path().join(format!("{round}-{}", server.name()));
            let measured = round::measure(server, arguments, &own).await;
            if let Some(keep) = &arguments.keep {
                keep_logs(&own, keep)?;
            }
            for (action, sample) in measured? {
                figures.samples.entry((action, server)).or_default().push(sample);
            }
            std::fs::remove_dir_all(&own).map_err(fail)?;
        }
    }
    Ok(Report { versions, sync_milliseconds: sync.as_secs_f64() * 1e3, loads, figures })
}

/// The servers that can be run, with their versions.
fn versions(arguments: &Arguments) -> BTreeMap<Server, String> {
    let mut versions = BTreeMap::new();
    for server in arguments.servers() {
        let (program, advice) = match server.contender() {
            Contender::Etcd => (arguments.etcd.clone(), "install Debian's etcd-server, or name it by --etcd"),
            Contender::Bare => (arguments.bare().to_owned(), "cargo builds it with this bench"),
            _ => (arguments.program(), "build it by 'cargo build --release -p paxos-node'"),
        };
        match version_of(&program, advice) {
            Ok(version) => drop(versions.insert(server, version)),
            Err(reason) => eprintln!("{} is left out: {reason}", server.name()),
        }
    }
    versions
}

/// The load of the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Copies what the nodes of a round have logged.
fn keep_logs(from: &std::path::Path, keep: &std::path::Path) -> Result<(), Failure> {
    let copy = || -> std::io::Result<()> {
        let name = from.file_name().unwrap_or_default();
        let to = keep.join(name);
        std::fs::create_dir(&to)?;
        for entry in std::fs::read_dir(from)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "log"))
            {
                std::fs::copy(&path, to.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| Failure::new(format!("--keep {}: {error}", keep.display())))
}
