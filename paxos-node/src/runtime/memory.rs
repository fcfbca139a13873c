//! Decides when a node refuses commands that need memory.
//!
//! The state, by the size that the state machine reports, and the log in memory are counted. Together they
//! may take half of the limit: while a snapshot is installed it stands beside the state that it replaces,
//! while one is written the state that it shows is kept, and messages, clients and recovery need the rest. If
//! the size of the process shows that half was too much, the node refuses earlier.
//!
//! All nodes have to keep what any of them takes on. So nodes tell each other their limits, and each goes by
//! the smallest one that it has heard of, even while that node is away.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use paxos_core::NodeId;

/// How often the size of the process is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// At most this many limits of peers are logged: a limit changes only when its node starts again.
const MAX_LOGGED_LIMITS: usize = 64;

/// Watches how much memory a node takes.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    /// Of this process.
    own_limit_bytes: Option<u64>,
    /// The smallest limit of a peer, if that is smaller.
    peer_limit: Option<PeerLimit>,
    /// The limits of peers that were logged.
    logged_limits: BTreeSet<PeerLimit>,
    /// How much the state machine takes; the applier keeps it up to date.
    state_bytes: Arc<AtomicU64>,
    log_bytes: u64,
    resident_bytes: u64,
    looked_at: Option<Instant>,
    is_logged: bool,
}

impl MemoryWatch {
    pub(crate) fn new(limit_bytes: Option<u64>, state_bytes: Arc<AtomicU64>) -> MemoryWatch {
        MemoryWatch {
            own_limit_bytes: limit_bytes,
            peer_limit: None,
            logged_limits: BTreeSet::new(),
            state_bytes,
            log_bytes: 0,
            resident_bytes: 0,
            looked_at: None,
            is_logged: false,
        }
    }

    /// Whether commands that need memory are to be refused.
    pub(crate) fn is_full(&self) -> bool {
        let counted = self.counted_bytes();
        // Memory that was freed may stay with the process, and is used again: its size alone tells nothing.
        let is_too_large = |own: u64| self.resident_bytes > own / 20 * 17 && counted > own / 10 * 3;
        self.limit_bytes().is_some_and(|limit| counted > limit / 2)
            || self.own_limit_bytes.is_some_and(is_too_large)
    }

    /// The limit for state and log: the smallest one of a node of the cluster that is known.
    fn limit_bytes(&self) -> Option<u64> {
        self.peer_limit.map(|peer| peer.bytes).or(self.own_limit_bytes)
    }

    /// Notes the limits of peers, and logs those that differ much from this node's, each once.
    pub(crate) fn note_peers(&mut self, limits: impl Iterator<Item = PeerLimit>) {
        let own = self.own_limit_bytes.unwrap_or(u64::MAX);
        self.peer_limit = None;
        for limit in limits {
            if limit.bytes < self.limit_bytes().unwrap_or(u64::MAX) {
                self.peer_limit = Some(limit);
            }
            let (less, more) = (own.min(limit.bytes), own.max(limit.bytes));
            let is_much = less < more / 10 * 9;
            if is_much && self.logged_limits.len() < MAX_LOGGED_LIMITS && self.logged_limits.insert(limit) {
                let compared = if limit.bytes < own { "less" } else { "more" };
                tracing::warn!(
                    "node {} has a memory limit of {}, {compared} than this node's {}: commands are refused by the \
                     smaller one; give all nodes the same memory",
                    limit.node,
                    Limit(Some(limit.bytes)),
                    Limit(self.own_limit_bytes)
                );
            }
        }
    }

    fn counted_bytes(&self) -> u64 {
        self.state_bytes.load(Ordering::Relaxed) + self.log_bytes
    }

    /// Looks at memory from time to time; logs when it runs short, and when there is enough again.
    pub(crate) fn look(&mut self, log_bytes: usize, now: Instant) {
        self.log_bytes = log_bytes as u64;
        if self.looked_at.is_some_and(|looked_at| now < looked_at + LOOK_INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        self.resident_bytes = resident_bytes().unwrap_or(0);
        crate::runtime::metrics::show_memory(self.counted_bytes(), self.limit_bytes());
        let Some(limit) = self.limit_bytes() else { return };
        let (counted, resident) = (self.counted_bytes() >> 20, self.resident_bytes >> 20);
        if self.is_full() && !self.is_logged {
            self.is_logged = true;
            tracing::warn!(
                "memory is short: state and log take {counted} MiB, and the process {resident} MiB, of a limit of {} MiB; \
                 this node refuses commands that need more until something is deleted",
                limit >> 20
            );
        } else if self.is_logged && self.counted_bytes() < limit / 20 * 9 && !self.is_full() {
            self.is_logged = false;
            tracing::warn!("there is enough memory again: state and log take {counted} MiB");
        }
    }
}

/// The memory limit of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PeerLimit {
    pub(crate) node: NodeId,
    pub(crate) bytes: u64,
}

/// A limit as it is logged.
struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(formatter, "{} MiB", bytes >> 20),
            None => formatter.write_str("unlimited memory"),
        }
    }
}

/// The resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(state: u64, log: u64, resident: u64) -> MemoryWatch {
        let mut watch = MemoryWatch::new(Some(1000), Arc::new(AtomicU64::new(state)));
        (watch.log_bytes, watch.resident_bytes) = (log, resident);
        watch
    }

    #[test]
    fn state_and_log_may_have_half_and_less_if_the_process_is_too_large() {
        assert!(!watch(300, 200, 600).is_full());
        assert!(watch(301, 200, 600).is_full());
        assert!(watch(301, 0, 900).is_full());
        assert!(!watch(299, 0, 900).is_full(), "what was freed is used again");
        assert!(!MemoryWatch::new(None, Arc::new(AtomicU64::new(u64::MAX / 2))).is_full());
    }

    #[test]
    fn the_smallest_limit_of_a_node_that_was_heard_of_counts_for_state_and_log() {
        let limit = |node, bytes| PeerLimit { node: NodeId(node), bytes };
        let mut watch = watch(300, 0, 0);
        watch.note_peers([limit(2, 2000), limit(3, 500), limit(4, 600)].into_iter());
        assert!(watch.is_full());
        assert_eq!(watch.logged_limits.len(), 3);
        watch.note_peers([limit(2, 2000), limit(3, 990)].into_iter());
        assert!(!watch.is_full(), "node 3 was started with a higher one, and is not worth a word");
        assert_eq!((watch.limit_bytes(), watch.logged_limits.len()), (Some(990), 3));
        watch.note_peers([limit(2, 2000)].into_iter());
        assert_eq!(watch.limit_bytes(), Some(1000));
        // The size of a process has nothing to do with what others may take.
        watch.resident_bytes = 800;
        watch.note_peers([limit(3, 700)].into_iter());
        assert!(!watch.is_full());

        let mut unlimited = MemoryWatch::new(None, Arc::new(AtomicU64::new(300)));
        unlimited.note_peers([limit(3, 500)].into_iter());
        assert!(unlimited.is_full());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_size_of_this_process_is_known() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
