//! How a node that is started without `--peers` learns who the members are: its data directory knows the
//! cluster, or `--join` names members of a running one to ask.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paxos_core::{Epoch, Membership, NodeId};
use paxos_node::fronts::operator::{Answer, MembershipReport, Request};
use paxos_node::{NodeError, NodeSettings};
use paxos_storage::Storage;
use paxos_transport::calls::CallIdentity;

use super::options::Serve;
use super::{Failure, listen, serve, terminal};

/// How long to wait for the answer of one member.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before all members are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// When the user is told that no member answers.
const FIRST_NOTICE: Duration = Duration::from_secs(10);
/// How often the user is told again.
const NOTICE_INTERVAL: Duration = Duration::from_secs(60);

/// Completes the options of a node that is started without `--peers`: its settings, the addresses of the
/// members, and where to listen. Asks until a member answers.
pub(super) async fn look_up_members(
    serve: &mut Serve,
    storage: &dyn Storage,
    cluster: &str,
) -> Result<(), Failure> {
    if !serve.peers.is_empty() {
        return Ok(());
    }
    let id = serve.settings.node;
    let known = storage.registry().founding.map(|founding| founding.membership);
    if known.is_none() && serve.join.is_empty() {
        return Err(Failure::usage(
            "--peers is missing: name all nodes of the new cluster, or give --join to become a node of one that runs",
        ));
    }
    if let Some(founding) = known {
        serve.peers = addresses_of(&founding);
        adopt(&mut serve.settings, &founding);
    } else {
        join(serve, cluster).await?;
    }
    if serve.listen.is_none() {
        if !serve.peers.contains_key(&id) {
            return Err(Failure::usage("--listen is missing: name where peers are to reach this node"));
        }
        serve.listen = Some(listen::address(None, id, &serve.peers)?);
    }
    Ok(())
}

/// Asks members of the running cluster, and takes over what they say.
async fn join(serve: &mut Serve, cluster: &str) -> Result<(), Failure> {
    let report = ask(serve, cluster).await?;
    let founding = report.founding_membership().map_err(|error| {
        Failure::other(format!("node {} has told no founding membership: {error}", report.node))
    })?;
    check_new(serve.settings.node, &report)?;
    let addresses = report.members.iter().map(|member| (NodeId(member.id), member.address.clone()));
    serve.peers = addresses.filter(|(_, address)| !address.is_empty()).collect();
    adopt(&mut serve.settings, &founding);
    serve.settings.addresses.extend(serve.peers.clone());
    serve.settings.present_members = report.members.iter().map(|member| NodeId(member.id)).collect();
    Ok(())
}

/// The settings of a node of the cluster that was founded with this membership.
fn adopt(settings: &mut NodeSettings, founding: &Membership) {
    let joining = NodeSettings::joining(settings.node, founding);
    settings.members = joining.members;
    settings.addresses = joining.addresses;
    settings.joins = true;
    settings.epoch = joining.epoch;
    settings.quorums = joining.quorums;
}

fn addresses_of(membership: &Membership) -> BTreeMap<NodeId, String> {
    let members = membership.details().iter().filter(|member| !member.address.is_empty());
    members.map(|member| (member.id, member.address.clone())).collect()
}

/// Whether a node with this id may start on an empty disk.
fn check_new(id: NodeId, report: &MembershipReport) -> Result<(), Failure> {
    if report.removed.contains(&id.0) {
        return Err(NodeError::Removed { node: id, epoch: Epoch(report.epoch) }.into());
    }
    match report.member(id.0) {
        Some(member) if member.is_voter() => Err(Failure::usage(format!(
            "node {id} is a voter of the cluster, and its disk is empty: it may have forgotten promises; start it on its \
             own disk, or replace it by a node with a new id"
        ))),
        _ => Ok(()),
    }
}

/// Asks the members in turn, until one answers.
async fn ask(serve: &Serve, cluster: &str) -> Result<MembershipReport, Failure> {
    let identity = CallIdentity::from(&serve::load_identity(serve, cluster)?);
    let started = Instant::now();
    let mut notice_at = started + FIRST_NOTICE;
    loop {
        let mut problems = Vec::new();
        for address in &serve.join {
            match ask_one(serve, &identity, address).await {
                Ok(report) => return Ok(report),
                Err(problem) => problems.push(problem),
            }
        }
        if Instant::now() >= notice_at {
            notice_at = Instant::now() + NOTICE_INTERVAL;
            terminal::warn_line(format_args!(
                "paxos-node: node {} can't join after {} s, and keeps trying: {}",
                serve.settings.node,
                started.elapsed().as_secs(),
                problems.join("; ")
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask_one(serve: &Serve, identity: &CallIdentity, address: &str) -> Result<MembershipReport, String> {
    let addresses = [address.to_owned()];
    let call = serve.transport.call(&addresses, identity, Request::List.encode());
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("{address}: no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    };
    match Answer::decode(&answer).map_err(|error| format!("{address}: {error}"))? {
        Answer::Members(report) => Ok(report),
        Answer::NotYet { reason } | Answer::Refused { reason } => Err(format!("{address}: {reason}")),
        _ => Err(format!("{address}: its answer does not fit the request")),
    }
}
