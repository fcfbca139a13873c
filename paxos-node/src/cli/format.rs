//! `paxos-node format`: makes an empty directory that of a node.

use std::path::{Path, PathBuf};

use clap::Args;
use paxos_core::NodeId;

use super::Failure;

/// Make an empty data directory that of a node.
///
/// Done once for each node. `serve` never does it by itself: an unmounted disk must not become a node that has
/// forgotten what it promised.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The node's id, from 1 on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// The directory; made if it is not there, and refused if anything is in it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The cluster's name, as in its certificates.
    #[arg(long, value_name = "NAME", default_value = "paxos")]
    cluster: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    format(&arguments.data, &arguments.cluster, NodeId(arguments.id))?;
    let Arguments { id, data, cluster } = arguments;
    println!("{} is now the data directory of node {id} of cluster {cluster}", data.display());
    Ok(())
}

/// Makes a directory that of a node.
pub(crate) fn format(directory: &Path, cluster: &str, node: NodeId) -> Result<(), Failure> {
    let identity = paxos_storage::Identity::new(cluster, node);
    Ok(paxos_storage::file::format(directory, &identity)?)
}
