//! Whole servers under the same load: three nodes of paxos-node, three of etcd, Redis that syncs every write,
//! alone and with two copies, and three bare processes that show what the machine allows, without and with
//! QUIC and a table of keys.
//!
//! All keep their data in one directory on a disk and are reached over 127.0.0.1. Their clients are tasks on
//! one thread of this process, in closed loops, and ask the leader alone. All servers are started first; from
//! then on each is paused by SIGSTOP while another is measured. Every round measures every row on every
//! server, so that other load on the machine affects all servers alike. The reports have medians over the
//! rounds, and ratios of medians.
//!
//! All processes are killed at the end, also after a panic, SIGINT or SIGTERM.
//!
//! It does not measure what happens when nodes fail, nor more data than fits into memory.

use std::collections::BTreeMap;
use std::time::Duration;

use paxos_node::bench::load::Plan;

mod arguments;
mod bare;
mod catch_up;
mod clients;
mod contender;
mod disk;
mod etcd;
mod failure;
mod figures;
mod filling;
mod goals;
mod grpc;
mod long_link;
pub mod members;
mod memory;
mod node;
mod paxos;
mod process;
mod redis;
mod report;
mod resp;
mod restart;
mod row;
mod server;
mod shared_arguments;
mod tail;
mod work;

pub use self::arguments::Arguments;
pub use self::bare::Role;
pub use self::catch_up::{CatchUpArguments, run as run_catch_up};
use self::contender::Contender;
use self::disk::Disk;
pub use self::failure::Failure;
use self::figures::Figures;
pub use self::memory::{MemoryArguments, run as run_memory};
use self::report::Report;
pub use self::restart::{RestartArguments, run as run_restart};
use self::row::Row;
use self::server::{Sample, Server, version};
use self::work::VALUE_BYTES;

/// How long clients ask before each measurement.
const WARM_UP: Duration = Duration::from_millis(700);
/// The numbers of connections that etcd's clients try, to find the one with the highest rate.
const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// How long each of these numbers is tried in each row.
const TRIAL: Duration = Duration::from_secs(1);

/// Measures all that is asked for, prints the results, and judges them.
///
/// # Errors
///
/// If a server can't be started or ends by itself, if a file can't be written, and if the program is
/// interrupted.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check()?;
    until_stopped(async {
        if arguments.tail {
            return tail::run(arguments, directory(arguments)?.path()).await;
        }
        measure(arguments).await?.tell(arguments)
    })
}

/// A directory for all data, which is removed at the end.
fn directory(arguments: &Arguments) -> Result<tempfile::TempDir, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("{}: {error}", arguments.data().display()));
    std::fs::create_dir_all(arguments.data()).map_err(fail)?;
    tempfile::Builder::new().prefix("servers-").tempdir_in(arguments.data()).map_err(fail)
}

/// Runs this on one thread, until it is done or the program is asked to stop.
fn until_stopped<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("the clients can't be run: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(fail)?;
        tokio::select! {
            result = work => result,
            () = stop => Err(Failure::new("interrupted; all servers are stopped")),
        }
    })
}

async fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let directory = directory(arguments)?;
    let mut disk = Disk::look(directory.path())?;
    let mut versions = BTreeMap::new();
    let mut servers = Vec::new();
    for contender in arguments.contenders() {
        match version(contender, arguments) {
            Ok(version) => {
                eprintln!("starting {} ({version})", contender.name());
                servers.push(Server::start(contender, arguments, directory.path()).await?);
                versions.insert(contender, version);
            }
            Err(reason) => eprintln!("{} is left out: {reason}", contender.name()),
        }
    }
    if servers.is_empty() {
        return Err(Failure::new("there is nothing to measure"));
    }
    let mut connections = BTreeMap::new();
    if let Some(etcd) = servers.iter_mut().find(|server| server.contender == Contender::Etcd) {
        for row in Row::ALL {
            connections.insert(row, best_connections(etcd, row).await?);
        }
    }
    let plan = Plan { warm_up: WARM_UP, time: arguments.time() };
    let mut figures = Figures::default();
    for round in 1..=arguments.rounds {
        for row in Row::ALL {
            figures.syncs.push(disk.sync_time()?);
            for server in servers.iter_mut().filter(|server| row.suits(server.contender)) {
                let sample = server.measure(row, connections.get(&row).copied().unwrap_or(1), plan).await?;
                announce(&format!("round {round} of {}", arguments.rounds), server.contender, row, &sample);
                figures.samples.entry((row, server.contender)).or_default().push(sample);
            }
        }
    }
    Ok(Report { versions, connections, figures })
}

/// The number of connections with which etcd serves most requests.
async fn best_connections(etcd: &mut Server, row: Row) -> Result<usize, Failure> {
    let plan = Plan { warm_up: WARM_UP, time: TRIAL };
    let mut best = (1, 0);
    for connections in CONNECTIONS.into_iter().filter(|count| *count <= row.clients()) {
        let sample = etcd.measure(row, connections, plan).await?;
        announce(&format!("trying {connections} connections"), Contender::Etcd, row, &sample);
        if sample.measured.requests > best.1 {
            best = (connections, sample.measured.requests);
        }
    }
    Ok(best.0)
}

fn announce(occasion: &str, contender: Contender, row: Row, sample: &Sample) {
    eprintln!(
        "{occasion}: {:<11} {VALUE_BYTES} bytes, {:<28} {:>8.0}/s",
        contender.name(),
        row.name(),
        sample.measured.rate()
    );
}

/// Resolves when the program is asked to stop.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
