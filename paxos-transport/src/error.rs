//! Why a transport could not be set up.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a transport could not be set up. Once it is, nothing fails any more: frames get lost instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key is missing or is not what it should be.
    #[error(
        "{file}: {problem}; make certificates with 'paxos-node certs', or name their directory with --certs"
    )]
    Certificate {
        /// The file, or what it would hold.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS does not take the certificates as they are.
    #[error("TLS can't be set up: {problem}; make certificates with 'paxos-node certs'")]
    Tls {
        /// What it says.
        problem: String,
    },
    /// The name of the cluster, or of a host, can't stand in a certificate.
    #[error(
        "{name:?} can't stand in a certificate; use letters, digits and hyphens, in parts joined by dots"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A setting does not fit.
    #[error("{setting} {problem}")]
    Config {
        /// The field of the configuration.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The address can't be listened on.
    #[error("can't listen for peers on {address}: {source}; is another node running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: {source}; nothing that exists is overwritten", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
