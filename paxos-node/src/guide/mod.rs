//! Guides for users of the library and of the program. They hold no code but examples.
//!
//! If you embed a node:
//!
//! - [`embed`]: embed a state machine of your own, on three machines;
//! - [`simulate`]: run your state machine in the simulator;
//! - [`measure`]: measure transports and storages of your own beside ours, near and far.
//!
//! If you run one:
//!
//! - [`run`]: run nodes under systemd, in containers and in Kubernetes;
//! - [`access`]: who may talk to a node: TLS, users, and certificates that are replaced while it runs;
//! - [`upgrade`]: which versions work together, how to upgrade and go back, and how a format changes;
//! - [`backup`]: backups, new clusters from them, nodes that are replaced, and a majority that is lost;
//! - [`monitor`]: what to monitor, and what is worth an alarm;
//! - [`tuning`]: what each setting costs and buys;
//! - [`clients`]: what Redis clients do when an answer is lost, and what that means for commands that may not
//!   be applied twice;
//! - [`time`]: how time gets into the log, keys that expire, and what a lock can rely on;
//! - [`faults`]: the kinds of faults around the protocol, what a node does about each, and which test shows
//!   it.

pub mod access;
pub mod backup;
pub mod clients;
pub mod embed;
pub mod faults;
pub mod measure;
pub mod monitor;
pub mod run;
pub mod simulate;
pub mod time;
pub mod tuning;
pub mod upgrade;
