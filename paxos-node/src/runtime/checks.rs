//! Checks before a node starts that its settings, its transport and its storage fit together.

use std::collections::BTreeMap;
use std::time::Duration;

use paxos_storage::{MAX_VALUE_BYTES, Storage};
use paxos_transport::Transport;

use crate::error::NodeError;
use crate::settings::NodeSettings;

/// A node notices after some dozens of ticks that a peer is silent: with longer ticks it would be of no use.
const MAX_TICK: Duration = Duration::from_secs(60);
/// Longer polling gains nothing: a sync of a slow disk is over by then.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);
/// How much a message and its envelope add at most to the value, commands or piece of a snapshot in it.
const MESSAGE_OVERHEAD_BYTES: usize = 4 << 10;
/// How much a batch adds at most to a command in it.
const BATCH_OVERHEAD_BYTES: usize = 64;

/// Checks everything that can be known before anything is read.
pub(crate) fn check(
    settings: &NodeSettings,
    transport: &dyn Transport,
    storage: &dyn Storage,
) -> Result<(), NodeError> {
    check_settings(settings)?;
    check_storage(settings, storage)?;
    check_transport(settings, transport, storage.identity().cluster())
}

fn check_settings(settings: &NodeSettings) -> Result<(), NodeError> {
    if !settings.joins {
        paxos_core::Config::new(settings.node, settings.membership()?, settings.protocol.clone())?;
    } else if !settings.members.is_empty() {
        paxos_core::Config::joining(settings.node, settings.membership()?, settings.protocol.clone())?;
    }
    let check = |holds: bool, problem| if holds { Ok(()) } else { Err(NodeError::Settings(problem)) };
    let (protocol, sessions) = (&settings.protocol, &settings.sessions);
    let is_usable = |duration: Duration, limit| !duration.is_zero() && duration <= limit;
    check(is_usable(settings.tick, MAX_TICK), "tick must be longer than 0, and a minute at most")?;
    check(
        is_usable(settings.request_timeout, NodeSettings::MAX_TIME),
        "request_timeout must be longer than 0, and a day at most",
    )?;
    check(
        is_usable(settings.retry_interval, NodeSettings::MAX_TIME),
        "retry_interval must be longer than 0, and a day at most",
    )?;
    check(settings.busy_poll <= MAX_BUSY_POLL, "busy_poll must be a second at most")?;
    check(
        (1..=sessions.unanswered).contains(&settings.waiting_requests),
        "waiting_requests must be in 1..=sessions.unanswered",
    )?;
    check(
        sessions.sessions > settings.members.len(),
        "sessions.sessions must be more than there are members: each node keeps one",
    )?;
    let is_short = |text: &String| text.len() <= NodeSettings::MAX_PAIR_BYTES;
    let can_be_told = |pairs: &BTreeMap<String, String>| {
        pairs.len() <= NodeSettings::MAX_PAIRS
            && pairs.iter().all(|(name, value)| is_short(name) && is_short(value))
    };
    check(
        can_be_told(&settings.equal) && can_be_told(&settings.facts),
        "equal and facts must not exceed MAX_PAIRS and MAX_PAIR_BYTES",
    )?;
    check(
        (1 << 10..=NodeSettings::MAX_COMMAND_BYTES).contains(&protocol.command_bytes),
        "protocol.command_bytes must be in 1 KiB..=MAX_COMMAND_BYTES",
    )?;
    check(
        protocol.batch_bytes <= MAX_VALUE_BYTES - BATCH_OVERHEAD_BYTES,
        "protocol.batch_bytes must leave a batch shorter than paxos_storage::MAX_VALUE_BYTES",
    )
}

fn check_storage(settings: &NodeSettings, storage: &dyn Storage) -> Result<(), NodeError> {
    let identity = storage.identity();
    if identity.node() != settings.node {
        return Err(NodeError::StorageOfOtherNode { node: settings.node, storage_node: identity.node() });
    }
    match &settings.cluster {
        Some(cluster) if cluster != identity.cluster() => Err(NodeError::OtherCluster {
            part: "storage",
            cluster: cluster.clone(),
            other: identity.cluster().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_transport(
    settings: &NodeSettings,
    transport: &dyn Transport,
    cluster: &str,
) -> Result<(), NodeError> {
    if transport.local_node() != settings.node {
        let transport_node = transport.local_node();
        return Err(NodeError::TransportOfOtherNode { node: settings.node, transport_node });
    }
    if let Some(other) = transport.cluster().filter(|other| *other != cluster) {
        let (cluster, other) = (cluster.to_owned(), other.to_owned());
        return Err(NodeError::OtherCluster { part: "transport", cluster, other });
    }
    let (max_frame_bytes, needed_bytes) = (transport.max_frame_bytes(), settings.max_message_bytes());
    if (settings.joins || settings.members.len() > 1) && max_frame_bytes < needed_bytes {
        return Err(NodeError::FramesTooSmall { max_frame_bytes, needed_bytes });
    }
    Ok(())
}

impl NodeSettings {
    /// The longest message that a node with these settings sends to a peer: the transport's frames must be as
    /// long.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        let protocol = &self.protocol;
        let longest_value = (protocol.command_bytes + BATCH_OVERHEAD_BYTES).max(protocol.batch_bytes);
        // In catch-up the last value of a message may exceed what is left of its chunk.
        longest_value.saturating_add(protocol.chunk_bytes).saturating_add(MESSAGE_OVERHEAD_BYTES)
    }
}
