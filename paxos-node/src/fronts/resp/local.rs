//! Commands that a connection answers by itself: greetings, settings of the connection, and questions that
//! client libraries ask.
//!
//! Each function is named by a row of [`COMMANDS`](super::commands::COMMANDS), and relies on the number of
//! arguments that stands there.

use bytes::Bytes;

use super::categories::{ADMIN, CONNECTION, DANGEROUS, SLOW};
use super::commands::Subcommand;
use super::errors::{self, MAX_ECHO_BYTES, NOT_AN_INTEGER, SYNTAX, WRONG_PASSWORD};
use super::info::REDIS_VERSION;
use super::words::is;
use super::write::{Protocol, Writer};
use crate::kv::{Reply, parse_integer};
use crate::status::Status;

/// Writes the answer to a command with these arguments.
pub(super) type AnswerLocally = fn(&mut ClientInfo, &[Bytes], &mut Writer<'_>);

/// The subcommands of `CLIENT`.
pub(super) const CLIENT_SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "setname", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "getname", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "id", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "info", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "list", categories: CONNECTION.and(SLOW).and(ADMIN).and(DANGEROUS) },
    Subcommand { name: "setinfo", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "no-evict", categories: CONNECTION.and(SLOW).and(ADMIN).and(DANGEROUS) },
    Subcommand { name: "no-touch", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "reply", categories: CONNECTION.and(SLOW) },
];
/// The subcommands of `CONFIG`.
pub(super) const CONFIG_SUBCOMMANDS: &[Subcommand] =
    &[Subcommand { name: "get", categories: ADMIN.and(SLOW).and(DANGEROUS) }];

const NO_PASSWORD: &[u8] =
    b"ERR AUTH <password> called without any password configured for the default user. \
    Are you sure your configuration is correct?";
const NOT_A_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// What a client has told about itself.
#[derive(Debug, Default)]
pub(super) struct ClientInfo {
    id: u64,
    pub(super) protocol: Protocol,
    name: Bytes,
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

/// Nothing is ever watched.
pub(super) fn unwatch(_: &mut ClientInfo, _: &[Bytes], out: &mut Writer<'_>) {
    out.simple("OK");
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

pub(super) fn client(client: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    let (subcommand, rest) = (&arguments[0], &arguments[1..]);
    let line = || {
        let (name, user) =
            (String::from_utf8_lossy(&client.name), client.user.as_deref().unwrap_or("default"));
        format!("id={} name={name} user={user} db=0", client.id)
    };
    match rest {
        [name] if is(subcommand, "setname") && !is_plain(name) => out.error(NOT_A_NAME.as_bytes()),
        [name] if is(subcommand, "setname") => {
            // A copy: the bytes are a small part of all that was read with them.
            client.name = Bytes::copy_from_slice(name);
            out.simple("OK");
        }
        [] if is(subcommand, "getname") && client.name.is_empty() => out.nil(),
        [] if is(subcommand, "getname") => out.bulk(&client.name),
        [] if is(subcommand, "id") => out.integer(i64::try_from(client.id).unwrap_or(i64::MAX)),
        [] if is(subcommand, "info") => out.bulk(line().as_bytes()),
        _ if is(subcommand, "list") => out.bulk(format!("{}\n", line()).as_bytes()),
        [field, value] if is(subcommand, "setinfo") => set_info(field, value, out),
        [_] if is(subcommand, "no-evict") || is(subcommand, "no-touch") => out.simple("OK"),
        [mode] if is(subcommand, "reply") && is(mode, "on") => out.simple("OK"),
        _ => out.error(SYNTAX.as_bytes()),
    }
}

/// Refuses a subcommand of `CLIENT` that is unknown or has a wrong number of arguments.
pub(super) fn check_client(arguments: &[Bytes]) -> Result<(), Reply> {
    let count = arguments.len() - 1;
    let lower = arguments[0].to_ascii_lowercase();
    let fits = match &lower[..] {
        b"getname" | b"id" | b"info" => count == 0,
        b"setname" | b"no-evict" | b"no-touch" | b"reply" => count == 1,
        b"setinfo" => count == 2,
        b"list" => true,
        _ => return Err(errors::unknown_subcommand("client", &arguments[0])),
    };
    let full = || format!("client|{}", String::from_utf8_lossy(&lower));
    if fits { Ok(()) } else { Err(errors::wrong_arity(&full())) }
}

fn set_info(field: &[u8], value: &[u8], out: &mut Writer<'_>) {
    let known = ["lib-name", "lib-ver"].into_iter().find(|known| is(field, known));
    match known {
        None => {
            let shown = &field[..field.len().min(MAX_ECHO_BYTES)];
            out.error(&[b"ERR Unrecognized option '", shown, b"'"].concat());
        }
        Some(known) if !is_plain(value) => {
            let error = format!("ERR {known} cannot contain spaces, newlines or special characters.");
            out.error(error.as_bytes());
        }
        Some(_) => out.simple("OK"),
    }
}

pub(super) fn config(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    let (subcommand, patterns) = (&arguments[0], &arguments[1..]);
    if !is(subcommand, "get") {
        return out
            .error(b"ERR only CONFIG GET is supported; a node is configured by flags, environment or file");
    }
    // What benchmarks ask for: every write here is synced.
    let known = [("save", ""), ("appendonly", "yes"), ("appendfsync", "always")];
    let asked_for = |name: &str| patterns.iter().any(|pattern| is(pattern, name));
    let found: Vec<_> = known.into_iter().filter(|(name, _)| asked_for(name)).collect();
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
}

/// Refuses `CONFIG GET` without a pattern.
pub(super) fn check_config(arguments: &[Bytes]) -> Result<(), Reply> {
    match arguments {
        [subcommand] if is(subcommand, "get") => Err(errors::wrong_arity("config|get")),
        _ => Ok(()),
    }
}

/// Whether a user may log in. The only one is that of a Redis without passwords: any password will do.
fn is_known_user(name: &[u8]) -> bool {
    name == b"default"
}

/// Whether text can stand in a line of `CLIENT LIST`: printable, and without spaces.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}
