//! Why a transport could not be set up.

use std::io;
use std::path::PathBuf;

/// Why a transport could not be set up. Once it is, nothing fails any more: frames get lost instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key can't be read.
    #[error("{}: {problem}; make certificates with 'paxos-node certs', or name their directory with --certs", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys do not fit together.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
    /// The address can't be listened on.
    #[error("can't listen for peers on {address}: {source}; is another node running there?")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
