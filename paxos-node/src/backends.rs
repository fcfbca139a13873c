//! The transports and storages that come with the workspace, by name: the one place that knows which of them
//! are compiled in.
//!
//! A node takes any [transport](paxos_transport::Transport) and any [storage](paxos_storage::Storage);
//! this module is for programs that let whoever runs them choose one of ours.
//!
//! ```
//! use paxos_node::backends::TransportKind;
//!
//! assert_eq!("quic".parse::<TransportKind>()?, TransportKind::Quic);
//! assert!("pigeons".parse::<TransportKind>().is_err());
//! # Ok::<(), paxos_node::backends::UnknownName>(())
//! ```

#[cfg(any(feature = "quic", feature = "tcp"))]
use bytes::Bytes;
#[cfg(any(feature = "quic", feature = "tcp"))]
use paxos_transport::calls::{CallError, CallIdentity, CallProblem};
#[cfg(any(feature = "quic", feature = "tcp"))]
use paxos_transport::{NetworkConfig, Transport};

/// What carries messages between nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(
    feature = "server",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum TransportKind {
    /// Queues within the process.
    Memory,
    /// TLS over TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

/// Where a node keeps its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(
    feature = "server",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum StorageKind {
    /// In memory: the node forgets what it promised when its process ends.
    Memory,
    /// In a write-ahead log.
    File,
}

impl TransportKind {
    /// All of them, compiled in or not.
    pub const ALL: &[TransportKind] = &[TransportKind::Memory, TransportKind::Tcp, TransportKind::Quic];

    /// Those that are compiled in.
    pub const COMPILED: &[TransportKind] = &[
        #[cfg(feature = "memory")]
        TransportKind::Memory,
        #[cfg(feature = "tcp")]
        TransportKind::Tcp,
        #[cfg(feature = "quic")]
        TransportKind::Quic,
    ];

    /// Its name, which is also that of its Cargo feature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransportKind::Memory => "memory",
            TransportKind::Tcp => "tcp",
            TransportKind::Quic => "quic",
        }
    }

    /// Binds this transport to the network. To be called on the thread that the node will run on.
    ///
    /// # Errors
    ///
    /// [`BackendError::NotCompiledIn`], also for [`Memory`](TransportKind::Memory), which reaches no network;
    /// [`BackendError::Transport`] if it can't be bound.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    pub async fn bind(self, config: NetworkConfig) -> Result<Box<dyn Transport>, BackendError> {
        match self {
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => Ok(Box::new(paxos_transport::tcp::bind(config).await?)),
            #[cfg(feature = "quic")]
            TransportKind::Quic => Ok(Box::new(paxos_transport::quic::bind(config).await?)),
            other => Err(BackendError::NotCompiledIn { name: other.name() }),
        }
    }

    /// Asks the nodes at these addresses (`HOST:PORT`) in turn, until one has taken the request, and returns
    /// its answer: see [`calls`](paxos_transport::calls).
    ///
    /// # Errors
    ///
    /// [`BackendError::NotCompiledIn`], also for [`Memory`](TransportKind::Memory), which reaches no network;
    /// [`BackendError::Call`] if there is no answer.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    pub async fn call(
        self,
        addresses: &[String],
        identity: &CallIdentity,
        request: Bytes,
    ) -> Result<Bytes, BackendError> {
        match self {
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => Ok(paxos_transport::tcp::call(addresses, identity, request).await?),
            #[cfg(feature = "quic")]
            TransportKind::Quic => Ok(paxos_transport::quic::call(addresses, identity, request).await?),
            other => Err(BackendError::NotCompiledIn { name: other.name() }),
        }
    }
}

/// Asks the nodes at these addresses (`HOST:PORT`) in turn, until one has taken the request, and returns its
/// answer. Which transport the nodes use need not be known: tries TCP first, where a port on which nobody
/// listens is told from one that is slow, and then QUIC.
///
/// # Errors
///
/// [`CallError`], which names each address and why it did not do.
#[cfg(any(feature = "quic", feature = "tcp"))]
pub async fn call(addresses: &[String], identity: &CallIdentity, request: Bytes) -> Result<Bytes, CallError> {
    let mut attempts = Vec::new();
    let mut addresses = addresses.to_vec();
    for kind in TransportKind::COMPILED {
        let called = match kind {
            TransportKind::Memory => continue,
            #[cfg(feature = "tcp")]
            TransportKind::Tcp => paxos_transport::tcp::call(&addresses, identity, request.clone()).await,
            #[cfg(feature = "quic")]
            TransportKind::Quic => paxos_transport::quic::call(&addresses, identity, request.clone()).await,
            #[cfg(not(all(feature = "tcp", feature = "quic")))]
            _ => continue,
        };
        let Err(CallError::NotTaken { attempts: failed }) = called else { return called };
        // Whoever answered over this transport is asked over no other.
        addresses.retain(|address| {
            let is_this = |attempt: &&paxos_transport::calls::FailedAttempt| attempt.address == *address;
            let failed = failed.iter().find(is_this);
            failed.is_some_and(|failed| matches!(failed.problem, CallProblem::NotConnected { .. }))
        });
        attempts.extend(failed);
        if addresses.is_empty() {
            break;
        }
    }
    Err(CallError::NotTaken { attempts })
}

impl StorageKind {
    /// All of them, compiled in or not.
    pub const ALL: &[StorageKind] = &[StorageKind::Memory, StorageKind::File];

    /// Those that are compiled in.
    pub const COMPILED: &[StorageKind] = &[
        #[cfg(feature = "memory")]
        StorageKind::Memory,
        #[cfg(feature = "file")]
        StorageKind::File,
    ];

    /// Its name, which is also that of its Cargo feature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StorageKind::Memory => "memory",
            StorageKind::File => "file",
        }
    }

    /// Whether a call of it may take long, so that it needs a thread of its own.
    #[must_use]
    pub fn blocks(self) -> bool {
        match self {
            StorageKind::Memory => false,
            StorageKind::File => true,
        }
    }
}

/// Why a backend can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// This build does not have it.
    #[error("this build has no {name} backend: compile it in with the feature of that name")]
    NotCompiledIn {
        /// The backend's name, which is that of its feature.
        name: &'static str,
    },
    /// The transport can't be set up.
    #[error(transparent)]
    Transport(#[from] paxos_transport::Error),
    /// A node was asked something, and there is no answer.
    #[cfg(any(feature = "quic", feature = "tcp"))]
    #[error(transparent)]
    Call(#[from] CallError),
    /// The storage can't be opened.
    #[error(transparent)]
    Storage(#[from] paxos_storage::Error),
}

/// A name that none of the choices has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name:?} is none of {}", choices.join(", "))]
pub struct UnknownName {
    name: String,
    choices: Vec<&'static str>,
}

/// The choice of this name.
pub(crate) fn by_name<T: Copy>(
    name: &str,
    choices: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    let choice = choices.iter().copied().find(|choice| name_of(*choice) == name);
    let choices = || choices.iter().map(|choice| name_of(*choice)).collect();
    choice.ok_or_else(|| UnknownName { name: name.to_owned(), choices: choices() })
}

macro_rules! named {
    ($kind:ty) => {
        impl std::str::FromStr for $kind {
            type Err = $crate::backends::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::backends::by_name(name, Self::ALL, Self::name)
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

#[cfg(feature = "in-process")]
pub(crate) use named;

named!(TransportKind);
named!(StorageKind);
