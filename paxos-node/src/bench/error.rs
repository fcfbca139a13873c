//! Why something could not be measured.

use crate::in_process;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of clients, bytes or requests that can't be measured.
    #[error("{what} {given}: must be in {least}..={most}")]
    OutOfRange {
        /// What the number counts.
        what: &'static str,
        /// The number.
        given: usize,
        /// The least that there may be.
        least: usize,
        /// The most that there may be.
        most: usize,
    },
    /// Nothing could be measured in no time.
    #[error("the time for each case must be longer than 0")]
    NoTime,
    /// There is a list without anything to measure.
    #[error("no {what} to measure")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
    /// Two transports or storages have the same name, so that nobody could tell their rows apart.
    #[error("two {what}s are called {name}")]
    SameName {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// Only a running cluster has clients that send several requests at once.
    #[error("pipelines are for running clusters only")]
    PipelineInProcess,
    /// Nothing has passed an emulated network, so what was measured is not what the row says.
    #[error(
        "{place}: nothing has passed the emulated network: does the transport send its frames in what its factory says?"
    )]
    NotEmulated {
        /// Where.
        place: String,
    },
    /// Clients of a running cluster can't have reads go through its log.
    #[error("get-through-log is for clusters in this process only")]
    ThroughLogOfRunning,
    /// The threads for the measurement could not be started.
    #[error("can't start a thread to measure: {0}")]
    Thread(std::io::Error),
    /// A cluster in this process could not be started, or has failed.
    #[error(transparent)]
    Cluster(#[from] in_process::Error),
    /// A node of a running cluster can't be reached.
    #[error("{address}: {error}; is this an address for clients?")]
    NotConnected {
        /// Its address.
        address: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A request without which nothing can be measured has failed.
    #[error("{what}: {error}")]
    Request {
        /// What it was for.
        what: String,
        /// What went wrong.
        error: String,
    },
    /// Nodes of a running cluster did not understand each other.
    #[error(
        "the node at {address} did not understand its peers {count} times: what is measured is not right; see its log"
    )]
    Misunderstood {
        /// The address of the node.
        address: String,
        /// How often.
        count: u64,
    },
    /// The task that drives the clients has panicked.
    #[error("the clients have panicked: {0}")]
    Panicked(String),
}
