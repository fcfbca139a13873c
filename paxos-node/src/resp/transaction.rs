//! What has come between `MULTI` and `EXEC`.
//!
//! As in Redis: a request that is no command, or has the wrong number of arguments, spoils the transaction; one that
//! can only fail otherwise is queued and fails in its place, while the others are carried out.

use bytes::Bytes;

use super::Options;
use crate::kv::{Operation, Reply};

/// What has come since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    requests: Vec<Queued>,
    bytes: usize,
    is_spoiled: bool,
}

/// A request that waits for `EXEC`.
#[derive(Debug)]
pub(super) enum Queued {
    /// Something for the store to do.
    Operation(Operation),
    /// The place of an operation that is being done.
    Taken,
    /// Something that the connection answers by itself.
    Local {
        /// The command, in lower case.
        name: Bytes,
        /// Its arguments.
        arguments: Vec<Bytes>,
    },
    /// Something that will fail.
    Error(Reply),
}

impl Transaction {
    /// Takes in a request. In a transaction that is spoiled it does nothing more.
    pub(super) fn queue(&mut self, request: Queued, options: &Options) -> Result<(), Reply> {
        if self.is_spoiled {
            return Ok(());
        }
        self.bytes += request.size_bytes();
        if self.requests.len() >= options.max_transaction || self.bytes > options.max_request_bytes() {
            self.spoil();
            return Err(Reply::error("ERR the transaction is too large"));
        }
        self.requests.push(request);
        Ok(())
    }

    /// Something in it was wrong: nothing of it will be carried out.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
        self.requests = Vec::new();
    }

    /// What is to be carried out; `None` if something was wrong.
    pub(super) fn into_requests(self) -> Option<Vec<Queued>> {
        (!self.is_spoiled).then_some(self.requests)
    }
}

impl Queued {
    /// A request that the connection answers by itself.
    pub(super) fn local(name: &[u8], request: &[Bytes]) -> Queued {
        Queued::Local { name: Bytes::copy_from_slice(name), arguments: request[1..].to_vec() }
    }

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
            Queued::Taken | Queued::Error(_) => 32,
        }
    }
}
