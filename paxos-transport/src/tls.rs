//! Who is who: certificates, keys, and what they prove.
//!
//! A node's certificate holds its name, `node-ID.CLUSTER`, signed by the cluster's CA. Both ends of a connection
//! show theirs; nothing that a peer merely says about itself is believed. The negotiated protocol (ALPN) carries
//! the version of the framing, and which of the two connections between a pair of nodes it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paxos_core::NodeId;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
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
    /// [`Error::Certificate`] if one is missing, is not what it should be, or names another node or cluster.
    pub fn load(directory: &Path, node: NodeId, cluster: &str) -> Result<TlsIdentity, Error> {
        let authority = read(directory.join("ca.pem"))?;
        let chain = read(directory.join(format!("node-{node}.pem")))?;
        let key = read(directory.join(format!("node-{node}-key.pem")))?;
        TlsIdentity::from_pem(node, cluster, &authority, &chain, &key)
    }

    /// Takes the same from memory; the paths stand in messages about them.
    ///
    /// # Errors
    ///
    /// As [`load`](TlsIdentity::load).
    pub fn from_pem(
        node: NodeId,
        cluster: &str,
        (authority_path, authority): &(PathBuf, Vec<u8>),
        (chain_path, chain): &(PathBuf, Vec<u8>),
        (key_path, key): &(PathBuf, Vec<u8>),
    ) -> Result<TlsIdentity, Error> {
        let wrong = |file: &PathBuf, problem: String| Error::Certificate { file: file.clone(), problem };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authority).map_err(|problem| wrong(authority_path, problem))? {
            roots.add(certificate).map_err(|error| wrong(authority_path, error.to_string()))?;
        }
        let chain = certificates(chain).map_err(|problem| wrong(chain_path, problem))?;
        let names = names(&chain[0]).map_err(|problem| wrong(chain_path, problem))?;
        let name = node_name(node, cluster);
        if !names.contains(&name) {
            let problem = format!("the certificate is for {}, not for {name}", names.join(", "));
            return Err(wrong(chain_path, problem));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| wrong(key_path, format!("not a private key in PEM form: {error}")))?;
        Ok(TlsIdentity { node, cluster: cluster.to_owned(), roots: Arc::new(roots), chain, key })
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
        ServerName::try_from(node_name(peer, &self.cluster)).map_err(|error| Error::Tls(error.to_string()))
    }

    /// Which node the certificates of a peer prove it to be; whether they are signed has been checked before.
    pub(crate) fn prove(&self, chain: &[CertificateDer<'_>]) -> Result<NodeId, String> {
        let names = names(chain.first().ok_or("it has shown no certificate")?)?;
        let prefix_and_suffix = |name: &String| {
            name.strip_prefix("node-")?.strip_suffix(&format!(".{}", self.cluster))?.parse().ok().map(NodeId)
        };
        let found = names.iter().find_map(prefix_and_suffix);
        found.ok_or_else(|| format!("its certificate is for {}", names.join(", ")))
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
        let verifier = verifier.build().map_err(|error| Error::Tls(error.to_string()))?;
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

fn read(file: PathBuf) -> Result<(PathBuf, Vec<u8>), Error> {
    match std::fs::read(&file) {
        Ok(bytes) => Ok((file, bytes)),
        Err(error) => Err(Error::Certificate { file, problem: error.to_string() }),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let parsed = parsed.map_err(|error| format!("not a certificate in PEM form: {error}"))?;
    if parsed.is_empty() { Err(String::from("no certificate in PEM form is in it")) } else { Ok(parsed) }
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn tls_error(error: rustls::Error) -> Error {
    Error::Tls(error.to_string())
}
