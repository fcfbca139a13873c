//! How a networked backend is set up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use paxos_core::NodeId;

use crate::limits::{LaneLimits, MAX_FRAME_BYTES};
use crate::{Error, TlsIdentity};

/// How many streams of QUIC the `Log` lane may be spread over.
pub(crate) const MAX_LOG_STREAMS: usize = 7;

/// How a networked backend is set up.
#[derive(Debug)]
pub struct NetworkConfig {
    /// This node.
    pub node: NodeId,
    /// Where to listen for peers. Port 0 leaves the choice to the system.
    pub listen: SocketAddr,
    /// Where each node is reached, as `HOST:PORT`; looked up again for each connection. This node's own entry is
    /// ignored.
    pub peers: BTreeMap<NodeId, String>,
    /// What proves who this node is.
    pub identity: TlsIdentity,
    /// The longest frame, in bytes; at most [`MAX_FRAME_BYTES`]. Should be the same on all nodes.
    pub max_frame_bytes: usize,
    /// How much may wait for each peer.
    pub lanes: LaneLimits,
    /// How many streams of QUIC [`Lane::Log`](crate::Lane::Log) is spread over, from 1 to 7: a lost packet holds up the
    /// frames of its stream only. With 1 they arrive in order, as over TCP, which has but one stream. May differ between
    /// nodes.
    pub log_streams: usize,
    /// How long one attempt to connect may take, its handshake included.
    pub connect_timeout: Duration,
    /// How long to wait before dialing again at first; doubles each time.
    pub min_backoff: Duration,
    /// How long to wait before dialing again at most.
    pub max_backoff: Duration,
    /// A peer that shows no sign of life for so long is taken for gone. More than two seconds, as each node
    /// shows one every second.
    pub idle_timeout: Duration,
    /// How long a connection that somebody else opens may take to prove who that is.
    pub handshake_timeout: Duration,
    /// How many connections may be at that at once; further ones are refused. Proved ones are bounded by the number
    /// of peers: a new one replaces the old.
    pub max_handshakes: usize,
    /// How long [`close`](crate::Transport::close) tries to send what waits.
    pub flush_timeout: Duration,
}

impl NetworkConfig {
    /// The set-up of a node with defaults for all limits.
    #[must_use]
    pub fn new(
        node: NodeId,
        listen: SocketAddr,
        peers: BTreeMap<NodeId, String>,
        identity: TlsIdentity,
    ) -> NetworkConfig {
        NetworkConfig {
            node,
            listen,
            peers,
            identity,
            max_frame_bytes: 16 << 20,
            lanes: LaneLimits::default(),
            log_streams: 4,
            connect_timeout: Duration::from_secs(1),
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(3),
            max_handshakes: 64,
            flush_timeout: Duration::from_millis(500),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let check = |holds: bool, setting, problem| {
            if holds { Ok(()) } else { Err(Error::Config { setting, problem }) }
        };
        check(self.identity.node() == self.node, "identity", "is that of another node")?;
        check(self.max_frame_bytes <= MAX_FRAME_BYTES, "max_frame_bytes", "must be at most 1 GiB")?;
        check((1..=MAX_LOG_STREAMS).contains(&self.log_streams), "log_streams", "must be in 1..=7")?;
        check(self.min_backoff <= self.max_backoff, "min_backoff", "must not be above max_backoff")?;
        check(!self.min_backoff.is_zero(), "min_backoff", "must not be zero")?;
        check(!self.connect_timeout.is_zero(), "connect_timeout", "must not be zero")?;
        check(self.idle_timeout > Duration::from_secs(2), "idle_timeout", "must be above two seconds")?;
        check(self.max_handshakes > 0, "max_handshakes", "must not be zero")
    }
}
