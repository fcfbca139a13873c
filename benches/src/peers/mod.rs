//! Other Rust libraries for replicated logs, on the same machine under the same load.
//!
//! Three of them and `paxos-core` leave messages and disks to their user: one [`driver`] drives each the same
//! way. `openraft` and `paxos-node` bring tasks of their own. All drop their logs behind what is applied, and
//! have a state machine that does nothing. Logs are in memory, as the authors have them where they measure,
//! or on disk where the library or its authors ship a log that needs no more than a C compiler.

pub mod arguments;
pub mod bare;
pub mod contender;
pub mod driver;
pub mod omni;
pub mod open_raft;
pub mod open_raft_log;
pub mod paxos;
pub mod raft_rs;
pub mod table;
