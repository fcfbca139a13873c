//! A cluster whose members change, whatever server it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::failure::Failure;
use super::super::node::Node;

/// How long a cluster may take until all its nodes know the same leader, and until a node has ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// They have to agree for this long.
const SETTLE: Duration = Duration::from_millis(500);
const POLL_PAUSE: Duration = Duration::from_millis(20);
const END_POLL_PAUSE: Duration = Duration::from_millis(1);

/// The nodes of a cluster that run, by their numbers, which begin with 1.
pub(super) type Nodes = BTreeMap<u64, Node>;

/// When something was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// When anything was begun for it, such as to start a new node.
    pub(super) began: Instant,
    /// How long the command took that the operator waits for.
    pub(super) command: Duration,
}

impl Done {
    /// All of it since then was the command.
    pub(super) fn since(began: Instant) -> Done {
        Done { began, command: began.elapsed() }
    }
}

/// A cluster that operators change. Each change returns when it is in force.
pub(super) trait Cluster {
    fn nodes(&self) -> &Nodes;

    fn nodes_mut(&mut self) -> &mut Nodes;

    /// The leader, if all nodes know the same one.
    async fn leader(&self) -> Option<u64>;

    /// Starts a new node and makes it a learner.
    async fn add(&mut self, new: u64) -> Result<Done, Failure>;

    async fn promote(&mut self, node: u64) -> Result<Done, Failure>;

    async fn remove(&mut self, node: u64) -> Result<Done, Failure>;

    async fn transfer(&mut self, to: u64) -> Result<Done, Failure>;

    /// Starts a new node, gives it a vote, and removes the old one.
    async fn replace(&mut self, old: u64, new: u64) -> Result<Done, Failure>;

    /// Starts a node that has ended, on its own directory.
    fn start_again(&mut self, node: u64) -> Result<(), Failure>;

    /// Fails if what was measured does not count.
    fn check(&self) -> Result<(), Failure>;

    /// Asks a node to end, and waits until it has.
    async fn terminate(&mut self, node: u64) -> Result<Done, Failure> {
        let began = Instant::now();
        let process = |nodes: &mut Nodes| nodes.get_mut(&node).map(|node| node.process.has_ended());
        if let Some(node) = self.nodes().get(&node) {
            node.process.terminate()?;
        }
        while process(self.nodes_mut()) == Some(false) {
            if began.elapsed() >= PATIENCE {
                return Err(Failure::new(format!(
                    "node {node} has not ended for {PATIENCE:?} after SIGTERM"
                )));
            }
            sleep(END_POLL_PAUSE).await;
        }
        Ok(Done::since(began))
    }

    /// Waits until all nodes have agreed on a leader for long enough, and returns it.
    async fn settle(&mut self) -> Result<u64, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut known: Option<(u64, Instant)> = None;
        while Instant::now() < deadline {
            self.nodes_mut().values_mut().try_for_each(|node| node.process.check())?;
            known = match (self.leader().await, known) {
                (Some(leader), Some((same, since))) if leader == same => {
                    if since.elapsed() >= SETTLE {
                        return Ok(leader);
                    }
                    known
                }
                (leader, _) => leader.map(|leader| (leader, Instant::now())),
            };
            sleep(POLL_PAUSE).await;
        }
        Err(Failure::new(format!("the nodes do not agree on a leader for {PATIENCE:?}")))
    }

    /// Where all nodes but one take clients.
    fn clients_without(&self, without: Option<u64>) -> Vec<SocketAddr> {
        let stay = self.nodes().iter().filter(|(number, _)| Some(**number) != without);
        stay.map(|(_, node)| node.clients).collect()
    }
}
