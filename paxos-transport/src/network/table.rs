//! The links to all peers, as one value that is replaced when the peers change.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::time::Instant;

use crate::backend::{Counters, InboxSender};
use crate::network::link::{Class, Link, Role};
use crate::{Lane, NetworkConfig, PeerStatus, SendOutcome};

/// The links to all peers. Never changed in place, so that sending a frame takes no lock to look one up.
pub(crate) type PeerTable = BTreeMap<NodeId, Arc<PeerLinks>>;

/// The two links to one peer or guest, and their counters.
#[derive(Debug)]
pub(crate) struct PeerLinks {
    node: NodeId,
    links: [Arc<Link>; 2],
    pub(crate) counters: Arc<Counters>,
}

impl PeerLinks {
    pub(crate) fn new(node: NodeId, role: Role, config: &NetworkConfig, inbox: &InboxSender) -> PeerLinks {
        let counters = Arc::new(Counters::default());
        let link = |class| Arc::new(Link::new(node, class, role, config, inbox, Arc::clone(&counters)));
        PeerLinks { node, links: Class::ALL.map(link), counters }
    }

    pub(crate) fn link(&self, class: Class) -> &Arc<Link> {
        &self.links[class as usize]
    }

    pub(crate) fn links(&self) -> &[Arc<Link>; 2] {
        &self.links
    }

    pub(crate) fn send(&self, lane: Lane, frame: Bytes) -> SendOutcome {
        self.link(Class::of_lane(lane)).send(lane, frame)
    }

    /// Refuses all further frames; connections end once queued ones are sent.
    pub(crate) fn close(&self) {
        self.links.iter().for_each(|link| link.close());
    }

    /// Ends all tasks and connections at once.
    pub(crate) fn abort(&self) {
        self.links.iter().for_each(|link| link.abort());
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let link_statuses = self.links.each_ref().map(|link| link.status());
        let is_connected = link_statuses.iter().all(|link_status| link_status.is_open);
        let mut status = PeerStatus::new(self.node, is_connected);
        status.counters = self.counters.snapshot();
        status.round_trip = self.counters.round_trip().filter(|_| is_connected);
        // The peer is connected since the last of its links is, and disconnected since the first one is.
        let changes = link_statuses.iter().filter(|link_status| link_status.is_open == is_connected);
        let changes = changes.map(|link_status| link_status.since);
        let since = if is_connected { changes.max() } else { changes.min() };
        status.since = since.map(Instant::into_std);
        status.unreachable = link_statuses.into_iter().find_map(|link_status| link_status.problem);
        status
    }
}
