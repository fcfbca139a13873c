//! Commands that a connection answers by itself: greetings, settings of the connection, and questions that
//! client libraries ask.
//!
//! Each function is named by a row of [`COMMANDS`](super::commands::COMMANDS), and relies on the number of
//! arguments that stands there.

use bytes::Bytes;

use super::errors::{MAX_ECHO_BYTES, NOT_AN_INTEGER, SYNTAX, WRONG_PASSWORD};
use super::info::REDIS_VERSION;
use super::words::is;
use super::write::{Protocol, Writer};
use crate::kv::{Reply, parse_integer};
use crate::status::Status;

/// Writes the answer to a command with these arguments.
pub(super) type AnswerLocally = fn(&mut ClientInfo, &[Bytes], &mut Writer<'_>);

const NO_PASSWORD: &[u8] =
    b"ERR AUTH <password> called without any password configured for the default user. \
    Are you sure your configuration is correct?";
pub(super) const NOT_A_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// What a client has told about itself.
#[derive(Debug, Default)]
pub(super) struct ClientInfo {
    pub(super) id: u64,
    pub(super) protocol: Protocol,
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    /// Who it is; `None` for `default`.
    pub(super) user: Option<String>,
}

/// What a client says in `HELLO`.
#[derive(Debug)]
pub(super) struct Greeting {
    protocol: Protocol,
    name: Option<Bytes>,
    /// Name and password of a user.
    pub(super) login: Option<(Bytes, Bytes)>,
}

impl ClientInfo {
    pub(super) fn new(id: u64) -> ClientInfo {
        ClientInfo { id, ..ClientInfo::default() }
    }
}

pub(super) fn ping(arguments: &[Bytes], out: &mut Writer<'_>) {
    match arguments {
        [message] => out.bulk(message),
        _ => out.simple("PONG"),
    }
}

/// The answer to `PING` of a client that listens in RESP2: it looks like a message.
pub(super) fn ping_listener(arguments: &[Bytes], out: &mut Writer<'_>) {
    out.array(2);
    out.bulk(b"pong");
    out.bulk(arguments.first().map_or(b"", |message| message));
}

pub(super) fn echo(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    out.bulk(&arguments[0]);
}

/// `AUTH` where there are no users: as in a Redis without passwords.
pub(super) fn auth(arguments: &[Bytes], out: &mut Writer<'_>) {
    match arguments {
        [_] => out.error(NO_PASSWORD),
        [user, _] if is_known_user(user) => out.simple("OK"),
        [_, _] => out.error(WRONG_PASSWORD.as_bytes()),
        _ => out.error(SYNTAX.as_bytes()),
    }
}

pub(super) fn select(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    if is(&arguments[0], "0") {
        out.simple("OK");
    } else if parse_integer(&arguments[0]).is_none() {
        out.error(NOT_AN_INTEGER.as_bytes());
    } else {
        out.error(b"ERR DB index is out of range: there is only database 0");
    }
}

/// Forgets what the client has told about itself.
pub(super) fn reset(client: &mut ClientInfo, out: &mut Writer<'_>) {
    *client = ClientInfo::new(client.id);
    out.protocol = client.protocol;
    out.simple("RESET");
}

/// Every node takes writes, and none has replicas in the sense of Redis.
pub(super) fn role(status: &Status, out: &mut Writer<'_>) {
    out.array(3);
    out.bulk(b"master");
    out.integer(i64::try_from(status.applied.0).unwrap_or(i64::MAX));
    out.array(0);
}

/// `WAIT` and `WAITAOF`: every write that was answered lies on the disks of a quorum, so there is nothing to
/// wait for, and more is not known. Of the nodes of the quorum, one counts as the local one.
pub(super) fn wait(arguments: &[Bytes], others: usize, out: &mut Writer<'_>) {
    let numbers: Vec<_> = arguments.iter().map(|argument| parse_integer(argument)).collect();
    let others = i64::try_from(others).unwrap_or(i64::MAX);
    match &numbers[..] {
        [.., Some(timeout)] if *timeout < 0 => out.error(b"ERR timeout is negative"),
        [Some(_), Some(_)] => out.integer(others),
        [Some(0 | 1), Some(_), Some(_)] => {
            out.array(2);
            out.integer(1);
            out.integer(others);
        }
        [Some(_), Some(_), Some(_)] => out.error(b"ERR value is out of range, must be between 0 and 1"),
        _ => out.error(NOT_AN_INTEGER.as_bytes()),
    }
}

/// `HELLO` where there are no users.
pub(super) fn hello(client: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    match read_greeting(client, arguments) {
        Err(error) => out.head(&error),
        Ok(Greeting { login: Some((user, _)), .. }) if !is_known_user(&user) => {
            out.error(WRONG_PASSWORD.as_bytes());
        }
        Ok(greeting) => greet(client, greeting, out),
    }
}

/// Reads the arguments of `HELLO`.
///
/// # Errors
///
/// The answer if they are wrong.
pub(super) fn read_greeting(client: &ClientInfo, arguments: &[Bytes]) -> Result<Greeting, Reply> {
    let (mut rest, mut protocol, mut name, mut login) = (arguments, client.protocol, None, None);
    if let [version, after @ ..] = rest {
        protocol = match &version[..] {
            b"2" => Protocol::Resp2,
            b"3" => Protocol::Resp3,
            _ => return Err(Reply::error("NOPROTO unsupported protocol version")),
        };
        rest = after;
    }
    while let [option, after @ ..] = rest {
        match after {
            [given, after @ ..] if is(option, "setname") => {
                name = Some(given.clone());
                rest = after;
            }
            [user, password, after @ ..] if is(option, "auth") => {
                login = Some((user.clone(), password.clone()));
                rest = after;
            }
            _ => {
                let shown = &option[..option.len().min(MAX_ECHO_BYTES)];
                let error = [b"ERR Syntax error in HELLO option '", shown, b"'"].concat();
                return Err(Reply::Error(Bytes::from(error)));
            }
        }
    }
    if name.as_ref().is_some_and(|name| !is_plain(name)) {
        return Err(Reply::error(NOT_A_NAME));
    }
    Ok(Greeting { protocol, name, login })
}

/// Takes over what the client has said, and greets it. A client whose greeting is refused goes on in the
/// protocol that it had.
pub(super) fn greet(client: &mut ClientInfo, greeting: Greeting, out: &mut Writer<'_>) {
    client.protocol = greeting.protocol;
    if let Some(name) = greeting.name {
        client.name = Bytes::copy_from_slice(&name);
    }
    out.protocol = client.protocol;
    out.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if client.protocol == Protocol::Resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(i64::try_from(client.id).unwrap_or(i64::MAX));
    // Every node takes writes, and some clients send none to a replica.
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
}

/// Whether a user may log in. The only one is that of a Redis without passwords: any password will do.
fn is_known_user(name: &[u8]) -> bool {
    name == b"default"
}

/// Whether text can stand in a line of `CLIENT LIST`: printable, and without spaces.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}
