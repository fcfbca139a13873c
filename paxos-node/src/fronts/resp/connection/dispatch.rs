//! From a request to what carries it out: the store, a transaction, or the connection itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::listening::may_listener_send;
use super::{Broken, Connection, Next};
use crate::fronts::resp::client;
use crate::fronts::resp::commands::{self, Action, Command, Meaning};
use crate::fronts::resp::config;
use crate::fronts::resp::errors::{
    NOT_IN_TRANSACTION, NOT_LOGGED_IN, client_error, only_listens, transaction_discarded, unknown_command,
};
use crate::fronts::resp::info::{self, Facts};
use crate::fronts::resp::local;
use crate::fronts::resp::parse::{Parsed, Request};
use crate::fronts::resp::pubsub::Subscriber;
use crate::fronts::resp::transaction::Queued;
use crate::fronts::resp::words::{CUT_NAME_BYTES, lower_case};
use crate::fronts::resp::write::Writer;
use crate::kv::Reply;

/// How often, and at which intervals, `INFO` tries to look at the state while it is being changed.
const COUNT_ATTEMPTS: usize = 10;
const COUNT_PAUSE: Duration = Duration::from_millis(2);

impl Connection {
    /// Carries out all requests that have come whole.
    pub(super) async fn take_requests(&mut self) -> Result<Next, Broken> {
        while let Some(parsed) = self.parser.next(&mut self.input)? {
            self.requests += 1;
            match parsed {
                Parsed::Request(request) if request.is_empty() => {}
                Parsed::Request(request) => {
                    if self.take(&request).await? == Next::Close {
                        return Ok(Next::Close);
                    }
                }
                Parsed::Excess(excess) => {
                    let error = if self.is_logged_out() {
                        Reply::error(NOT_LOGGED_IN)
                    } else {
                        commands::excessive(&excess, &self.front.settings)
                    };
                    self.refuse(&error).await?;
                }
            }
        }
        Ok(Next::GoOn)
    }

    async fn take(&mut self, request: &Request) -> io::Result<Next> {
        let (name, arguments) = (&request[0], &request[1..]);
        let Some(command) = commands::find(lower_case(name, &mut [0; CUT_NAME_BYTES])) else {
            self.refuse(&unknown_command(request)).await?;
            return Ok(Next::GoOn);
        };
        self.last_command = command.name;
        self.front.count_command(command);
        if let Err(error) = command.check_arity(arguments) {
            self.refuse_command(command, &error).await?;
            return Ok(Next::GoOn);
        }
        if let Err(error) = self.check_rights(command, arguments) {
            self.refuse_command(command, &error).await?;
            return Ok(Next::GoOn);
        }
        if self.only_listens() && !may_listener_send(command.action) {
            self.refuse_command(command, &only_listens(command.name)).await?;
            return Ok(Next::GoOn);
        }
        match command.action {
            Action::Store(to_operation) => {
                let meaning = commands::meaning(to_operation, arguments, &self.front.settings);
                self.take_operation(meaning).await?;
                Ok(Next::GoOn)
            }
            Action::Multi | Action::Exec | Action::Discard => {
                self.finish_run().await?;
                self.take_transaction_command(command.action).await?;
                Ok(Next::GoOn)
            }
            _ => self.take_local(command, arguments).await,
        }
    }

    async fn take_operation(&mut self, meaning: Meaning) -> io::Result<()> {
        match meaning {
            Meaning::Operation(operation) if self.transaction.is_some() => {
                self.queue(Queued::Operation(operation));
            }
            Meaning::Operation(operation) => self.add_to_run(operation).await?,
            Meaning::Answer(answer) if self.transaction.is_some() => self.queue(Queued::Answer(answer)),
            Meaning::Answer(answer) => {
                self.finish_run().await?;
                self.write(vec![answer]).await?;
            }
            Meaning::TooLong(error) => self.refuse(&error).await?,
        }
        Ok(())
    }

    /// Answers a request that is not even tried; the transaction that it is in fails with it.
    async fn refuse(&mut self, error: &Reply) -> io::Result<()> {
        self.finish_run().await?;
        if let Some(transaction) = &mut self.transaction {
            transaction.spoil();
        }
        self.writer().head(error);
        Ok(())
    }

    /// Answers a command that is not even tried; an `EXEC` ends its transaction all the same.
    async fn refuse_command(&mut self, command: &Command, error: &Reply) -> io::Result<()> {
        if !matches!(command.action, Action::Exec) {
            return self.refuse(error).await;
        }
        self.finish_run().await?;
        self.transaction = None;
        self.watched.clear();
        self.writer().head(&transaction_discarded(error));
        Ok(())
    }

    /// Answers what does not concern the store.
    async fn take_local(&mut self, command: &'static Command, arguments: &[Bytes]) -> io::Result<Next> {
        if self.transaction.is_some() {
            match command.action {
                Action::Quit | Action::Reset => {
                    self.transaction = None;
                    self.watched.clear();
                }
                Action::Watch => {
                    self.writer().error(b"ERR WATCH inside MULTI is not allowed");
                    return Ok(Next::GoOn);
                }
                // The commands before it were checked for another user.
                Action::Auth | Action::Hello if self.session.is_some() => {
                    self.refuse(&Reply::error(NOT_IN_TRANSACTION)).await?;
                    return Ok(Next::GoOn);
                }
                Action::Subscribe(_) | Action::Unsubscribe(_) => {
                    let name = command.name.to_uppercase();
                    self.refuse(&Reply::error(&format!("ERR {name} inside MULTI is not allowed"))).await?;
                    return Ok(Next::GoOn);
                }
                _ => {
                    self.queue(Queued::Local { command, arguments: arguments.to_vec() });
                    return Ok(Next::GoOn);
                }
            }
        }
        self.finish_run().await?;
        if matches!(command.action, Action::Ping)
            && let Err(error) = self.check_recovered().await
        {
            self.writer().head(&client_error(error)); // As Redis does.
            return Ok(Next::GoOn);
        }
        if matches!(command.action, Action::Auth | Action::Hello) {
            self.greet(command, arguments).await;
            return Ok(Next::GoOn);
        }
        let next = self.answer(command, arguments).await;
        self.flush_if_full().await?;
        Ok(next)
    }

    pub(super) async fn answer(&mut self, command: &Command, arguments: &[Bytes]) -> Next {
        let facts = if let Action::Info = command.action { Some(self.facts().await) } else { None };
        let is_listener = self.only_listens();
        let mut out = Writer { buffer: &mut self.output, protocol: self.client_info.protocol };
        match command.action {
            Action::Local(answer) => answer(&mut self.client_info, arguments, &mut out),
            Action::Ping if is_listener => local::ping_listener(arguments, &mut out),
            Action::Ping => local::ping(arguments, &mut out),
            Action::Subscribe(kind) => self.subscribe(kind, arguments).await,
            Action::Unsubscribe(kind) => self.unsubscribe(kind, arguments),
            Action::PubSub => self.describe_listening(arguments),
            Action::Client => self.answer_client(arguments).await,
            Action::Config => config::config(arguments, &self.front.settings, &mut out),
            Action::Wait | Action::WaitForDisks => {
                let status = self.client.status();
                let others = status
                    .borrow()
                    .membership
                    .as_ref()
                    .map_or(0, |membership| membership.quorums().accept().saturating_sub(1));
                local::wait(arguments, others, &mut out);
            }
            Action::Info => out.bulk(info::text(arguments, &facts.unwrap_or_default()).as_bytes()),
            Action::Role => local::role(&self.client.status().borrow(), &mut out),
            Action::Reset => {
                self.watched.clear();
                self.subscriber = None;
                local::reset(&mut self.client_info, &mut out);
                self.reset_login();
            }
            // Where there are users, these two do not come here.
            Action::Auth => local::auth(arguments, &mut out),
            Action::Hello => local::hello(&mut self.client_info, arguments, &mut out),
            Action::Acl => self.answer_about_users(arguments),
            Action::Unwatch => {
                self.watched.clear();
                out.simple("OK");
            }
            Action::Watch => match self.watch(arguments).await {
                Ok(()) => self.writer().simple("OK"),
                Err(error) => self.writer().head(&error),
            },
            Action::Quit => {
                out.simple("OK");
                return Next::Close;
            }
            Action::Store(_) | Action::Multi | Action::Exec | Action::Discard => {
                unreachable!("{} is not answered by the connection itself", command.name)
            }
        }
        Next::GoOn
    }

    /// `CLIENT`.
    async fn answer_client(&mut self, arguments: &[Bytes]) {
        self.show();
        let clients = Arc::clone(&self.front.clients);
        let tracking = self.subscriber.as_ref().and_then(Subscriber::tracking);
        let mut out = Writer { buffer: &mut self.output, protocol: self.client_info.protocol };
        let others = (&*clients, &self.connected);
        let request = client::client(&mut self.client_info, arguments, others, tracking, &mut out);
        if let client::Request::Track(tracking) = request {
            match self.track(tracking).await {
                Ok(()) => self.writer().simple("OK"),
                Err(error) => self.writer().head(&error),
            }
        }
    }

    async fn facts(&self) -> Facts {
        let counts = self.count_keys().await;
        let front = &*self.front;
        Facts {
            status: self.client.status().borrow().clone(),
            keys: counts.map(|(keys, _)| keys),
            expiring_keys: counts.map_or(0, |(_, expiring)| expiring),
            port: self.stream.local_addr().map_or(0, |address| address.port()),
            uptime: front.started.elapsed(),
            run_id: front.run_id,
            connected_clients: front.counts.open(),
            max_clients: front.settings.max_clients,
            connections: front.counts.accepted() + front.counts.refused(),
            rejected_connections: front.counts.refused(),
            requests: front.requests.load(Ordering::Relaxed),
            received_bytes: front.traffic.received_bytes.load(Ordering::Relaxed),
            sent_bytes: front.traffic.sent_bytes.load(Ordering::Relaxed),
            listening: front.registry.counts(),
            listening_clients: front.clients.listening(),
        }
    }

    /// How many keys there are just now, and how many of them expire; `None` if the state can't be looked at
    /// for a while.
    async fn count_keys(&self) -> Option<(usize, usize)> {
        for _ in 0..COUNT_ATTEMPTS {
            if let Some(store) = self.client.try_read_stale() {
                return Some((store.len(), store.expiring()));
            }
            tokio::time::sleep(COUNT_PAUSE).await;
        }
        None
    }
}
