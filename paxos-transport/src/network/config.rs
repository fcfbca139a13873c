//! The settings of networked backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paxos_core::NodeId;

use crate::lane::{LaneLimits, MAX_FRAME_BYTES};
use crate::network::calls::CallSender;
use crate::{Error, Resolve, SharedIdentity, SystemResolver};

/// The most streams of QUIC that [`Lane::Log`](crate::Lane::Log) can be spread over.
pub(crate) const MAX_LOG_STREAMS: usize = 7;

/// The settings of a networked backend.
///
/// [`new`](NetworkConfig::new) sets the defaults; [`with`](NetworkConfig::with) changes them in one
/// expression:
///
/// ```no_run
/// # use std::collections::BTreeMap;
/// # use std::path::Path;
/// # use paxos_core::NodeId;
/// use paxos_transport::{NetworkConfig, TlsIdentity};
///
/// let identity = TlsIdentity::load(Path::new("certs"), NodeId(1), "example")?;
/// let peers = BTreeMap::from([(NodeId(2), String::from("two.example.org:9001"))]);
/// let config = NetworkConfig::new(NodeId(1), ([0, 0, 0, 0], 9001).into(), peers, identity)
///     .with(|config| config.max_frame_bytes = 32 << 20);
/// # Ok::<(), paxos_transport::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// This node.
    pub node: NodeId,
    /// The address to listen on for peers. With port 0 the system chooses a port.
    pub listen: SocketAddr,
    /// The address of each node, as `HOST:PORT`. It is looked up again for each attempt to connect. If a host
    /// has several addresses, attempts take turns. This node's own entry is ignored.
    pub peers: BTreeMap<NodeId, String>,
    /// The certificate and key of this node, and the CA that it trusts. It can be replaced while the
    /// transport runs.
    pub identity: SharedIdentity,
    /// The longest frame that is sent or received, in bytes; at most [`MAX_FRAME_BYTES`]. All nodes should
    /// have the same.
    pub max_frame_bytes: usize,
    /// The bounds of the queues of each peer.
    pub lanes: LaneLimits,
    /// How many streams of QUIC [`Lane::Log`](crate::Lane::Log) is spread over, from 1 to 7. A lost packet
    /// delays only the frames of its stream. With one stream, frames arrive in order. TCP ignores this. Nodes
    /// may have different values.
    pub log_streams: usize,
    /// Gets the calls of operators and nodes; see [`calls`](crate::calls). With `None` callers are told that
    /// the node takes none.
    pub calls: Option<CallSender>,
    /// Looks up the addresses of hosts.
    pub resolver: Arc<dyn Resolve>,
    /// How long an attempt to connect waits for the look-up of the peer's name. Then it uses the addresses
    /// found earlier, if any. A later answer serves the next attempt.
    pub lookup_timeout: Duration,
    /// How long an attempt to connect may take, with its handshake.
    pub connect_timeout: Duration,
    /// The first pause before an attempt to reconnect. It doubles with each failed attempt.
    pub min_backoff: Duration,
    /// The longest pause before an attempt to reconnect.
    pub max_backoff: Duration,
    /// A connection on which nothing arrives for this long is closed. Must be more than two seconds, because
    /// nodes send something every second.
    pub idle_timeout: Duration,
    /// How long the handshake of an accepted connection may take, and how long a caller may take to send its
    /// request.
    pub handshake_timeout: Duration,
    /// How many accepted connections may be in their handshake at once; further ones are refused. Connections
    /// after their handshake are bounded by the number of peers, because a new one replaces the old one.
    pub max_handshakes: usize,
    /// How long [`close`](crate::Transport::close) tries to send the queued frames.
    pub flush_timeout: Duration,
}

impl NetworkConfig {
    /// Settings with defaults for all limits and times.
    #[must_use]
    pub fn new(
        node: NodeId,
        listen: SocketAddr,
        peers: BTreeMap<NodeId, String>,
        identity: impl Into<SharedIdentity>,
    ) -> NetworkConfig {
        NetworkConfig {
            node,
            listen,
            peers,
            identity: identity.into(),
            max_frame_bytes: 16 << 20,
            lanes: LaneLimits::default(),
            log_streams: 4,
            calls: None,
            resolver: Arc::new(SystemResolver),
            lookup_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(3),
            max_handshakes: 64,
            flush_timeout: Duration::from_millis(500),
        }
    }

    /// Changes fields in one expression; see the example above.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut NetworkConfig)) -> NetworkConfig {
        change(&mut self);
        self
    }

    /// Checks the settings, and that they fit together.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let check = |holds: bool, setting, problem| {
            if holds { Ok(()) } else { Err(Error::Config { setting, problem }) }
        };
        check(self.identity.node() == self.node, "identity", "belongs to another node than the field node")?;
        check(self.max_frame_bytes <= MAX_FRAME_BYTES, "max_frame_bytes", "must be at most 1 GiB")?;
        check((1..=MAX_LOG_STREAMS).contains(&self.log_streams), "log_streams", "must be from 1 to 7")?;
        check(self.min_backoff <= self.max_backoff, "min_backoff", "must not be above max_backoff")?;
        check(!self.min_backoff.is_zero(), "min_backoff", "must not be zero")?;
        check(!self.lookup_timeout.is_zero(), "lookup_timeout", "must not be zero")?;
        check(!self.connect_timeout.is_zero(), "connect_timeout", "must not be zero")?;
        check(self.idle_timeout > Duration::from_secs(2), "idle_timeout", "must be above two seconds")?;
        check(self.max_handshakes > 0, "max_handshakes", "must not be zero")
    }
}
