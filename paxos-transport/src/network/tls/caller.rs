//! Certificates of those who call, and how a caller verifies the node that it reaches.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::names::{claimed_node, operated_cluster};
use super::{CALL_PROTOCOL, Source, TlsIdentity, provider, server_name, tls_error};
use crate::Error;

/// The files of an operator, beside the CA's certificate.
const OPERATOR_FILES: [&str; 3] = ["ca.pem", "admin.pem", "admin-key.pem"];

/// The certificate and key of one who calls nodes: an operator, or a node.
pub struct CallIdentity {
    cluster: String,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for CallIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CallIdentity").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl CallIdentity {
    /// Reads `ca.pem`, `admin.pem` and `admin-key.pem` from a directory: the identity of an operator.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] if one is missing, or is not what it should be.
    pub fn load(directory: &Path) -> Result<CallIdentity, Error> {
        let [authority, chain, key] = OPERATOR_FILES.map(|name| Source::read(&directory.join(name)));
        CallIdentity::from_sources(&authority?, &chain?, &key?)
    }

    /// Takes the contents of the same files from memory.
    ///
    /// # Errors
    ///
    /// As [`load`](CallIdentity::load).
    pub fn from_pem(authority: &[u8], chain: &[u8], key: &[u8]) -> Result<CallIdentity, Error> {
        let source =
            |index: usize, pem: &[u8]| Source { name: OPERATOR_FILES[index].to_owned(), pem: pem.to_vec() };
        CallIdentity::from_sources(&source(0, authority), &source(1, chain), &source(2, key))
    }

    fn from_sources(authority: &Source, chain: &Source, key: &Source) -> Result<CallIdentity, Error> {
        let roots = authority.roots()?;
        let certificates = chain.certificates()?;
        let cluster = operated_cluster(&certificates[0])
            .ok_or_else(|| chain.wrong("the certificate is not that of an operator"))?;
        server_name(paxos_core::NodeId(0), &cluster)?;
        let key = key.key_of(chain, &certificates)?;
        Ok(CallIdentity { cluster, roots: Arc::new(roots), chain: certificates, key })
    }

    /// The cluster of the operator or node.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The name that the caller sends as that of the server. Nodes ignore it.
    pub(crate) fn any_name(&self) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(self.cluster.clone()).map_err(|_| Error::Name { name: self.cluster.clone() })
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider());
        let verifier = verifier.build().map_err(|error| Error::Tls { problem: error.to_string() })?;
        let verifier = AnyNode { verifier, cluster: self.cluster.clone() };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.alpn_protocols = vec![CALL_PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false; // What is sent early can be replayed.
        Ok(config)
    }
}

impl From<&TlsIdentity> for CallIdentity {
    /// The node itself calls.
    fn from(identity: &TlsIdentity) -> CallIdentity {
        CallIdentity {
            cluster: identity.cluster.clone(),
            roots: Arc::clone(&identity.roots),
            chain: identity.chain.clone(),
            key: identity.key.clone_key(),
        }
    }
}

/// Accepts any node of the cluster: a caller knows addresses, but not which node it reaches there.
#[derive(Debug)]
struct AnyNode {
    verifier: Arc<WebPkiServerVerifier>,
    cluster: String,
}

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let no_node = || TlsError::InvalidCertificate(CertificateError::NotValidForName);
        let node = claimed_node(end_entity, &self.cluster).ok_or_else(no_node)?;
        let name = server_name(node, &self.cluster).map_err(|_| no_node())?;
        self.verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
