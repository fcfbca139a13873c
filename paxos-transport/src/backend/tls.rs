//! The certificates of a cluster for a protocol that does its TLS with rustls 0.23.
//!
//! The versions of this module and of rustls change together.

use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};

use crate::{Error, TlsIdentity};

/// The settings of the side that is dialed, which asks for the peer's certificate, for these protocols
/// (ALPN).
///
/// # Errors
///
/// [`Error::Tls`] if rustls refuses the certificates.
pub fn server_config(identity: &TlsIdentity, protocols: &[&[u8]]) -> Result<ServerConfig, Error> {
    let mut config = identity.server_config()?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// The settings of the side that dials, for this protocol (ALPN).
///
/// # Errors
///
/// [`Error::Tls`] if rustls refuses the certificates.
pub fn client_config(identity: &TlsIdentity, protocol: &[u8]) -> Result<ClientConfig, Error> {
    identity.client_config(protocol)
}

/// The name that a peer's certificate must hold, for the side that dials.
///
/// # Errors
///
/// [`Error::Name`] if the name of the cluster can't be part of one.
pub fn server_name(identity: &TlsIdentity, peer: NodeId) -> Result<String, Error> {
    Ok(identity.server_name(peer)?.to_str().into_owned())
}

/// The node that a peer's certificates prove. Their signatures must have been verified in a handshake with
/// the settings above.
///
/// # Errors
///
/// [`Error::Certificate`] if they are not for one node of this cluster.
pub fn proved_node(identity: &TlsIdentity, chain: &[CertificateDer<'_>]) -> Result<NodeId, Error> {
    let wrong = |problem| Error::Certificate { file: String::from("the certificate of a peer"), problem };
    identity.prove(chain).map_err(wrong)
}
