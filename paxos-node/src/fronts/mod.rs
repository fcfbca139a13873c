//! Where clients and operators reach a node: one front for each protocol, over the same node and store.
//!
//! All fronts for clients accept connections by one `listener`. A front whose clients send and receive much
//! bounds their buffers by a `budget`. Operators come in on the port for peers, by the calls of the
//! transport.

pub(crate) mod budget;
pub mod http;
pub(crate) mod listener;
mod measured;
mod members;
#[cfg(any(feature = "quic", feature = "tcp"))]
pub mod operator;
pub mod page;
mod process;
mod recorder;
pub mod resp;

pub use self::members::MemberReport;
