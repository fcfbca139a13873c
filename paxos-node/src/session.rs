//! Sessions of clients: a command that is sent again is applied once, whichever node it is sent to.

use bytes::Bytes;
use paxos_core::session::SessionId;

use crate::client::{Applied, Client, ClientError};
use crate::state_machine::StateMachine;

/// A session of a client with the whole cluster, made by [`Client::open_session`].
///
/// Each command of a session has a number, and the cluster applies each number once and remembers its reply.
/// So if the outcome of a command is unknown, or its node is gone, the client proposes it again, here or
/// through [another node](ClientSession::move_to), until it gets an answer.
///
/// ```
/// # use bytes::Bytes;
/// # use paxos_node::{Applied, Client, ClientError, StateMachine};
/// # async fn apply_once<S: StateMachine>(here: Client<S>, there: Client<S>, command: Bytes) -> Result<Applied, ClientError> {
/// let mut session = here.open_session().await?;
/// match session.propose(command.clone()).await {
///     Err(ClientError::OutcomeUnknown | ClientError::Stopped) => {
///         session.move_to(there);
///         session.propose(command).await // Applied once, though it was sent twice.
///     }
///     answered => answered,
/// }
/// # }
/// ```
///
/// A session takes one command at a time; open several for more. The cluster keeps a bounded number of
/// sessions ([`SessionLimits`](paxos_core::session::SessionLimits)), and drops the one that was unused for
/// longest first: only then is a command answered with [`ClientError::SessionLost`].
#[derive(Debug)]
pub struct ClientSession<S> {
    client: Client<S>,
    position: SessionPosition,
    /// The command of the next number, if it was sent and may be applied.
    unanswered: Option<Bytes>,
}

/// The position of a session: all that a client must store to go on with it after a crash of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionPosition {
    /// The session.
    pub session: SessionId,
    /// The number of the next command, or of the one that is unanswered.
    pub next: u64,
}

impl<S: StateMachine> Client<S> {
    /// Opens a session with the cluster, under which a command that is sent again, here or at another node,
    /// is applied once.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. If the session was opened all the same, nobody uses it, and the cluster drops it
    /// in time.
    pub async fn open_session(&self) -> Result<ClientSession<S>, ClientError> {
        let session = self.open().await?;
        Ok(ClientSession::resume(self.clone(), SessionPosition { session, next: 1 }))
    }
}

impl<S: StateMachine> ClientSession<S> {
    /// Goes on with a session, through any node.
    ///
    /// If the client does not know whether the command at the position was answered, it must propose that one
    /// first: if it was applied, its reply comes back.
    ///
    /// Only one holder may use a session at a time, and each number is for one command only: another command
    /// under a number that was used is not applied, and gets the reply of the first.
    #[must_use]
    pub fn resume(client: Client<S>, position: SessionPosition) -> ClientSession<S> {
        ClientSession { client, position, unanswered: None }
    }

    /// The session's position. A client that may crash stores it, with the command, before it proposes that.
    #[must_use]
    pub fn position(&self) -> SessionPosition {
        self.position
    }

    /// Proposes everything from now on through another node.
    pub fn move_to(&mut self, client: Client<S>) {
        self.client = client;
    }

    /// The command that has no answer yet: it may have been applied.
    #[must_use]
    pub fn unanswered(&self) -> Option<&Bytes> {
        self.unanswered.as_ref()
    }

    /// Goes on to the next number. Whether the [unanswered](Self::unanswered) command was or will be applied
    /// stays unknown.
    pub fn give_up(&mut self) {
        if self.unanswered.take().is_some() {
            self.position.next += 1;
        }
    }

    /// Has `command` chosen and applied, once, and returns what [`Client::propose`] returns. While a command
    /// is [unanswered](Self::unanswered), only that one may be proposed, again.
    ///
    /// Dropping the future does not withdraw the command: it is unanswered then.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unanswered`] if another command is. After [`ClientError::OutcomeUnknown`] the command
    /// is unanswered; after every other error but [`ClientError::SessionLost`], and but
    /// [`ClientError::SessionAhead`] for one that was unanswered, it has an answer: see [`ClientError`].
    pub async fn propose(&mut self, command: Bytes) -> Result<Applied, ClientError> {
        let is_again = match &self.unanswered {
            Some(unanswered) if *unanswered != command => return Err(ClientError::Unanswered),
            unanswered => unanswered.is_some(),
        };
        if !S::knows(&command) {
            return Err(ClientError::UnknownCommand);
        }
        if self.position.next == u64::MAX {
            return Err(ClientError::SessionLost); // Its numbers are used up, which no client reaches by counting.
        }
        self.unanswered = Some(command.clone()); // Before anything is awaited: the future may be dropped.
        let SessionPosition { session, next } = self.position;
        let result = self.client.propose_in(session, next, command).await;
        match result {
            Ok(_) | Err(ClientError::AppliedBefore { .. }) => {
                self.unanswered = None;
                self.position.next += 1;
            }
            Err(ClientError::OutcomeUnknown) => {}
            // This attempt went nowhere, but the one before may be applied.
            Err(error) if is_again && !is_final(error) => return Err(ClientError::OutcomeUnknown),
            Err(_) => self.unanswered = None,
        }
        result
    }
}

/// Whether an error stays the same however often the command is proposed under its number.
fn is_final(error: ClientError) -> bool {
    matches!(error, ClientError::SessionLost | ClientError::SessionAhead | ClientError::TooLarge { .. })
}
