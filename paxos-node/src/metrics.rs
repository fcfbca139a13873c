//! The numbers a node counts, under the names by which a metrics recorder knows them.
//!
//! They go through the `metrics` facade: without a recorder they cost next to nothing.

use metrics::{counter, gauge, histogram};

use crate::status::Status;

pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("paxos_commands_total", "Commands taken from this node's clients");
    describe_counter!("paxos_reads_total", "Linearizable reads taken from this node's clients");
    describe_counter!("paxos_refused_total", "Requests refused because too many were waiting");
    describe_counter!("paxos_messages_sent_total", "Messages handed to the transport");
    describe_counter!("paxos_messages_dropped_total", "Messages the transport had no room or no route for");
    describe_counter!("paxos_messages_received_total", "Messages received from peers");
    describe_counter!("paxos_messages_malformed_total", "Frames from peers that are no message");
    describe_counter!(
        "paxos_messages_unheard_total",
        "Messages ignored because too much waited for the disk already"
    );
    describe_counter!("paxos_peers_refused_total", "Times a peer was refused for coming with another disk");
    describe_counter!("paxos_writes_total", "Writes handed to the storage, before they are merged");
    describe_counter!("paxos_snapshots_total", "Snapshots saved or installed");
    describe_histogram!("paxos_command_seconds", Unit::Seconds, "From taking a command to applying it");
    describe_gauge!("paxos_leader", "1 if this node leads");
    describe_gauge!("paxos_has_leader", "1 if this node knows a leader");
    describe_gauge!("paxos_ballot_round", "The round of the highest promised ballot");
    describe_gauge!("paxos_chosen_slot", "Every slot up to here is chosen");
    describe_gauge!("paxos_applied_slot", "Every slot up to here is applied");
    describe_gauge!("paxos_lag_slots", "Slots known to be chosen and not yet applied here");
    describe_gauge!("paxos_log_bytes", "Memory taken by the log");
}

/// Counters that the driver holds on to, so that none is looked up by name while it works.
pub(crate) struct Counters {
    pub(crate) commands: metrics::Counter,
    pub(crate) reads: metrics::Counter,
    pub(crate) refused: metrics::Counter,
    pub(crate) sent: metrics::Counter,
    pub(crate) dropped: metrics::Counter,
    pub(crate) received: metrics::Counter,
    pub(crate) malformed: metrics::Counter,
    pub(crate) unheard: metrics::Counter,
    pub(crate) strangers: metrics::Counter,
    pub(crate) writes: metrics::Counter,
    pub(crate) snapshots: metrics::Counter,
    pub(crate) command_seconds: metrics::Histogram,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            commands: counter!("paxos_commands_total"),
            reads: counter!("paxos_reads_total"),
            refused: counter!("paxos_refused_total"),
            sent: counter!("paxos_messages_sent_total"),
            dropped: counter!("paxos_messages_dropped_total"),
            received: counter!("paxos_messages_received_total"),
            malformed: counter!("paxos_messages_malformed_total"),
            unheard: counter!("paxos_messages_unheard_total"),
            strangers: counter!("paxos_peers_refused_total"),
            writes: counter!("paxos_writes_total"),
            snapshots: counter!("paxos_snapshots_total"),
            command_seconds: histogram!("paxos_command_seconds"),
        }
    }
}

/// Shows the status as gauges.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; slots lose precision after 2^53 of them")]
pub(crate) fn show(status: &Status, log_bytes: usize) {
    let is = |condition: bool| f64::from(u8::from(condition));
    gauge!("paxos_leader").set(is(status.leader == Some(status.node)));
    gauge!("paxos_has_leader").set(is(status.leader.is_some()));
    gauge!("paxos_ballot_round").set(status.ballot.round as f64);
    gauge!("paxos_chosen_slot").set(status.chosen.0 as f64);
    gauge!("paxos_applied_slot").set(status.applied.0 as f64);
    gauge!("paxos_lag_slots").set(status.lag() as f64);
    gauge!("paxos_log_bytes").set(log_bytes as f64);
}
