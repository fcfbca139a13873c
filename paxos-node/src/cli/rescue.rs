//! `paxos-node rescue`: goes on with the nodes that are left of a cluster without a majority.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use paxos_node::rescue::{self, Outcome, Plan, RescueError};

use super::Failure;
use super::terminal::say;

const EXAMPLES: &str = "\
Examples, for a cluster of three of which the disk of node 1 is left:
  paxos-node rescue plan data --out plan.json
  paxos-node rescue apply plan.json
  paxos-node rescue apply plan.json --yes-i-am-sure paxos       in a script, for a cluster named paxos

Exit codes: 0 done, 1 not done, 2 usage, 4 a disk is damaged";

/// Go on with the nodes that are left when the majority of a cluster is lost for good.
///
/// What only the lost nodes know is given up, so do this only if none of their disks can be read any more:
/// with a majority of the disks, start their nodes instead. Stop the nodes that are left first, and bring
/// their disks to one machine, or have their directories mounted there. Nodes that were given up are refused
/// for ever.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at the disks that are left, and say what is kept and what may be lost. Changes nothing.
    Plan {
        /// The data directories.
        #[arg(value_name = "DIR", required = true)]
        data: Vec<PathBuf>,
        /// The file for the plan, as JSON. It is not overwritten if it exists.
        #[arg(long, value_name = "PLAN")]
        out: Option<PathBuf>,
        /// Print the plan as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Carry out a plan, once somebody has typed the cluster's name.
    ///
    /// Safe to run again: it does what is left to do. Refused if a disk has changed since the plan was made.
    Apply {
        /// The plan.
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// The cluster's name, in place of typing it.
        #[arg(long, value_name = "NAME")]
        yes_i_am_sure: Option<String>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Plan { data, out, json } => plan(data, out.as_deref(), *json),
        Command::Apply { plan, yes_i_am_sure } => apply(plan, yes_i_am_sure.as_deref()),
    }
}

fn plan(data: &[PathBuf], out: Option<&Path>, is_json: bool) -> Result<(), Failure> {
    if let Some(out) = out.filter(|out| out.exists()) {
        return Err(Failure::usage(format!("{} exists; name another file", out.display())));
    }
    let plan = rescue::plan(data).map_err(refused)?;
    let json = serde_json::to_string_pretty(&plan).map_err(Failure::other)?;
    if let Some(out) = out {
        let failed = |error| Failure::other(format!("{} can't be written: {error}", out.display()));
        std::fs::write(out, format!("{json}\n")).map_err(failed)?;
    }
    if is_json {
        say!("{json}");
        return Ok(());
    }
    show(&plan);
    match out {
        Some(out) => say!("nothing is changed yet; 'paxos-node rescue apply {}' does it", out.display()),
        None => say!("nothing is changed; --out PLAN writes a plan for 'paxos-node rescue apply'"),
    }
    Ok(())
}

fn show(plan: &Plan) {
    say!("cluster {} ({}), epoch {}", plan.cluster, plan.cluster_id, plan.old_epoch);
    say!(
        "{:>6} {:>10} {:>10} {:>10} {:>10}  {:<24} DIRECTORY",
        "NODE",
        "PROMISED",
        "CHOSEN",
        "ACCEPTED",
        "SNAPSHOT",
        "MEMBERS"
    );
    for disk in &plan.disks {
        let snapshot = disk.snapshot.map_or_else(|| String::from("-"), |slot| slot.to_string());
        say!(
            "{:>6} {:>10} {:>10} {:>10} {snapshot:>10}  {:<24} {}",
            disk.node,
            disk.promised,
            disk.chosen_through,
            disk.accepted_through,
            disk.members,
            disk.directory.display()
        );
        for damage in &disk.damage {
            say!("       damaged: {damage}");
        }
    }
    say!("the log goes on from the disk of node {}, which knows most", plan.base);
    say!("kept: everything through slot {}, which is known to be chosen", plan.kept_through);
    if plan.adopted_through > plan.kept_through {
        let (first, last) = (plan.kept_through + 1, plan.adopted_through);
        let slots = if first == last { format!("slot {last}") } else { format!("slots {first} to {last}") };
        let holes = match plan.holes {
            0 => String::new(),
            holes => format!("; {holes} of these slots are empty on all disks, and stay so"),
        };
        say!("kept, too: what was accepted in {slots}, though it may not have been chosen{holes}");
    }
    if plan.may_have_chosen_more {
        say!(
            "lost: whatever the lost nodes have chosen behind slot {} and none of these disks holds, acknowledged or not; \
             nobody can tell how much",
            plan.kept_through
        );
    } else {
        say!("lost: nothing that was chosen, as each quorum had one of these nodes");
    }
    let lost: Vec<String> = plan.lost.iter().map(u64::to_string).collect();
    say!("given up, and refused for ever: {}", lost.join(", "));
    let members = plan.members.iter().map(|member| format!("{} ({})", member.id, member.role));
    say!(
        "epoch {} begins behind slot {}, with {}",
        plan.epoch,
        plan.last_slot,
        members.collect::<Vec<_>>().join(", ")
    );
}

fn apply(file: &Path, name: Option<&str>) -> Result<(), Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    let plan: Plan = serde_json::from_str(&text)
        .map_err(|error| unreadable(&format!("this is no plan of this version: {error}")))?;
    if name.is_none() {
        show(&plan);
    }
    let typed = match name {
        Some(name) => name.to_owned(),
        None => ask(&plan)?,
    };
    if typed.is_empty() {
        return Err(Failure::usage(
            "nothing is changed: nobody has typed the cluster's name; --yes-i-am-sure NAME gives it in a script",
        ));
    }
    if typed != plan.cluster {
        return Err(Failure::usage(format!(
            "nothing is changed: the cluster's name is {}, and {typed:?} was given",
            plan.cluster
        )));
    }
    let outcome = rescue::apply(&plan).map_err(refused)?;
    match outcome {
        Outcome::AlreadyDone => say!("already done: nothing is changed"),
        Outcome::Completed => say!("completed what was begun before"),
        _ => say!("done"),
    }
    let nodes: Vec<String> = plan.disks.iter().map(|disk| disk.node.to_string()).collect();
    let lost: Vec<String> = plan.lost.iter().map(u64::to_string).collect();
    say!(
        "cluster {} goes on in epoch {} with {}: start the nodes as before, each on its disk, then add new ones by \
         'paxos-node member add' and 'promote'; never start {} again on the disks that were lost",
        plan.cluster,
        plan.epoch,
        nodes.join(", "),
        lost.join(", ")
    );
    Ok(())
}

/// Has somebody type the cluster's name.
fn ask(plan: &Plan) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        let lost: Vec<String> = plan.lost.iter().map(u64::to_string).collect();
        say!("type the cluster's name to give up what only the lost nodes know ({}):", lost.join(", "));
        let _ = std::io::stdout().flush(); // A terminal that is gone types nothing either.
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Failure::other)?;
    Ok(line.trim().to_owned())
}

fn refused(error: RescueError) -> Failure {
    match error {
        RescueError::Storage(error) => error.into(),
        RescueError::Damaged { .. } | RescueError::Missing { .. } => Failure::damaged(error),
        RescueError::Changed { .. } => Failure::other(error),
        other => Failure::usage(other),
    }
}
