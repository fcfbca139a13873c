//! What a connection answers by itself: greetings, settings, and questions about the node.

use bytes::Bytes;

use super::command::{self, NAMES, is};
use super::write::{Protocol, Writer};
use crate::kv::{Reply, parse_integer};
use crate::status::Status;

/// What a client has told about itself.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: u64,
    pub(super) protocol: Protocol,
    name: Bytes,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It does.
    GoOn,
    /// The client has taken its leave.
    Close,
}

impl Session {
    pub(super) fn new(id: u64) -> Session {
        Session { id, ..Session::default() }
    }

    /// Answers a request that does not concern the store and has passed [`check`].
    pub(super) fn answer(
        &mut self,
        name: &[u8],
        arguments: &[Bytes],
        status: &Status,
        out: &mut Writer<'_>,
    ) -> Next {
        match (name, arguments) {
            (b"ping", []) => out.simple("PONG"),
            (b"ping" | b"echo", [message]) => out.bulk(message),
            (b"hello", _) => self.hello(arguments, out),
            (b"auth", [_]) => out.error(NO_PASSWORD),
            (b"auth", [_, _]) => out.error(WRONG_PASSWORD),
            (b"select", [index]) if is(index, "0") => out.simple("OK"),
            (b"select", [index]) if parse_integer(index).is_none() => out.error(NOT_AN_INTEGER),
            (b"select", _) => out.error(b"ERR DB index is out of range: there is only database 0"),
            (b"client", [subcommand, rest @ ..]) => self.client(subcommand, rest, out),
            (b"command", _) => describe_commands(arguments, out),
            (b"config", [subcommand, rest @ ..]) => config(subcommand, rest, out),
            (b"info", _) => out.bulk(info(status).as_bytes()),
            (b"reset", _) => {
                *self = Session::new(self.id);
                out.protocol = self.protocol;
                out.simple("RESET");
            }
            (b"quit", _) => {
                out.simple("OK");
                return Next::Close;
            }
            (b"watch" | b"unwatch", _) => {
                out.error(b"ERR WATCH is not supported: use SET with NX, XX or GET, or one MULTI/EXEC block");
            }
            _ => out.error(b"ERR syntax error"),
        }
        Next::GoOn
    }

    fn hello(&mut self, arguments: &[Bytes], out: &mut Writer<'_>) {
        let (mut rest, mut protocol, mut name) = (arguments, self.protocol, None);
        if let [version, after @ ..] = rest {
            protocol = match &version[..] {
                b"2" => Protocol::Resp2,
                b"3" => Protocol::Resp3,
                _ => return out.error(b"NOPROTO unsupported protocol version"),
            };
            rest = after;
        }
        while let [option, after @ ..] = rest {
            match after {
                [given, after @ ..] if is(option, "setname") => {
                    name = Some(given.clone());
                    rest = after;
                }
                [_, _, ..] if is(option, "auth") => {
                    return out.error(b"ERR there are no users or passwords here: connect without AUTH");
                }
                _ => return out.error(b"ERR Syntax error in HELLO"),
            }
        }
        if name.as_ref().is_some_and(|name| !is_plain(name)) {
            return out.error(NOT_A_NAME);
        }
        // Only now: a client whose greeting is refused goes on in the protocol that it had.
        self.protocol = protocol;
        if let Some(name) = name {
            self.name = Bytes::copy_from_slice(&name);
        }
        out.protocol = protocol;
        out.map(7);
        // Every node takes writes, and some clients keep them away from a replica.
        let role = "master";
        for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            out.bulk(key.as_bytes());
            out.bulk(value.as_bytes());
        }
        out.bulk(b"proto");
        out.integer(if self.protocol == Protocol::Resp3 { 3 } else { 2 });
        out.bulk(b"id");
        out.integer(i64::try_from(self.id).unwrap_or(i64::MAX));
        for (key, value) in [("mode", "standalone"), ("role", role)] {
            out.bulk(key.as_bytes());
            out.bulk(value.as_bytes());
        }
        out.bulk(b"modules");
        out.array(0);
    }

    fn client(&mut self, subcommand: &Bytes, rest: &[Bytes], out: &mut Writer<'_>) {
        let line = || format!("id={} name={} db=0", self.id, String::from_utf8_lossy(&self.name));
        match rest {
            [name] if is(subcommand, "setname") && !is_plain(name) => out.error(NOT_A_NAME),
            [name] if is(subcommand, "setname") => {
                // A copy: the bytes are a small part of all that was read with them.
                self.name = Bytes::copy_from_slice(name);
                out.simple("OK");
            }
            [] if is(subcommand, "getname") && self.name.is_empty() => out.nil(),
            [] if is(subcommand, "getname") => out.bulk(&self.name),
            [] if is(subcommand, "id") => out.integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            [] if is(subcommand, "info") => out.bulk(line().as_bytes()),
            _ if is(subcommand, "list") => out.bulk(format!("{}\n", line()).as_bytes()),
            [field, value] if is(subcommand, "setinfo") => set_info(field, value, out),
            [_] if is(subcommand, "no-evict") || is(subcommand, "no-touch") => out.simple("OK"),
            [mode] if is(subcommand, "reply") && is(mode, "on") => out.simple("OK"),
            _ => out.error(b"ERR syntax error"),
        }
    }
}

/// Whether the front answers `name` by itself, and may be asked so.
pub(super) fn check(name: &[u8], arguments: &[Bytes]) -> Result<(), Refusal> {
    let count = arguments.len();
    let fits = match name {
        b"hello" | b"command" | b"info" | b"quit" => true,
        b"ping" => count <= 1,
        b"echo" | b"select" => count == 1,
        b"auth" | b"watch" => count >= 1,
        b"reset" | b"unwatch" => count == 0,
        b"client" => return subcommand(name, arguments, client_arity),
        b"config" => return subcommand(name, arguments, |lower, count| Some(lower != b"get" || count >= 1)),
        _ => return Err(Refusal::Unknown),
    };
    if fits { Ok(()) } else { Err(Refusal::Known(command::wrong_arity(name))) }
}

/// Why a request is not even tried.
pub(super) enum Refusal {
    /// Nobody knows the command.
    Unknown,
    /// The command is known, but this is no way to use it.
    Known(Reply),
}

fn subcommand(
    name: &[u8],
    arguments: &[Bytes],
    arity: impl Fn(&[u8], usize) -> Option<bool>,
) -> Result<(), Refusal> {
    let [subcommand, rest @ ..] = arguments else { return Err(Refusal::Known(command::wrong_arity(name))) };
    let lower = subcommand.to_ascii_lowercase();
    let name = String::from_utf8_lossy(name);
    match arity(&lower, rest.len()) {
        Some(true) => Ok(()),
        Some(false) => {
            let full = format!("{name}|{}", String::from_utf8_lossy(&lower));
            Err(Refusal::Known(command::wrong_arity(full.as_bytes())))
        }
        None => Err(Refusal::Known(Reply::error(&format!(
            "ERR unknown subcommand '{}'. Try {} HELP.",
            String::from_utf8_lossy(&subcommand[..subcommand.len().min(MAX_ECHO_BYTES)]),
            name.to_uppercase()
        )))),
    }
}

/// Whether a subcommand of `CLIENT` takes so many arguments; `None` if there is none of this name.
fn client_arity(subcommand: &[u8], count: usize) -> Option<bool> {
    Some(match subcommand {
        b"getname" | b"id" | b"info" => count == 0,
        b"setname" | b"no-evict" | b"no-touch" | b"reply" => count == 1,
        b"setinfo" => count == 2,
        b"list" => true,
        _ => return None,
    })
}

/// Whether text can stand in a line of `CLIENT LIST`: printable, and without spaces.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

fn set_info(field: &[u8], value: &[u8], out: &mut Writer<'_>) {
    let known = ["lib-name", "lib-ver"].into_iter().find(|known| is(field, known));
    match known {
        None => out
            .error(&[b"ERR Unrecognized option '", &field[..field.len().min(MAX_ECHO_BYTES)], b"'"].concat()),
        Some(known) if !is_plain(value) => {
            out.error(
                format!("ERR {known} cannot contain spaces, newlines or special characters.").as_bytes(),
            );
        }
        Some(_) => out.simple("OK"),
    }
}

/// How much of a word is repeated to the client.
const MAX_ECHO_BYTES: usize = 128;
const NO_PASSWORD: &[u8] =
    b"ERR AUTH <password> called without any password configured for the default user. \
    Are you sure your configuration is correct?";
const WRONG_PASSWORD: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";
const NOT_A_NAME: &[u8] = b"ERR Client names cannot contain spaces, newlines or special characters.";
const NOT_AN_INTEGER: &[u8] = b"ERR value is not an integer or out of range";

/// What clients are told that look at the version to see what a server can do.
const REDIS_VERSION: &str = "7.0.0";

fn describe_commands(arguments: &[Bytes], out: &mut Writer<'_>) {
    match arguments {
        [subcommand] if is(subcommand, "count") => {
            out.integer(i64::try_from(NAMES.len()).unwrap_or(i64::MAX));
        }
        [subcommand] if is(subcommand, "list") => {
            out.array(NAMES.len());
            for name in NAMES {
                out.bulk(name.as_bytes());
            }
        }
        [subcommand, ..] if is(subcommand, "docs") => out.map(0),
        [subcommand, names @ ..] if is(subcommand, "info") => {
            out.array(names.len());
            for _ in names {
                out.nil();
            }
        }
        _ => out.array(0),
    }
}

fn config(subcommand: &Bytes, patterns: &[Bytes], out: &mut Writer<'_>) {
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

/// The answer to `INFO`: lines of `key:value` under headings.
fn info(status: &Status) -> String {
    let Status { node, role, leader, ballot, chosen, applied, .. } = status;
    let leader = leader.map_or(0, |leader| leader.0);
    format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\npaxos_node_version:{}\r\nprocess_id:{}\r\n\r\n\
         # Replication\r\nnode_id:{node}\r\nrole:{role}\r\nleader_id:{leader}\r\nballot:{ballot}\r\n\
         chosen:{chosen}\r\napplied:{applied}\r\nlag:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        status.lag()
    )
}
