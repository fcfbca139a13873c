//! A transport and a storage for each node of an in-process cluster, of the kinds that are asked for.

#![allow(
    unreachable_code,
    unused_imports,
    unused_variables,
    reason = "a build without backends has no use for what they are made from"
)]

use std::path::PathBuf;
use std::sync::Arc;

use paxos_core::NodeId;
use paxos_storage::{Identity, Storage};
use paxos_transport::Transport;
use tempfile::TempDir;

use super::counted::{BackendCounters, Counted};
use super::{Error, Setup};
use crate::backends::{BackendError, StorageKind, TransportKind};

const CLUSTER: &str = "in-process";

/// What a node needs to set up its backends on its own thread.
pub(super) struct NodeParts {
    pub(super) node: NodeId,
    pub(super) transport: UnboundTransport,
    pub(super) storage: UnopenedStorage,
}

/// A transport that is not bound yet.
pub(super) enum UnboundTransport {
    #[cfg(feature = "memory")]
    Memory(paxos_transport::memory::MemoryNetwork),
    #[cfg(any(feature = "quic", feature = "tcp"))]
    Network(TransportKind, Box<paxos_transport::NetworkConfig>),
}

/// A storage that is not open yet.
pub(super) enum UnopenedStorage {
    #[cfg(feature = "memory")]
    Memory,
    #[cfg(feature = "file")]
    File(PathBuf),
}

/// The parts of each node, and the directory for their logs if they keep any: dropping it removes it.
pub(super) fn prepare(setup: &Setup) -> Result<(Vec<NodeParts>, Option<TempDir>), Error> {
    let nodes: Vec<NodeId> = (1..=setup.nodes).map(NodeId).collect();
    let transports = unbound_transports(setup, &nodes)?;
    let directory = match setup.storage {
        StorageKind::Memory => None,
        StorageKind::File => Some(directory(setup)?),
    };
    let storage = |node: NodeId| match (setup.storage, &directory) {
        #[cfg(feature = "memory")]
        (StorageKind::Memory, _) => Ok(UnopenedStorage::Memory),
        #[cfg(feature = "file")]
        (StorageKind::File, Some(directory)) => {
            Ok(UnopenedStorage::File(directory.path().join(format!("node-{node}"))))
        }
        (kind, _) => Err(not_compiled_in(kind.name())),
    };
    let parts = |(node, transport)| Ok(NodeParts { node, transport, storage: storage(node)? });
    let parts = nodes.into_iter().zip(transports).map(parts).collect::<Result<_, Error>>()?;
    Ok((parts, directory))
}

fn not_compiled_in(name: &'static str) -> Error {
    Error::Backend(BackendError::NotCompiledIn { name })
}

fn directory(setup: &Setup) -> Result<TempDir, Error> {
    let parent = setup.data.clone().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::Builder::new().prefix("paxos-").tempdir_in(&parent);
    made.map_err(|error| Error::Directory { directory: parent, error })
}

impl UnboundTransport {
    /// Binds it for `node`. To be called on the thread that the node will run on.
    pub(super) async fn bind(
        self,
        node: NodeId,
        counters: &Arc<BackendCounters>,
    ) -> Result<Box<dyn Transport>, Error> {
        let backend: Box<dyn Transport> = match self {
            #[cfg(feature = "memory")]
            UnboundTransport::Memory(network) => Box::new(network.bind(node)),
            #[cfg(any(feature = "quic", feature = "tcp"))]
            UnboundTransport::Network(kind, config) => kind.bind(*config).await?,
        };
        Ok(Box::new(Counted { backend, counters: Arc::clone(counters) }))
    }
}

impl UnopenedStorage {
    /// Makes and opens it for `node`.
    pub(super) fn open(
        self,
        node: NodeId,
        counters: &Arc<BackendCounters>,
    ) -> Result<Box<dyn Storage>, Error> {
        let identity = Identity::new(CLUSTER, node);
        let backend: Box<dyn Storage> = match self {
            #[cfg(feature = "memory")]
            UnopenedStorage::Memory => Box::new(paxos_storage::memory::MemoryStorage::new(identity)),
            #[cfg(feature = "file")]
            UnopenedStorage::File(directory) => {
                use paxos_storage::file::{self, FileSettings, FileStorage};
                file::format(&directory, &identity)?;
                Box::new(FileStorage::open(&directory, FileSettings::default())?)
            }
        };
        Ok(Box::new(Counted { backend, counters: Arc::clone(counters) }))
    }
}

fn unbound_transports(setup: &Setup, nodes: &[NodeId]) -> Result<Vec<UnboundTransport>, Error> {
    match setup.transport {
        #[cfg(feature = "memory")]
        TransportKind::Memory => {
            let network = paxos_transport::memory::MemoryNetwork::default();
            Ok(nodes.iter().map(|_| UnboundTransport::Memory(network.clone())).collect())
        }
        #[cfg(any(feature = "quic", feature = "tcp"))]
        kind @ (TransportKind::Tcp | TransportKind::Quic) => {
            let configs = network::configs(setup, nodes)?;
            Ok(configs.into_iter().map(|config| UnboundTransport::Network(kind, Box::new(config))).collect())
        }
        #[allow(unreachable_patterns, reason = "reached only if a transport is left out of the build")]
        other => Err(not_compiled_in(other.name())),
    }
}

#[cfg(any(feature = "quic", feature = "tcp"))]
mod network {
    use std::collections::BTreeMap;
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use paxos_core::NodeId;
    use paxos_transport::{NetworkConfig, TlsIdentity, certs};

    use super::CLUSTER;
    use crate::in_process::{Error, Setup};

    /// How often ports are drawn until one is free for both protocols.
    const MAX_DRAWS: usize = 100;

    /// Certificates in memory, and ports of this machine that were free a moment ago.
    pub(super) fn configs(setup: &Setup, nodes: &[NodeId]) -> Result<Vec<NetworkConfig>, Error> {
        let listen = |source| {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            Error::from(paxos_transport::Error::Listen { address, source })
        };
        // All are held until all are found, so that none is found twice.
        let held = nodes.iter().map(|_| free_port()).collect::<Result<Vec<_>, _>>().map_err(listen)?;
        let addresses: BTreeMap<NodeId, SocketAddr> =
            nodes.iter().copied().zip(held.iter().map(|(address, ..)| *address)).collect();
        let peers: BTreeMap<NodeId, String> =
            addresses.iter().map(|(node, address)| (*node, address.to_string())).collect();
        let made = certs::make_cluster(CLUSTER, nodes, &[])?;
        let config = |(node, certificate, key): &(NodeId, String, String)| {
            let authority = made.authority.as_bytes();
            let identity =
                TlsIdentity::from_pem(*node, CLUSTER, authority, certificate.as_bytes(), key.as_bytes())?;
            let mut config = NetworkConfig::new(*node, addresses[node], peers.clone(), identity);
            config.log_streams = setup.log_streams.unwrap_or(config.log_streams);
            Ok(config)
        };
        made.nodes.iter().map(config).collect()
    }

    fn free_port() -> std::io::Result<(SocketAddr, UdpSocket, TcpListener)> {
        let mut result = Err(std::io::ErrorKind::AddrInUse.into());
        for _ in 0..MAX_DRAWS {
            let datagrams = UdpSocket::bind("127.0.0.1:0")?;
            let address = datagrams.local_addr()?;
            result = TcpListener::bind(address).map(|streams| (address, datagrams, streams));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}
