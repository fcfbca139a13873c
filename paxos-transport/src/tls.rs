//! Who is who: certificates, keys, and what they prove.
//!
//! A node's certificate holds its name, `node-ID.CLUSTER`, signed by the cluster's CA. Both ends of a connection
//! show theirs; nothing that a peer merely says about itself is believed. The negotiated protocol (ALPN) carries
//! the version of the framing, and which of the two connections between a pair of nodes it is.

use std::path::Path;
use std::sync::Arc;

use paxos_core::NodeId;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Error;

/// The protocol of the connection for control and log.
pub(crate) const MAIN_PROTOCOL: &[u8] = b"paxos/1";
/// The protocol of the connection for bulk.
pub(crate) const BULK_PROTOCOL: &[u8] = b"paxos-bulk/1";

/// What proves who a node is, and by whom it wants others proved.
pub struct TlsIdentity {
    node: NodeId,
    cluster: String,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TlsIdentity { node, cluster, .. } = self;
        formatter
            .debug_struct("TlsIdentity")
            .field("node", node)
            .field("cluster", cluster)
            .finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// Reads `ca.pem`, `node-ID.pem` and `node-ID-key.pem` from a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] if one is missing, is not what it should be, or belongs to another node, cluster or
    /// key.
    pub fn load(directory: &Path, node: NodeId, cluster: &str) -> Result<TlsIdentity, Error> {
        let [authority, chain, key] = file_names(node).map(|name| Source::read(&directory.join(name)));
        TlsIdentity::from_sources(node, cluster, &authority?, &chain?, &key?)
    }

    /// Takes what would be in these files from memory.
    ///
    /// # Errors
    ///
    /// As [`load`](TlsIdentity::load).
    pub fn from_pem(
        node: NodeId,
        cluster: &str,
        authority: &[u8],
        chain: &[u8],
        key: &[u8],
    ) -> Result<TlsIdentity, Error> {
        let names = file_names(node);
        let source = |index: usize, pem: &[u8]| Source { name: names[index].clone(), pem: pem.to_vec() };
        TlsIdentity::from_sources(node, cluster, &source(0, authority), &source(1, chain), &source(2, key))
    }

    fn from_sources(
        node: NodeId,
        cluster: &str,
        authority: &Source,
        chain: &Source,
        key: &Source,
    ) -> Result<TlsIdentity, Error> {
        server_name(node, cluster)?;
        let mut roots = RootCertStore::empty();
        for certificate in authority.certificates()? {
            roots.add(certificate).map_err(|error| authority.wrong(error))?;
        }
        let certificates = chain.certificates()?;
        let names = names(&certificates[0]).map_err(|problem| chain.wrong(problem))?;
        let name = node_name(node, cluster);
        if !names.contains(&name) {
            return Err(chain.wrong(format!("the certificate is for {}, not for {name}", names.join(", "))));
        }
        let private = PrivateKeyDer::from_pem_slice(&key.pem)
            .map_err(|error| key.wrong(format!("not a private key in PEM form: {error}")))?;
        let fits = CertifiedKey::from_der(certificates.clone(), private.clone_key(), &provider());
        fits.map_err(|error| key.wrong(format!("does not fit the certificate in {}: {error}", chain.name)))?;
        Ok(TlsIdentity {
            node,
            cluster: cluster.to_owned(),
            roots: Arc::new(roots),
            chain: certificates,
            key: private,
        })
    }

    /// Whom this proves.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// A secret that stays the same when the node is started again.
    #[cfg(feature = "quic")]
    pub(crate) fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// The name to ask a peer for when connecting to it.
    pub(crate) fn server_name(&self, peer: NodeId) -> Result<ServerName<'static>, Error> {
        server_name(peer, &self.cluster)
    }

    /// Which node the certificates of a peer prove it to be; whether they are signed has been checked before.
    pub(crate) fn prove(&self, chain: &[CertificateDer<'_>]) -> Result<NodeId, String> {
        let names = names(chain.first().ok_or("it has shown no certificate")?)?;
        let mut nodes = names.iter().filter_map(|name| {
            let id = name.strip_prefix("node-")?.strip_suffix(self.cluster.as_str())?.strip_suffix('.')?;
            let node = NodeId(id.parse().ok()?);
            (*name == node_name(node, &self.cluster)).then_some(node)
        });
        match (nodes.next(), nodes.next()) {
            (Some(node), None) => Ok(node),
            (Some(_), Some(_)) => Err(format!("its certificate is for several nodes: {}", names.join(", "))),
            (None, _) => Err(format!(
                "its certificate is for {}, not for a node of cluster {}",
                names.join(", "),
                self.cluster
            )),
        }
    }

    pub(crate) fn client_config(&self, protocol: &[u8]) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config =
            builder.with_client_auth_cert(self.chain.clone(), self.key.clone_key()).map_err(tls_error)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        config.enable_early_data = false; // What is sent early can be replayed.
        Ok(config)
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        let verifier = verifier.build().map_err(|error| Error::Tls { problem: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.alpn_protocols = vec![MAIN_PROTOCOL.to_vec(), BULK_PROTOCOL.to_vec()];
        Ok(config)
    }
}

/// The name of a node in certificates.
pub(crate) fn node_name(node: NodeId, cluster: &str) -> String {
    format!("node-{node}.{cluster}")
}

/// Given to each configuration by itself: a library must not choose for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_name(node: NodeId, cluster: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(node_name(node, cluster)).map_err(|_| Error::Name { name: cluster.to_owned() })
}

fn file_names(node: NodeId) -> [String; 3] {
    [String::from("ca.pem"), format!("node-{node}.pem"), format!("node-{node}-key.pem")]
}

/// Text in PEM form, and where it is from.
struct Source {
    name: String,
    pem: Vec<u8>,
}

impl Source {
    fn read(file: &Path) -> Result<Source, Error> {
        let name = file.display().to_string();
        match std::fs::read(file) {
            Ok(pem) => Ok(Source { name, pem }),
            Err(error) => Err(Error::Certificate { file: name, problem: error.to_string() }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.pem).collect();
        let parsed = parsed.map_err(|error| self.wrong(format!("not a certificate in PEM form: {error}")))?;
        if parsed.is_empty() {
            Err(self.wrong("there is no certificate in PEM form in it"))
        } else {
            Ok(parsed)
        }
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::Certificate { file: self.name.clone(), problem: problem.to_string() }
    }
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn tls_error(error: rustls::Error) -> Error {
    Error::Tls { problem: error.to_string() }
}

#[cfg(all(test, feature = "certs"))]
mod tests {
    use super::*;
    use crate::certs::make_cluster;

    /// What node 1 of cluster `home` takes node 1 of `cluster` for, whose certificate also names `hosts`.
    fn proved(cluster: &str, hosts: &[&str]) -> Result<NodeId, String> {
        let chain = |cluster: &str, hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let made = make_cluster(cluster, &[NodeId(1)], &hosts).expect("certificates are made");
            let (_, chain, key) = made.nodes[0].clone();
            (made.authority, chain, key)
        };
        let (authority, own, key) = chain("home", &[]);
        let own =
            TlsIdentity::from_pem(NodeId(1), "home", authority.as_bytes(), own.as_bytes(), key.as_bytes());
        let shown = chain(cluster, hosts).1;
        let shown = CertificateDer::from_pem_slice(shown.as_bytes()).expect("it is a certificate");
        own.expect("the certificates are in order").prove(&[shown])
    }

    #[test]
    fn a_certificate_proves_one_node_of_this_cluster_or_nothing() {
        assert_eq!(proved("home", &["example.org", "10.0.0.1"]), Ok(NodeId(1)));
        assert!(proved("away", &[]).is_err_and(|problem| problem.contains("not for a node of cluster home")));
        assert!(proved("at.home", &[]).is_err(), "the name of the cluster is the whole rest");
        assert!(proved("home", &["node-2.home"]).is_err_and(|problem| problem.contains("several nodes")));
        assert_eq!(proved("away", &["node-02.home", "node-3.home"]), Ok(NodeId(3)), "ids have one spelling");
    }
}
