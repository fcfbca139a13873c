//! `CONFIG`: what a node tells of its settings in the words of Redis. It is configured by flags, environment
//! or file, not over a connection.

use bytes::Bytes;

use super::RespSettings;
use super::absent;
use super::categories::{ADMIN, DANGEROUS, SLOW};
use super::commands::Subcommand;
use super::words::is;
use super::write::Writer;
use crate::kv::{Pattern, Reply};

/// The subcommands, for rules of users. Those that are not here need the right to run all of them.
pub(super) const SUBCOMMANDS: &[Subcommand] =
    &[Subcommand { name: "get", categories: ADMIN.and(SLOW).and(DANGEROUS) }];

/// A setting that clients may set though it changes nothing: all changes are told to those who listen.
const NOTIFICATIONS: &str = "notify-keyspace-events";
const ALL_NOTIFICATIONS: &str = "AKE";
/// The letters that it may consist of in Redis.
const NOTIFICATION_LETTERS: &[u8] = b"KEg$lshzxetdmnA";

pub(super) fn config(arguments: &[Bytes], settings: &RespSettings, out: &mut Writer<'_>) {
    let (subcommand, rest) = (&arguments[0], &arguments[1..]);
    if is(subcommand, "get") {
        get(rest, settings, out);
    } else if is(subcommand, "set") {
        set(rest, out);
    } else {
        out.error(ONLY_GET);
    }
}

const ONLY_GET: &[u8] =
    b"ERR only CONFIG GET is supported; a node is configured by flags, environment or file";

fn get(patterns: &[Bytes], settings: &RespSettings, out: &mut Writer<'_>) {
    let timeout = settings.idle_timeout.map_or(0, |timeout| timeout.as_secs());
    let keepalive = settings.keepalive.map_or(0, |keepalive| keepalive.as_secs());
    let known = [
        // Every write here is synced.
        ("save", String::new()),
        ("appendonly", String::from("yes")),
        ("appendfsync", String::from("always")),
        ("databases", String::from("1")),
        ("cluster-enabled", String::from("no")),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", String::from("0")),
        ("maxmemory-policy", String::from("noeviction")),
        ("proto-max-bulk-len", settings.max_value_bytes.to_string()),
        ("timeout", timeout.to_string()),
        ("tcp-keepalive", keepalive.to_string()),
        ("slowlog-log-slower-than", String::from("-1")),
        ("slowlog-max-len", String::from("0")),
        ("latency-monitor-threshold", String::from("0")),
        (NOTIFICATIONS, String::from(ALL_NOTIFICATIONS)),
    ];
    let patterns: Vec<Pattern> =
        patterns.iter().map(|pattern| Pattern::new(&pattern.to_ascii_lowercase())).collect();
    let is_wanted = |name: &str| patterns.iter().any(|pattern| pattern.matches(name.as_bytes()));
    let found: Vec<_> = known.iter().filter(|(name, _)| is_wanted(name)).collect();
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
}

fn set(pairs: &[Bytes], out: &mut Writer<'_>) {
    match pairs {
        [name, letters] if is(name, NOTIFICATIONS) => {
            if letters.iter().all(|letter| NOTIFICATION_LETTERS.contains(letter)) {
                out.simple("OK");
            } else {
                out.error(b"ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
            }
        }
        _ => out.error(ONLY_GET),
    }
}

/// Refuses a subcommand of `CONFIG` that Redis does not know, or with a wrong number of arguments.
pub(super) fn check(arguments: &[Bytes]) -> Result<(), Reply> {
    let known = [("get", 1, usize::MAX), ("set", 2, usize::MAX), ("rewrite", 0, 0), ("resetstat", 0, 0)];
    absent::check("config", &known, arguments)
}
