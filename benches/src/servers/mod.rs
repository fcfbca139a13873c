//! Whole servers under the same load: three nodes of paxos-node, three of etcd, Redis that syncs every write, alone
//! and with two copies, and three bare processes that show what the machine allows.
//!
//! All keep their data in one directory of a real file system and are reached over 127.0.0.1. Their clients are one
//! thread of this process, in closed loops, and ask the leader alone. All servers are started first; from then on
//! each is paused by SIGSTOP while another is measured. Every round measures every row on every server, so that what
//! disturbs the machine disturbs all alike; what is told is the median over the rounds, and ratios of medians.
//!
//! Whatever was started is killed at the end, also if that is a panic, SIGINT or SIGTERM.
//!
//! It does not measure what happens when nodes fail, nor more data than fits into memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

mod bare;
mod disk;
mod etcd;
mod figures;
mod goals;
mod grpc;
mod load;
mod options;
mod paxos_node;
mod process;
mod redis;
mod report;
mod resp;
mod server;

pub use self::bare::Role;
use self::disk::Disk;
use self::figures::Figures;
use self::load::{Plan, VALUE_BYTES, Work};
pub use self::options::Options;
use self::report::Report;
use self::server::{Sample, Server, version};

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(700);
/// Over how many connections etcd's clients are spread, to find out what it does best with.
const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// How long each of them is tried in each row.
const TRIAL: Duration = Duration::from_secs(1);

/// Measures all that is asked for, prints it, and judges it.
///
/// # Errors
///
/// If a server can't be started or ends by itself, if a file can't be written, and if the program is interrupted.
pub fn run(options: &Options) -> Result<(), Failure> {
    options.check()?;
    let fail = |error: std::io::Error| Failure::new(format!("the clients can't be run: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(fail)?;
        tokio::select! {
            report = measure(options) => report?.tell(options),
            () = stop => Err(Failure::new("interrupted; all servers are stopped")),
        }
    })
}

/// Why a run has ended early.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Contender {
    PaxosNode,
    Etcd,
    Redis,
    /// One that two others copy, without its waiting for them.
    #[value(name = "redis-x3")]
    #[serde(rename = "redis-x3")]
    RedisWithCopies,
    /// No server, but the least that one of three can do.
    Bare,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::PaxosNode => "paxos-node",
            Contender::Etcd => "etcd",
            Contender::Redis => "redis",
            Contender::RedisWithCopies => "redis-x3",
            Contender::Bare => "bare",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Row {
    SetLone,
    SetMany,
    SetPipelined,
    GetMany,
    GetPipelined,
}

impl Row {
    const ALL: [Row; 5] = [Row::SetLone, Row::SetMany, Row::SetPipelined, Row::GetMany, Row::GetPipelined];

    fn name(self) -> &'static str {
        match self {
            Row::SetLone => "SET, 1 client",
            Row::SetMany => "SET, 64 clients",
            Row::SetPipelined => "SET, 64 clients, 16 at once",
            Row::GetMany => "GET, 64 clients",
            Row::GetPipelined => "GET, 64 clients, 16 at once",
        }
    }

    fn work(self) -> Work {
        match self {
            Row::SetLone | Row::SetMany | Row::SetPipelined => Work::Set,
            Row::GetMany | Row::GetPipelined => Work::Get,
        }
    }

    fn clients(self) -> usize {
        if self == Row::SetLone { 1 } else { 64 }
    }

    /// How many requests a client sends before it waits for their answers.
    fn pipeline(self) -> usize {
        if matches!(self, Row::SetPipelined | Row::GetPipelined) { 16 } else { 1 }
    }
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("{}: {error}", options.data().display()));
    std::fs::create_dir_all(options.data()).map_err(fail)?;
    let directory = tempfile::Builder::new().prefix("servers-").tempdir_in(options.data()).map_err(fail)?;
    let mut disk = Disk::look(directory.path())?;
    let mut versions = BTreeMap::new();
    let mut servers = Vec::new();
    for contender in options.contenders() {
        match version(contender, options) {
            Ok(version) => {
                eprintln!("starting {} ({version})", contender.name());
                servers.push(Server::start(contender, options, directory.path()).await?);
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
    let plan = Plan { warm_up: WARM_UP, time: options.time() };
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        for row in Row::ALL {
            figures.syncs.push(disk.sync_time()?);
            for server in &mut servers {
                let sample = server.measure(row, connections.get(&row).copied().unwrap_or(1), plan).await?;
                announce(&format!("round {round} of {}", options.rounds), server.contender, row, &sample);
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
