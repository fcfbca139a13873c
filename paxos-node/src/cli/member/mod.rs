//! `paxos-node member`: shows and changes the members of a running cluster.
//!
//! Operators' calls go to the port for peers, by an operator's certificate. [`contact`] finds the leader and
//! follows it, [`orders`] has one change made, and [`replace`] makes the three that replace a node.

pub(super) mod contact;
mod finalize;
mod list;
mod orders;
mod replace;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use paxos_node::backends::TransportKind;
use paxos_node::fronts::operator::ChangeOrder;
use paxos_transport::calls::CallIdentity;

use self::contact::Contact;
use self::orders::{Order, Terms};
use super::choice::one_of;
use super::options::{NETWORK_TRANSPORTS, parse_addresses};
use super::terminal::say;
use super::{Failure, runtime};

const EXAMPLES: &str = "\
Examples, for a cluster with a node at a:9001:
  paxos-node member list --via a:9001,b:9001 --certs certs
  paxos-node member replace --id 2 --with 4 --address d:9001 --via a:9001,b:9001 --certs certs
  paxos-node member transfer --to 3 --via a:9001 --certs certs
  paxos-node member finalize --via a:9001 --certs certs     all nodes run the new version, and it is to stay

A new node: 'paxos-node certs --out certs --add 4', then on its machine 'paxos-node format --id 4 --data data' and
  paxos-node serve --id 4 --join a:9001,b:9001 --listen d:9001 \\
      --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs

Each command returns when its change is in force, and may be run again. Exit codes: 0 done, 1 not done, 2 usage";

/// Show and change the members of a running cluster.
///
/// Each command asks some member, finds the leader, and returns when the change is in force, or says in one
/// line why it is not made.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the members, and how far each lags.
    List {
        #[command(flatten)]
        cluster: Cluster,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a node as a learner, which has no vote.
    Add {
        #[command(flatten)]
        member: MemberAt,
        #[command(flatten)]
        change: Change,
    },
    /// Give a learner a vote. Refused while it lags too far behind.
    Promote {
        #[command(flatten)]
        member: Member,
        #[command(flatten)]
        change: Change,
    },
    /// Take a voter's vote: it becomes a learner.
    Demote {
        #[command(flatten)]
        member: Member,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a member for good: its id is never used again, and its process ends with exit code 5.
    Remove {
        #[command(flatten)]
        member: Member,
        #[command(flatten)]
        change: Change,
    },
    /// Replace a node by a new one: add, wait until it has caught up, promote, and remove the old one.
    ///
    /// Safe to run again at any point: it goes on where the last run has ended.
    Replace {
        #[command(flatten)]
        member: Member,
        /// The id of the new node, which was never a member's.
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        with: u64,
        /// Where its peers reach the new node.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        #[command(flatten)]
        cluster: Cluster,
        /// Remove the old node even if no quorum of the new voters is heard from.
        #[arg(long)]
        force: bool,
    },
    /// Have peers reach a member at another address. Restart it there with --listen.
    Move {
        #[command(flatten)]
        member: MemberAt,
        #[command(flatten)]
        change: Change,
    },
    /// Set which voters lead rather than others: the highest priority does; 0 never leads.
    Priority {
        #[command(flatten)]
        member: Member,
        /// The priority, 1 for members for which none was set.
        #[arg(long, value_name = "0..255")]
        priority: u8,
        #[command(flatten)]
        change: Change,
    },
    /// Raise the format level: from then on no older version of the program can take part.
    ///
    /// Raises it to the newest level that the programs of all members know; so have all run the version that
    /// is to stay. Before that each node may go back to the version before. Afterwards that one is refused,
    /// by its data directory and by the other nodes.
    Finalize {
        /// Finalize only in this epoch.
        #[arg(long, value_name = "EPOCH")]
        if_epoch: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Hand leadership over.
    Transfer {
        /// The id of the new leader [default: the fittest voter].
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// How the cluster is reached.
#[derive(Args)]
pub(super) struct Cluster {
    /// Where some members listen for peers.
    #[arg(long, value_name = "HOST:PORT,..")]
    pub(super) via: String,
    /// The directory with ca.pem, admin.pem and admin-key.pem, made by `paxos-node certs`.
    #[arg(long, value_name = "DIR")]
    pub(super) certs: PathBuf,
    /// What carries messages between nodes [default: whichever they answer over].
    #[arg(long, env = "PAXOS_TRANSPORT", value_parser = one_of(NETWORK_TRANSPORTS, TransportKind::name))]
    pub(super) transport: Option<TransportKind>,
}

/// How a change is to be made.
#[derive(Args)]
struct Change {
    /// Make the change only in this epoch, so that of two operators who saw the same members only one
    /// succeeds.
    #[arg(long, value_name = "EPOCH")]
    if_epoch: Option<u64>,
    /// Make the change even if no quorum of the new voters is heard from, or a learner to promote lags: the
    /// cluster may be without a quorum then.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Args)]
struct Member {
    /// The member's id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
}

#[derive(Args)]
struct MemberAt {
    /// The member's id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where its peers reach it.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = runtime::single_threaded()?;
    let result = runtime.block_on(carry_out(&arguments.command));
    runtime.shutdown_background();
    result
}

async fn carry_out(command: &Command) -> Result<(), Failure> {
    let (change, order) = match command {
        Command::List { cluster, json } => return list::list(&mut contact(cluster)?, *json).await,
        Command::Finalize { if_epoch, cluster } => {
            return finalize::finalize(&mut contact(cluster)?, *if_epoch).await;
        }
        Command::Transfer { to, cluster } => return orders::transfer(&mut contact(cluster)?, *to).await,
        Command::Replace { member, with, address, cluster, force } => {
            let replacement = replace::Replacement {
                old: member.id,
                new: *with,
                address: checked_address(address)?,
                is_forced: *force,
            };
            return replacement.make(&mut contact(cluster)?).await;
        }
        Command::Add { member, change } => {
            (change, ChangeOrder::Add { id: member.id, address: checked_address(&member.address)? })
        }
        Command::Promote { member, change } => (change, ChangeOrder::Promote { id: member.id }),
        Command::Demote { member, change } => (change, ChangeOrder::Demote { id: member.id }),
        Command::Remove { member, change } => (change, ChangeOrder::Remove { id: member.id }),
        Command::Move { member, change } => {
            (change, ChangeOrder::Move { id: member.id, address: checked_address(&member.address)? })
        }
        Command::Priority { member, priority, change } => {
            (change, ChangeOrder::Prioritize { id: member.id, priority: *priority })
        }
    };
    let terms = Terms { if_epoch: change.if_epoch, is_forced: change.force };
    let made = Order { change: order, terms }.make(&mut contact(&change.cluster)?).await?;
    say!("{made}");
    Ok(())
}

pub(super) fn contact(cluster: &Cluster) -> Result<Contact, Failure> {
    let via = parse_addresses("via", &cluster.via)?;
    if via.is_empty() {
        return Err(Failure::usage("--via names no address"));
    }
    let identity = CallIdentity::load(&cluster.certs).map_err(|error| {
        Failure::usage(format!(
            "{error}; make an operator's certificate with 'paxos-node certs', or name its \
             directory with --certs"
        ))
    })?;
    Ok(Contact::new(identity, cluster.transport, via))
}

fn checked_address(address: &str) -> Result<String, Failure> {
    match &parse_addresses("address", address)?[..] {
        [address] => Ok(address.clone()),
        _ => Err(Failure::usage("--address: one HOST:PORT is needed")),
    }
}
