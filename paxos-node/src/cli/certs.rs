//! `paxos-node certs`: the keys by which nodes know each other.

use std::path::PathBuf;

use clap::Args;
use paxos_core::NodeId;
use paxos_transport::certs;

use super::Failure;

/// Make a cluster CA and a certificate and key for each node.
///
/// Give each node ca.pem and its own two files; keep ca-key.pem away from all of them. To add nodes later, run it
/// again with a higher --nodes where all files are: only what is missing is made.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory to write to; made if it is not there. Nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many nodes: the ids are 1 to N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    nodes: u64,
    /// The cluster's name; a node refuses peers of any other.
    #[arg(long, value_name = "NAME", default_value = "paxos")]
    cluster: String,
    /// Names and addresses to put into each certificate beside the node's own name.
    #[arg(long, value_name = "H,..", value_delimiter = ',')]
    hosts: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let nodes: Vec<NodeId> = (1..=arguments.nodes).map(NodeId).collect();
    let written = certs::write_cluster(&arguments.out, &arguments.cluster, &nodes, &arguments.hosts)
        .map_err(Failure::usage)?;
    for file in &written {
        println!("wrote {}", file.display());
    }
    if written.is_empty() {
        println!("{} has all of them already: nothing was written", arguments.out.display());
    }
    Ok(())
}
