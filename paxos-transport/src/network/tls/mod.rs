//! Certificates and keys, and which node they prove.
//!
//! A node's certificate holds the name `node-ID.CLUSTER` and is signed by the cluster's CA. Both sides of a
//! connection send theirs, and a node's id is taken from there alone. An operator's certificate holds the
//! name `paxos://CLUSTER/operator` instead. The negotiated protocol (ALPN) carries the version of the
//! framing, and tells calls and the two connections between a pair of nodes apart.
//!
//! No session of TLS is resumed. A resumed handshake shows no certificates, so it would let in a node whose
//! certificate has expired since, or was signed by a CA that is trusted no longer. Handshakes between nodes
//! are rare, and a whole one takes no more round trips.

mod caller;
mod names;
pub(crate) mod problems;
mod refusals;
mod shared;

use std::path::Path;
use std::sync::Arc;

use paxos_core::NodeId;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use self::caller::CallIdentity;
use self::names::{named_node, names, node_name, operator_name, uri_names};
use self::refusals::{RefusalRecorder, RefusedNode};
pub use self::shared::SharedIdentity;
use crate::network::calls::Caller;
use crate::network::expiry;
use crate::{CertificateOwner, CertificateStatus, Error};

/// The ALPN protocol of the connection for `Control` and `Log`.
pub(crate) const MAIN_PROTOCOL: &[u8] = b"paxos/2";
/// The ALPN protocol of the connection for `Bulk`.
pub(crate) const BULK_PROTOCOL: &[u8] = b"paxos-bulk/2";

/// The ALPN protocol of calls.
pub(crate) const CALL_PROTOCOL: &[u8] = b"paxos-call/1";

/// The certificate and key of a node, and the CA by which it verifies its peers.
pub struct TlsIdentity {
    node: NodeId,
    cluster: String,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    refused: RefusedNode,
    /// The status of the CA's certificate that expires first, and of the node's own.
    certificates: Vec<CertificateStatus>,
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
    /// [`Error::Certificate`] if one is missing, is not what it should be, or belongs to another node,
    /// cluster or key.
    pub fn load(directory: &Path, node: NodeId, cluster: &str) -> Result<TlsIdentity, Error> {
        let [authority, chain, key] = file_names(node).map(|name| Source::read(&directory.join(name)));
        TlsIdentity::from_sources(node, cluster, &authority?, &chain?, &key?)
    }

    /// Takes the contents of the same files from memory.
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
        let roots = authority.roots()?;
        let authorities = authority.certificates()?;
        let validity = |certificate| expiry::of_certificate(CertificateOwner::Authority, certificate);
        let ends_first = authorities.iter().filter_map(validity).min_by_key(|status| status.not_after);
        let certificates = chain.certificates()?;
        let names = names(&certificates[0]).map_err(|problem| chain.wrong(problem))?;
        let name = node_name(node, cluster);
        if !names.contains(&name) {
            return Err(chain.wrong(format!("the certificate is for {}, not for {name}", names.join(", "))));
        }
        let private = key.key_of(chain, &certificates)?;
        let own = expiry::of_certificate(CertificateOwner::Node(node), &certificates[0]);
        Ok(TlsIdentity {
            certificates: ends_first.into_iter().chain(own).collect(),
            node,
            cluster: cluster.to_owned(),
            roots: Arc::new(roots),
            chain: certificates,
            key: private,
            refused: RefusedNode::default(),
        })
    }

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

    /// The validity of the certificates of the CA and of this node.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateStatus] {
        &self.certificates
    }

    /// A secret that stays the same across restarts.
    #[cfg(feature = "quic")]
    pub(crate) fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// The name that a peer's certificate must hold.
    pub(crate) fn server_name(&self, peer: NodeId) -> Result<ServerName<'static>, Error> {
        server_name(peer, &self.cluster)
    }

    /// The node that a peer's certificates prove. Their signatures were verified in the handshake.
    pub(crate) fn prove(&self, chain: &[CertificateDer<'_>]) -> Result<NodeId, String> {
        match self.prove_caller(chain)? {
            Caller::Node(node) => Ok(node),
            Caller::Operator => Err(String::from("its certificate is that of an operator, not of a node")),
        }
    }

    /// The node or operator that certificates prove. Their signatures were verified in the handshake.
    pub(crate) fn prove_caller(&self, chain: &[CertificateDer<'_>]) -> Result<Caller, String> {
        let certificate = chain.first().ok_or("it has shown no certificate")?;
        let (names, uris) = (names(certificate)?, uri_names(certificate)?);
        let mut nodes = names.iter().filter_map(|name| named_node(name, &self.cluster));
        let is_operator = uris.contains(&operator_name(&self.cluster));
        match (nodes.next(), nodes.next()) {
            (Some(_), _) if is_operator => {
                Err(format!("its certificate is for an operator and a node: {}", names.join(", ")))
            }
            (Some(node), None) => Ok(Caller::Node(node)),
            (Some(_), Some(_)) => Err(format!("its certificate is for several nodes: {}", names.join(", "))),
            (None, _) if is_operator => Ok(Caller::Operator),
            (None, _) => Err(format!(
                "its certificate is for {}, not for a node of cluster {}",
                [names, uris].concat().join(", "),
                self.cluster
            )),
        }
    }

    /// Checks that the CA vouches now for a certificate, that of a node or an operator.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let (certificate, intermediates) = chain.split_first().ok_or("there is no certificate")?;
        let verifier = self.verifier().map_err(|error| error.to_string())?;
        let result = verifier.verify_client_cert(certificate, intermediates, UnixTime::now());
        result.map(drop).map_err(|error| error.to_string())
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        verifier.build().map_err(|error| Error::Tls { problem: error.to_string() })
    }

    /// The node named by the certificate that was refused last, if any was since the last call.
    pub(crate) fn take_refused_node(&self) -> Option<NodeId> {
        self.refused.take()
    }

    pub(crate) fn client_config(&self, protocol: &[u8]) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config =
            builder.with_client_auth_cert(self.chain.clone(), self.key.clone_key()).map_err(tls_error)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false; // What is sent early can be replayed.
        Ok(config)
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, Error> {
        let verifier = self.verifier()?;
        let (cluster, refused) = (self.cluster.clone(), self.refused.clone());
        let verifier = Arc::new(RefusalRecorder { verifier, cluster, refused });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = [MAIN_PROTOCOL, BULK_PROTOCOL, CALL_PROTOCOL].map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

/// Given to each configuration: a library must not choose the provider for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_name(node: NodeId, cluster: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(node_name(node, cluster)).map_err(|_| Error::Name { name: cluster.to_owned() })
}

fn file_names(node: NodeId) -> [String; 3] {
    [String::from("ca.pem"), format!("node-{node}.pem"), format!("node-{node}-key.pem")]
}

/// The contents of a PEM file, and its name for errors.
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

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.wrong(error))?;
        }
        Ok(roots)
    }

    /// The key, which must be that of `certificates`, which are from `chain`.
    fn key_of(
        &self,
        chain: &Source,
        certificates: &[CertificateDer<'static>],
    ) -> Result<PrivateKeyDer<'static>, Error> {
        let key = PrivateKeyDer::from_pem_slice(&self.pem)
            .map_err(|error| self.wrong(format!("not a private key in PEM form: {error}")))?;
        let fits = CertifiedKey::from_der(certificates.to_vec(), key.clone_key(), &provider());
        fits.map_err(|error| self.wrong(format!("does not fit the certificate in {}: {error}", chain.name)))?;
        Ok(key)
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::Certificate { file: self.name.clone(), problem: problem.to_string() }
    }
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
    fn an_operator_is_no_node() {
        let made = make_cluster("home", &[NodeId(1)], &[]).expect("certificates are made");
        let (_, own, key) = &made.nodes[0];
        let authority = made.authority.as_bytes();
        let own = TlsIdentity::from_pem(NodeId(1), "home", authority, own.as_bytes(), key.as_bytes());
        let own = own.expect("the certificates are in order");
        let operator = CertificateDer::from_pem_slice(made.operator.0.as_bytes()).expect("it is one");
        let chain = std::slice::from_ref(&operator);
        assert_eq!(own.prove_caller(chain), Ok(Caller::Operator));
        assert!(own.prove(chain).is_err_and(|problem| problem.contains("an operator, not of a node")));
        assert_eq!(own.prove_caller(&own.chain), Ok(Caller::Node(NodeId(1))));
        let away = make_cluster("away", &[], &[]).expect("certificates are made").operator.0;
        let away = CertificateDer::from_pem_slice(away.as_bytes()).expect("it is one");
        assert!(own.prove_caller(&[away]).is_err(), "an operator of another cluster is none here");
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
