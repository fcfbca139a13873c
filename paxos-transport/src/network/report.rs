//! Logs what the operator should know of peers and certificates: once, with advice, and again when it is
//! over.
//!
//! A short absence of a peer, as during a restart, is not logged. An absence that lasts is logged after a few
//! seconds, and again at long intervals. Each reason is logged once during an absence, even if it comes and
//! goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paxos_core::NodeId;

use crate::network::expiry::ExpiryWatch;
use crate::network::peers::Network;
use crate::{Dropped, PeerStatus, Unreachable};

/// How often the peers are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// An absence is logged after this long.
const GRACE: Duration = Duration::from_secs(5);
/// The same while its reason is unknown.
const UNEXPLAINED_GRACE: Duration = Duration::from_secs(8);
/// The same if a person must change something.
const LASTING_GRACE: Duration = Duration::from_secs(1);
/// A problem that lasts is logged again after this long.
const REPEAT_INTERVAL: Duration = Duration::from_secs(600);
/// A queue that stays full is logged after this long.
const FULL_GRACE: Duration = Duration::from_secs(5);
/// A queue that was not full for this long counts as free again.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

/// Remembers what was logged.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    peers: BTreeMap<NodeId, PeerReport>,
    expiry: ExpiryWatch,
    has_told_of_loopback: bool,
}

/// What was logged about one peer.
#[derive(Debug, Default)]
struct PeerReport {
    outage: Option<Outage>,
    dropped: Dropped,
    too_large_told_at: Option<Instant>,
    full: Option<Full>,
}

/// An absence of a peer.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// The codes of the reasons that were logged, and when.
    told: BTreeMap<&'static str, Instant>,
}

/// A time during which frames to a peer were dropped because a queue was full.
#[derive(Debug)]
struct Full {
    since: Instant,
    latest: Instant,
    frames: u64,
    told_at: Option<Instant>,
}

impl Reporter {
    /// Checks peers and certificates at intervals, forever.
    pub(crate) async fn run(mut self, network: Arc<Network>, local_address: SocketAddr) {
        let mut clock = tokio::time::interval(LOOK_INTERVAL);
        loop {
            clock.tick().await;
            let now = tokio::time::Instant::now().into_std();
            let mut lines = self.look(now, &network.peers(), network.config.max_frame_bytes);
            lines.extend(self.look_at_loopback(local_address, &network));
            let node = network.config.node;
            for line in lines {
                tracing::warn!(node = node.0, "{line}");
            }
            self.expiry.log(node, &network.certificates());
        }
    }

    /// The lines about peers that are due.
    fn look(&mut self, now: Instant, peers: &[PeerStatus], max_frame_bytes: usize) -> Vec<String> {
        let mut lines = Vec::new();
        self.peers.retain(|peer, _| peers.iter().any(|status| status.peer == *peer));
        for status in peers {
            let report = self.peers.entry(status.peer).or_default();
            lines.extend(report.look_at_connection(now, status));
            lines.extend(report.look_at_sizes(now, status, max_frame_bytes));
            lines.extend(report.look_at_room(now, status));
            report.dropped = status.counters.dropped;
        }
        lines
    }

    /// Warns if this node listens on a loopback address, but has peers on other machines.
    fn look_at_loopback(&mut self, local_address: SocketAddr, network: &Network) -> Option<String> {
        if self.has_told_of_loopback || !local_address.ip().is_loopback() {
            return None;
        }
        let table = network.peer_table();
        let (peer, address) = table
            .keys()
            .flat_map(|peer| network.lookups.known(*peer).into_iter().map(move |address| (peer, address)))
            .find(|(_, address)| !address.ip().to_canonical().is_loopback())?;
        self.has_told_of_loopback = true;
        Some(format!(
            "this node listens for peers on {local_address}, which is reached from this machine only, but node {peer} is at \
             {address}: listen on an address that the others reach"
        ))
    }
}

impl PeerReport {
    fn look_at_connection(&mut self, now: Instant, status: &PeerStatus) -> Option<String> {
        let (peer, since) = (status.peer, status.since?);
        if status.is_connected {
            let outage = self.outage.take().filter(|outage| !outage.told.is_empty())?;
            let lasted = since.saturating_duration_since(outage.since).as_secs();
            return Some(format!("node {peer} is reached again after {lasted} s"));
        }
        let outage = self.outage.get_or_insert_with(|| Outage { since, told: BTreeMap::new() });
        let missing_for = now.saturating_duration_since(outage.since);
        let problem = status.unreachable.clone().unwrap_or(Unreachable::NotYet);
        let grace = match &problem {
            lasting if lasting.is_lasting() => LASTING_GRACE,
            Unreachable::NotYet | Unreachable::Lost { .. } => UNEXPLAINED_GRACE,
            _ => GRACE,
        };
        let is_told = outage.told.get(problem.code()).is_some_and(|told_at| now < *told_at + REPEAT_INTERVAL);
        if missing_for < grace || is_told {
            return None;
        }
        outage.told.insert(problem.code(), now);
        let seconds = missing_for.as_secs();
        Some(format!("node {peer} has not been reached for {seconds} s: {problem}; {}", problem.advice()))
    }

    fn look_at_sizes(&mut self, now: Instant, status: &PeerStatus, max_frame_bytes: usize) -> Option<String> {
        let dropped = status.counters.dropped;
        let is_told = self.too_large_told_at.is_some_and(|told_at| now < told_at + REPEAT_INTERVAL);
        if dropped.too_large == self.dropped.too_large || is_told {
            return None;
        }
        self.too_large_told_at = Some(now);
        Some(format!(
            "frames to node {} were dropped as too large: one has {} bytes, and the limit is {max_frame_bytes}; what they \
             carry never gets there as long as the limit of frames is not raised on all nodes",
            status.peer, dropped.longest_too_large_bytes
        ))
    }

    fn look_at_room(&mut self, now: Instant, status: &PeerStatus) -> Option<String> {
        let peer = status.peer;
        let frames = status.counters.dropped.full - self.dropped.full;
        if frames > 0 {
            let full = self.full.get_or_insert(Full { since: now, latest: now, frames: 0, told_at: None });
            full.latest = now;
            full.frames += frames;
            let is_told = full.told_at.is_some_and(|told_at| now < told_at + REPEAT_INTERVAL);
            let lasts = now.saturating_duration_since(full.since);
            if lasts < FULL_GRACE || is_told {
                return None;
            }
            full.told_at = Some(now);
            return Some(format!(
                "node {peer} takes less than is sent to it: {} frames were dropped in {} s because their queue is full; \
                 look after its disk and processor, and the network between",
                full.frames,
                lasts.as_secs()
            ));
        }
        let over = self.full.take_if(|full| now >= full.latest + ROOM_AGAIN)?;
        over.told_at?;
        let lasted = over.latest.saturating_duration_since(over.since).as_secs();
        Some(format!(
            "node {peer} takes again what is sent to it: {} frames were dropped in {lasted} s",
            over.frames
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Carrier;

    const PEER: NodeId = NodeId(2);
    const LIMIT: usize = 1000;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn missing(since: Instant, problem: &Unreachable) -> PeerStatus {
        let mut status = PeerStatus::new(PEER, false);
        status.since = Some(since);
        status.unreachable = Some(problem.clone());
        status
    }

    fn connected(since: Instant) -> PeerStatus {
        let mut status = PeerStatus::new(PEER, true);
        status.since = Some(since);
        status
    }

    fn refused() -> Unreachable {
        Unreachable::Refused { address: ([127, 0, 0, 1], 9001).into(), carrier: Carrier::Tcp }
    }

    /// The lines of these seconds, each with its second.
    fn told(
        reporter: &mut Reporter,
        start: Instant,
        seconds: std::ops::Range<u64>,
        status: &PeerStatus,
    ) -> Vec<(u64, String)> {
        let peers = std::slice::from_ref(status);
        let look = |second| {
            reporter.look(at(start, second), peers, LIMIT).into_iter().map(move |line| (second, line))
        };
        seconds.flat_map(look).collect()
    }

    #[test]
    fn a_missing_peer_is_told_once_with_what_to_do_and_so_is_its_return() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        let lines = told(&mut reporter, start, 0..600, &missing(start, &refused()));
        let [(5, line)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            line,
            "node 2 has not been reached for 5 s: nobody listens at 127.0.0.1:9001 (TCP); start it, have it listen on an \
             address that others reach, or correct its address among this node's peers"
        );
        let again = told(&mut reporter, start, 600..1200, &missing(start, &refused()));
        assert_eq!(again.len(), 1, "a long outage is told again at long intervals: {again:?}");
        let back = told(&mut reporter, start, 1200..1300, &connected(at(start, 1199)));
        assert_eq!(back, [(1200, String::from("node 2 is reached again after 1199 s"))]);
    }

    #[test]
    fn a_short_absence_is_not_worth_a_word() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        assert!(told(&mut reporter, start, 0..4, &missing(start, &refused())).is_empty());
        assert!(told(&mut reporter, start, 4..9, &connected(at(start, 4))).is_empty());
        let lost = Unreachable::Lost { problem: String::from("no sign of life") };
        let unexplained = missing(at(start, 9), &lost);
        assert!(told(&mut reporter, start, 9..16, &unexplained).is_empty(), "a reason may still be found");
        assert_eq!(told(&mut reporter, start, 16..20, &unexplained).len(), 1);
    }

    #[test]
    fn another_reason_is_told_too_and_one_that_does_not_pass_at_once() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        assert_eq!(told(&mut reporter, start, 0..10, &missing(start, &refused())).len(), 1);
        let other = missing(start, &Unreachable::OtherVersion);
        assert_eq!(told(&mut reporter, start, 10..20, &other).len(), 1);
        let back_and_forth = told(&mut reporter, start, 20..30, &missing(start, &refused()));
        assert!(back_and_forth.is_empty(), "{back_and_forth:?}");
        let lines = told(&mut Reporter::default(), start, 0..10, &other);
        assert_eq!(lines[0].0, 1, "{lines:?}");
    }

    #[test]
    fn dropped_frames_are_told_by_size_and_by_queue() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        let mut status = connected(start);
        status.counters.dropped =
            Dropped { too_large: 3, longest_too_large_bytes: 1234, ..Dropped::default() };
        let lines = told(&mut reporter, start, 0..10, &status);
        assert!(
            lines.len() == 1 && lines[0].1.contains("one has 1234 bytes, and the limit is 1000"),
            "{lines:?}"
        );
        let mut lines = Vec::new();
        for second in 10..20 {
            status.counters.dropped.full += 7;
            lines.extend(told(&mut reporter, start, second..second + 1, &status));
        }
        assert!(lines.len() == 1 && lines[0].0 == 15 && lines[0].1.contains("42 frames"), "{lines:?}");
        let over = told(&mut reporter, start, 20..60, &status);
        assert!(over.len() == 1 && over[0].1.contains("70 frames were dropped in 9 s"), "{over:?}");
        status.counters.dropped.full += 1;
        assert!(told(&mut reporter, start, 60..90, &status).is_empty(), "a short burst is not worth a word");
    }
}
