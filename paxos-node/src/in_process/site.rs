//! Where a node of an in-process cluster lives: what its backends may be made from.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use paxos_core::NodeId;
use paxos_storage::Identity;
use paxos_transport::Transport;
use paxos_transport::emulator::{Accuracy, Emulator, Network};
use tempfile::TempDir;

use super::factory::{BoxError, Carriage};
use super::{Error, Setup};
use crate::lock::lock;

const CLUSTER: &str = "in-process";
/// How often ports are drawn until one is free for both protocols.
const MAX_DRAWS: usize = 100;

/// What a factory is told about the node for which it makes a transport or a storage. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Site {
    node: NodeId,
    cluster: Arc<ClusterSite>,
}

/// What the nodes of one cluster have in common.
#[derive(Debug)]
pub(super) struct ClusterSite {
    nodes: Vec<NodeId>,
    carriage: Carriage,
    emulator: Option<Emulator>,
    /// Found when they are first asked for.
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    shared: Mutex<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    // Dropped with the cluster, whose nodes write to it as long as they run.
    directory: TempDir,
}

impl ClusterSite {
    pub(super) fn new(setup: &Setup) -> Result<Arc<ClusterSite>, Error> {
        let parent = setup.data.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("paxos-")
            .tempdir_in(&parent)
            .map_err(|error| Error::Directory { directory: parent, error })?;
        let start =
            |network: &Network| Emulator::start(network.clone(), setup.network_seed).map_err(Error::Emulator);
        Ok(Arc::new(ClusterSite {
            nodes: (1..=setup.nodes).map(NodeId).collect(),
            carriage: setup.transport.carriage(),
            emulator: setup.network.as_ref().map(start).transpose()?,
            addresses: Mutex::default(),
            shared: Mutex::default(),
            directory,
        }))
    }

    pub(super) fn sites(self: &Arc<ClusterSite>) -> Vec<Site> {
        self.nodes.iter().map(|&node| Site { node, cluster: Arc::clone(self) }).collect()
    }

    /// How exact the emulated network was until now, if there is one.
    pub(super) fn accuracy(&self) -> Option<Accuracy> {
        self.emulator.as_ref().map(Emulator::accuracy)
    }

    /// Ports of this machine that were free a moment ago, one for each node.
    fn addresses(&self) -> io::Result<BTreeMap<NodeId, SocketAddr>> {
        let mut addresses = lock(&self.addresses);
        if addresses.is_empty() {
            // All are held until all are found, so that none is found twice.
            let held = self.nodes.iter().map(|_| free_port()).collect::<io::Result<Vec<_>>>()?;
            *addresses = self.nodes.iter().copied().zip(held.iter().map(|(address, ..)| *address)).collect();
        }
        Ok(addresses.clone())
    }
}

impl Site {
    /// The transport behind the emulated network, if it has to be put before whole frames.
    pub(super) fn emulated(&self, transport: Box<dyn Transport>) -> Box<dyn Transport> {
        match &self.cluster.emulator {
            Some(emulator) if self.cluster.carriage == Carriage::Frames => emulator.frames(transport),
            _ => transport,
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// All nodes of the cluster, this one included.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.cluster.nodes
    }

    /// The name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        CLUSTER
    }

    /// The identity for the node's storage.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(CLUSTER, self.node)
    }

    /// A directory of the cluster, for sockets and logs: it exists, is the same for all nodes, and is removed
    /// with the cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.cluster.directory.path()
    }

    /// A path in that directory for this node alone; nothing is there yet.
    #[must_use]
    pub fn own_path(&self) -> PathBuf {
        self.directory().join(format!("node-{}", self.node))
    }

    /// The address on which this node is to listen. Its port was free a moment ago, for UDP and for TCP.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn listen_address(&self) -> io::Result<SocketAddr> {
        Ok(self.cluster.addresses()?[&self.node])
    }

    /// The addresses under which this node reaches the others. They lead through the emulated network, if
    /// there is one and the factory has said that its transport is
    /// [carried in](super::TransportFactory::carried_in) datagrams or streams.
    ///
    /// # Errors
    ///
    /// If no port is free, or the emulated network has no more sockets.
    pub fn peers(&self) -> io::Result<BTreeMap<NodeId, SocketAddr>> {
        let others = self.cluster.addresses()?.into_iter().filter(|(node, _)| *node != self.node);
        let reached = |(node, address)| {
            let address = match (&self.cluster.emulator, self.cluster.carriage) {
                (Some(emulator), Carriage::Datagrams) => emulator.datagrams(self.node, node, address)?,
                (Some(emulator), Carriage::Streams) => emulator.stream(self.node, node, address)?,
                _ => address,
            };
            Ok((node, address))
        };
        others.map(reached).collect()
    }

    /// Something that the nodes of the cluster share: the first that asks makes it, and the others get the
    /// same. There is one for each type.
    ///
    /// # Errors
    ///
    /// The error with which `make` has failed; the next node tries again.
    pub fn shared<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> Result<T, BoxError>,
    ) -> Result<Arc<T>, BoxError> {
        let known = lock(&self.cluster.shared).get(&TypeId::of::<T>()).cloned();
        let kept = if let Some(known) = known {
            known
        } else {
            // Not under the lock, as making it may ask for other things that are shared.
            let new: Arc<dyn Any + Send + Sync> = Arc::new(make()?);
            Arc::clone(lock(&self.cluster.shared).entry(TypeId::of::<T>()).or_insert(new))
        };
        Ok(kept.downcast().unwrap_or_else(|_| unreachable!("it is kept under its own type")))
    }
}

fn free_port() -> io::Result<(SocketAddr, UdpSocket, TcpListener)> {
    let mut result = Err(io::ErrorKind::AddrInUse.into());
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
