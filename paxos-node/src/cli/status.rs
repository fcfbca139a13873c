//! `paxos-node status`: the state of a cluster's nodes.

use std::time::{Duration, SystemTime};

use clap::Args;
use indicatif::HumanBytes;

use super::Failure;
use super::terminal::say;
use paxos_node::CLOCK_TOLERANCE;
use paxos_node::fronts::MemberReport;
use paxos_node::fronts::http::StatusReport;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Certificates that expire within this time are shown.
const NEAR_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Show the state of a cluster's nodes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The nodes' HTTP addresses.
    #[arg(value_name = "HTTP-HOST:PORT,..", value_delimiter = ',', required = true)]
    addresses: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let reports: Vec<_> = arguments.addresses.iter().map(|address| (address, ask(&agent, address))).collect();
    let highest =
        reports.iter().filter_map(|(_, report)| Some(report.as_ref().ok()?.chosen)).max().unwrap_or(0);
    say!(
        "{:<24} {:>6}  {:<9} {:>6} {:>6}  {:>10} {:>12} {:>12} {:>8} {:>6}",
        "ADDRESS",
        "NODE",
        "ROLE",
        "EPOCH",
        "LEADER",
        "BALLOT",
        "CHOSEN",
        "APPLIED",
        "LAG",
        "PEERS"
    );
    for (address, report) in &reports {
        match report {
            Ok(report) => say!(
                "{:<24} {:>6}  {:<9} {:>6} {:>6}  {:>10} {:>12} {:>12} {:>8} {:>6}",
                address,
                report.node,
                role(report),
                report.epoch,
                report.leader.map_or_else(|| String::from("none"), |leader| leader.to_string()),
                report.ballot,
                report.chosen,
                report.applied,
                highest.saturating_sub(report.applied),
                peers(report)
            ),
            Err(error) => say!("{address:<24} no answer: {error}"),
        }
    }
    if let Some(members) = members(reports.iter().filter_map(|(_, report)| report.as_ref().ok())) {
        say!("{members}");
    }
    for report in reports.iter().filter_map(|(_, report)| report.as_ref().ok()) {
        if let Some(line) = followers(report) {
            say!("{line}");
        }
    }
    for report in reports.iter().filter_map(|(_, report)| report.as_ref().ok()) {
        for problem in problems(report, SystemTime::now()) {
            say!("{problem}");
        }
    }
    if reports.iter().any(|(_, report)| report.is_ok()) {
        Ok(())
    } else {
        Err(Failure::other("no node answers; are these the addresses given to --http?"))
    }
}

/// What a node is or does, in a word.
fn role(report: &StatusReport) -> &str {
    match (report, report.standing.as_deref()) {
        (StatusReport { recovering: Some(_), .. }, _) => "recovering",
        (StatusReport { repairs_through: Some(_), .. }, _) => "repairing",
        (_, Some(standing @ ("learner" | "removed" | "outsider"))) => standing,
        _ => &report.role,
    }
}

/// The members in the newest epoch, learners in brackets with their lag, in a line.
fn members<'a>(reports: impl Iterator<Item = &'a StatusReport>) -> Option<String> {
    // The leader knows more than others in the same epoch.
    let newest = reports.max_by_key(|report| (report.epoch, report.role == "leader"))?;
    if newest.members.is_empty() {
        return None;
    }
    let lag = |lag_slots: Option<u64>| match lag_slots {
        Some(slots) => format!("{slots} slots behind"),
        None => String::from("lag unknown"),
    };
    let member = |member: &MemberReport| {
        if member.is_voter() {
            member.id.to_string()
        } else {
            format!("({}: learner, {})", member.id, lag(member.lag_slots))
        }
    };
    let members: Vec<String> = newest.members.iter().map(member).collect();
    Some(format!("epoch {}: members {}", newest.epoch, members.join(" ")))
}

/// How far from a leader the other members are, in the log and on the network, in a line.
fn followers(report: &StatusReport) -> Option<String> {
    let others = report.members.iter().filter(|member| member.id != report.node);
    let follower = |member: &MemberReport| {
        let (id, slots) = (member.id, member.lag_slots?);
        let bytes = member
            .lag_bytes
            .map_or_else(|| String::from("more than is known"), |bytes| HumanBytes(bytes).to_string());
        let peer = report.peers.iter().find(|peer| peer.node == id);
        let away =
            peer.and_then(|peer| peer.round_trip_microseconds).map_or_else(String::new, |microseconds| {
                format!(", round trip {}.{:03} ms", microseconds / 1000, microseconds % 1000)
            });
        Some(format!("node {id} {} ({bytes}) behind{away}", counted(slots)))
    };
    let followers: Vec<String> = others.filter_map(follower).collect();
    (!followers.is_empty()).then(|| format!("node {} leads: {}", report.node, followers.join("; ")))
}

fn counted(slots: u64) -> String {
    if slots == 1 { String::from("1 slot") } else { format!("{slots} slots") }
}

/// How many of its peers a node is connected to.
fn peers(report: &StatusReport) -> String {
    let connected = report.peers.iter().filter(|peer| peer.connected).count();
    format!("{connected}/{}", report.peers.len())
}

/// The problems of a node's peers and certificates, one a line.
fn problems(report: &StatusReport, now: SystemTime) -> Vec<String> {
    let node = report.node;
    let missing = report.peers.iter().filter(|peer| !peer.connected).map(|peer| {
        let lasts = peer.for_seconds.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
        let problem = peer.problem.as_deref().unwrap_or("no reason is known");
        format!("node {node} has not reached node {}{lasts}: {problem}", peer.node)
    });
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let near_end = report
        .certificates
        .iter()
        .filter(|certificate| certificate.not_after_unix_seconds < now + NEAR_END.as_secs());
    let expiring = near_end.map(|certificate| {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(certificate.not_after_unix_seconds);
        let end = humantime::format_rfc3339_seconds(end);
        format!("node {node}: the certificate of {} expires at {end}", certificate.owner)
    });
    let differs = |ms: &i64| Duration::from_millis(ms.unsigned_abs()) > CLOCK_TOLERANCE;
    let clock = report.clock_ahead_milliseconds.filter(differs);
    let differing = clock.map(|ms| {
        let (side, ms) = (if ms > 0 { "ahead of" } else { "behind" }, ms.unsigned_abs());
        format!("node {node}: its clock is {}.{:03} s {side} the cluster's time", ms / 1000, ms % 1000)
    });
    missing.chain(expiring).chain(differing).collect()
}

fn ask(agent: &ureq::Agent, address: &str) -> Result<StatusReport, String> {
    let mut response =
        agent.get(format!("http://{address}/status")).call().map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("not a status: {error}"))
}
