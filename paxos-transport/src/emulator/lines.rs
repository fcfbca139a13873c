//! The state of all links, which everything between the same two nodes shares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use paxos_core::NodeId;
use tokio::sync::{Notify, Semaphore};

use super::link::{Link, LinkState, Probability};
use super::network::Network;
use crate::lock::lock;

/// How many bytes of datagrams may be under way on one link; further ones count as dropped by a queue. Enough
/// for 1 Gbit/s over half a second.
const MAX_DATAGRAM_BYTES_UNDER_WAY: usize = 64 << 20;

/// A link from one node to another at work.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<LinkState>,
    /// The settings were changed.
    changed: Notify,
    /// The rest of [`MAX_DATAGRAM_BYTES_UNDER_WAY`].
    pub(super) datagram_room: Arc<Semaphore>,
}

impl Line {
    pub(super) fn state(&self) -> MutexGuard<'_, LinkState> {
        lock(&self.state)
    }

    pub(super) fn delay(&self) -> Duration {
        self.state().link().delay
    }

    pub(super) fn set(&self, link: Link) {
        self.state().set(link);
        self.changed.notify_waiters();
    }

    /// Waits while the link loses everything.
    pub(super) async fn wait_while_cut(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().link().loss < Probability::ONE {
                return;
            }
            changed.await;
        }
    }
}

/// The links between all nodes at work, each from when it is first used.
#[derive(Debug)]
pub(super) struct Lines {
    network: Network,
    seed: u64,
    in_use: Mutex<BTreeMap<(NodeId, NodeId), Arc<Line>>>,
}

impl Lines {
    pub(super) fn new(network: Network, seed: u64) -> Lines {
        Lines { network, seed, in_use: Mutex::default() }
    }

    pub(super) fn line(&self, from: NodeId, to: NodeId) -> Arc<Line> {
        let mut in_use = lock(&self.in_use);
        let new = || {
            let state = LinkState::new(self.network.link(from, to).clone(), self.seed_of(from, to));
            Arc::new(Line {
                state: Mutex::new(state),
                changed: Notify::new(),
                datagram_room: Arc::new(Semaphore::new(MAX_DATAGRAM_BYTES_UNDER_WAY)),
            })
        };
        Arc::clone(in_use.entry((from, to)).or_insert_with(new))
    }

    /// A seed for each link, which does not depend on the order in which links are first used.
    fn seed_of(&self, from: NodeId, to: NodeId) -> u64 {
        [from.0, to.0].into_iter().fold(self.seed, |seed, id| fastrand::Rng::with_seed(seed ^ id).u64(..))
    }
}
