//! Calls: a request and its answer, from an operator or a node, on the port for peers.
//!
//! Frames between nodes are best effort; a call is answered or fails with a reason. It is meant for what an
//! operator asks of a cluster, and for nodes that are no peers yet. What the bytes mean is up to the user.
//!
//! A call has a connection of its own, by the same TLS as those of peers, with its own protocol name (ALPN).
//! An operator proves to be one by a certificate of the cluster's CA with the name
//! `paxos://CLUSTER/operator`, which is of another kind (URI) than that of a node, so that neither can pass
//! for the other.
//!
//! ```no_run
//! # use std::path::Path;
//! # use bytes::Bytes;
//! # use paxos_transport::{NetworkConfig, TlsIdentity};
//! use paxos_transport::calls::{self, Caller};
//!
//! # async fn serve(config: NetworkConfig) -> Result<(), paxos_transport::Error> {
//! // In the node:
//! let (sender, mut receiver) = calls::channel();
//! let transport = paxos_transport::quic::bind(config.with(|config| config.calls = Some(sender))).await?;
//! while let Some(call) = receiver.receive().await {
//!     let answer = match call.caller {
//!         Caller::Operator => Bytes::from_static(b"done"),
//!         _ => Bytes::from_static(b"ask an operator"),
//!     };
//!     call.answer(answer);
//! }
//! # Ok(())
//! # }
//! # async fn call() -> Result<(), Box<dyn std::error::Error>> {
//! // In the operator's program, with the files that the module `certs` makes:
//! let identity = calls::CallIdentity::load(Path::new("certs"))?;
//! let addresses = [String::from("one.example.org:9001"), String::from("two.example.org:9001")];
//! let answer = paxos_transport::quic::call(&addresses, &identity, Bytes::from_static(b"do it")).await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
mod server;
#[cfg(all(test, feature = "certs", feature = "quic", feature = "tcp"))]
mod tests;
mod wire;

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::client::{CallDialer, call};
pub use self::error::{CallError, CallProblem, FailedAttempt};
pub(crate) use self::server::CallDesk;
pub use crate::network::tls::CallIdentity;

/// The longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;
/// The longest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How many calls a node serves at once; further ones are told that it is busy.
pub const MAX_CALLS: usize = 8;
/// How long a call may take in all.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Who calls, as proved by a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Caller {
    /// An operator of the cluster.
    Operator,
    /// A node, which need not be a member.
    Node(NodeId),
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Operator => formatter.write_str("an operator"),
            Caller::Node(node) => write!(formatter, "node {node}"),
        }
    }
}

/// Connects a transport, which gets the sender in
/// [`NetworkConfig::calls`](crate::NetworkConfig::calls), with the one who answers.
#[must_use]
pub fn channel() -> (CallSender, CallReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_CALLS);
    (CallSender(sender), CallReceiver(receiver))
}

/// Hands calls to a [`CallReceiver`].
#[derive(Clone, Debug)]
pub struct CallSender(mpsc::Sender<Call>);

/// Receives the calls of one transport: at most [`MAX_CALLS`] wait. Once it is dropped, callers are told that
/// the node takes no calls.
#[derive(Debug)]
pub struct CallReceiver(mpsc::Receiver<Call>);

impl CallReceiver {
    /// Waits for the next call. Returns `None` once the transport is gone. Cancel-safe.
    pub async fn receive(&mut self) -> Option<Call> {
        self.0.recv().await
    }

    /// Returns the next call. If there is none, returns [`Poll::Pending`] and wakes the task when one
    /// arrives. Returns `None` once the transport is gone.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Call>> {
        self.0.poll_recv(context)
    }
}

/// A request that waits for its answer. If it is dropped, the caller is told that there is none.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// What is asked, at most [`MAX_REQUEST_BYTES`].
    pub request: Bytes,
    reply: oneshot::Sender<Bytes>,
}

impl Call {
    /// Answers. A caller that has given up does not notice; one whose answer is longer than
    /// [`MAX_ANSWER_BYTES`] is told so instead.
    pub fn answer(self, answer: Bytes) {
        // Fails if the caller is gone.
        let _ = self.reply.send(answer);
    }

    /// Whether the caller has given up, or [`CALL_TIMEOUT`] has passed.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}
