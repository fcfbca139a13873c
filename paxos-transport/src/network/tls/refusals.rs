//! Remembers which node was refused: TLS reports that a certificate is invalid, but not which node it names.

use std::sync::{Arc, Mutex};

use paxos_core::NodeId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::names::claimed_node;
use crate::lock::lock;

/// The node named by the certificate that was refused last. Use it in messages to the operator only: anybody
/// can make such a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedNode(Arc<Mutex<Option<NodeId>>>);

impl RefusedNode {
    pub(super) fn take(&self) -> Option<NodeId> {
        lock(&self.0).take()
    }

    fn set(&self, node: Option<NodeId>) {
        *lock(&self.0) = node;
    }
}

/// Verifies as `verifier` does, and remembers the node named by a certificate that is refused.
#[derive(Debug)]
pub(super) struct RefusalRecorder {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) cluster: String,
    pub(super) refused: RefusedNode,
}

impl ClientCertVerifier for RefusalRecorder {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now);
        if verified.is_err() {
            self.refused.set(claimed_node(end_entity, &self.cluster));
        }
        verified
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
