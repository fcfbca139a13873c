//! The requests between `MULTI` and `EXEC`.
//!
//! As in Redis, a request that is no command, has a wrong number of arguments or is too long makes the whole
//! transaction fail. A request that is bound to fail for another reason is queued; it fails in its place, and
//! the others are carried out.

use bytes::Bytes;

use super::RespSettings;
use super::commands::Command;
use crate::kv::{Operation, Reply};

/// The requests since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    requests: Vec<Queued>,
    bytes: usize,
    is_spoiled: bool,
}

/// A request that waits for `EXEC`.
#[derive(Debug)]
pub(super) enum Queued {
    /// An operation of the store.
    Operation(Operation),
    /// The place of an operation that was taken out to be carried out.
    Taken,
    /// A command that the connection answers by itself.
    Local { command: &'static Command, arguments: Vec<Bytes> },
    /// A request whose answer is known already; mostly an error.
    Answer(Reply),
}

impl Transaction {
    /// Adds a request, unless the transaction fails anyway.
    ///
    /// # Errors
    ///
    /// The answer if the transaction is too large now; it fails then.
    pub(super) fn queue(&mut self, request: Queued, settings: &RespSettings) -> Result<(), Reply> {
        if self.is_spoiled {
            return Ok(());
        }
        self.bytes += request.size_bytes();
        if self.requests.len() >= settings.max_transaction || self.bytes > settings.max_request_bytes() {
            self.spoil();
            return Err(Reply::error("ERR the transaction is too large"));
        }
        self.requests.push(request);
        Ok(())
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How much memory the requests take.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the transaction fail: nothing of it will be carried out.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
        self.requests = Vec::new();
        self.bytes = 0;
    }

    /// The requests to carry out; `None` if the transaction fails.
    pub(super) fn into_requests(self) -> Option<Vec<Queued>> {
        (!self.is_spoiled).then_some(self.requests)
    }
}

impl Queued {
    /// Takes out the operation, if it is one.
    pub(super) fn take_operation(&mut self) -> Option<Operation> {
        match std::mem::replace(self, Queued::Taken) {
            Queued::Operation(operation) => Some(operation),
            other => {
                *self = other;
                None
            }
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Queued::Operation(operation) => operation.size_bytes(),
            Queued::Local { arguments, .. } => arguments.iter().map(|argument| 32 + argument.len()).sum(),
            Queued::Taken | Queued::Answer(_) => 32,
        }
    }
}
