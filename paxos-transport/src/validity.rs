//! The validity of certificates.

use std::time::SystemTime;

use paxos_core::NodeId;

/// The validity of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The owner of the certificate.
    pub owner: CertificateOwner,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
}

impl CertificateStatus {
    /// The status of a certificate that is valid between these two times.
    #[must_use]
    pub fn new(owner: CertificateOwner, not_before: SystemTime, not_after: SystemTime) -> CertificateStatus {
        CertificateStatus { owner, not_before, not_after }
    }

    /// Reads the status of the first certificate in PEM form; `None` if there is none, or it is malformed.
    #[cfg(feature = "network")]
    #[must_use]
    pub fn from_pem(owner: CertificateOwner, pem: &[u8]) -> Option<CertificateStatus> {
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(pem).ok()?;
        crate::network::expiry::of_certificate(owner, &certificate)
    }
}

/// The owner of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum CertificateOwner {
    /// The cluster's CA; if there are several, the one that expires first. The TLS library of this crate
    /// accepts an expired CA, but other programs do not.
    Authority,
    /// A node: this one, or a peer, whose certificate was seen when it last connected.
    Node(NodeId),
    /// The port for clients, if it has a certificate of its own. No transport knows of it.
    Clients,
}

impl std::fmt::Display for CertificateOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CertificateOwner::Authority => formatter.write_str("the CA"),
            CertificateOwner::Node(node) => write!(formatter, "node {node}"),
            CertificateOwner::Clients => formatter.write_str("the port for clients"),
        }
    }
}
