//! `paxos-node format`: turns an empty directory into a node's data directory.

use std::path::{Path, PathBuf};

use clap::Args;
use paxos_core::NodeId;

use super::Failure;
use super::terminal::say;

/// Turn an empty directory into a node's data directory.
///
/// Do this once for each node. `serve` never does it by itself: a node whose disk is not mounted must not
/// start without what it has promised.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The node's id, from 1 on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// The directory. It is made if it does not exist, and refused if it holds more than a new file system
    /// does.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Do nothing if the directory is this node's already, for scripts that may run again.
    #[arg(long)]
    if_missing: bool,
    /// The cluster's name, as in its certificates.
    #[arg(long, value_name = "NAME", default_value = "paxos")]
    cluster: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { id, data, cluster, if_missing } = arguments;
    let data = data.as_path();
    match format(data, cluster, NodeId(*id)) {
        Err(paxos_storage::Error::AlreadyFormatted { .. }) => return keep(data, cluster, *id, *if_missing),
        formatted => formatted?,
    }
    let data = data.display();
    say!("{data} is now the data directory of node {id} of cluster {cluster}");
    Ok(())
}

/// Refuses or accepts a directory that is a node's already.
fn keep(data: &Path, cluster: &str, id: u64, may_be_there: bool) -> Result<(), Failure> {
    let found = paxos_storage::file::identity(data)?;
    let (node, of) = (found.node(), found.cluster());
    let data = data.display();
    if (node, of) != (NodeId(id), cluster) {
        return Err(Failure::usage(format!("{data} is that of node {node} of cluster {of} already")));
    }
    if !may_be_there {
        return Err(Failure::usage(format!(
            "{data} is that of node {id} of cluster {cluster} already; with --if-missing that is no error"
        )));
    }
    say!("{data} is already the data directory of node {id} of cluster {cluster}");
    Ok(())
}

/// Formats a directory for a node.
pub(crate) fn format(directory: &Path, cluster: &str, node: NodeId) -> Result<(), paxos_storage::Error> {
    paxos_storage::file::format(directory, &paxos_storage::Identity::new(cluster, node))
}
