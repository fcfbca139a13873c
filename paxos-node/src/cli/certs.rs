//! `paxos-node certs`: the certificates by which nodes and operators prove who they are.

use std::path::PathBuf;

use clap::Args;
use paxos_core::NodeId;
#[cfg(any(feature = "quic", feature = "tcp"))]
use paxos_transport::TlsIdentity;
use paxos_transport::certs;

use super::Failure;
use super::terminal::say;

/// Make a cluster CA and a certificate and key for each node and for operators.
///
/// Give each node ca.pem and its own two files, and keep ca-key.pem on none of them. Operators need ca.pem,
/// admin.pem and admin-key.pem, with which they change the members of the running cluster. To add nodes
/// later, run this with --add in the same directory, or again with a higher --nodes, which makes the files
/// that are missing.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory to write to, made if it does not exist. No file in it is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many nodes: the ids are 1 to N.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=64),
        required_unless_present = "add"
    )]
    nodes: Option<u64>,
    /// Add nodes with these ids to a CA that was made earlier, whose key must be in the directory.
    #[arg(
        long,
        value_name = "ID,..",
        value_parser = clap::value_parser!(u64).range(1..),
        value_delimiter = ',',
        conflicts_with = "nodes"
    )]
    add: Vec<u64>,
    /// The cluster's name; a node refuses peers of any other.
    #[arg(long, value_name = "NAME", default_value = "paxos")]
    cluster: String,
    /// Names and addresses to put into each certificate beside the node's own name.
    #[arg(long, value_name = "H,..", value_delimiter = ',')]
    hosts: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { out, cluster, hosts, .. } = arguments;
    let nodes: Vec<NodeId> = match arguments.nodes {
        Some(count) => (1..=count).map(NodeId).collect(),
        None => arguments.add.iter().copied().map(NodeId).collect(),
    };
    let written = if arguments.add.is_empty() {
        certs::write_cluster(out, cluster, &nodes, hosts)
    } else {
        certs::add_nodes(out, cluster, &nodes, hosts)
    };
    let written = written.map_err(Failure::usage)?;
    for file in &written {
        say!("wrote {}", file.display());
    }
    if written.is_empty() {
        say!("{} has all of them already: nothing was written", out.display());
    }
    #[cfg(any(feature = "quic", feature = "tcp"))]
    say_validity(arguments, &nodes);
    Ok(())
}

/// Prints which certificate expires first; nodes warn of that 30 days before.
#[cfg(any(feature = "quic", feature = "tcp"))]
fn say_validity(arguments: &Arguments, nodes: &[NodeId]) {
    let load = |node: &NodeId| TlsIdentity::load(&arguments.out, *node, &arguments.cluster).ok();
    let identities: Vec<TlsIdentity> = nodes.iter().filter_map(load).collect();
    let certificates = identities.iter().flat_map(TlsIdentity::certificates);
    if let Some(first) = certificates.min_by_key(|certificate| certificate.not_after) {
        let day = humantime::format_rfc3339_seconds(first.not_after).to_string();
        let day = day.split('T').next().unwrap_or_default();
        say!("the certificate that expires first is that of {}, on {day}", first.owner);
    }
}
