//! The cluster that is put under load: one in this process, or one that runs elsewhere.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::NodeId;
use rustix::time::{ClockId, clock_gettime};

use super::case::{Case, Work};
use super::error::Error;
use super::keys::Keys;
use super::load::{Measured, Plan, Requester, drive};
use super::machine::Stolen;
use super::resp::{RespClient, misunderstood};
use crate::client::Client;
use crate::in_process::{Accuracy, Cluster, Counts, Setup};
use crate::kv::{Operation, Store};

/// How long it is tried to have the first node of a cluster lead.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);
const HANDOVER_PAUSE: Duration = Duration::from_millis(20);

/// What is to be measured.
#[derive(Debug)]
pub(super) enum Subject {
    /// A cluster to start in this process.
    InProcess(Box<Setup>),
    /// The client addresses of one that runs.
    Running(Vec<String>),
}

/// The cluster that is put under load.
pub(super) enum Target {
    /// A cluster in this process. Clients ask its leader, on the leader's thread.
    InProcess(Cluster<Store>),
    /// The client addresses of a cluster; clients spread over them evenly.
    Running(Vec<String>),
}

/// The result of measuring a case once.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) measured: Measured,
    /// Processor time of this process: of the clients alone if the cluster runs elsewhere.
    pub(super) cpu: Duration,
    /// The part of all processors' time that the host took away, where the system tells it.
    pub(super) stolen: Option<f64>,
    /// What went through the backends of a cluster in this process.
    pub(super) counts: Option<Counts>,
    /// The node of a cluster in this process that has led from the beginning to the end, if one has.
    pub(super) leader: Option<NodeId>,
}

impl Target {
    /// Starts the subject's cluster, if it does not run already.
    pub(super) async fn start(subject: &Subject) -> Result<Target, Error> {
        match subject {
            Subject::InProcess(setup) => {
                let cluster = Cluster::start(setup, Store::default)?;
                have_first_lead(&cluster).await?;
                Ok(Target::InProcess(cluster))
            }
            Subject::Running(addresses) => Ok(Target::Running(addresses.clone())),
        }
    }

    /// Measures a case.
    pub(super) async fn measure(&self, case: Case, plan: Plan, seed: u64) -> Result<Sample, Error> {
        let mut edges = Vec::with_capacity(2);
        let mut at_edge = || edges.push((cpu_time(), Stolen::until_now(), self.counts()));
        let keys = Keys::new(case.value_bytes);
        let mut leading = None;
        let measured = match self {
            Target::InProcess(cluster) => {
                let leader = cluster.leader()?;
                leading = Some(leader.id);
                let requesters: Vec<_> = (0..case.clients as u64)
                    .map(|client| Caller::new(leader.client.clone(), case.work, keys, seed ^ client))
                    .collect();
                if case.work != Work::Set {
                    fill(&leader.client, keys).await?;
                }
                // Clients run on the leader's thread, which sends a message when measuring begins and ends.
                let (edge, mut reached) = tokio::sync::mpsc::unbounded_channel();
                let at_leader = drive(requesters, plan, move || {
                    let _ = edge.send(()); // It is received as long as the case is measured.
                });
                let task = leader.runtime.spawn(at_leader);
                while reached.recv().await.is_some() {
                    at_edge();
                }
                task.await.map_err(|error| Error::Panicked(error.to_string()))?
            }
            Target::Running(addresses) => {
                let mut requesters = Vec::with_capacity(case.clients);
                for (client, address) in (0..case.clients as u64).zip(addresses.iter().cycle()) {
                    requesters.push(RespClient::open(address, case, keys, seed ^ client).await?);
                }
                if case.work != Work::Set {
                    requesters[0].fill().await.map_err(not_filled)?;
                }
                drive(requesters, plan, &mut at_edge).await
            }
        };
        let [(cpu_before, stolen_before, before), (cpu_after, stolen_after, after)] = edges[..] else {
            unreachable!("a measurement has a beginning and an end");
        };
        let leader = leading.filter(|leading| self.leads(*leading));
        let counts = after.zip(before).map(|(after, before)| after.since(before));
        let stolen = stolen_after.zip(stolen_before).map(|(after, before)| after.part_since(before));
        Ok(Sample { measured, cpu: cpu_after.saturating_sub(cpu_before), stolen, counts, leader })
    }

    /// Stops a cluster in this process. Fails if nodes have received malformed messages, also in a cluster
    /// that runs elsewhere.
    pub(super) async fn finish(self) -> Result<(), Error> {
        match self {
            Target::InProcess(cluster) => Ok(cluster.stop()?),
            Target::Running(addresses) => {
                for address in &addresses {
                    let count = misunderstood(address).await?;
                    if count > 0 {
                        return Err(Error::Misunderstood { address: address.clone(), count });
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether this node of a cluster in this process leads.
    fn leads(&self, node: NodeId) -> bool {
        match self {
            Target::InProcess(cluster) => cluster.leader().is_ok_and(|leader| leader.id == node),
            Target::Running(_) => false,
        }
    }

    /// How exact the emulated network was, if there is one.
    pub(super) fn accuracy(&self) -> Option<Accuracy> {
        match self {
            Target::InProcess(cluster) => cluster.accuracy(),
            Target::Running(_) => None,
        }
    }

    fn counts(&self) -> Option<Counts> {
        match self {
            Target::InProcess(cluster) => Some(cluster.counts()),
            Target::Running(_) => None,
        }
    }
}

/// Has the first node lead, so that all clusters are asked from the same place: at a distance that is part of
/// what a request takes. Where messages get lost it may not come to that; then another one leads.
async fn have_first_lead(cluster: &Cluster<Store>) -> Result<(), Error> {
    let first = cluster.members()[0].id;
    let started = Instant::now();
    while started.elapsed() < HANDOVER_PATIENCE {
        let leader = cluster.leader()?;
        // A quorum that answers a read has heard of no later leader.
        let is_confirmed = leader.client.read().await.is_ok();
        if is_confirmed && leader.id == first && cluster.leader()?.id == first {
            return Ok(());
        }
        if leader.id != first {
            let _ = leader.client.hand_over(Some(first)).await; // It is tried again if it was refused.
        }
        tokio::time::sleep(HANDOVER_PAUSE).await;
    }
    Ok(())
}

async fn fill(client: &Client<Store>, keys: Keys) -> Result<(), Error> {
    for chunk in keys.chunks() {
        let pairs = chunk.into_iter().map(|key| (key, keys.value())).collect();
        client.propose_known(Operation::command(&[Operation::MSet { pairs }])).await.map_err(not_filled)?;
    }
    Ok(())
}

/// A client within the process.
struct Caller {
    client: Client<Store>,
    work: Work,
    keys: Keys,
    value: Bytes,
    random: fastrand::Rng,
}

impl Caller {
    fn new(client: Client<Store>, work: Work, keys: Keys, seed: u64) -> Caller {
        Caller { client, work, keys, value: keys.value(), random: fastrand::Rng::with_seed(seed) }
    }
}

impl Requester for Caller {
    async fn ask(&mut self) -> Result<u64, String> {
        let key = self.keys.draw(&mut self.random);
        let operation = match self.work {
            Work::Set => Operation::set(key, self.value.clone()),
            Work::GetThroughLog => Operation::Get { key },
            Work::Get => {
                let state = self.client.read().await.map_err(text)?;
                std::hint::black_box(state.get(&key));
                return Ok(1);
            }
        };
        self.client.propose_known(Operation::command(&[operation])).await.map_err(text)?;
        Ok(1)
    }
}

fn not_filled(error: impl fmt::Display) -> Error {
    Error::Request { what: String::from("can't set the keys"), error: error.to_string() }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Processor time of this process, all threads together.
fn cpu_time() -> Duration {
    // Both are positive: the clock counts from zero.
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
