//! Rivals: connections that a peer opens while an earlier one still works.
//!
//! After a restart a peer does so once, before this node has noticed that the old process is gone. If it
//! continues, two processes run under one id, and each takes the connection from the other. Then each keeps
//! it for a minimal time, so that both are heard, and the operator is warned. Connections that come before
//! that time has passed are refused and do not count: one process opens several of them if the one before had
//! just connected when it died.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A working connection is not replaced before it has lasted this long.
const MIN_TENURE: Duration = Duration::from_millis(300);
/// This many rivals within [`WINDOW`] cause a warning.
const WARN_FROM: usize = 6;
const WINDOW: Duration = Duration::from_secs(60);
/// The time before the warning is repeated.
const WARN_AGAIN: Duration = Duration::from_secs(600);

/// How many rivals are remembered at most.
const MAX_REMEMBERED: usize = 1000;

/// The rivals on one link.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    /// When the present connection was accepted, and from which address.
    served: Option<(Instant, SocketAddr)>,
    came_at: VecDeque<Instant>,
    /// The latest two different addresses.
    addresses: VecDeque<SocketAddr>,
    warned_at: Option<Instant>,
}

/// The decision about a new connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    /// It replaces the one before.
    pub(crate) is_served: bool,
    /// It does, though the one before still worked.
    pub(crate) is_rival: bool,
    /// If a warning is due: how many rivals there were, and from where.
    pub(crate) told: Option<(usize, Vec<IpAddr>)>,
}

impl Rivals {
    /// Decides about a connection from `address`; `is_open` tells whether the one before still works.
    pub(crate) fn on_connection(&mut self, now: Instant, address: SocketAddr, is_open: bool) -> Verdict {
        if !is_open {
            self.serve(now, address);
            return Verdict { is_served: true, is_rival: false, told: None };
        }
        if self.served.is_some_and(|(since, _)| now.duration_since(since) < MIN_TENURE) {
            return Verdict { is_served: false, is_rival: false, told: None };
        }
        self.came_at.push_back(now);
        let has_passed = |came_at: &Instant| now.duration_since(*came_at) > WINDOW;
        while self.came_at.len() > MAX_REMEMBERED || self.came_at.front().is_some_and(has_passed) {
            self.came_at.pop_front();
        }
        self.serve(now, address);
        let was_warned = self.warned_at.is_some_and(|warned_at| now.duration_since(warned_at) < WARN_AGAIN);
        let warns = self.came_at.len() >= WARN_FROM && !was_warned;
        if warns {
            self.warned_at = Some(now);
        }
        let hosts = || self.addresses.iter().map(|address| address.ip().to_canonical()).collect();
        Verdict { is_served: true, is_rival: true, told: warns.then(|| (self.came_at.len(), hosts())) }
    }

    fn serve(&mut self, now: Instant, address: SocketAddr) {
        self.served = Some((now, address));
        self.note(address);
    }

    fn note(&mut self, address: SocketAddr) {
        if !self.addresses.iter().any(|known| known.ip() == address.ip()) {
            self.addresses.push_back(address);
            if self.addresses.len() > 2 {
                self.addresses.pop_front();
            }
        }
    }
}

/// The text of the warning.
pub(crate) fn complaint(peer: paxos_core::NodeId, count: usize, hosts: &[IpAddr]) -> String {
    let hosts: Vec<String> = hosts.iter().map(IpAddr::to_string).collect();
    format!(
        "node {peer} has opened {count} connections within a minute in place of ones that still worked, from {}: two \
         processes may run under its id; stop the one that runs on a copy of its data",
        hosts.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9001))
    }

    #[test]
    fn a_peer_that_is_started_again_takes_the_place_of_its_old_connection_in_silence() {
        let (mut rivals, start) = (Rivals::default(), Instant::now());
        assert!(rivals.on_connection(start, address(1), false).is_served);
        let verdict = rivals.on_connection(start + MIN_TENURE, address(1), true);
        assert_eq!(verdict, Verdict { is_served: true, is_rival: true, told: None });
    }

    #[test]
    fn a_peer_that_dies_just_after_it_has_connected_and_comes_back_is_no_rival_of_itself() {
        let (mut rivals, start) = (Rivals::default(), Instant::now());
        rivals.on_connection(start, address(1), false);
        for milliseconds in (0..u32::try_from(MIN_TENURE.as_millis()).expect("it is short")).step_by(10) {
            let verdict =
                rivals.on_connection(start + Duration::from_millis(milliseconds.into()), address(2), true);
            let refused = Verdict { is_served: false, is_rival: false, told: None };
            assert_eq!(verdict, refused, "a connection is kept for a while, here {milliseconds} ms");
        }
        let verdict = rivals.on_connection(start + MIN_TENURE, address(2), true);
        assert_eq!(verdict, Verdict { is_served: true, is_rival: true, told: None });
    }

    #[test]
    fn two_processes_under_one_id_are_told_once_with_their_addresses() {
        let (mut rivals, start) = (Rivals::default(), Instant::now());
        let mut told = Vec::new();
        for step in 0..200u32 {
            let from = address(1 + u8::try_from(step % 2).expect("it is 0 or 1"));
            let verdict = rivals.on_connection(start + MIN_TENURE * step, from, step > 0);
            assert!(verdict.is_served);
            told.extend(verdict.told);
        }
        assert_eq!(told, [(WARN_FROM, vec![address(1).ip(), address(2).ip()])]);
        assert!(complaint(paxos_core::NodeId(3), 6, &told[0].1).contains("10.0.0.1 and 10.0.0.2"));
    }
}
