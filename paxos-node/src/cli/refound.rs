//! `paxos-node refound`: gives a stopped cluster other members.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use paxos_core::NodeId;
use paxos_node::{NodeError, refound};
use paxos_storage::file::{FileSettings, FileStorage};

use super::Failure;
use super::terminal::say;

/// Give a stopped cluster other members, for example to replace a node that is lost.
///
/// Only for a cluster whose members were never changed while it ran, as by `paxos-node member`: else its log
/// says who they are, and this is refused.
///
/// Stop all nodes first, once the nodes that stay show the same CHOSEN in `status`. Run this on each node
/// that stays, with the same members; then format the new nodes, and start all with the new --peers.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The data directory of a node that stays.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The ids of all nodes that the cluster will have.
    #[arg(long, value_name = "ID,..", value_delimiter = ',', required = true)]
    members: Vec<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let storage = FileStorage::open(&arguments.data, FileSettings::default())?;
    let members: BTreeSet<NodeId> = arguments.members.iter().copied().map(NodeId).collect();
    let data = arguments.data.display();
    refound(Box::new(storage), &members).map_err(|error| match error {
        NodeError::Settings(problem) => Failure::usage(format!("{data}: {problem}")),
        NodeError::MembersInLog { .. } => Failure::usage(format!("{data}: {error}; see 'paxos-node member'")),
        other => Failure::from(other),
    })?;
    let ids: Vec<String> = members.iter().map(NodeId::to_string).collect();
    say!("{data} now belongs to the cluster of nodes {}", ids.join(", "));
    Ok(())
}
