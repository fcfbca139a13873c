//! File descriptors: how many the process may have, and how many of them clients may take.
//!
//! Without a descriptor for the next segment of its log a node can accept nothing, and without descriptors
//! for its peers it has no quorum. So these are reserved, and clients share the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fronts::http;

/// How many are open at the start, where the system does not tell: standard streams, the runtime's,
/// listeners.
const OPEN_AT_START: u64 = 32;
/// For META, its lock and its directory, two segments of the log, snapshots that are written, received and
/// sent, and the files that recovery opens.
const STORAGE: u64 = 16;
/// For each peer: two connections, two that replace them, and the look-up of its name.
const EACH_PEER: u64 = 8;
/// For listeners, connections that are refused, and files that are open for a moment.
const PASSING: u64 = 16;
/// With descriptors for fewer clients a node refuses to start.
const MIN_CLIENTS: u64 = 8;

/// What a node needs descriptors for, beside its storage and the files that are open already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// All nodes but this one.
    pub(crate) peers: usize,
    /// Connections in their TLS handshake.
    pub(crate) handshakes: usize,
    /// Clients that should be served at once.
    pub(crate) clients: usize,
}

/// How the descriptors are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// How many the process may have; `None` without a limit.
    pub(crate) limit: Option<u64>,
    /// How many are kept for everything but clients.
    pub(crate) reserved: u64,
    /// How many clients may be served at once.
    pub(crate) clients: usize,
}

/// The limit leaves no room for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this process may have {limit} files open, and a node needs {needed}: raise the limit, for example by 'ulimit -n \
     1024' or by LimitNOFILE=1024 in its systemd unit"
)]
pub(crate) struct TooFew {
    limit: u64,
    needed: u64,
}

/// Raises the limit of this process as far as needed and allowed, and shares the descriptors out.
pub(crate) fn share(demand: Demand) -> Result<Share, TooFew> {
    let reserved = reserved(open_now(), demand);
    let wanted = reserved.saturating_add(demand.clients as u64);
    share_out(raise(wanted), reserved, demand.clients)
}

fn reserved(open: u64, demand: Demand) -> u64 {
    let fronts = http::MAX_CONNECTIONS as u64;
    open + STORAGE + PASSING + fronts + EACH_PEER * demand.peers as u64 + demand.handshakes as u64
}

fn share_out(limit: Option<u64>, reserved: u64, clients: usize) -> Result<Share, TooFew> {
    let Some(most) = limit else { return Ok(Share { limit, reserved, clients }) };
    let needed = reserved + MIN_CLIENTS.min(clients as u64);
    if most < needed {
        return Err(TooFew { limit: most, needed });
    }
    let left = usize::try_from(most - reserved).unwrap_or(usize::MAX);
    Ok(Share { limit, reserved, clients: clients.min(left) })
}

/// The limit after an attempt to raise it to `wanted`.
fn raise(wanted: u64) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    if current >= wanted {
        return Some(current);
    }
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)).max(current);
    let request = Rlimit { current: Some(raised), maximum: limit.maximum };
    // If that is not allowed, the limit stays as it is.
    Some(if setrlimit(Resource::Nofile, request).is_ok() { raised } else { current })
}

fn open_now() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(OPEN_AT_START, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left_and_a_limit_that_leaves_nothing_is_refused() {
        let share = |limit, clients| share_out(limit, 100, clients).map(|share| share.clients);
        assert_eq!(share(None, 10_000), Ok(10_000));
        assert_eq!(share(Some(20_000), 10_000), Ok(10_000));
        assert_eq!(share(Some(256), 10_000), Ok(156));
        assert_eq!(share(Some(108), 10_000), Ok(8));
        assert_eq!(share(Some(107), 10_000), Err(TooFew { limit: 107, needed: 108 }));
        assert_eq!(share(Some(102), 2), Ok(2), "fewer are enough where fewer are wanted");
    }

    #[test]
    fn every_connection_that_a_peer_or_stranger_may_have_is_reserved() {
        let demand = Demand { peers: 2, handshakes: 10, clients: 7 };
        let more = Demand { peers: 3, handshakes: 11, clients: 700 };
        assert_eq!(reserved(20, more) - reserved(20, demand), EACH_PEER + 1);
        assert!(reserved(0, demand) > http::MAX_CONNECTIONS as u64);
    }
}
