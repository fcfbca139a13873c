//! Transactions: from `WATCH` and `MULTI` to `EXEC`.

use std::io;

use bytes::Bytes;

use super::Connection;
use super::listening::count_receivers;
use crate::client::ClientError;
use crate::fronts::resp::commands::Action;
use crate::fronts::resp::errors::{NO_MEMORY_LEFT, client_error, transaction_discarded};
use crate::fronts::resp::run;
use crate::fronts::resp::transaction::{Queued, Transaction};
use crate::kv::Reply;

impl Connection {
    /// Begins, ends or gives up a transaction.
    pub(super) async fn take_transaction_command(&mut self, action: Action) -> io::Result<()> {
        match (action, self.transaction.take()) {
            (Action::Multi, None) => {
                self.transaction = Some(Transaction::default());
                self.writer().simple("OK");
            }
            (Action::Multi, open) => {
                self.transaction = open;
                self.writer().error(b"ERR MULTI calls can not be nested");
            }
            (Action::Discard, Some(_)) => {
                self.watched.clear();
                self.writer().simple("OK");
            }
            (Action::Discard, None) => self.writer().error(b"ERR DISCARD without MULTI"),
            (_, Some(transaction)) => self.execute(transaction).await?,
            (_, None) => self.writer().error(b"ERR EXEC without MULTI"),
        }
        Ok(())
    }

    /// `WATCH`: remembers what there is to see of keys, in a state no older than this call.
    pub(super) async fn watch(&mut self, keys: &[Bytes]) -> Result<(), Reply> {
        self.check_recovered().await.map_err(client_error)?;
        let store = self.client.read().await.map_err(client_error)?;
        self.watched.add(keys, &store)
    }

    pub(super) fn queue(&mut self, request: Queued) {
        let Some(transaction) = &mut self.transaction else { return };
        match transaction.queue(request, &self.front.settings) {
            Ok(()) => self.writer().simple("QUEUED"),
            Err(error) => self.writer().head(&error),
        }
    }

    /// `EXEC`: proposes all operations as one command of the log. Requests that need no operation are
    /// answered in their places.
    async fn execute(&mut self, transaction: Transaction) -> io::Result<()> {
        let unchanged = std::mem::take(&mut self.watched).into_operation();
        let is_watching = unchanged.is_some();
        let Some(mut requests) = transaction.into_requests() else {
            self.writer().error(b"EXECABORT Transaction discarded because of previous errors.");
            return Ok(());
        };
        let operations = requests.iter_mut().filter_map(Queued::take_operation);
        let operations = unchanged.into_iter().chain(operations).collect::<Vec<_>>();
        let replies = if operations.is_empty() {
            Ok(Vec::new())
        } else if let Err(error) = self.check_recovered().await {
            Err(error)
        } else {
            run::propose(&self.client, &operations).await
        };
        let mut replies = match replies {
            Ok(mut replies) => {
                count_receivers(&self.front.registry, &operations, &mut replies);
                replies.into_iter()
            }
            Err(ClientError::NoMemory) => {
                self.writer().head(&transaction_discarded(&Reply::error(NO_MEMORY_LEFT)));
                return Ok(());
            }
            Err(error) => {
                self.writer().head(&client_error(error));
                return Ok(());
            }
        };
        if is_watching && replies.next() != Some(Reply::Integer(1)) {
            self.writer().nil_array();
            return Ok(());
        }
        self.writer().array(requests.len());
        for request in requests {
            match request {
                Queued::Taken => {
                    let reply = replies.next().expect("each operation of a command has a reply");
                    self.write(vec![reply]).await?;
                }
                Queued::Answer(answer) => self.write(vec![answer]).await?,
                // Commands that end the connection are never queued.
                Queued::Local { command, arguments } => drop(self.answer(command, &arguments).await),
                Queued::Operation(_) => unreachable!("all operations have been taken out"),
            }
            self.flush_if_full().await?;
        }
        Ok(())
    }
}
