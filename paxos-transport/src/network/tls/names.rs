//! The names of nodes and operators in certificates.

use paxos_core::NodeId;
use rustls::pki_types::CertificateDer;

/// The name that a node's certificate holds.
pub(super) fn node_name(node: NodeId, cluster: &str) -> String {
    format!("node-{node}.{cluster}")
}

/// The node with this name.
pub(super) fn named_node(name: &str, cluster: &str) -> Option<NodeId> {
    let id = name.strip_prefix("node-")?.strip_suffix(cluster)?.strip_suffix('.')?;
    let node = NodeId(id.parse().ok()?);
    (name == node_name(node, cluster)).then_some(node)
}

/// The name that an operator's certificate holds: a URI, of which a node's certificate has none.
pub(super) fn operator_name(cluster: &str) -> String {
    format!("paxos://{cluster}/operator")
}

/// The cluster whose operator a certificate names, whoever has signed it.
pub(super) fn operated_cluster(certificate: &CertificateDer<'_>) -> Option<String> {
    let names = uri_names(certificate).ok()?;
    let cluster = |name: &String| Some(name.strip_prefix("paxos://")?.strip_suffix("/operator")?.to_owned());
    names.iter().find_map(cluster)
}

/// The node that a certificate names, whoever has signed it.
pub(super) fn claimed_node(certificate: &CertificateDer<'_>, cluster: &str) -> Option<NodeId> {
    names(certificate).ok()?.iter().find_map(|name| named_node(name, cluster))
}

/// The URIs in a certificate.
pub(super) fn uri_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_uri_names().map(str::to_owned).collect())
}

/// The DNS names in a certificate.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}
