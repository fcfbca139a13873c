//! What makes the transports and storages of a cluster: ours, or those of whoever measures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use paxos_storage::Storage;
use paxos_transport::Transport;

use super::site::Site;
#[cfg(not(all(feature = "file", feature = "memory", feature = "quic", feature = "tcp")))]
use crate::backends::BackendError;

/// An error of a factory, whatever it is made with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type BindForNode = dyn Fn(Site) -> Binding + Send + Sync;
type OpenForNode = dyn Fn(&Site) -> Result<Box<dyn Storage>, BoxError> + Send + Sync;
type Binding = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, BoxError>>>>;

/// Binds a transport for each node of a cluster, under a name for tables and charts. Clones make the same.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use paxos_node::in_process::TransportFactory;
/// use paxos_transport::memory::MemoryNetwork;
///
/// // A network for each cluster, on which each of its nodes is bound.
/// let factory = TransportFactory::new("queues", |site| async move {
///     let network = site.shared(|| Ok(MemoryNetwork::default()))?;
///     Ok(network.bind(site.node()))
/// });
/// assert_eq!(factory.name(), "queues");
/// # }
/// ```
#[derive(Clone)]
pub struct TransportFactory {
    name: Arc<str>,
    carriage: Carriage,
    bind: Arc<BindForNode>,
}

/// What a transport sends its frames in: where a network emulator gets between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Carriage {
    /// Nothing that an emulator could get hold of: it delays and loses whole frames as they arrive.
    #[default]
    Frames,
    /// UDP datagrams to the addresses of the [`Site`].
    Datagrams,
    /// TCP connections to the addresses of the [`Site`].
    Streams,
}

impl TransportFactory {
    /// A factory that calls `bind` once for each node, on the thread and in the runtime that the node will
    /// run on.
    #[must_use]
    pub fn new<T, B>(
        name: impl Into<Arc<str>>,
        bind: impl Fn(Site) -> B + Send + Sync + 'static,
    ) -> TransportFactory
    where
        T: Transport + 'static,
        B: Future<Output = Result<T, BoxError>> + 'static,
    {
        let bind = move |site: Site| -> Binding {
            let bound = bind(site);
            Box::pin(async move { Ok(Box::new(bound.await?) as Box<dyn Transport>) })
        };
        TransportFactory { name: name.into(), carriage: Carriage::default(), bind: Arc::new(bind) }
    }

    /// Says what the transport sends its frames in, so that an emulator gets between its nodes there.
    #[must_use]
    pub fn carried_in(mut self, carriage: Carriage) -> TransportFactory {
        self.carriage = carriage;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A factory of a transport that this build does not have.
    #[cfg(not(all(feature = "memory", feature = "quic", feature = "tcp")))]
    pub(super) fn left_out(name: &'static str) -> TransportFactory {
        let bind = move |_| -> Binding { Box::pin(async move { Err(left_out(name)) }) };
        TransportFactory { name: name.into(), carriage: Carriage::default(), bind: Arc::new(bind) }
    }

    pub(super) fn carriage(&self) -> Carriage {
        self.carriage
    }

    pub(super) async fn bind(&self, site: Site) -> Result<Box<dyn Transport>, BoxError> {
        (self.bind)(site).await
    }
}

/// Opens a new storage for each node of a cluster, under a name for tables and charts. Clones make the same.
#[derive(Clone)]
pub struct StorageFactory {
    name: Arc<str>,
    open: Arc<OpenForNode>,
    blocks: bool,
    sync: Option<&'static str>,
}

impl StorageFactory {
    /// A factory that calls `open` once for each node, on the thread that the node will run on. Its storage
    /// gets a writer's thread of its own, as its calls may take long.
    #[must_use]
    pub fn new<S: Storage + 'static>(
        name: impl Into<Arc<str>>,
        open: impl Fn(&Site) -> Result<S, BoxError> + Send + Sync + 'static,
    ) -> StorageFactory {
        let open = move |site: &Site| Ok(Box::new(open(site)?) as Box<dyn Storage>);
        StorageFactory { name: name.into(), open: Arc::new(open), blocks: true, sync: None }
    }

    /// Says that no call of the storage waits for anything, so that it needs no thread of its own.
    #[must_use]
    pub fn that_never_blocks(mut self) -> StorageFactory {
        self.blocks = false;
        self
    }

    /// Says how the storage makes a write durable, for reports: `fdatasync`, or `none`.
    #[must_use]
    pub fn synced_by(mut self, how: &'static str) -> StorageFactory {
        self.sync = Some(how);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it makes a write durable, if it has said so.
    #[must_use]
    pub fn sync(&self) -> Option<&'static str> {
        self.sync
    }

    /// A factory of a storage that this build does not have.
    #[cfg(not(all(feature = "file", feature = "memory")))]
    pub(super) fn left_out(name: &'static str) -> StorageFactory {
        let open = move |_: &Site| Err(left_out(name));
        StorageFactory { name: name.into(), open: Arc::new(open), blocks: false, sync: None }
    }

    /// Whether its calls may take long.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.blocks
    }

    pub(super) fn open(&self, site: &Site) -> Result<Box<dyn Storage>, BoxError> {
        (self.open)(site)
    }
}

#[cfg(not(all(feature = "file", feature = "memory", feature = "quic", feature = "tcp")))]
fn left_out(name: &'static str) -> BoxError {
    Box::new(BackendError::NotCompiledIn { name })
}

impl fmt::Debug for TransportFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TransportFactory").field(&self.name).finish()
    }
}

impl fmt::Debug for StorageFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("StorageFactory").field(&self.name).finish()
    }
}
