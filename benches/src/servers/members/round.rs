//! A round: a new cluster of three goes through all actions while clients write.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::clients::{Client, fill};
use super::super::failure::Failure;
use super::super::process::Stolen;
use super::super::row::Row;
use super::action::Action;
use super::arguments::{Arguments, Server};
use super::cluster::{Cluster, Done};
use super::etcd::EtcdCluster;
use super::figures::Sample;
use super::floor;
use super::paxos::PaxosCluster;
use super::waits::Window;
use super::writers::{Noted, Writers};

/// The three founders, one that is added, and one that replaces the leader.
pub(super) const MOST_NODES: usize = 5;
const ADDED: u64 = 4;
const REPLACEMENT: u64 = 5;

/// How long clients write before each window, after they have connected anew.
pub(super) const WARM_UP: Duration = Duration::from_millis(300);
/// How long nothing is done before each action, and the least that is looked at from its beginning on.
pub(super) const WINDOW: Duration = Duration::from_millis(1500);
/// How long is looked at least once the command has ended.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Measures all actions on a new cluster.
pub(super) async fn measure(
    server: Server,
    arguments: &Arguments,
    directory: &Path,
) -> Result<Vec<(Action, Sample)>, Failure> {
    std::fs::create_dir(directory)
        .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))?;
    match server {
        Server::Etcd => {
            let cluster = EtcdCluster::start(arguments, directory.to_owned()).await?;
            Round::begin(cluster, server, arguments).await?.go().await
        }
        Server::PaxosNode | Server::PaxosNodeTcp => {
            let cluster = PaxosCluster::start(server, arguments, directory.to_owned())?;
            Round::begin(cluster, server, arguments).await?.go().await
        }
        Server::Bare => floor::measure(arguments, directory).await,
    }
}

struct Round<C> {
    writers: Writers,
    cluster: C,
    server: Server,
}

impl<C: Cluster> Round<C> {
    async fn begin(mut cluster: C, server: Server, arguments: &Arguments) -> Result<Round<C>, Failure> {
        let leader = cluster.settle().await?;
        let address = cluster.nodes().get(&leader).map(|node| node.clients);
        let address = address.ok_or_else(|| Failure::new("the leader is none of the nodes"))?;
        let row = Row::SetMany;
        fill(Client::open_all(server.contender(), address, row, row.clients()).await?, row).await?;
        let writers = Writers::start(server, arguments, cluster.clients_without(None))?;
        Ok(Round { writers, cluster, server })
    }

    async fn go(mut self) -> Result<Vec<(Action, Sample)>, Failure> {
        let mut samples = Vec::new();
        for action in Action::ALL {
            let sample = self.measure(action).await.map_err(|failure| {
                Failure::new(format!("{}, {}: {failure}", self.server.name(), action.name()))
            })?;
            eprintln!("  {:<24}{}", action.name(), sample.line());
            samples.push((action, sample));
        }
        self.cluster.check()?;
        Ok(samples)
    }

    async fn measure(&mut self, action: Action) -> Result<Sample, Failure> {
        let leader = self.cluster.settle().await?;
        let follower = *self
            .cluster
            .nodes()
            .keys()
            .find(|node| **node != leader)
            .ok_or_else(|| Failure::new("there is only one node"))?;
        let leaves = match action {
            _ if action.ends_leader() => Some(leader),
            Action::RemoveFollower => Some(follower),
            // It is not a voter yet, and etcd's learners take no clients.
            Action::Promote => Some(ADDED),
            _ => None,
        };
        self.writers.write_through(self.cluster.clients_without(leaves));
        sleep(WARM_UP).await;
        let stolen = Stolen::until_now();
        let quiet = floor::watch(&self.writers).await?;
        self.writers.forget();
        let (done, ended) = self.carry_out(action, leader, follower).await?;
        let window = Window { began: done.began, ended };
        let noted = self.writers.take(window).await?;
        let stolen = Stolen::until_now().part_since(stolen);
        self.clear_away(action, leader, follower)?;
        Ok(sample(&quiet, &noted, (action != Action::Nothing).then_some(done), stolen))
    }

    /// Does it, and returns when the time ends that belongs to it.
    async fn carry_out(
        &mut self,
        action: Action,
        leader: u64,
        follower: u64,
    ) -> Result<(Done, Instant), Failure> {
        let done = match action {
            Action::Nothing => Done::since(Instant::now()),
            Action::Add => self.cluster.add(ADDED).await?,
            Action::Promote => self.cluster.promote(ADDED).await?,
            Action::RemoveFollower => self.cluster.remove(follower).await?,
            Action::Transfer => self.cluster.transfer(follower).await?,
            Action::ReplaceLeader => self.cluster.replace(leader, REPLACEMENT).await?,
            Action::TerminateLeader => self.cluster.terminate(leader).await?,
            Action::RemoveLeader => self.cluster.remove(leader).await?,
        };
        let ended = (done.began + WINDOW).max(Instant::now() + AFTERMATH);
        sleep(ended.saturating_duration_since(Instant::now())).await;
        Ok((done, ended))
    }

    /// Ends nodes that were removed, and starts the one that was told to end.
    fn clear_away(&mut self, action: Action, leader: u64, follower: u64) -> Result<(), Failure> {
        match action {
            Action::RemoveFollower => drop(self.cluster.nodes_mut().remove(&follower)),
            Action::ReplaceLeader | Action::RemoveLeader => drop(self.cluster.nodes_mut().remove(&leader)),
            Action::TerminateLeader => {
                drop(self.cluster.nodes_mut().remove(&leader));
                self.cluster.start_again(leader)?;
            }
            Action::Nothing | Action::Add | Action::Promote | Action::Transfer => {}
        }
        Ok(())
    }
}

pub(super) fn sample(quiet: &Noted, noted: &Noted, done: Option<Done>, stolen: f64) -> Sample {
    Sample {
        longest: noted.longest.time(),
        longest_at: done.map(|done| noted.longest.asked.saturating_duration_since(done.began)),
        quiet: quiet.longest.time(),
        command: done.map(|done| done.command),
        answers: noted.answers,
        errors: noted.errors,
        first_error: noted.first_error.clone(),
        stolen,
    }
}
