//! The commands of a script.

use std::error::Error;

use paxos_core::{Change, NodeId, ProtocolSettings, ReadMode};

use crate::cluster::Cluster;

/// A command of a script. Nodes are named by their numbers.
#[derive(goldenscript::Command)]
pub(crate) enum Command {
    /// Starts a cluster of `nodes` nodes with empty disks: `cluster 3`, `cluster 3 reads=lease`.
    Cluster {
        nodes: u64,
        /// `quorum` or `lease`.
        #[arg(key)]
        reads: Option<String>,
        /// How many bytes of a snapshot one message carries.
        #[arg(key)]
        chunk_bytes: Option<usize>,
        /// How many bytes a node that catches up asks for ahead.
        #[arg(key)]
        window_bytes: Option<usize>,
        /// How many slots may be proposed and not chosen, and how many a learner may miss to be promoted.
        #[arg(key)]
        window_slots: Option<u64>,
    },
    /// Lets the clocks of some nodes, or of all that run, tick: `tick 1 2`, `tick times=3`.
    Tick {
        #[arg(key)]
        times: Option<u64>,
        #[arg(optional)]
        nodes: Vec<u64>,
    },
    /// Lets the clocks of some nodes, or of all that run, tick until one of the nodes sends something.
    Wait {
        #[arg(optional)]
        nodes: Vec<u64>,
    },
    /// Syncs the disk of a node: what it has written until now is durable.
    Sync { node: u64 },
    /// Delivers the messages that are on their way now, oldest first: `deliver`, `deliver from=1 to=2`.
    Deliver {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
    },
    /// Loses messages that are on their way now: `lose`, `lose from=1`.
    Lose {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
    },
    /// Syncs all disks and delivers all messages until nothing is left to do. Clocks stand still meanwhile.
    Settle,
    /// From now on messages from one node to another get lost; the other way stays open: `cut from=1 to=2`.
    Cut {
        #[arg(key)]
        from: u64,
        #[arg(key)]
        to: u64,
    },
    /// Cuts all links of a node, in both directions.
    Isolate { node: u64 },
    /// Ends all cuts.
    Heal,
    /// A client asks a node for commands: `propose 1 x=1 y=2`.
    Propose { node: u64, commands: Vec<(String, String)> },
    /// A client asks a node for the state as of now.
    Read { node: u64 },
    /// Starts a new node with an empty disk. It knows the founding membership of the cluster.
    Join { node: u64 },
    /// An operator asks a node to add a learner: `add 4 via=1`, `add 4 via=1 if_epoch=0`.
    Add {
        node: u64,
        #[arg(key)]
        via: u64,
        #[arg(key)]
        if_epoch: Option<u64>,
    },
    /// An operator asks a node to give a learner a vote: `promote 4 via=1`, `promote 4 via=1 force=yes`.
    Promote {
        node: u64,
        #[arg(key)]
        via: u64,
        #[arg(key)]
        force: Option<String>,
    },
    /// An operator asks a node to remove a member: `remove 3 via=1`.
    Remove {
        node: u64,
        #[arg(key)]
        via: u64,
        #[arg(key)]
        if_epoch: Option<u64>,
        #[arg(key)]
        force: Option<String>,
    },
    /// An operator asks a node to hand leadership over: `transfer via=1`, `transfer via=1 to=2`.
    Transfer {
        #[arg(key)]
        via: u64,
        #[arg(key)]
        to: Option<u64>,
    },
    /// Stops a node. What its disk has not synced is lost.
    Crash { node: u64 },
    /// Starts a node again, from what its disk has synced.
    Restart { node: u64 },
    /// A node takes a snapshot of its state, if it may, and the replica drops the log before it.
    Snapshot { node: u64 },
    /// Shows what each node knows.
    Status,
}

/// Runs a script against a cluster of its own.
#[derive(Default)]
pub(crate) struct Script {
    cluster: Option<Cluster>,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        if let Command::Cluster { nodes, reads, chunk_bytes, window_bytes, window_slots } = command {
            let mut settings = settings(reads.as_deref(), *chunk_bytes)?;
            settings.catch_up_window_bytes = window_bytes.unwrap_or(settings.catch_up_window_bytes);
            settings.window_slots = window_slots.unwrap_or(settings.window_slots);
            let cluster = self.cluster.insert(Cluster::start(*nodes, settings)?);
            return Ok(cluster.take_lines());
        }
        let cluster = self.cluster.as_mut().ok_or("a script begins with the command `cluster`")?;
        let id = |node: &u64| NodeId(*node);
        let ids = |nodes: &[u64]| nodes.iter().map(id).collect::<Vec<_>>();
        match command {
            Command::Cluster { .. } => {}
            Command::Tick { times, nodes } => cluster.tick(&ids(nodes), times.unwrap_or(1))?,
            Command::Wait { nodes } => cluster.wait(&ids(nodes))?,
            Command::Sync { node } => cluster.sync(id(node))?,
            Command::Deliver { from, to } => cluster.deliver(from.map(NodeId), to.map(NodeId))?,
            Command::Lose { from, to } => cluster.lose(from.map(NodeId), to.map(NodeId)),
            Command::Settle => cluster.settle()?,
            Command::Cut { from, to } => cluster.cut(id(from), id(to)),
            Command::Isolate { node } => cluster.isolate(id(node)),
            Command::Heal => cluster.heal(),
            Command::Propose { node, commands } => cluster.propose(id(node), commands)?,
            Command::Read { node } => cluster.read(id(node))?,
            Command::Join { node } => cluster.join(id(node))?,
            Command::Add { node, via, if_epoch } => {
                let change = Change::AddLearner { node: id(node), address: format!("host-{node}") };
                cluster.change(id(via), change, *if_epoch, false)?;
            }
            Command::Promote { node, via, force } => {
                cluster.change(
                    id(via),
                    Change::Promote { node: id(node) },
                    None,
                    is_yes(force.as_deref())?,
                )?;
            }
            Command::Remove { node, via, if_epoch, force } => {
                let change = Change::Remove { node: id(node) };
                cluster.change(id(via), change, *if_epoch, is_yes(force.as_deref())?)?;
            }
            Command::Transfer { via, to } => cluster.transfer(id(via), to.map(NodeId))?,
            Command::Crash { node } => cluster.crash(id(node))?,
            Command::Restart { node } => cluster.restart(id(node))?,
            Command::Snapshot { node } => cluster.snapshot(id(node))?,
            Command::Status => cluster.status(),
        }
        Ok(cluster.take_lines())
    }
}

fn is_yes(argument: Option<&str>) -> Result<bool, Box<dyn Error>> {
    match argument {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(other) => Err(format!("{other}: use yes or no").into()),
    }
}

/// Short times, so that a script need not let many ticks pass, and no log kept behind a snapshot.
fn shorten(settings: &mut ProtocolSettings) {
    settings.heartbeat_ticks = 5;
    settings.election_timeout_ticks = 20;
    settings.resend_ticks = 10;
    settings.retained_bytes = 0;
}

fn settings(reads: Option<&str>, chunk_bytes: Option<usize>) -> Result<ProtocolSettings, Box<dyn Error>> {
    let mut settings = ProtocolSettings::default();
    shorten(&mut settings);
    if let Some(chunk_bytes) = chunk_bytes {
        settings.chunk_bytes = chunk_bytes;
    }
    settings.reads = match reads {
        None | Some("quorum") => ReadMode::QuorumRound,
        Some("lease") => ReadMode::Lease { lease_ticks: 20, drift_ticks: 2 },
        Some(other) => return Err(format!("reads={other}: use quorum or lease").into()),
    };
    Ok(settings)
}
