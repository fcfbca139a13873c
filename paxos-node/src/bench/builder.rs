//! What to measure.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use paxos_storage::Storage;
use paxos_transport::Transport;

use super::case::{Case, Protocol, Work};
use super::error::Error;
use super::load::Plan;
use super::report::{Place, Report};
use super::run::Run;
use super::target::Subject;
use crate::in_process::{
    BoxError, Network, Setup, Site, StorageFactory, StorageKind, Threads, TransportFactory, TransportKind,
};

/// More clients than this would measure the machine's memory.
const MAX_CLIENTS: usize = 65_536;
/// The longest value that a node takes by default.
const MAX_VALUE_BYTES: usize = 1 << 20;
const MAX_PIPELINE: usize = 1024;
const MAX_NODES: usize = 9;
const MAX_ROUNDS: usize = 1000;

/// What to measure: every combination of everything that is named here.
///
/// New ones measure all our transports and storages that are compiled in, with values of 16 bytes to 64 KiB
/// and 1 to 256 clients: some minutes.
#[derive(Clone, Debug)]
#[must_use = "nothing is measured until it is run"]
pub struct Bench {
    running: Vec<String>,
    transports: Vec<TransportFactory>,
    storages: Vec<StorageFactory>,
    networks: Vec<Option<Network>>,
    protocols: Vec<Protocol>,
    works: Vec<Work>,
    value_bytes: Vec<usize>,
    clients: Vec<usize>,
    pipelines: Vec<usize>,
    pub(super) nodes: u64,
    pub(super) threads: Threads,
    pub(super) plan: Plan,
    pub(super) rounds: usize,
    pub(super) seed: u64,
    pub(super) data: Option<PathBuf>,
    pub(super) command: String,
}

impl Default for Bench {
    fn default() -> Self {
        Bench::new()
    }
}

impl Bench {
    /// All that comes with the workspace and is compiled in.
    pub fn new() -> Bench {
        Bench {
            running: Vec::new(),
            transports: TransportKind::COMPILED.iter().map(|&kind| kind.into()).collect(),
            storages: StorageKind::COMPILED.iter().map(|&kind| kind.into()).collect(),
            networks: vec![None],
            protocols: vec![Protocol::FastPath],
            works: vec![Work::Set],
            value_bytes: vec![16, 256, 4096, 65536],
            clients: vec![1, 64, 256],
            pipelines: vec![1],
            nodes: 3,
            threads: Threads::PerNode,
            plan: Plan { warm_up: Duration::from_millis(500), time: Duration::from_secs(2) },
            rounds: 1,
            seed: 1,
            data: None,
            command: String::new(),
        }
    }

    /// A cluster that runs elsewhere, by the addresses on which its nodes serve Redis clients.
    pub fn of_running(addresses: impl IntoIterator<Item = String>) -> Bench {
        Bench { running: addresses.into_iter().collect(), ..Bench::new() }
    }

    /// Only these transports, in place of all of ours.
    pub fn transports(mut self, transports: impl IntoIterator<Item = impl Into<TransportFactory>>) -> Bench {
        self.transports = transports.into_iter().map(Into::into).collect();
        self
    }

    /// One more transport, by its name and what binds it for a node: see [`TransportFactory::new`].
    pub fn transport<T, B>(
        self,
        name: impl Into<Arc<str>>,
        bind: impl Fn(Site) -> B + Send + Sync + 'static,
    ) -> Bench
    where
        T: Transport + 'static,
        B: Future<Output = Result<T, BoxError>> + 'static,
    {
        self.with_transport(TransportFactory::new(name, bind))
    }

    /// One more transport.
    pub fn with_transport(mut self, factory: TransportFactory) -> Bench {
        self.transports.push(factory);
        self
    }

    /// Only these storages, in place of all of ours.
    pub fn storages(mut self, storages: impl IntoIterator<Item = impl Into<StorageFactory>>) -> Bench {
        self.storages = storages.into_iter().map(Into::into).collect();
        self
    }

    /// One more storage, by its name and what opens a new one for a node: see [`StorageFactory::new`].
    pub fn storage<S: Storage + 'static>(
        self,
        name: impl Into<Arc<str>>,
        open: impl Fn(&Site) -> Result<S, BoxError> + Send + Sync + 'static,
    ) -> Bench {
        self.with_storage(StorageFactory::new(name, open))
    }

    /// One more storage.
    pub fn with_storage(mut self, factory: StorageFactory) -> Bench {
        self.storages.push(factory);
        self
    }

    /// The networks between the nodes of a cluster in this process: emulated ones, or `None` for this
    /// machine's own, on which nodes are no distance apart.
    pub fn networks(mut self, networks: impl IntoIterator<Item = Option<Network>>) -> Bench {
        self.networks = networks.into_iter().collect();
        self
    }

    /// The settings of the protocol.
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Bench {
        self.protocols = protocols.into_iter().collect();
        self
    }

    /// What clients ask for.
    pub fn works(mut self, works: impl IntoIterator<Item = Work>) -> Bench {
        self.works = works.into_iter().collect();
        self
    }

    /// How long values are: up to 1 MiB.
    pub fn value_bytes(mut self, lengths: impl IntoIterator<Item = usize>) -> Bench {
        self.value_bytes = lengths.into_iter().collect();
        self
    }

    /// How many clients there are: up to 65 536.
    pub fn clients(mut self, counts: impl IntoIterator<Item = usize>) -> Bench {
        self.clients = counts.into_iter().collect();
        self
    }

    /// How many requests a client of a running cluster sends before it waits for the answers: up to 1 024.
    pub fn pipelines(mut self, counts: impl IntoIterator<Item = usize>) -> Bench {
        self.pipelines = counts.into_iter().collect();
        self
    }

    /// How many nodes a cluster in this process has: up to 9; 3 unless this is called.
    pub fn nodes(mut self, count: u64) -> Bench {
        self.nodes = count;
        self
    }

    /// Which threads nodes run on; each has one of its own unless this is called.
    pub fn threads(mut self, threads: Threads) -> Bench {
        self.threads = threads;
        self
    }

    /// How long each case is measured; 2 s unless this is called.
    pub fn time(mut self, time: Duration) -> Bench {
        self.plan.time = time;
        self
    }

    /// How long the load runs before that; 0.5 s unless this is called.
    pub fn warm_up(mut self, time: Duration) -> Bench {
        self.plan.warm_up = time;
        self
    }

    /// How often everything is measured, up to 1 000 times; the round with the median rate is reported.
    pub fn rounds(mut self, count: usize) -> Bench {
        self.rounds = count;
        self
    }

    /// The seed of the random keys, and of what emulated networks do.
    pub fn seed(mut self, seed: u64) -> Bench {
        self.seed = seed;
        self
    }

    /// Where clusters keep their logs while they run; the system's directory for temporary files, which may
    /// be in memory, unless this is called.
    pub fn data(mut self, directory: PathBuf) -> Bench {
        self.data = Some(directory);
        self
    }

    /// The command that repeats the run, to be shown in reports.
    pub fn command(mut self, command: impl Into<String>) -> Bench {
        self.command = command.into();
        self
    }

    /// Measures everything, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error`]; what was measured until then is lost. [`Bench::prepare`] gives a run that keeps it.
    ///
    /// # Panics
    ///
    /// In a task of a tokio runtime, where nothing may block.
    pub fn run(self) -> Result<Report, Error> {
        let mut run = self.prepare()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Error::Thread)?.block_on(run.measure(&mut |_| {}))?;
        Ok(run.into_report())
    }

    /// A run that has not begun.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::NoTime`], [`Error::Nothing`], [`Error::SameName`],
    /// [`Error::PipelineInProcess`], [`Error::ThroughLogOfRunning`].
    pub fn prepare(self) -> Result<Run, Error> {
        self.check()?;
        Ok(Run::new(self))
    }

    fn check(&self) -> Result<(), Error> {
        let nodes = [usize::try_from(self.nodes).unwrap_or(usize::MAX)];
        for (what, given, least, most) in [
            ("clients", &self.clients[..], 1, MAX_CLIENTS),
            ("value-bytes", &self.value_bytes[..], 0, MAX_VALUE_BYTES),
            ("pipeline", &self.pipelines[..], 1, MAX_PIPELINE),
            ("nodes", &nodes[..], 1, MAX_NODES),
            ("rounds", &[self.rounds][..], 1, MAX_ROUNDS),
        ] {
            if given.is_empty() {
                return Err(Error::Nothing { what });
            }
            if let Some(&given) = given.iter().find(|given| !(least..=most).contains(*given)) {
                return Err(Error::OutOfRange { what, given, least, most });
            }
        }
        let is_empty = [
            ("transport", self.transports.is_empty()),
            ("storage", self.storages.is_empty()),
            ("network", self.networks.is_empty()),
            ("protocol", self.protocols.is_empty()),
            ("work", self.works.is_empty()),
        ];
        if let Some((what, _)) = is_empty.into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(Error::Nothing { what });
        }
        let transports = self.transports.iter().map(TransportFactory::name).collect();
        let storages = self.storages.iter().map(StorageFactory::name).collect();
        for (what, names) in [("transport", transports), ("storage", storages)] {
            if let Some(name) = twice(names) {
                return Err(Error::SameName { what, name: name.to_owned() });
            }
        }
        if self.running.is_empty() && self.pipelines != [1] {
            return Err(Error::PipelineInProcess);
        }
        if self.plan.time.is_zero() {
            return Err(Error::NoTime);
        }
        if !self.running.is_empty() && self.works.contains(&Work::GetThroughLog) {
            return Err(Error::ThroughLogOfRunning);
        }
        Ok(())
    }

    /// The clusters to measure.
    pub(super) fn subjects(&self) -> Vec<(Place, Subject)> {
        if !self.running.is_empty() {
            let place = Place::Running { addresses: self.running.clone() };
            return vec![(place, Subject::Running(self.running.clone()))];
        }
        let mut subjects = Vec::new();
        for network in &self.networks {
            for transport in &self.transports {
                for storage in &self.storages {
                    for &protocol in &self.protocols {
                        let setup = Setup::new(transport.clone(), storage.clone()).with(|setup| {
                            setup.nodes = self.nodes;
                            setup.threads = self.threads;
                            setup.protocol = protocol.settings();
                            setup.network.clone_from(network);
                            setup.network_seed = self.seed;
                            setup.data.clone_from(&self.data);
                        });
                        let place = Place::in_process(&setup, protocol);
                        subjects.push((place, Subject::InProcess(Box::new(setup))));
                    }
                }
            }
        }
        subjects
    }

    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &work in &self.works {
            for &value_bytes in &self.value_bytes {
                for &clients in &self.clients {
                    for &pipeline in &self.pipelines {
                        cases.push(Case { work, value_bytes, clients, pipeline });
                    }
                }
            }
        }
        cases
    }
}

/// A name that is there more than once.
fn twice(mut names: Vec<&str>) -> Option<&str> {
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
