//! Watches how this node is connected to its peers, for its status, metrics and log.
//!
//! The transport logs each peer that is missing. Here they are counted: a cluster that goes on without one of
//! its nodes looks healthy, and ends with the next failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::{Config, NodeId};
use paxos_transport::{CertificateStatus, PeerStatus, Transport};

use crate::runtime::metrics::{show_certificate, show_peer};
use crate::runtime::round_trips::RoundTrips;

/// How often the transport is asked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Too few connected peers are logged after this time,
const GRACE: Duration = Duration::from_secs(10);
/// and again at this interval.
const REPEAT_INTERVAL: Duration = Duration::from_secs(600);

/// The peers of this node, as of a second ago or less.
#[derive(Debug)]
pub(crate) struct Mesh {
    peers: Arc<[PeerStatus]>,
    certificates: Arc<[CertificateStatus]>,
    looked_at: Option<Instant>,
    members: Vec<NodeId>,
    /// How many members the larger quorum needs.
    quorum: usize,
    shortage: Option<Shortage>,
    pub(crate) round_trips: RoundTrips,
}

/// The time for which too few peers are connected.
#[derive(Debug)]
struct Shortage {
    since: Instant,
    /// How many were missing when that was logged last, and when it was.
    told: Option<(usize, Instant)>,
}

impl Mesh {
    pub(crate) fn new(config: &Config) -> Mesh {
        Mesh {
            peers: Arc::default(),
            certificates: Arc::default(),
            looked_at: None,
            members: config.peers().collect(),
            quorum: config.quorums().prepare().max(config.quorums().accept()),
            shortage: None,
            round_trips: RoundTrips::default(),
        }
    }

    /// Another membership is in force.
    pub(crate) fn set_members(&mut self, config: &Config) {
        self.members = config.peers().collect();
        self.quorum = config.quorums().prepare().max(config.quorums().accept());
    }

    pub(crate) fn peers(&self) -> Arc<[PeerStatus]> {
        Arc::clone(&self.peers)
    }

    pub(crate) fn certificates(&self) -> Arc<[CertificateStatus]> {
        Arc::clone(&self.certificates)
    }

    /// Looks at the peers, if that was not done just now.
    pub(crate) fn look(&mut self, transport: &dyn Transport, refused: &[NodeId], now: Instant) {
        if self.looked_at.is_some_and(|looked_at| now < looked_at + LOOK_INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        // The transport still reaches nodes that were removed just now.
        let (mut peers, leaving): (Vec<_>, Vec<_>) =
            transport.peers().into_iter().partition(|status| self.members.contains(&status.peer));
        for mut status in leaving {
            status.is_connected = false;
            show_peer(&status, false);
        }
        for status in peers.iter_mut().filter(|status| status.is_connected) {
            status.round_trip = status.round_trip.or_else(|| self.round_trips.of(status.peer));
        }
        self.peers = peers.into();
        let certificates = transport.certificates();
        if *certificates != *self.certificates {
            self.certificates = certificates.into();
        }
        self.show(refused);
        let is_connected =
            |member: &NodeId| self.peers.iter().any(|status| status.peer == *member && status.is_connected);
        let connected = self.members.iter().filter(|member| is_connected(member)).count();
        if let Some(line) = self.count(connected, now) {
            tracing::warn!("{line}");
        }
    }

    /// The line to log if this many peers are connected.
    fn count(&mut self, connected: usize, now: Instant) -> Option<String> {
        let peers = self.members.len();
        // This node counts too.
        let has_quorum = connected + 1 >= self.quorum;
        if connected == peers || connected + 1 > self.quorum {
            let over = self.shortage.take().filter(|shortage| shortage.told.is_some())?;
            let seconds = now.saturating_duration_since(over.since).as_secs();
            return Some(format!("connected to {connected} of {peers} peers again after {seconds} s"));
        }
        let shortage = self.shortage.get_or_insert(Shortage { since: now, told: None });
        let is_told = shortage
            .told
            .is_some_and(|(missing, at)| missing == peers - connected && now < at + REPEAT_INTERVAL);
        if now < shortage.since + GRACE || is_told {
            return None;
        }
        shortage.told = Some((peers - connected, now));
        Some(if has_quorum {
            format!(
                "connected to {connected} of {peers} peers: with one failure more this node reaches no quorum of {}; \
                 bring the missing ones back",
                self.quorum
            )
        } else {
            format!(
                "connected to {connected} of {peers} peers: this node reaches no quorum of {}, and takes neither reads nor \
                 writes; bring the missing ones back",
                self.quorum
            )
        })
    }

    fn show(&self, refused: &[NodeId]) {
        for status in self.peers.iter() {
            show_peer(status, refused.contains(&status.peer));
        }
        for certificate in self.certificates.iter() {
            show_certificate(certificate);
        }
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{Membership, ProtocolSettings};

    use super::*;

    /// The lines that node 1 of `members` logs if this many of its peers are connected, second by second.
    fn told(members: u64, connected: &[usize]) -> Vec<(usize, String)> {
        let ids: Vec<NodeId> = (1..=members).map(NodeId).collect();
        let membership = Membership::new(&ids).expect("the members are distinct");
        let config = Config::new(NodeId(1), membership, ProtocolSettings::default()).expect("it is in order");
        let (mut mesh, start) = (Mesh::new(&config), Instant::now());
        let look = |(second, connected): (usize, &usize)| {
            let line = mesh.count(*connected, start + LOOK_INTERVAL * u32::try_from(second).expect("few"));
            line.map(|line| (second, line))
        };
        connected.iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn a_cluster_that_the_next_failure_ends_is_told_once_and_so_is_its_recovery() {
        let seconds = [&[2; 5][..], &[1; 300], &[2; 50]].concat();
        let lines = told(3, &seconds);
        let [(15, short), (305, over)] = &lines[..] else { panic!("{lines:?}") };
        assert!(short.starts_with("connected to 1 of 2 peers: with one failure more"), "{short}");
        assert_eq!(over, "connected to 2 of 2 peers again after 300 s");
    }

    #[test]
    fn a_short_absence_and_one_that_a_failure_more_does_not_end_are_not_told() {
        assert_eq!(told(3, &[&[1; 9][..], &[2; 5], &[1; 9], &[2; 5]].concat()), []);
        assert_eq!(told(5, &[3; 100]), []);
        assert_eq!(told(1, &[0; 100]), []);
        assert_eq!(told(2, &[1; 100]), []);
    }

    #[test]
    fn a_node_without_a_quorum_says_so() {
        let lines = told(3, &[&[1; 50][..], &[0; 700]].concat());
        assert_eq!(lines.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [10, 50, 650]);
        assert!(
            lines[1].1.contains("reaches no quorum of 2, and takes neither reads nor writes"),
            "{lines:?}"
        );
    }
}
