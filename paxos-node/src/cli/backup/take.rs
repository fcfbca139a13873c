//! Fetches a backup from a node of a running cluster.

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use paxos_node::backends::TransportKind;
use paxos_node::backup::{BackupWriter, Description};
use paxos_node::fronts::MemberReport;
use paxos_node::fronts::operator::{Answer, MembershipReport, Request};
use tokio::time::Instant;

use super::file::Place;
use super::verify::show;
use crate::cli::Failure;
use crate::cli::choice::one_of;
use crate::cli::member::contact::{Contact, Retries, Unanswered};
use crate::cli::member::{self, Cluster};
use crate::cli::options::NETWORK_TRANSPORTS;
use crate::cli::runtime::{self, StopSignals};
use crate::cli::terminal::{say, warn_line};

/// How often the progress is told if standard error is no terminal.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Take {
    /// Where some members listen for peers.
    #[arg(long, value_name = "HOST:PORT,..", required = true)]
    via: Option<String>,
    /// The directory with ca.pem, admin.pem and admin-key.pem, made by `paxos-node certs`.
    #[arg(long, value_name = "DIR", required = true)]
    certs: Option<PathBuf>,
    /// The file to write. It is not overwritten if it exists.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// What carries messages between nodes [default: whichever they answer over].
    #[arg(long, env = "PAXOS_TRANSPORT", value_parser = one_of(NETWORK_TRANSPORTS, TransportKind::name))]
    transport: Option<TransportKind>,
    /// Replace FILE if it exists, once the new backup is whole.
    #[arg(long)]
    overwrite: bool,
    /// Take the backup from this node, even if it is the leader [default: a learner or a follower].
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    /// Take the state that the node has, though it may lack what was acknowledged last: for a cluster that
    /// has lost its majority.
    #[arg(long)]
    stale: bool,
}

/// A backup that a node has begun.
struct Begun {
    address: String,
    node: u64,
    backup: u64,
    description: Description,
}

pub(super) fn run(arguments: &Take) -> Result<(), Failure> {
    // They may be missing only where there is a subcommand.
    let (Some(via), Some(certs), Some(out)) = (&arguments.via, &arguments.certs, &arguments.out) else {
        return Err(Failure::usage("--via, --certs and --out are needed; see 'paxos-node backup --help'"));
    };
    let cluster = Cluster { via: via.clone(), certs: certs.clone(), transport: arguments.transport };
    let place = Place::new(out, arguments.overwrite)?;
    let runtime = runtime::single_threaded()?;
    let result = runtime.block_on(async {
        let mut stop_signals = StopSignals::register()?;
        tokio::select! {
            taken = take(&cluster, arguments, &place) => taken,
            () = stop_signals.received() => Err(Failure::other("stopped: no backup was written")),
        }
    });
    runtime.shutdown_background();
    result
}

async fn take(cluster: &Cluster, arguments: &Take, place: &Place) -> Result<(), Failure> {
    let mut contact = member::contact(cluster)?;
    // Made first, so that a directory that can't be written costs no node anything.
    let file = place.begin()?;
    let begun = begin(&mut contact, arguments).await?;
    let target = BufWriter::with_capacity(1 << 20, file);
    let mut writer = BackupWriter::new(target, &begun.description).map_err(|error| place.failed(&error))?;
    let mut progress = Progress::new(begun.node);
    let mut offset = 0;
    loop {
        let (piece, total_bytes) = read(&contact, &begun, offset).await?;
        writer.write(&piece).map_err(|error| place.failed(&error))?;
        offset += piece.len() as u64;
        progress.show(offset, total_bytes);
        if total_bytes == Some(offset) {
            break;
        }
    }
    let (target, sha256) = writer.finish().map_err(|error| place.failed(&error))?;
    let file = target.into_inner().map_err(|error| place.failed(error.error()))?;
    let size_bytes = file.as_file().metadata().map_err(|error| place.failed(&error))?.len();
    place.keep(file)?;
    drop(progress);
    // If this is lost, the node forgets it after a while.
    let _ = contact.ask(&begun.address, &Request::EndBackup { backup: begun.backup }).await;
    show(&begun.description);
    say!("sha-256    {sha256}");
    say!("{} holds the backup, {size_bytes} bytes", place.path().display());
    Ok(())
}

/// Has a node begin a backup: the first of the candidates that can.
async fn begin(contact: &mut Contact, arguments: &Take) -> Result<Begun, Failure> {
    let request = Request::BeginBackup { may_be_stale: arguments.stale };
    let mut retries = Retries::new();
    loop {
        let members = contact.look().await?;
        if members.leader.is_none() && !arguments.stale && arguments.node.is_none() {
            retries.pause("no leader is known, so no node can tell what is newest; see --stale").await?;
            continue;
        }
        let mut problems = Vec::new();
        for member in candidates(&members, arguments.node)? {
            let (address, node) = (member.address.clone(), member.id);
            match contact.ask(&address, &request).await {
                Ok(Answer::BackupBegun { backup, description }) => {
                    return Ok(Begun { address, node, backup, description: *description });
                }
                Ok(Answer::NotYet { reason } | Answer::Refused { reason }) => {
                    problems.push(format!("node {node}: {reason}"));
                }
                Ok(_) => problems.push(format!("node {node}: its answer does not fit the request")),
                Err(Unanswered::Refused(reason)) => return Err(Failure::usage(reason)),
                Err(unanswered) => problems.push(format!("node {node}: {}", unanswered.reason())),
            }
        }
        retries.pause(&problems.join("; ")).await?;
    }
}

/// The nodes to ask, in this order: learners, then followers, each with the least lag first, then the leader.
fn candidates(members: &MembershipReport, only: Option<u64>) -> Result<Vec<&MemberReport>, Failure> {
    let mut candidates: Vec<&MemberReport> = match only {
        Some(id) => vec![
            members
                .member(id)
                .ok_or_else(|| Failure::usage(format!("--node {id}: there is no such member; {members}")))?,
        ],
        None => members.members.iter().filter(|member| member.is_heard != Some(false)).collect(),
    };
    candidates.retain(|member| !member.address.is_empty());
    candidates.sort_by_key(|member| {
        let is_leader = members.leader == Some(member.id);
        (is_leader, member.is_voter(), member.lag_slots.unwrap_or(u64::MAX), member.id)
    });
    if candidates.is_empty() {
        return Err(Failure::other(format!("no address of a node to ask is known; {members}")));
    }
    Ok(candidates)
}

/// A piece of the backup, and the length of all of it once the node knows that.
async fn read(contact: &Contact, begun: &Begun, offset: u64) -> Result<(Vec<u8>, Option<u64>), Failure> {
    let request = Request::ReadBackup { backup: begun.backup, offset };
    let failed = |reason: String| {
        Failure::other(format!("node {} has not given out all of the backup: {reason}", begun.node))
    };
    let mut retries = Retries::new();
    loop {
        let reason = match contact.ask(&begun.address, &request).await {
            Ok(Answer::BackupPiece { offset: at, data, total_bytes }) if at == offset => {
                let piece = STANDARD.decode(data).map_err(|error| failed(error.to_string()))?;
                let is_past = total_bytes.is_some_and(|total| offset + piece.len() as u64 > total);
                let is_stuck = piece.is_empty() && total_bytes.is_some_and(|total| total > offset);
                if is_past || is_stuck {
                    return Err(failed(String::from("its pieces do not fit each other")));
                }
                return Ok((piece, total_bytes));
            }
            Ok(Answer::Refused { reason }) => return Err(failed(reason)),
            Ok(Answer::NotYet { reason }) => reason,
            Ok(_) => return Err(failed(String::from("its answer does not fit the request"))),
            Err(Unanswered::Refused(reason)) => return Err(Failure::usage(reason)),
            Err(unanswered) => unanswered.reason(),
        };
        retries.pause(&format!("node {}: {reason}", begun.node)).await?;
    }
}

/// Shows how much was fetched.
struct Progress {
    node: u64,
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Progress {
    fn new(node: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}");
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(format!("backup from node {node}"));
            bar
        });
        Progress { node, bar, told_at: Instant::now() }
    }

    fn show(&mut self, bytes: u64, total_bytes: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_length(total_bytes.unwrap_or(bytes));
            bar.set_position(bytes);
        } else if self.told_at.elapsed() >= TELL_INTERVAL {
            self.told_at = Instant::now();
            let total = total_bytes.map_or_else(String::new, |total| format!(" of {}", total >> 20));
            warn_line(format_args!("backup from node {}: {}{total} MiB", self.node, bytes >> 20));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, role: &str, lag_slots: u64, is_heard: bool) -> serde_json::Value {
        serde_json::json!({
            "id": id, "role": role, "address": format!("host-{id}:1"), "priority": 1,
            "lag_slots": lag_slots, "is_heard": is_heard,
        })
    }

    fn members(members: &[serde_json::Value]) -> MembershipReport {
        let report = serde_json::json!({
            "cluster": "tested", "node": 1, "epoch": 0, "leader": 1, "members": members, "removed": [],
            "founding": "",
        });
        serde_json::from_value(report).expect("it is a report")
    }

    fn ids(members: &MembershipReport, only: Option<u64>) -> Vec<u64> {
        let candidates = candidates(members, only).unwrap_or_else(|failure| panic!("{}", failure.line));
        candidates.iter().map(|member| member.id).collect()
    }

    #[test]
    fn learners_are_asked_first_then_followers_with_little_lag_and_the_leader_last() {
        let report = members(&[
            member(1, "voter", 0, true),
            member(2, "voter", 9, true),
            member(3, "voter", 2, true),
            member(4, "voter", 0, false),
            member(5, "learner", 30, true),
        ]);
        assert_eq!(ids(&report, None), [5, 3, 2, 1]);
        assert_eq!(ids(&report, Some(1)), [1]);
        assert!(candidates(&report, Some(9)).is_err());
        assert_eq!(ids(&members(&[member(1, "voter", 0, true)]), None), [1], "nobody else is there");
    }
}
