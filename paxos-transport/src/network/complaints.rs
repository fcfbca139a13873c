//! Warnings about connections from outside, each logged once in a while.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use paxos_core::NodeId;
use tokio::time::Instant;

use crate::lock::lock;

/// The same complaint is logged at most once in this time.
const INTERVAL: Duration = Duration::from_secs(600);
/// How many different complaints are remembered; beyond that none is logged, so that nobody can fill the log.
const MAX_REMEMBERED: usize = 1000;

/// What was logged of late.
#[derive(Debug)]
pub(crate) struct Complaints {
    node: NodeId,
    logged_at: Mutex<BTreeMap<String, Instant>>,
}

impl Complaints {
    pub(crate) fn new(node: NodeId) -> Complaints {
        Complaints { node, logged_at: Mutex::default() }
    }

    /// Logs a complaint, unless the same one was logged a short while ago.
    pub(crate) fn log(&self, complaint: String) {
        let mut logged_at = lock(&self.logged_at);
        let now = Instant::now();
        logged_at.retain(|_, since| now < *since + INTERVAL);
        if logged_at.len() < MAX_REMEMBERED && !logged_at.contains_key(&complaint) {
            tracing::warn!(node = self.node.0, "{complaint}");
            logged_at.insert(complaint, now);
        }
    }
}
