//! The runtime of a node: the driver, a task that owns the replica and waits for inputs only, and the threads
//! that work for it.
//!
//! | module | thread | what it does |
//! |---|---|---|
//! | [`recovery`], [`checks`] | its own | checks settings and parts, reads log and snapshot back, then ends |
//! | [`driver`] | the caller's runtime | feeds the replica, carries out its outputs |
//! | [`writer`], [`guarded`] | its own, or the driver's | calls the storage, whose panics become errors |
//! | [`applier`], [`replicated`] | its own, or the driver's | calls the state machine behind the sessions |
//! | [`snapshots`] | one for each snapshot | writes snapshots of this node's state |
//! | [`pending`] | the driver's | requests of clients that have no answer yet |
//! | [`introductions`] | the driver's | decides which peers to listen to, and founds the cluster |
//! | [`backlog`], [`memory`], [`mesh`], [`checkpoints`], [`metrics`], [`pulse`] | the driver's | watch limits, peers and states |
//!
//! Data flows one way: an input from a client or a peer goes to the driver, writes to the writer, messages to
//! peers, and chosen values to the applier, whose results answer the pending requests.

pub(crate) mod applier;
pub(crate) mod backlog;
pub(crate) mod checkpoints;
pub(crate) mod checks;
pub(crate) mod driver;
pub(crate) mod guarded;
pub(crate) mod inline_time;
pub(crate) mod introductions;
pub(crate) mod log_meter;
pub(crate) mod memory;
pub(crate) mod mesh;
pub(crate) mod metrics;
pub(crate) mod pending;
pub(crate) mod pulse;
pub(crate) mod recovery;
pub(crate) mod replicated;
pub(crate) mod round_trips;
pub(crate) mod snapshot_interval;
pub(crate) mod snapshots;
pub(crate) mod writer;
