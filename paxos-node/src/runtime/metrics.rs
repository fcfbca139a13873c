//! The metrics of a node. They go through the `metrics` facade: without a recorder they cost next to nothing.
//!
//! [`guide::monitor`](crate::guide::monitor) explains them to whoever runs a node.

use std::time::SystemTime;

use metrics::{counter, gauge, histogram};

use paxos_core::{NodeId, Slot};
use paxos_transport::{CertificateStatus, PeerStatus};

use crate::status::{MemberProgress, Status};

pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("paxos_commands_total", "Commands taken from this node's clients");
    describe_counter!("paxos_reads_total", "Linearizable reads taken from this node's clients");
    describe_counter!("paxos_refused_total", "Requests that were refused when they came");
    describe_counter!("paxos_messages_sent_total", "Messages handed to the transport");
    describe_counter!(
        "paxos_messages_dropped_total",
        "Messages that the transport had no room or no connection for"
    );
    describe_counter!("paxos_messages_received_total", "Messages received from peers");
    describe_counter!("paxos_messages_malformed_total", "Frames from peers that could not be decoded");
    describe_counter!(
        "paxos_connections_nonsense_total",
        "Connections closed because a peer did not send frames on them"
    );
    describe_counter!(
        "paxos_messages_unheard_total",
        "Messages dropped on arrival because the disk or the state machine had too much to do"
    );
    describe_counter!(
        "paxos_peers_refused_total",
        "Times that this node or a peer began to refuse the other: see the log"
    );
    describe_counter!("paxos_writes_total", "Writes handed to the storage, before they are merged");
    describe_counter!("paxos_snapshots_total", "Snapshots saved or installed");
    describe_histogram!("paxos_turn_seconds", Unit::Seconds, "How long turns of the driver take");
    describe_gauge!(
        "paxos_longest_turn_seconds",
        Unit::Seconds,
        "The longest turn of the driver within the last 30 to 60 s: meanwhile the node did nothing else"
    );
    describe_gauge!(
        "paxos_longest_delay_seconds",
        Unit::Seconds,
        "The longest that the driver was kept from its turn within the last 30 to 60 s"
    );
    describe_histogram!("paxos_command_seconds", Unit::Seconds, "From taking a command to applying it");
    describe_counter!(
        "paxos_slow_applies_total",
        "Slots that the state machine took more than 100 ms to apply"
    );
    describe_gauge!(
        "paxos_diverged_peers",
        "Peers whose state differs from that of this node at an equal slot"
    );
    describe_gauge!("paxos_founded", "1 if this node is a member of a cluster and takes part");
    describe_gauge!("paxos_leader", "1 if this node leads");
    describe_gauge!("paxos_has_leader", "1 if this node knows a leader");
    describe_gauge!("paxos_epoch", "The epoch of the membership that is in force, as far as this node knows");
    describe_gauge!("paxos_members", "Members in that epoch, by role: voter or learner");
    describe_gauge!(
        "paxos_member_lag_slots",
        "Chosen slots that the member does not know yet, on the leader; 0 on other nodes"
    );
    describe_gauge!(
        "paxos_member_lag_bytes",
        Unit::Bytes,
        "The values in these slots, if the leader knows; 0 on other nodes"
    );
    describe_gauge!("paxos_ballot_round", "The round of the highest promised ballot");
    describe_gauge!("paxos_chosen_slot", "Every slot up to here is chosen");
    describe_gauge!("paxos_applied_slot", "Every slot up to here is applied");
    describe_gauge!("paxos_lag_slots", "Slots known to be chosen and not yet applied here");
    describe_counter!(
        "paxos_log_lines_dropped_total",
        "Lines for standard output or error that were dropped because nobody read them in time"
    );
    describe_gauge!(
        "paxos_clock_ahead_seconds",
        Unit::Seconds,
        "By how much the node's wall clock is ahead of the cluster's time; negative if it is behind"
    );
    describe_gauge!("paxos_log_bytes", "Memory taken by the log");
    describe_gauge!("paxos_peer_connected", "1 if frames can go both ways between this node and the peer");
    describe_counter!(
        "paxos_leader_changes_total",
        "Times that this node has found another leader, or lost the one it knew"
    );
    describe_counter!("paxos_elections_total", "Times that this node began to run for leader");
    // An alarm at the increase of a counter would miss the first event if the counter came with it.
    counter!("paxos_slow_applies_total").increment(0);
    counter!("paxos_log_lines_dropped_total").increment(0);
    describe_disk();
    describe_peers();
    describe_gauge!(
        "paxos_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the certificate ends to be valid, in seconds since 1970"
    );
    describe_gauge!(
        "paxos_memory_counted_bytes",
        "Memory taken by state and log; beyond half of the limit commands that need more are refused"
    );
    describe_gauge!("paxos_memory_limit_bytes", "The smallest memory limit of a node that is known here");
    describe_gauge!("paxos_client_buffer_bytes", "Memory taken by requests and replies of Redis clients");
}

fn describe_disk() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(
        "paxos_disk_busy_seconds",
        Unit::Seconds,
        "How long the present call of the storage has taken so far"
    );
    describe_histogram!(
        "paxos_disk_write_seconds",
        Unit::Seconds,
        "How long writes of the log take, their sync included, after they were merged"
    );
    describe_gauge!(
        "paxos_disk_write_mean_seconds",
        Unit::Seconds,
        "How long these writes took on average within the last 10 s with at least five of them"
    );
    describe_gauge!("paxos_disk_write_longest_seconds", Unit::Seconds, "The longest write within these 10 s");
    describe_counter!(
        "paxos_log_written_bytes_total",
        Unit::Bytes,
        "Values handed to the log, without what it adds"
    );
}

fn describe_peers() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_gauge!(
        "paxos_peer_changed_timestamp_seconds",
        Unit::Seconds,
        "When the peer was connected or disconnected last, in seconds since 1970"
    );
    describe_gauge!(
        "paxos_peer_round_trip_seconds",
        Unit::Seconds,
        "How long a packet to the peer and its acknowledgement take (QUIC), or the leader's heartbeat and its answer (TCP)"
    );
    describe_gauge!("paxos_peer_refused", "1 if this node refuses the peer, or is refused by it");
    describe_counter!("paxos_peer_sent_frames_total", "Frames for the peer that the network has taken");
    describe_counter!("paxos_peer_sent_bytes_total", Unit::Bytes, "The bytes of these frames");
    describe_counter!("paxos_peer_received_frames_total", "Frames that the peer has sent");
    describe_counter!("paxos_peer_received_bytes_total", Unit::Bytes, "The bytes of these frames");
    describe_counter!(
        "paxos_peer_dropped_frames_total",
        "Frames for the peer that were dropped, by reason: full, disconnected or too_large"
    );
    describe_counter!("paxos_peer_connections_total", "Connections that were made with the peer");
}

/// Shows a peer that is a member.
pub(crate) fn show_peer(status: &PeerStatus, is_refused: bool) {
    let peer = status.peer.to_string();
    let set = |name: &'static str, value: f64| gauge!(name, "peer" => peer.clone()).set(value);
    set("paxos_peer_connected", f64::from(u8::from(status.is_connected)));
    set("paxos_peer_refused", f64::from(u8::from(is_refused)));
    if let Some(since) = status.since.and_then(|since| SystemTime::now().checked_sub(since.elapsed())) {
        let since_1970 = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        set("paxos_peer_changed_timestamp_seconds", since_1970.as_secs_f64().round());
    }
    // As Prometheus has it, what is not known, or not any more, is not a number.
    let round_trip = status.round_trip.map_or(f64::NAN, |round_trip| round_trip.as_secs_f64());
    set("paxos_peer_round_trip_seconds", round_trip);
    let count = |name: &'static str, value: u64| counter!(name, "peer" => peer.clone()).absolute(value);
    let counters = &status.counters;
    count("paxos_peer_sent_frames_total", counters.sent.frames);
    count("paxos_peer_sent_bytes_total", counters.sent.bytes);
    count("paxos_peer_received_frames_total", counters.received.frames);
    count("paxos_peer_received_bytes_total", counters.received.bytes);
    count("paxos_peer_connections_total", counters.connections);
    let dropped = &counters.dropped;
    let reasons =
        [("full", dropped.full), ("disconnected", dropped.disconnected), ("too_large", dropped.too_large)];
    for (reason, frames) in reasons {
        counter!("paxos_peer_dropped_frames_total", "peer" => peer.clone(), "reason" => reason)
            .absolute(frames);
    }
}

/// The metrics that the driver changes, so that none is looked up by name while it works.
pub(crate) struct DriverMetrics {
    pub(crate) commands: metrics::Counter,
    pub(crate) reads: metrics::Counter,
    pub(crate) refused: metrics::Counter,
    pub(crate) sent: metrics::Counter,
    pub(crate) dropped: metrics::Counter,
    pub(crate) received: metrics::Counter,
    pub(crate) malformed: metrics::Counter,
    pub(crate) unheard: metrics::Counter,
    pub(crate) refused_peers: metrics::Counter,
    pub(crate) writes: metrics::Counter,
    pub(crate) snapshots: metrics::Counter,
    pub(crate) leader_changes: metrics::Counter,
    pub(crate) elections: metrics::Counter,
    pub(crate) log_written_bytes: metrics::Counter,
    pub(crate) command_seconds: metrics::Histogram,
}

impl DriverMetrics {
    pub(crate) fn new() -> DriverMetrics {
        DriverMetrics {
            commands: counter!("paxos_commands_total"),
            reads: counter!("paxos_reads_total"),
            refused: counter!("paxos_refused_total"),
            sent: counter!("paxos_messages_sent_total"),
            dropped: counter!("paxos_messages_dropped_total"),
            received: counter!("paxos_messages_received_total"),
            malformed: counter!("paxos_messages_malformed_total"),
            unheard: counter!("paxos_messages_unheard_total"),
            refused_peers: counter!("paxos_peers_refused_total"),
            writes: counter!("paxos_writes_total"),
            snapshots: counter!("paxos_snapshots_total"),
            leader_changes: counter!("paxos_leader_changes_total"),
            elections: counter!("paxos_elections_total"),
            log_written_bytes: counter!("paxos_log_written_bytes_total"),
            command_seconds: histogram!("paxos_command_seconds"),
        }
    }
}

/// Shows the status as gauges.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; slots lose precision after 2^53 of them")]
pub(crate) fn show(status: &Status, log_bytes: usize) {
    let is = |condition: bool| f64::from(u8::from(condition));
    gauge!("paxos_diverged_peers").set(status.diverged.len() as f64);
    gauge!("paxos_founded").set(is(status.is_founded));
    gauge!("paxos_leader").set(is(status.leader == Some(status.node)));
    gauge!("paxos_has_leader").set(is(status.leader.is_some()));
    gauge!("paxos_epoch").set(status.epoch().0 as f64);
    if let Some(membership) = &status.membership {
        gauge!("paxos_members", "role" => "voter").set(membership.voters().count() as f64);
        gauge!("paxos_members", "role" => "learner").set(membership.learners().count() as f64);
    }
    gauge!("paxos_ballot_round").set(status.ballot.round as f64);
    gauge!("paxos_chosen_slot").set(status.chosen.0 as f64);
    gauge!("paxos_applied_slot").set(status.applied.0 as f64);
    gauge!("paxos_lag_slots").set(status.lag() as f64);
    gauge!("paxos_log_bytes").set(log_bytes as f64);
}

/// Shows how far members lag. Those in `before` alone lag no more: they are no members, or others lead.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_lags(before: &[MemberProgress], now: &[MemberProgress], chosen: Slot) {
    let lag = |node: NodeId| gauge!("paxos_member_lag_slots", "member" => node.to_string());
    let bytes = |node: NodeId| gauge!("paxos_member_lag_bytes", "member" => node.to_string());
    let is_known = |node: NodeId| now.iter().any(|progress| progress.node == node);
    for gone in before.iter().filter(|progress| !is_known(progress.node)) {
        lag(gone.node).set(0.0);
        bytes(gone.node).set(0.0);
    }
    for progress in now {
        lag(progress.node).set(chosen.0.saturating_sub(progress.chosen.0) as f64);
        bytes(progress.node).set(progress.lag_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    }
}

/// Shows how much memory state and log take, and the limit for them.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_memory(counted_bytes: u64, limit_bytes: Option<u64>) {
    gauge!("paxos_memory_counted_bytes").set(counted_bytes as f64);
    if let Some(limit_bytes) = limit_bytes {
        gauge!("paxos_memory_limit_bytes").set(limit_bytes as f64);
    }
}

/// Shows until when a certificate is valid.
#[expect(clippy::cast_precision_loss, reason = "exact for millions of years")]
pub(crate) fn show_certificate(status: &CertificateStatus) {
    let since = status.not_after.duration_since(SystemTime::UNIX_EPOCH);
    gauge!("paxos_certificate_expiry_timestamp_seconds", "certificate" => status.owner.to_string())
        .set(since.map_or(0.0, |since| since.as_secs() as f64));
}

/// Shows how much memory requests and replies of clients take.
#[cfg(feature = "server")]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_client_buffers(bytes: usize) {
    gauge!("paxos_client_buffer_bytes").set(bytes as f64);
}

/// Explains the metrics of Redis clients, and shows those that nothing has changed yet.
#[cfg(feature = "server")]
pub(crate) fn describe_clients() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_gauge!("paxos_client_connections", "Redis clients that are connected");
    describe_counter!("paxos_client_connections_total", "Redis clients that were connected");
    describe_counter!(
        "paxos_client_connections_refused_total",
        "Redis clients that were refused because too many were connected"
    );
    describe_counter!("paxos_client_commands_total", "Commands of Redis clients, by name");
    describe_counter!("paxos_client_received_bytes_total", Unit::Bytes, "What Redis clients have sent");
    describe_counter!("paxos_client_sent_bytes_total", Unit::Bytes, "What was sent to Redis clients");
    describe_counter!("paxos_client_handshakes_total", "TLS handshakes of Redis clients that were completed");
    describe_counter!(
        "paxos_client_handshakes_failed_total",
        "TLS handshakes of Redis clients that have failed"
    );
    describe_counter!("paxos_logins_refused_total", "Logins of Redis clients with a wrong password or user");
    describe_counter!("paxos_commands_denied_total", "Commands that Redis clients may not run");
    counter!("paxos_client_handshakes_total").increment(0);
    counter!("paxos_client_handshakes_failed_total").increment(0);
    counter!("paxos_logins_refused_total").increment(0);
    counter!("paxos_commands_denied_total").increment(0);
}

/// What Redis clients have done since the front was started.
#[cfg(feature = "server")]
pub(crate) struct ClientCounts {
    pub(crate) open: usize,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

#[cfg(feature = "server")]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_clients(counts: &ClientCounts) {
    gauge!("paxos_client_connections").set(counts.open as f64);
    counter!("paxos_client_connections_total").absolute(counts.accepted);
    counter!("paxos_client_connections_refused_total").absolute(counts.refused);
    counter!("paxos_client_received_bytes_total").absolute(counts.received_bytes);
    counter!("paxos_client_sent_bytes_total").absolute(counts.sent_bytes);
}

/// Shows how often a command of the table was sent.
#[cfg(feature = "server")]
pub(crate) fn show_command(name: &'static str, count: u64) {
    counter!("paxos_client_commands_total", "command" => name).absolute(count);
}

/// Explains and shows how much space the log takes, and how much is left.
#[cfg(all(feature = "server", feature = "file"))]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_space(usage: &paxos_storage::file::Usage) {
    gauge!("paxos_storage_segments").set(usage.segments as f64);
    gauge!("paxos_storage_used_bytes").set(usage.used_bytes as f64);
    gauge!("paxos_storage_free_bytes").set(usage.free_bytes as f64);
    gauge!("paxos_storage_volume_bytes").set(usage.volume_bytes as f64);
}

#[cfg(feature = "server")]
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn show_sessions(count: usize) {
    gauge!("paxos_sessions").set(count as f64);
}

/// Explains what only the program shows.
#[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
pub(crate) fn describe_program() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_gauge!("paxos_node_info", "1, with the node's cluster and version, its transport and storage");
    describe_gauge!(
        "paxos_sessions",
        "Sessions that the cluster keeps: one for each node, and those of clients"
    );
    describe_gauge!("paxos_storage_segments", "Segments that the log consists of");
    describe_gauge!("paxos_storage_used_bytes", Unit::Bytes, "The size of all files of the data directory");
    describe_gauge!(
        "paxos_storage_free_bytes",
        Unit::Bytes,
        "Free space on the volume of the data directory"
    );
    describe_gauge!("paxos_storage_volume_bytes", Unit::Bytes, "The size of that volume");
    describe_counter!("process_cpu_seconds_total", Unit::Seconds, "Time of processors that the process took");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory of the process");
    describe_gauge!("process_open_fds", "Open file descriptors of the process");
    describe_gauge!("process_max_fds", "How many file descriptors the process may have open");
}

/// Shows which node this is.
#[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
pub(crate) fn show_node(cluster: &str, transport: &'static str, storage: &'static str) {
    let labels = [
        ("cluster", cluster.to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("transport", transport.to_owned()),
        ("storage", storage.to_owned()),
    ];
    gauge!("paxos_node_info", &labels).set(1.0);
}

#[cfg(feature = "server")]
pub(crate) fn on_client_handshake() {
    counter!("paxos_client_handshakes_total").increment(1);
}

#[cfg(feature = "server")]
pub(crate) fn on_client_handshake_failed() {
    counter!("paxos_client_handshakes_failed_total").increment(1);
}

#[cfg(feature = "server")]
pub(crate) fn on_login_refused() {
    counter!("paxos_logins_refused_total").increment(1);
}

#[cfg(feature = "server")]
pub(crate) fn on_command_denied() {
    counter!("paxos_commands_denied_total").increment(1);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_is_explained_in_the_guide() {
        let (source, guide) = (include_str!("metrics.rs"), include_str!("../guide/monitor.rs"));
        let names = source.split('"').filter(|text| text.starts_with("paxos_") && !text.contains(' '));
        let missing: Vec<_> = names.filter(|name| !guide.contains(&format!("`{name}"))).collect();
        assert_eq!(missing, [""; 0], "paxos-node/src/guide/monitor.rs has a row for each");
    }
}
