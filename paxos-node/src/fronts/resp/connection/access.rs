//! Who the client is, and what it may do.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Connection;
use crate::fronts::resp::acl;
use crate::fronts::resp::commands::{Action, Command};
use crate::fronts::resp::errors::{
    HELLO_WITHOUT_LOGIN, NOT_LOGGED_IN, SYNTAX, TOO_MANY_WRONG_PASSWORDS, WRONG_PASSWORD,
};
use crate::fronts::resp::local;
use crate::fronts::resp::logins::TooMany;
use crate::fronts::resp::parse::Parser;
use crate::fronts::resp::users::{DEFAULT_USER, Login, SharedUsers};
use crate::kv::Reply;
use crate::runtime::metrics;

/// A client has so long to log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Who a client is, where there are users.
pub(super) struct Session {
    users: SharedUsers,
    /// Which users these are: others may have replaced them.
    version: u64,
    /// `None` before the client has logged in.
    login: Option<Login>,
    since: Instant,
}

impl Session {
    pub(super) fn new(users: &SharedUsers) -> Session {
        let version = users.version();
        let login = users.current().anonymous();
        Session { users: users.clone(), version, login, since: Instant::now() }
    }

    /// How long the client may still take to log in; `None` if it has.
    fn login_timeout(&self) -> Option<Duration> {
        self.login.is_none().then(|| LOGIN_TIMEOUT.saturating_sub(self.since.elapsed()))
    }
}

impl Connection {
    /// Whether the client can do nothing yet but log in.
    pub(super) fn is_logged_out(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.login.is_none())
    }

    /// How long the client may be silent.
    pub(super) fn silence_timeout(&self) -> Option<Duration> {
        let login_timeout = self.session.as_ref().and_then(Session::login_timeout);
        self.front.settings.idle_timeout.into_iter().chain(login_timeout).min()
    }

    /// Whether the client may run a command with these arguments, whose number has been checked.
    ///
    /// # Errors
    ///
    /// The answer if not.
    pub(super) fn check_rights(&mut self, command: &Command, arguments: &[Bytes]) -> Result<(), Reply> {
        let Some(session) = &self.session else { return Ok(()) };
        if session.users.version() != session.version {
            self.renew_login();
        }
        let login = self.session.as_ref().and_then(|session| session.login.as_ref());
        let checked = match login {
            _ if command.is_before_login => Ok(()),
            None => Err(Reply::error(NOT_LOGGED_IN)),
            Some(login) => login.user.check(command, arguments),
        };
        if checked.is_err() {
            metrics::on_command_denied();
        }
        checked
    }

    /// Whether the client may still hear what it listens to, which may tell of any key: the rights of its
    /// user may have changed, and it may have logged in as another one.
    pub(super) fn may_listen(&mut self) -> bool {
        let Some(session) = &self.session else { return true };
        if session.users.version() != session.version {
            self.renew_login();
        }
        let login = self.session.as_ref().and_then(|session| session.login.as_ref());
        login.is_some_and(|login| login.user.may_use_all_keys())
    }

    /// Takes over the rights from users that have replaced those before. A transaction that is open fails, as
    /// its commands were checked under the old ones.
    fn renew_login(&mut self) {
        let Some(session) = &mut self.session else { return };
        session.version = session.users.version();
        let users = session.users.current();
        let login = match &session.login {
            Some(login) => users.renew(login),
            None => users.anonymous(),
        };
        if let Some(transaction) = &mut self.transaction {
            transaction.spoil();
        }
        self.set_login(login);
    }

    fn set_login(&mut self, login: Option<Login>) {
        let Some(session) = &mut self.session else { return };
        if session.login.is_some() && login.is_none() {
            session.since = Instant::now();
        }
        self.client_info.user = login.as_ref().map(|login| login.user.name.clone());
        session.login = login;
        self.limit_requests();
    }

    /// Has requests be short as long as the client is not logged in.
    pub(super) fn limit_requests(&mut self) {
        let is_logged_out = self.is_logged_out();
        self.parser.set_limits(self.front.settings, is_logged_out);
    }

    /// The end of what the client has told, and of its login.
    pub(super) fn reset_login(&mut self) {
        let anonymous = self.session.as_ref().map(|session| session.users.current().anonymous());
        if let Some(login) = anonymous {
            self.set_login(login);
        }
    }

    /// `AUTH` and `HELLO` outside of a transaction.
    pub(super) async fn greet(&mut self, command: &Command, arguments: &[Bytes]) {
        let is_hello = matches!(command.action, Action::Hello);
        if self.session.is_none() {
            let _ = self.answer(command, arguments).await; // Neither ends the connection.
            return;
        }
        let greeting = is_hello.then(|| local::read_greeting(&self.client_info, arguments)).transpose();
        let greeting = match greeting {
            Ok(greeting) => greeting,
            Err(error) => return self.writer().head(&error),
        };
        let given = match (&greeting, arguments) {
            (Some(greeting), _) => greeting.login.clone(),
            (None, [password]) => Some((Bytes::from_static(DEFAULT_USER.as_bytes()), password.clone())),
            (None, [user, password]) => Some((user.clone(), password.clone())),
            (None, _) => return self.writer().error(SYNTAX.as_bytes()),
        };
        if let Some((user, password)) = given {
            if let Err(error) = self.log_in(&user, &password).await {
                return self.writer().error(error.as_bytes());
            }
        } else if self.is_logged_out() {
            return self.writer().error(HELLO_WITHOUT_LOGIN.as_bytes());
        }
        let mut out = super::Writer { buffer: &mut self.output, protocol: self.client_info.protocol };
        match greeting {
            Some(greeting) => local::greet(&mut self.client_info, greeting, &mut out),
            None => out.simple("OK"),
        }
    }

    /// Logs the client in. Waits before that if too many wrong passwords came from its address.
    async fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), &'static str> {
        let from = self.stream.peer_ip();
        let logins = &self.front.logins;
        match logins.take_turn(from, Instant::now()) {
            Ok(Duration::ZERO) => {}
            Ok(wait) => {
                // Replies to requests before this one need not wait, too. If sending fails, so does the next
                // one.
                let _ = self.flush().await;
                tokio::time::sleep(wait).await;
            }
            Err(TooMany) => {
                self.on_failed_login(from);
                return Err(TOO_MANY_WRONG_PASSWORDS);
            }
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let version = session.users.version();
        let login = session.users.current().log_in(user, password);
        if login.is_none() {
            self.front.logins.on_failure(from, Instant::now());
            self.on_failed_login(from);
            return Err(WRONG_PASSWORD);
        }
        session.version = version;
        self.set_login(login);
        Ok(())
    }

    /// Neither the name nor the password is logged: either may be the password, by mistake.
    fn on_failed_login(&self, from: IpAddr) {
        metrics::on_login_refused();
        if let Some(count) = self.front.login_warnings.count(Instant::now()) {
            tracing::warn!(%from, count, "clients gave wrong passwords or unknown users, the last one from there");
        }
    }

    /// `ACL`.
    pub(super) fn answer_about_users(&mut self, arguments: &[Bytes]) {
        let users = self.session.as_ref().map(|session| session.users.current());
        let name = self.client_info.user.as_deref().unwrap_or(DEFAULT_USER);
        let mut out = super::Writer { buffer: &mut self.output, protocol: self.client_info.protocol };
        acl::answer(name, users.as_deref(), arguments, &mut out);
    }

    /// A parser for the next request of the client.
    pub(super) fn new_parser(&self) -> Parser {
        let mut parser = Parser::new(self.front.settings);
        parser.set_limits(self.front.settings, self.is_logged_out());
        parser
    }
}
