//! What a networked backend implements for its connections.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::network::link::{Claim, Ended};

/// An authenticated connection to a peer.
pub(crate) trait Connection: Send + 'static {
    /// Sends and receives frames until the connection breaks, or until the queues are closed and empty.
    fn carry(self, claim: &Arc<Claim>) -> impl Future<Output = Ended> + Send;

    /// The peer's address.
    fn peer_address(&self) -> SocketAddr;

    /// The certificates that the peer has shown, its own first.
    fn peer_chain(&self) -> Vec<CertificateDer<'static>>;
}
