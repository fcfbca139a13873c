//! `CLIENT`: what a client tells about itself, and asks about itself and others.

use bytes::Bytes;

use super::absent;
use super::categories::{ADMIN, CONNECTION, DANGEROUS, SLOW};
use super::clients::{Clients, Connected};
use super::commands::Subcommand;
use super::errors::{MAX_ECHO_BYTES, SYNTAX};
use super::local::{ClientInfo, NOT_A_NAME, is_plain};
use super::pubsub::Tracking;
use super::words::is;
use super::write::{Protocol, Writer};
use crate::kv::Reply;

/// How many prefixes a client may track.
const MAX_PREFIXES: usize = 64;

/// The subcommands, for rules of users. Those that are not here need the right to run all of them.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "setname", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "getname", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "id", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "info", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "list", categories: CONNECTION.and(SLOW).and(ADMIN).and(DANGEROUS) },
    Subcommand { name: "kill", categories: CONNECTION.and(SLOW).and(ADMIN).and(DANGEROUS) },
    Subcommand { name: "setinfo", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "no-evict", categories: CONNECTION.and(SLOW).and(ADMIN).and(DANGEROUS) },
    Subcommand { name: "no-touch", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "reply", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "tracking", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "trackinginfo", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "caching", categories: CONNECTION.and(SLOW) },
    Subcommand { name: "getredir", categories: CONNECTION.and(SLOW) },
];

/// What a connection has to do for a `CLIENT` that is not answered by words alone.
pub(super) enum Request {
    /// It is answered.
    Answered,
    /// Tell of changes of keys, or do not any more.
    Track(Option<Tracking>),
}

/// Answers what needs nothing of the connection but this.
pub(super) fn client(
    client: &mut ClientInfo,
    arguments: &[Bytes],
    (clients, connected): (&Clients, &Connected),
    tracking: Option<&Tracking>,
    out: &mut Writer<'_>,
) -> Request {
    let (subcommand, rest) = (&arguments[0], &arguments[1..]);
    let lower = subcommand.to_ascii_lowercase();
    match (&lower[..], rest) {
        (b"setname", [name]) if !is_plain(name) => out.error(NOT_A_NAME.as_bytes()),
        (b"setname", [name]) => {
            // A copy: the bytes are a small part of all that was read with them.
            client.name = Bytes::copy_from_slice(name);
            out.simple("OK");
        }
        (b"getname", _) if client.name.is_empty() => out.nil(),
        (b"getname", _) => out.bulk(&client.name),
        (b"id", _) => out.integer(i64::try_from(client.id).unwrap_or(i64::MAX)),
        (b"getredir", _) => out.integer(-1),
        (b"info", _) => {
            connected.show(|shown| client.show_in(shown));
            out.bulk(format!("{}\n", connected.line()).as_bytes());
        }
        (b"list", filters) => {
            connected.show(|shown| client.show_in(shown));
            match clients.list(filters) {
                Ok(lines) => out.bulk(lines.as_bytes()),
                Err(error) => out.head(&error),
            }
        }
        (b"kill", filters) => {
            let reply = clients.kill(filters, client.id);
            out.head(&reply.unwrap_or_else(|error| error));
        }
        (b"setinfo", [field, value]) => client.set_info(field, value, out),
        (b"no-evict" | b"no-touch", [mode]) if is(mode, "on") || is(mode, "off") => out.simple("OK"),
        (b"reply", [mode]) if is(mode, "on") => out.simple("OK"),
        (b"unblock", _) => out.integer(0),
        (b"pause" | b"unpause", _) => out.error(
            b"ERR CLIENT PAUSE is not supported: to move clients away from a node, stop it; it hands leadership over first",
        ),
        (b"caching", [mode]) if is(mode, "yes") || is(mode, "no") => match tracking {
            // All changes are told, so it makes no difference.
            Some(_) => out.simple("OK"),
            None => out.error(b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"),
        },
        (b"trackinginfo", _) => tracking_info(tracking, out),
        (b"tracking", words) => match parse_tracking(words, client.protocol) {
            Ok(tracking) => return Request::Track(tracking),
            Err(error) => out.head(&error),
        },
        _ => out.error(SYNTAX.as_bytes()),
    }
    Request::Answered
}

/// Refuses a subcommand of `CLIENT` that is unknown or has a wrong number of arguments.
pub(super) fn check(arguments: &[Bytes]) -> Result<(), Reply> {
    let many = usize::MAX;
    let known = [
        ("getname", 0, 0),
        ("id", 0, 0),
        ("info", 0, 0),
        ("getredir", 0, 0),
        ("trackinginfo", 0, 0),
        ("setname", 1, 1),
        ("no-evict", 1, 1),
        ("no-touch", 1, 1),
        ("reply", 1, 1),
        ("caching", 1, 1),
        ("setinfo", 2, 2),
        ("list", 0, many),
        ("kill", 1, many),
        ("unblock", 1, 2),
        ("pause", 1, 2),
        ("unpause", 0, 0),
        ("tracking", 1, many),
    ];
    absent::check("client", &known, arguments)
}

impl ClientInfo {
    /// Shows what the client has told about itself.
    pub(super) fn show_in(&self, shown: &mut super::clients::Shown) {
        shown.name = self.name.clone();
        shown.library = self.library.clone();
        shown.library_version = self.library_version.clone();
        shown.is_resp3 = self.protocol == Protocol::Resp3;
    }

    fn set_info(&mut self, field: &[u8], value: &[u8], out: &mut Writer<'_>) {
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
            Some(known) => {
                let value = Bytes::copy_from_slice(&value[..value.len().min(MAX_ECHO_BYTES)]);
                if known == "lib-name" {
                    self.library = value;
                } else {
                    self.library_version = value;
                }
                out.simple("OK");
            }
        }
    }
}

fn parse_tracking(words: &[Bytes], protocol: Protocol) -> Result<Option<Tracking>, Reply> {
    let (mode, words) = (&words[0], &words[1..]);
    if is(mode, "off") {
        return Ok(None);
    }
    if !is(mode, "on") {
        return Err(Reply::error(SYNTAX));
    }
    let (mut tracking, mut words) = (Tracking::default(), words.iter());
    while let Some(word) = words.next() {
        match () {
            () if is(word, "bcast") => tracking.is_broadcast = true,
            // More is told than these ask for, which does no harm.
            () if is(word, "optin") || is(word, "optout") || is(word, "noloop") => {}
            () if is(word, "prefix") => {
                let prefix = words.next().ok_or_else(|| Reply::error(SYNTAX))?;
                tracking.prefixes.push(Bytes::copy_from_slice(prefix));
            }
            () if is(word, "redirect") => {
                return Err(Reply::error("ERR REDIRECT is not supported: use RESP3, by HELLO 3"));
            }
            () => return Err(Reply::error(SYNTAX)),
        }
    }
    if !tracking.prefixes.is_empty() && !tracking.is_broadcast {
        return Err(Reply::error("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if tracking.prefixes.len() > MAX_PREFIXES {
        return Err(Reply::error(&format!("ERR at most {MAX_PREFIXES} prefixes can be tracked")));
    }
    if protocol == Protocol::Resp2 {
        return Err(Reply::error("ERR CLIENT TRACKING needs RESP3 here: send HELLO 3 first"));
    }
    Ok(Some(tracking))
}

fn tracking_info(tracking: Option<&Tracking>, out: &mut Writer<'_>) {
    let flags: &[&str] = match tracking {
        None => &["off"],
        Some(tracking) if tracking.is_broadcast => &["on", "bcast"],
        Some(_) => &["on"],
    };
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(if tracking.is_some() { 0 } else { -1 });
    out.bulk(b"prefixes");
    let prefixes = tracking.map_or(&[][..], |tracking| &tracking.prefixes);
    out.array(prefixes.len());
    prefixes.iter().for_each(|prefix| out.bulk(prefix));
}
