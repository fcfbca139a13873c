//! The command line of `paxos-node bench`.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use paxos_node::in_process::{Cluster, Setup, StorageKind, Threads, TransportKind};
use paxos_node::kv::Store;

use super::case::{Case, Protocol, Work};
use super::machine::Machine;
use super::report::{Place, Report};
use super::target::Target;
use crate::cli::Failure;
use crate::cli::choice::one_of;
use crate::cli::options::Period;
use paxos_node::load::Plan;

/// More clients than this would measure the machine's memory.
const MAX_CLIENTS: usize = 65_536;
/// The longest value that a node takes by default.
const MAX_VALUE_BYTES: usize = 1 << 20;
const MAX_PIPELINE: usize = 1024;

const EXAMPLES: &str = "\
Examples:
  paxos-node bench                                       all backends, four sizes, three numbers of clients: about 5 minutes
  paxos-node bench --transport quic,tcp --storage file --clients 64 --value-bytes 256 --rounds 5
  paxos-node bench --protocol fast-path,full-rounds --transport memory --storage file --clients 1 --value-bytes 256
  paxos-node bench --work set,get --html report.html     a page with charts, to open in a browser
  paxos-node bench --cluster 127.0.0.1:7001 --pipeline 16 --json report.json

Clusters in this process use the library without its front for Redis clients; clients ask the leader, on its thread.
Compare figures of one run only, and take several rounds if other programs use the machine.";

/// Compare transports and storages in this process, or measure a running cluster.
///
/// Measures every combination of the options. Each client sends its next request as soon as the last is
/// answered.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Measure this running cluster, given by the addresses on which its nodes serve Redis clients. Naming
    /// only the leader saves a hop; `paxos-node status` shows which node that is.
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["transport", "storage", "protocol", "threads", "nodes", "data"])]
    cluster: Vec<String>,
    /// What carries messages between nodes [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = one_of(TransportKind::ALL, TransportKind::name))]
    transport: Vec<TransportKind>,
    /// Where nodes keep their logs [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = one_of(StorageKind::ALL, StorageKind::name))]
    storage: Vec<StorageKind>,
    /// Settings of the protocol.
    #[arg(long, value_name = "SETTING,..", value_delimiter = ',', default_value = "fast-path")]
    protocol: Vec<Protocol>,
    /// The requests of the clients.
    #[arg(long, value_name = "WORK,..", value_delimiter = ',', default_value = "set")]
    work: Vec<Work>,
    /// How long values are.
    #[arg(long, value_name = "BYTES,..", value_delimiter = ',', default_value = "16,256,4096,65536")]
    value_bytes: Vec<usize>,
    /// How many clients there are.
    #[arg(long, value_name = "COUNT,..", value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
    /// How many requests a client of a running cluster sends before it waits for the answers.
    #[arg(long, value_name = "COUNT,..", value_delimiter = ',', default_value = "1", requires = "cluster")]
    pipeline: Vec<usize>,
    /// How many nodes a cluster in this process has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// Which threads the nodes run on.
    #[arg(long, value_name = "WHICH", default_value = "per-node", value_parser = one_of(Threads::ALL, Threads::name))]
    pub(super) threads: Threads,
    /// How long each case is measured.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    time: Period,
    /// How long the load runs before that.
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    warm_up: Period,
    /// How many times everything is measured; the round with the median rate is reported.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) rounds: u16,
    /// The seed of the random keys.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where clusters in this process keep their logs while they run [default: the system's temporary
    /// directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write a report for programs.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a report as a page with charts, all in one file.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write the charts into this directory, each as an SVG file.
    #[arg(long, value_name = "DIR")]
    pub(super) charts: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn check(&self) -> Result<Plan, Failure> {
        let within = |option: &str, values: &[usize], range: std::ops::RangeInclusive<usize>| match values
            .iter()
            .find(|value| !range.contains(value))
        {
            Some(value) => Err(Failure::usage(format!(
                "--{option} {value}: must be in {}..={}",
                range.start(),
                range.end()
            ))),
            None => Ok(()),
        };
        within("clients", &self.clients, 1..=MAX_CLIENTS)?;
        within("value-bytes", &self.value_bytes, 0..=MAX_VALUE_BYTES)?;
        within("pipeline", &self.pipeline, 1..=MAX_PIPELINE)?;
        if self.time.0.is_zero() {
            return Err(Failure::usage("--time must be longer than 0"));
        }
        if !self.cluster.is_empty() && self.work.contains(&Work::GetThroughLog) {
            return Err(Failure::usage(
                "--work get-through-log is for clusters in this process: leave out --cluster",
            ));
        }
        self.check_files()?;
        Ok(Plan { warm_up: self.warm_up.0, time: self.time.0 })
    }

    /// Checks that all reports can be written before minutes are spent on measuring.
    fn check_files(&self) -> Result<(), Failure> {
        if let Some(data) = self.data.as_ref().filter(|data| !data.is_dir()) {
            return Err(Failure::usage(format!("--data {}: there is no such directory", data.display())));
        }
        for (option, file) in [("json", &self.json), ("html", &self.html)] {
            let Some(file) = file else { continue };
            let opened = OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(|error| Failure::usage(format!("--{option} {}: {error}", file.display())))?;
        }
        if let Some(charts) = &self.charts {
            let made = std::fs::create_dir_all(charts);
            made.map_err(|error| Failure::usage(format!("--charts {}: {error}", charts.display())))?;
        }
        Ok(())
    }

    pub(super) fn places(&self) -> Vec<Place> {
        if !self.cluster.is_empty() {
            return vec![Place::Running { addresses: self.cluster.clone() }];
        }
        let or_all = |given: &[_], all: &[_]| if given.is_empty() { all.to_vec() } else { given.to_vec() };
        let transports = or_all(&self.transport, TransportKind::COMPILED);
        let storages = if self.storage.is_empty() { StorageKind::COMPILED } else { &self.storage };
        let mut places = Vec::new();
        for transport in transports {
            for &storage in storages {
                for &protocol in &self.protocol {
                    places.push(Place::InProcess { transport, storage, protocol, threads: self.threads });
                }
            }
        }
        places
    }

    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &work in &self.work {
            for &value_bytes in &self.value_bytes {
                for &clients in &self.clients {
                    for &pipeline in &self.pipeline {
                        cases.push(Case { work, value_bytes, clients, pipeline });
                    }
                }
            }
        }
        cases
    }

    pub(super) fn start(&self, place: &Place) -> Result<Target, Failure> {
        match place {
            Place::InProcess { transport, storage, protocol, threads } => {
                let setup = Setup {
                    nodes: self.nodes,
                    threads: *threads,
                    protocol: protocol.settings(),
                    data: self.data.clone(),
                    ..Setup::new(*transport, *storage)
                };
                Ok(Target::InProcess(Cluster::start(&setup, Store::default)?))
            }
            Place::Running { addresses } => Ok(Target::Running(addresses.clone())),
        }
    }

    pub(super) fn report(&self, places: &[Place], plan: Plan) -> Report {
        let uses = |kind: TransportKind| {
            places
                .iter()
                .any(|place| matches!(place, Place::InProcess { transport, .. } if *transport == kind))
        };
        let writes =
            places.iter().any(|place| matches!(place, Place::InProcess { storage: StorageKind::File, .. }));
        let logs = self.data.clone().unwrap_or_else(std::env::temp_dir);
        let command: Vec<String> = std::env::args().skip(1).collect();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            command: format!("paxos-node {}", command.join(" ")),
            started_unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            machine: Machine::look(writes.then_some(logs.as_path()), uses(TransportKind::Quic)),
            nodes: self.cluster.is_empty().then_some(self.nodes),
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            time_seconds: plan.time.as_secs_f64(),
            rounds: usize::from(self.rounds),
            rows: Vec::new(),
        }
    }
}
