//! What the networked backends share, on top of [`backend`](crate::backend).
//!
//! | file | what it does |
//! |---|---|
//! | `config` | settings, and their checks |
//! | `peers` | the peers, and how they change: which connections are accepted, status, closing |
//! | `table` | the links to all peers |
//! | `guests` | nodes that connect without being peers |
//! | `link` | one of the two connections to a peer, connected or not |
//! | `calls` | requests with answers, of operators and nodes |
//! | `connection` | what a backend implements for its connections |
//! | `dialing` | connects to peers, and finds out why a peer can't be reached |
//! | `resolve` | looks up the addresses of peers |
//! | `frames` | reads frames, and complains of invalid ones |
//! | `tls` | certificates, and which node they prove |
//! | `rivals` | two processes under one id |
//! | `expiry` | certificates that expire |
//! | `report`, `complaints` | what the operator reads in the log |
//! | `transport` | the public type over all this |

pub mod calls;
mod complaints;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod dialing;
pub(crate) mod expiry;
pub(crate) mod frames;
mod guests;
pub(crate) mod link;
pub(crate) mod peers;
mod report;
mod resolve;
mod rivals;
pub(crate) mod table;
pub(crate) mod tls;
pub(crate) mod transport;

pub use config::NetworkConfig;
pub use resolve::{Resolve, SystemResolver};
pub use tls::{SharedIdentity, TlsIdentity};
pub use transport::NetworkTransport;
