//! `paxos-node certs`: the certificates by which nodes and operators prove who they are.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use paxos_core::NodeId;
#[cfg(any(feature = "quic", feature = "tcp"))]
use paxos_transport::TlsIdentity;
use paxos_transport::certs::{self, RenewedKeys};

use super::Failure;
use super::terminal::say;

/// Make a cluster CA and a certificate and key for each node and for operators.
///
/// Give each node ca.pem and its own two files, and keep ca-key.pem on none of them. Operators need ca.pem,
/// admin.pem and admin-key.pem, with which they change the members of the running cluster. To add nodes
/// later, run this with --add in the same directory, or again with a higher --nodes, which makes the files
/// that are missing.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The directory to write to, made if it does not exist. No file in it is overwritten.
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
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

const EXAMPLES: &str = "\
Examples:
  paxos-node certs --out certs --nodes 3 --hosts a.example.org,10.0.0.1
  paxos-node certs --out certs --add 4      for one more node
  paxos-node certs renew --out certs        then give each node its new files; running nodes take them up";

#[derive(Subcommand)]
enum Command {
    /// Replace the certificates of all nodes and of the operators by new ones of the same CA.
    ///
    /// They have the names of the old ones, and serial numbers of their own. Give each node its new files: a
    /// node that runs takes them up within seconds, or at once on SIGHUP, and serves on meanwhile.
    Renew(Renew),
}

#[derive(Args)]
struct Renew {
    /// The directory with the CA, its key, and the certificates to replace.
    #[arg(long, alias = "dir", value_name = "DIR")]
    out: PathBuf,
    /// Make new keys, too; else the certificates are for the old ones.
    #[arg(long)]
    new_keys: bool,
    /// The cluster's name.
    #[arg(long, value_name = "NAME", default_value = "paxos")]
    cluster: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match (&arguments.command, &arguments.out) {
        (Some(Command::Renew(renew)), _) => run_renew(renew),
        (None, Some(out)) => make(arguments, out),
        (None, None) => Err(Failure::usage("--out is missing: name the directory to write to")),
    }
}

fn run_renew(arguments: &Renew) -> Result<(), Failure> {
    let keys = if arguments.new_keys { RenewedKeys::New } else { RenewedKeys::Same };
    let written = certs::renew(&arguments.out, &arguments.cluster, keys).map_err(Failure::usage)?;
    for file in &written {
        say!("wrote {}", file.display());
    }
    if written.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no certificates of nodes or operators: make them with 'paxos-node certs --nodes'",
            arguments.out.display()
        )));
    }
    Ok(())
}

fn make(arguments: &Arguments, out: &Path) -> Result<(), Failure> {
    let Arguments { cluster, hosts, .. } = arguments;
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
    say_validity(out, cluster, &nodes);
    Ok(())
}

/// Prints which certificate expires first; nodes warn of that 30 days before.
#[cfg(any(feature = "quic", feature = "tcp"))]
fn say_validity(out: &Path, cluster: &str, nodes: &[NodeId]) {
    let load = |node: &NodeId| TlsIdentity::load(out, *node, cluster).ok();
    let identities: Vec<TlsIdentity> = nodes.iter().filter_map(load).collect();
    let certificates = identities.iter().flat_map(TlsIdentity::certificates);
    if let Some(first) = certificates.min_by_key(|certificate| certificate.not_after) {
        let day = humantime::format_rfc3339_seconds(first.not_after).to_string();
        let day = day.split('T').next().unwrap_or_default();
        say!("the certificate that expires first is that of {}, on {day}", first.owner);
    }
}
