//! A transport and a storage for each node, of the kinds that are asked for.

#![allow(
    unused_imports,
    unused_variables,
    reason = "a build without backends has no use for what they are made from"
)]

use std::sync::Arc;

use paxos_core::NodeId;
use paxos_storage::{Identity, Storage};
use paxos_transport::Transport;
use tempfile::TempDir;

use super::counted::{Counted, Counters};
use super::{Error, Setup, StorageKind, TransportKind};

const CLUSTER: &str = "in-process";

/// Everything that a node needs to set up its backends on its own thread.
pub(super) struct Seat {
    pub(super) node: NodeId,
    pub(super) transport: Socket,
    pub(super) storage: Disk,
}

/// A transport that is not bound yet.
pub(super) enum Socket {
    #[cfg(feature = "memory")]
    Memory(paxos_transport::memory::MemoryNetwork),
    #[cfg(feature = "tcp")]
    Tcp(paxos_transport::NetworkConfig),
    #[cfg(feature = "quic")]
    Quic(paxos_transport::NetworkConfig),
}

/// A storage that is not open yet.
pub(super) enum Disk {
    #[cfg(feature = "memory")]
    Memory,
    #[cfg(feature = "file")]
    File(std::path::PathBuf),
}

/// A seat for each node, and the directory for their logs if they keep any: it goes when it is dropped.
pub(super) fn prepare(setup: &Setup) -> Result<(Vec<Seat>, Option<TempDir>), Error> {
    let nodes: Vec<NodeId> = (1..=setup.nodes).map(NodeId).collect();
    let sockets = sockets(setup, &nodes)?;
    let directory = match setup.storage {
        StorageKind::Memory => None,
        StorageKind::File => Some(directory(setup)?),
    };
    let disk = |node: NodeId| match (setup.storage, &directory) {
        #[cfg(feature = "memory")]
        (StorageKind::Memory, _) => Ok(Disk::Memory),
        #[cfg(feature = "file")]
        (StorageKind::File, Some(directory)) => Ok(Disk::File(directory.path().join(format!("node-{node}")))),
        (kind, _) => Err(Error::NotBuilt(kind.name())),
    };
    let seat = |(node, transport)| Ok(Seat { node, transport, storage: disk(node)? });
    let seats = nodes.into_iter().zip(sockets).map(seat).collect::<Result<_, Error>>()?;
    Ok((seats, directory))
}

fn directory(setup: &Setup) -> Result<TempDir, Error> {
    let parent = setup.data.clone().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::Builder::new().prefix("paxos-").tempdir_in(&parent);
    made.map_err(|error| Error::Directory { directory: parent, error })
}

impl Socket {
    /// Binds it for `node`. To be called on the thread that the node will run on.
    pub(super) async fn bind(
        self,
        node: NodeId,
        counters: &Arc<Counters>,
    ) -> Result<Box<dyn Transport>, Error> {
        let counters = Arc::clone(counters);
        match self {
            #[cfg(feature = "memory")]
            Socket::Memory(network) => Ok(Box::new(Counted { backend: network.bind(node), counters })),
            #[cfg(feature = "tcp")]
            Socket::Tcp(config) => {
                let backend = paxos_transport::tcp::bind(config).await?;
                Ok(Box::new(Counted { backend, counters }))
            }
            #[cfg(feature = "quic")]
            Socket::Quic(config) => {
                let backend = paxos_transport::quic::bind(config).await?;
                Ok(Box::new(Counted { backend, counters }))
            }
        }
    }
}

impl Disk {
    /// Makes and opens it for `node`.
    pub(super) fn open(self, node: NodeId, counters: &Arc<Counters>) -> Result<Box<dyn Storage>, Error> {
        let identity = Identity::new(CLUSTER, node);
        let counters = Arc::clone(counters);
        match self {
            #[cfg(feature = "memory")]
            Disk::Memory => {
                let backend = paxos_storage::memory::MemoryStorage::new(identity);
                Ok(Box::new(Counted { backend, counters }))
            }
            #[cfg(feature = "file")]
            Disk::File(directory) => {
                use paxos_storage::file::{self, FileStorage, Options};
                file::format(&directory, &identity)?;
                let backend = FileStorage::open(&directory, Options::default())?;
                Ok(Box::new(Counted { backend, counters }))
            }
        }
    }
}

fn sockets(setup: &Setup, nodes: &[NodeId]) -> Result<Vec<Socket>, Error> {
    match setup.transport {
        #[cfg(feature = "memory")]
        TransportKind::Memory => {
            let network = paxos_transport::memory::MemoryNetwork::default();
            Ok(nodes.iter().map(|_| Socket::Memory(network.clone())).collect())
        }
        #[cfg(feature = "tcp")]
        TransportKind::Tcp => Ok(network::configs(setup, nodes)?.into_iter().map(Socket::Tcp).collect()),
        #[cfg(feature = "quic")]
        TransportKind::Quic => Ok(network::configs(setup, nodes)?.into_iter().map(Socket::Quic).collect()),
        #[allow(unreachable_patterns, reason = "reached only if a transport is left out of the build")]
        other => Err(Error::NotBuilt(other.name())),
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
            Error::Transport(paxos_transport::Error::Listen { address, source })
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
