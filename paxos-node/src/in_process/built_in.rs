//! The factories of the backends that come with the workspace.

#[cfg(any(feature = "quic", feature = "tcp"))]
use paxos_transport::NetworkConfig;

#[cfg(any(feature = "quic", feature = "tcp"))]
use super::factory::{BoxError, Carriage};
use super::factory::{StorageFactory, TransportFactory};
#[cfg(any(feature = "quic", feature = "tcp"))]
use super::site::Site;
#[cfg(any(doc, feature = "file", feature = "quic", feature = "tcp"))]
use crate::backends::BackendError;
use crate::backends::{StorageKind, TransportKind};

impl From<TransportKind> for TransportFactory {
    /// The factory of one of our transports. If this build does not have it, starting a cluster fails with
    /// [`BackendError::NotCompiledIn`].
    fn from(kind: TransportKind) -> TransportFactory {
        match kind {
            #[cfg(feature = "memory")]
            TransportKind::Memory => TransportFactory::new(kind.name(), |site| async move {
                let network = site.shared(|| Ok(paxos_transport::memory::MemoryNetwork::default()))?;
                Ok(network.bind(site.node()))
            }),
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => TransportFactory::new(kind.name(), |site| async move {
                Ok(paxos_transport::tcp::bind(network_config(&site)?).await.map_err(BackendError::from)?)
            })
            .carried_in(Carriage::Streams),
            #[cfg(feature = "quic")]
            TransportKind::Quic => TransportFactory::quic(kind.name(), |_| {}),
            #[cfg(not(all(feature = "memory", feature = "quic", feature = "tcp")))]
            other => TransportFactory::left_out(other.name()),
        }
    }
}

#[cfg(feature = "quic")]
impl TransportFactory {
    /// QUIC with other settings: how many streams accepts are spread over, for example.
    #[must_use]
    pub fn quic(
        name: impl Into<std::sync::Arc<str>>,
        change: impl Fn(&mut NetworkConfig) + Clone + Send + Sync + 'static,
    ) -> TransportFactory {
        let bind = move |site: Site| {
            let change = change.clone();
            async move {
                let mut config = network_config(&site)?;
                change(&mut config);
                Ok(paxos_transport::quic::bind(config).await.map_err(BackendError::from)?)
            }
        };
        TransportFactory::new(name, bind).carried_in(Carriage::Datagrams)
    }
}

/// The settings for a node, with a certificate that was made in memory.
#[cfg(any(feature = "quic", feature = "tcp"))]
fn network_config(site: &Site) -> Result<NetworkConfig, BoxError> {
    use paxos_transport::{TlsIdentity, certs};

    let made = site
        .shared(|| Ok(certs::make_cluster(site.cluster(), site.nodes(), &[]).map_err(BackendError::from)?))?;
    let (_, certificate, key) =
        made.nodes.iter().find(|(node, ..)| *node == site.node()).expect("each node has a certificate");
    let authority = made.authority.as_bytes();
    let identity =
        TlsIdentity::from_pem(site.node(), site.cluster(), authority, certificate.as_bytes(), key.as_bytes())
            .map_err(BackendError::from)?;
    let peers = site.peers()?.into_iter().map(|(node, address)| (node, address.to_string())).collect();
    Ok(NetworkConfig::new(site.node(), site.listen_address()?, peers, identity))
}

impl From<StorageKind> for StorageFactory {
    /// The factory of one of our storages. If this build does not have it, starting a cluster fails with
    /// [`BackendError::NotCompiledIn`].
    fn from(kind: StorageKind) -> StorageFactory {
        match kind {
            #[cfg(feature = "memory")]
            StorageKind::Memory => StorageFactory::new(kind.name(), |site| {
                Ok(paxos_storage::memory::MemoryStorage::new(site.identity()))
            })
            .that_never_blocks()
            .synced_by("none"),
            #[cfg(feature = "file")]
            StorageKind::File => StorageFactory::new(kind.name(), |site| {
                use paxos_storage::file::{self, FileSettings, FileStorage};
                let open = || {
                    file::format(&site.own_path(), &site.identity())?;
                    FileStorage::open(&site.own_path(), FileSettings::default())
                };
                Ok(open().map_err(BackendError::from)?)
            })
            .synced_by("fdatasync"),
            #[cfg(not(all(feature = "file", feature = "memory")))]
            other => StorageFactory::left_out(other.name()),
        }
    }
}
