//! The kinds of faults around the protocol, what a node does about each, and which test shows it.
//!
//! The protocol itself is simulated, model-checked and broken on purpose (see the README). What surrounds it
//! fails first: frames, disks, clocks of other tasks, copies of data, limits, and people who start the wrong
//! thing. Each row is a kind, not an instance. Tests are named as `file` or `file::part of the name`; those
//! of this crate are in `paxos-node/tests`. `.ci/limits` runs the process tests again on nodes with 256 open
//! files and 300 MiB.
//!
//! # What arrives is what was sent
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | a frame is cut or joined on its way through buffers | the decoder hands out exactly a frame's bytes, from buffers of fixed size ([`paxos_core::frames`]) | properties in `paxos-core/src/frames`, `paxos-transport/src/backend/streams/tests.rs`, both conformance suites, `transports` |
//! | bytes behind, before or missing from a message | length and CRC32C stand in front of each message ([`paxos_core::wire`]) | `paxos-core/src/wire`: tails, damage |
//! | a field or body that comes twice, which Protocol Buffers merge | a scan by schema refuses it at every level; unknown fields still pass | `paxos-core/src/wire`: repeated |
//! | a frame of one kind or start read as one of another | the checksum covers kind, sender's start and message | `introductions::tests::no_flipped_bit` |
//! | code of the simulator that is not that of the network | one seed in eight goes through real encoding and frames over streams cut at random | `paxos-sim`; mutants `FrameTakesWhatIsBehindIt`, `ChecksumIgnored`, `RepeatedFieldsMerged` |
//! | a peer that falls silent, is reset, or ends in order | given up after the idle time-out and dialed again; what arrives is whole | `paxos-transport/tests/silence.rs`, `paxos-transport/src/simulated` |
//! | misunderstandings that nobody notices | counted in the status and the metrics; every cluster test, smoke run and bench fails at one | `tests/support`, `.ci/smoke` |
//!
//! # The driver waits for nothing
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | a short command that causes long work | a budget, taken off before each operation and equal on all nodes; pages of `SCAN` get shorter | `work`, `kv::work`, `cargo bench -p benches --bench commands` |
//! | matching, freeing and restoring that take long | plain segments are searched linearly, others charged; large states are freed and restored on threads | `kv::glob`, `work::removing` |
//! | a pipeline of reads or changes | read in pieces that let others run; changes are cut into several commands of the log | `work` |
//! | a disk that neither fails nor returns | the driver touches no disk; silence is logged after 5 s, and its end | `writer::disk`, `turns::disk`, `kernel::hanging` |
//! | a log that nobody reads, streams full or closed | lines wait in a bounded queue, are dropped, counted and logged | `terminal` |
//! | recovery or a snapshot's installation | on a thread; Redis clients get `LOADING`, `/readyz` says why | `recovery`, `snapshots::restores`, `serve::replays` |
//! | a slow state machine, or one that panics | applied on a thread of its own, bounded, and logged with slot and time; a panic stops the node with its slot | `applier::slow`, `applier::panic`, `turns::slow` |
//! | a look at the state that is held for long | the driver never waits for the state's lock | `applier::look` |
//! | names that can't be looked up yet, and that get another address | looked up again for each attempt to connect | `ordered` |
//! | a slow name server | one look-up at a time, beside everything else; late answers count | `paxos-transport/tests/reasons.rs`: `look_up` |
//! | a node that is told to stop, in any state | ends within a second; a disk that hangs is given up and named | `serve`, `snapshots::stops`, `kernel::hanging` |
//! | commands that change much, or copy or hash long values; many commands in one slot | what is estimated to take long, and the rest of a slot that has taken long, is left to the applier's thread | `kv::estimate`, `applier::a_command_that_takes_long`, `applier::a_slot_of_many_commands`, `work::a_pipeline` |
//! | a long turn that nobody notices | gauge, histogram and warning for turns and delays; the smoke run and the process tests fail above 50 ms | `turns`, `.ci/smoke`, `cargo bench -p benches --bench turns` |
//!
//! # Who is who
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | a cluster founded by some of its members | founded once all founders have met; then known by an identity that holds each disk | `introductions::founded`, a model of all orders in `introductions` |
//! | disks made anew beside one that remembers | they never make a quorum, and log which nodes they wait for | `introductions::made_anew`, `checks::used_disk` |
//! | members, or settings that must be equal, that differ | refused and logged on both sides with both values; no healthy node stops | `introductions::settings`, `introductions::three_nodes`, `checks` |
//! | a program that is older or newer than the others | works beside the version before and after it until a format level is finalized; then refused by name, and stops before what it does not know | `upgrade`, `.ci/rolling`, [`guide::upgrade`](crate::guide::upgrade) |
//! | a node that is killed just after it has connected, and started again at once, some times in a row | connections that come in place of one that is new are refused and count for nothing; a later start waits until the one before is silent, and is a copy only if that is heard meanwhile, or if as many connections compete | `introductions::tests`, `network::rivals`, `ordered` |
//! | a copy or a backup of a directory | a durable start counter tells older starts and rivals; what peers have heard of a storage tells copies that lack some of it; all are refused | `introductions::copy`, `introductions::backup` |
//! | a cluster that is founded from a backup, and one of whose founders has another one | founders compare what they were restored from; a restore that was cut off is told | `backup::founders` |
//! | a node that was given up when its cluster was rescued, and comes back | another id of the founding, and removed ids; it ends with exit code 5 | `rescue::last_node` |
//! | states that have become different all the same | digests of equal slots are compared about once a second: error, metric, `/readyz` | `checkpoints` |
//! | parts of another node or cluster in one process | [`Node::start`](crate::Node::start) checks storage, transport, frames and settings | `checks` |
//! | a command that can never be applied | a definite error at once, wherever it enters; a leader with a smaller limit sends it back | `checks::over_the_limit`, `leading::too_long` |
//! | clients of a node that is kept out | a definite error at once that says why | `introductions::kept_out` |
//!
//! # Resources end, nodes do not
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | file descriptors run out | some are set aside for log, snapshots and peers; clients are capped below; a failed open is a shortage, not a failed sync | `descriptors`, `paxos-storage`: crash tests |
//! | data outgrows memory | what needs memory is refused with `OOM` when it is proposed; what frees it passes, also at replay and by snapshot | `memory` |
//! | nodes with less memory than others | the smallest limit heard of counts on all; logged once where it differs much | `memory::smallest` |
//! | buffers of many or slow clients | they shrink; one bound holds for all; whoever is silent longest is cut off first | `budget` |
//! | clients whose machine is gone | keepalive notices them, an idle time-out on request | `kernel::vanished`, `budget::silent` |
//! | metrics that nobody scrapes | times go into buckets, which are filled without a scrape | `metrics` |
//! | a volume that is too small, fills up or recovers | told at start with what would fit; refused early, and taken up again | `kernel::volume`, `kernel::full` |
//!
//! # What is wrong is said
//!
//! At the default log level, within ten seconds, once for each outage, with what to do, and again when it is
//! over.
//!
//! | kind | shown by |
//! |---|---|
//! | a peer is not reached: refused, silent, blocked, on a narrow path, of another address family, unknown to the name server | `paxos-transport/tests/reasons.rs`, `paths`, `mesh::gone` |
//! | certificates: other CA, cluster or node; expired, early or near their end | `paxos-transport/tests/identity.rs`, `reasons.rs`, `mesh::certificate` |
//! | one failure more would end service | `mesh::gone` |
//! | a wall clock that differs from the cluster's time | `clocks` |
//! | a node whose own name leads nowhere, or to loopback | `mesh::own_name`, `reasons.rs`: `own_machine` |
//! | frames dropped as too large, or because a queue stays full | `reasons.rs`: `too_large` |
//! | a directory that is not empty, or formatted already | `cli` |
//!
//! # The library's life
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | stopping twice, late, or not at all | errors, never panics | `serve`, `snapshots`, `node` |
//! | a transport that ends, a storage with errors of its own or that panics | typed errors of the node | `driver::transport`, `writer::storage` |
//! | a client that sends again after a lost reply | a session of its own, carried from node to node; who is covered is told in [`Client`](crate::Client) and in [`clients`](super::clients) | `session` |
//!
//! # Bytes of clients
//!
//! | kind | what holds | shown by |
//! |---|---|---|
//! | inline requests with quotes | taken as Redis takes them; unbalanced ones are refused | `resp_parse::inline` |
//! | requests that are too long | read off in bounded memory, answered in their place | `resp_parse::too_long` |
//! | an error that a reset would eat | the connection lingers, bounded in bytes and time, until it can be read | `resp_parse::last_error` |
//! | logins, sections and questions of libraries | answered as a Redis without passwords would | `resp_parse::redis_tells`, `resp_cluster` |
