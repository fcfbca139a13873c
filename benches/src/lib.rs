//! What Multi-Paxos costs, counted and in a time of its own.
//!
//! # The cost model
//!
//! On *n* nodes, where a message takes *h* from one to another and a sync takes *s*, one command costs until
//! its proposer knows that it is chosen:
//!
//! | | messages | syncs in all | time |
//! |---|---|---|---|
//! | full round, *Paxos Made Simple* section 2.2 | 4 (*n* − 1) | 2 *n* | 4 *h* + 3 *s* |
//! | fast path of a stable leader, section 3 | 2 (*n* − 1) | *n* | 2 *h* + *s* |
//!
//! A full round has three syncs in sequence and not two, as a proposer makes its ballot durable before the
//! prepare leaves: no restart may use it again (section 2.5). The leader's own sync runs beside those of the
//! others. So what phase 1 costs tends to as much as phase 2 where the network is slow, and to twice as much
//! where the disk is.
//!
//! [`cost::count`] counts this on real replicas. [`cluster`] shows what comes of it when many clients are
//! served: batches, windows, and ways to read. [`duel`] is what happens without a leader. [`report::report`]
//! runs all of it.
//!
//! What the core costs a processor is counted on [`bare`] replicas; [`instructions`] compares it with what it
//! was. [`loss`] is a network that loses packets. [`plot`] draws charts; with the feature `servers` there is
//! also what holds paxos-node against other servers.

use std::time::Duration;

pub mod bare;
pub mod cluster;
pub mod cost;
pub mod duel;
pub mod goal;
pub mod instructions;
pub mod loss;
pub mod nothing;
#[cfg(feature = "peers")]
pub mod peers;
pub mod plot;
pub mod report;
#[cfg(feature = "servers")]
pub mod servers;
pub mod statistics;

/// How long what is measured beside a node stays awake after work, to be fair: as long as a node does by
/// default.
pub const BUSY_POLL: Duration = Duration::from_micros(100);
