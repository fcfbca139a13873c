//! `paxos-node restore`: makes a node's data directory for a new cluster from a backup.

use std::path::PathBuf;

use clap::Args;
use paxos_core::NodeId;
use paxos_node::backup::{self, NewNode};

use super::Failure;
use super::backup::{open, unreadable, when};
use super::terminal::say;

const EXAMPLES: &str = "\
Example, on each machine of the new cluster with its own --id:
  paxos-node restore --from today.backup --id 1 --data data
  paxos-node serve --id 1 --peers 1=a:9001,2=b:9001,3=c:9001 --client 0.0.0.0:6379 --http 0.0.0.0:8001 \\
      --data data --certs certs

Exit codes: 0 done, 1 not done, 2 usage, 4 the backup is damaged";

/// Make a node's data directory for a new cluster from a backup.
///
/// Run this for each founder of the new cluster, with the same file, name and --raise-revisions, and start
/// all of them with the same --peers: founders that differ refuse each other. The cluster is a new one: nodes
/// of the old one do not belong to it, even under the same name.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The node's id, from 1 on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// The directory. It is made if it does not exist, and refused if it holds more than a new file system
    /// does.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The name of the new cluster, as in its certificates [default: that of the backup].
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Raise revisions, which PAXOS.FENCE tells, by this number: by more than the old cluster may have given
    /// after the backup was taken.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    raise_revisions: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { from, id, data, cluster, raise_revisions } = arguments;
    let node = NewNode { id: NodeId(*id), cluster: cluster.as_deref(), raise_revisions_by: *raise_revisions };
    let restored = backup::restore(open(from)?, &node, data).map_err(|error| unreadable(from, error))?;
    let description = &restored.backup.description;
    say!(
        "{} is now the data directory of node {id} of a new cluster {}, restored from {} ({})",
        data.display(),
        restored.cluster,
        from.display(),
        restored.id
    );
    say!(
        "it begins with {} keys at slot {} of {}, and goes on from revision {}; start all founders with the same --peers",
        restored.backup.keys,
        description.slot,
        when(description.time_millis),
        restored.revision
    );
    Ok(())
}
