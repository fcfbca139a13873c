//! Why a transport could not be set up, or its peers not be changed.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use paxos_core::NodeId;

use crate::MAX_PEERS;

/// Why a transport could not be set up. A running transport reports no errors: it drops frames, and tells in
/// [`PeerStatus`](crate::PeerStatus) why a peer is not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key is missing, malformed, or belongs to another node, cluster or CA.
    #[error("{file}: {problem}")]
    Certificate {
        /// The file, or the name of the file that the bytes stand for.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS refuses the certificates or keys.
    #[error("TLS can't be set up: {problem}")]
    Tls {
        /// The text of the TLS library.
        problem: String,
    },
    /// The name of the cluster or of a host is not valid in a certificate.
    #[error(
        "{name:?} is not a valid name in a certificate; use letters, digits and hyphens, in parts joined by dots"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A setting is out of range, or contradicts another one.
    #[error("{setting} {problem}")]
    Config {
        /// The field of [`NetworkConfig`](crate::NetworkConfig).
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The transport can't listen on its address.
    #[error("can't listen for peers on {address}: {source}; {}", listen_advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A certificate or key could not be written.
    #[error("{}: {source}; nothing that exists is overwritten", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An error of a backend outside this crate; made by [`Error::foreign`].
    #[error("{source}")]
    Foreign {
        /// The backend's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate or key could not be replaced.
    #[error("{}: {source}; the old file is still there", file.display())]
    Replace {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// Wraps what keeps a backend outside this crate from being set up. Its text should say what to do.
    ///
    /// ```
    /// use paxos_transport::Error;
    ///
    /// let error = Error::foreign("there is no device of this name");
    /// assert_eq!(error.to_string(), "there is no device of this name");
    /// ```
    #[must_use]
    pub fn foreign(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Foreign { source: source.into() }
    }
}

/// Why the peers of a transport could not be changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetPeersError {
    /// The peers of this backend are fixed once it is bound.
    #[error("this transport can't change its peers while it runs")]
    NotSupported,
    /// There are more peers than a transport connects to.
    #[error("{count} peers are too many: a transport connects to {MAX_PEERS} at most")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Two entries have the same id.
    #[error("node {id} is given twice")]
    Duplicate {
        /// The id.
        id: NodeId,
    },
    /// The transport is closed.
    #[error("the transport is closed")]
    Closed,
}

fn listen_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is another node running there?",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: listen on one that it has, or on all of them (0.0.0.0 or [::])"
        }
        _ => "listen on another address or port",
    }
}
