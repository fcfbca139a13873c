//! The identity of a running transport, which can be replaced by a newer one of the same node.

use std::sync::Arc;

use paxos_core::NodeId;
use tokio::sync::watch;

use super::{MAIN_PROTOCOL, TlsIdentity};
use crate::Error;

/// The identity of a running transport. Clones share it: keep one, and [`replace`](SharedIdentity::replace)
/// the identity when there are new certificates.
///
/// ```no_run
/// # use std::collections::BTreeMap;
/// # use std::path::Path;
/// # use paxos_core::NodeId;
/// use paxos_transport::{NetworkConfig, SharedIdentity, TlsIdentity};
///
/// let load = || TlsIdentity::load(Path::new("certs"), NodeId(1), "example");
/// let identity = SharedIdentity::from(load()?);
/// let peers = BTreeMap::new();
/// let config = NetworkConfig::new(NodeId(1), ([0, 0, 0, 0], 9001).into(), peers, identity.clone());
/// // The transport is bound and runs. Later the files are replaced:
/// identity.replace(load()?)?;
/// # Ok::<(), paxos_transport::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedIdentity {
    node: NodeId,
    cluster: Arc<str>,
    current: Arc<watch::Sender<Arc<TlsIdentity>>>,
}

impl From<TlsIdentity> for SharedIdentity {
    fn from(identity: TlsIdentity) -> SharedIdentity {
        SharedIdentity {
            node: identity.node(),
            cluster: identity.cluster().into(),
            current: Arc::new(watch::Sender::new(Arc::new(identity))),
        }
    }
}

impl SharedIdentity {
    /// The node that the certificate proves.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster that the certificate names.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The present identity.
    #[must_use]
    pub fn current(&self) -> Arc<TlsIdentity> {
        Arc::clone(&self.current.borrow())
    }

    /// Replaces the identity. All handshakes from now on use the new one. Connections go on, unless the new
    /// CA does not vouch for the certificate that the other side has shown: those are closed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is of another node or cluster; [`Error::Tls`] if the own CA does not vouch for
    /// the new certificate now, for example because it has expired. The present identity stays in force then.
    pub fn replace(&self, identity: TlsIdentity) -> Result<(), Error> {
        let check = |holds: bool, problem| {
            if holds { Ok(()) } else { Err(Error::Config { setting: "identity", problem }) }
        };
        check(identity.node() == self.node, "belongs to another node than the one that it replaces")?;
        check(
            identity.cluster() == self.cluster(),
            "belongs to another cluster than the one that it replaces",
        )?;
        identity.client_config(MAIN_PROTOCOL)?;
        identity.server_config()?;
        identity.verify(&identity.chain).map_err(|error| Error::Tls {
            problem: format!("the CA does not vouch for the certificate of this node: {error}"),
        })?;
        self.current.send_replace(Arc::new(identity));
        Ok(())
    }

    /// Tells of replacements from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<TlsIdentity>> {
        self.current.subscribe()
    }
}
