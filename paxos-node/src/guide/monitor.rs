//! What to monitor: status, metrics, and what is worth waking somebody for.
//!
//! A node counts through the [`metrics`](https://docs.rs/metrics) facade. The program shows the counts at
//! `/metrics` in the text format of Prometheus; a program that embeds the library installs a recorder of its
//! own, before it starts a node. The [`Status`](crate::Status) has the state of the moment; the program shows
//! it at `/status` and sums it up at `/readyz`, as [`Status::why_not_ready`](crate::Status::why_not_ready)
//! does. In `/status`, `ready` is that reason: `null` if the node is ready.
//!
//! ```
//! # use paxos_node::{Client, StateMachine};
//! /// Ends when the node has applied all that it knows to be chosen, and knows a leader.
//! async fn until_ready<S: StateMachine>(client: &Client<S>) {
//!     let mut status = client.status();
//!     let _ = status.wait_for(|status| status.is_ready()).await; // An error means that the node has ended.
//! }
//! ```
//!
//! What needs a person is also logged: at level `warn` or `error`, within about ten seconds, once for each
//! outage and again when it is over. [`faults`](super::faults) lists what is logged.
//!
//! People look at `/` of the HTTP port: members, ballots, lag, rates and times of one node, kept up to date,
//! with what has happened since the page was opened. It shows no more than `/status` and `/metrics` do, and
//! is open to whoever reaches the port, as they are. What `/status` and the page tell of disk and clients is
//! read from the metrics, so that all three agree.
//!
//! # Alarms
//!
//! As rules for Prometheus they are in `deploy/alerts.yaml` of this crate; beside it are a dashboard for
//! Grafana, and `alerts-test.yaml`: `promtool test rules alerts-test.yaml` shows for each of them that it
//! fires at its fault, and that none does in a cluster that is well. Run it when you change a bound.
//!
//! | alarm | condition, by node | what it means, and what to do |
//! |---|---|---|
//! | service is down | `paxos_has_leader == 0` on all nodes for 10 s | no quorum reaches each other: look at `paxos_peer_connected` |
//! | one failure from down | `sum(paxos_peer_connected) + 1` is no more than a quorum for 1 min | bring the missing nodes back |
//! | not taking part | `paxos_founded == 0` for 1 min | new, or kept out by its peers: its log says why |
//! | refused by a peer | `increase(paxos_peers_refused_total[5m]) > 0` | settings differ, or a disk or a copy of data is the wrong one: its log says which |
//! | states differ | `paxos_diverged_peers > 0` | a state machine that is not deterministic, or memory or a disk that alters data: keep both data directories |
//! | disk hangs | `paxos_disk_busy_seconds > 5` | the disk neither fails nor returns: this node promises and accepts nothing meanwhile |
//! | disk slow | 99 % of `paxos_disk_write_seconds` above 0.1 for 5 min | each command waits for a write on a quorum of disks; logged as `the disk is slow` |
//! | space low | `paxos_storage_free_bytes` below a tenth of `paxos_storage_volume_bytes`, and below 4 GiB | make room before commands are refused; logged as `space runs low` |
//! | leader unstable | `increase(paxos_leader_changes_total[10m]) > 6` | nodes lose each other, or get too little processor |
//! | falling behind | `paxos_lag_slots` grows for minutes | its disk or its state machine is slower than the leader's |
//! | a member is behind | `paxos_member_lag_slots` grows for minutes | the member is down, or slower than the leader: replace it if it does not come back |
//! | nodes disagree on the members | `max(paxos_epoch) != min(paxos_epoch)` for 1 min | a node is cut off, or was removed |
//! | driver held up | `paxos_longest_turn_seconds` or `paxos_longest_delay_seconds > 0.1` | too little processor, or something on the node's thread takes long; near the election timeout, leaders are lost |
//! | state machine slow | `increase(paxos_slow_applies_total[5m]) > 0` | commands took more than 100 ms |
//! | memory short | `paxos_memory_counted_bytes > 0.45 * paxos_memory_limit_bytes` | from 0.5 on, commands that need memory are refused |
//! | requests refused | `rate(paxos_refused_total[1m]) > 0` for minutes | clients ask for more than the cluster carries, or memory or disk is full |
//! | a node is faulty | `increase(paxos_messages_malformed_total[5m]) > 0`, or that of `paxos_connections_nonsense_total` | a peer sends what can't be decoded: a version that is too old or new, or faulty memory |
//! | clock differs | `abs(paxos_clock_ahead_seconds) > 0.5` for 1 min | have the clocks of all nodes set, by NTP for example: what shall expire at a date does so [by the cluster's time](super::time); logged as `this node's clock is` |
//! | certificates end | `paxos_certificate_expiry_timestamp_seconds - time() < 14 * 86400` | make new ones: running nodes [take them up](super::access) |
//! | passwords are tried | `rate(paxos_logins_refused_total[5m]) > 1` | somebody tries passwords, or a program has an old one: the log names the address |
//! | log lines lost | `increase(paxos_log_lines_dropped_total[5m]) > 0` | nobody reads the program's output fast enough |
//!
//! # All metrics
//!
//! Each sample carries the label `node`, the node's id, so that queries and alarms name nodes by it and not
//! by the address of the scrape. If Prometheus adds a label `node` of its own, as it may for the machine of a
//! pod in Kubernetes, it calls this one `exported_node`; drop its own, or scrape with `honor_labels: true`.
//!
//! | metric | kind | what it counts |
//! |---|---|---|
//! | `paxos_commands_total`, `paxos_reads_total` | counter | commands and linearizable reads taken from this node's clients |
//! | `paxos_refused_total` | counter | requests that were refused when they came |
//! | `paxos_command_seconds` | histogram | from taking a command to applying it, on this node |
//! | `paxos_leader`, `paxos_has_leader`, `paxos_founded` | gauge, 0 or 1 | whether this node leads; knows a leader; is a member of a cluster |
//! | `paxos_epoch` | gauge | the epoch of the membership in force: it grows with each change of the members |
//! | `paxos_members{role}` | gauge | how many voters and learners there are in that epoch |
//! | `paxos_member_lag_slots{member}` | gauge | on the leader, how many chosen slots a member does not know yet; 0 on other nodes |
//! | `paxos_member_lag_bytes{member}` | gauge | the bytes of the values in these slots, rounded up by a tick's worth or two parts in a hundred; `NaN` if the member lags from before the snapshot that the leader was started with or has caught up by |
//! | `paxos_ballot_round` | gauge | the round of the highest promised ballot: it grows with each election |
//! | `paxos_chosen_slot`, `paxos_applied_slot`, `paxos_lag_slots` | gauge | how far the log is chosen and applied, and how far this node lags |
//! | `paxos_messages_sent_total`, `paxos_messages_received_total` | counter | messages to and from peers |
//! | `paxos_messages_dropped_total` | counter | messages that the transport had no room or no connection for |
//! | `paxos_messages_unheard_total` | counter | messages dropped on arrival because disk or state machine had too much to do |
//! | `paxos_messages_malformed_total`, `paxos_connections_nonsense_total` | counter | frames and connections of peers that could not be decoded |
//! | `paxos_peers_refused_total` | counter | how often this node or a peer began to refuse the other |
//! | `paxos_peer_connected{peer}` | gauge, 0 or 1 | whether frames go both ways between this node and the peer |
//! | `paxos_peer_changed_timestamp_seconds{peer}` | gauge | when the peer was connected or disconnected last |
//! | `paxos_peer_round_trip_seconds{peer}` | gauge | how long a packet and its acknowledgement take, with QUIC; with TCP, on the leader, how long a heartbeat and its answer take, with the turns of both nodes; `NaN` where it is not known |
//! | `paxos_peer_refused{peer}` | gauge, 0 or 1 | whether this node refuses the peer, or is refused by it: the log says why |
//! | `paxos_peer_sent_frames_total{peer}`, `paxos_peer_sent_bytes_total{peer}`, `paxos_peer_received_frames_total{peer}`, `paxos_peer_received_bytes_total{peer}` | counter | frames to and from the peer, and their bytes |
//! | `paxos_peer_dropped_frames_total{peer,reason}` | counter | frames for the peer that were dropped: `full`, `disconnected`, `too_large` |
//! | `paxos_peer_connections_total{peer}` | counter | connections that were made with the peer |
//! | `paxos_leader_changes_total`, `paxos_elections_total` | counter | how often this node has found or lost a leader, and has run for leader itself |
//! | `paxos_disk_write_seconds` | histogram | how long writes of the log take, their sync included |
//! | `paxos_disk_write_mean_seconds`, `paxos_disk_write_longest_seconds` | gauge | mean and longest of the writes of the last 10 s with at least five of them: what `/status` and the page show |
//! | `paxos_log_written_bytes_total` | counter | values handed to the log |
//! | `paxos_writes_total` | counter | writes handed to the storage, before they are merged |
//! | `paxos_snapshots_total` | counter | snapshots that were saved or installed |
//! | `paxos_disk_busy_seconds` | gauge | how long the present call of the storage has taken so far |
//! | `paxos_clock_ahead_seconds` | gauge | by how much the node's wall clock is ahead of the [cluster's time](super::time), negative if it is behind |
//! | `paxos_log_bytes` | gauge | memory taken by the log |
//! | `paxos_memory_counted_bytes`, `paxos_memory_limit_bytes` | gauge | memory of state and log, and the smallest limit of a node that is known here |
//! | `paxos_turn_seconds` | histogram | how long turns of the driver take |
//! | `paxos_longest_turn_seconds`, `paxos_longest_delay_seconds` | gauge | the longest turn, and the longest wait for one, within the last 30 to 60 s |
//! | `paxos_slow_applies_total` | counter | slots that took the state machine more than 100 ms |
//! | `paxos_diverged_peers` | gauge | peers whose state differs at an equal slot |
//! | `paxos_certificate_expiry_timestamp_seconds{certificate}` | gauge | when a certificate ends to be valid, in seconds since 1970 |
//! | `paxos_client_handshakes_total`, `paxos_client_handshakes_failed_total` | counter | of the program: TLS handshakes of Redis clients |
//! | `paxos_logins_refused_total`, `paxos_commands_denied_total` | counter | of the program: logins with a wrong password or user; commands that clients may not run |
//! | `paxos_client_connections`, `paxos_client_connections_total`, `paxos_client_connections_refused_total` | gauge, counter | of the program: Redis clients that are connected, that were, and that were too many |
//! | `paxos_client_commands_total{command}` | counter | of the program: commands of Redis clients, by name |
//! | `paxos_client_received_bytes_total`, `paxos_client_sent_bytes_total` | counter | of the program: what went between the node and Redis clients |
//! | `paxos_sessions` | gauge | of the program: sessions that the cluster keeps, one for each node among them |
//! | `paxos_storage_segments`, `paxos_storage_used_bytes`, `paxos_storage_free_bytes`, `paxos_storage_volume_bytes` | gauge | of the program: segments of the log, the size of the data directory, and of its volume |
//! | `paxos_node_info{cluster,version,transport,storage}` | gauge, 1 | of the program: which node this is, and of which version |
//! | `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, `process_max_fds` | counter, gauge | of the program: what the process takes |
//! | `paxos_client_buffer_bytes`, `paxos_log_lines_dropped_total` | gauge, counter | of the program: memory for requests and replies of Redis clients; log lines that nobody read in time |
