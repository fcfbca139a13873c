//! Commands about what a node does not have: slots of a Redis Cluster, a log of slow commands, modules.
//! Clients ask for it when they connect, or show it; so each gets a well-formed answer that says that there
//! is nothing.

use bytes::Bytes;

use super::errors::{unknown_or_wrong_arity, unknown_subcommand, wrong_arity};
use super::local::ClientInfo;
use super::words::is;
use super::write::Writer;
use crate::kv::{Reply, parse_integer};

/// Refuses a subcommand of `CLUSTER` that Redis does not know.
pub(super) fn check_cluster(arguments: &[Bytes]) -> Result<(), Reply> {
    let known = [
        ("info", 0, 0),
        ("slots", 0, 0),
        ("shards", 0, 0),
        ("nodes", 0, 0),
        ("myid", 0, 0),
        ("links", 0, 0),
        ("keyslot", 1, 1),
        ("countkeysinslot", 1, 1),
        ("getkeysinslot", 2, 2),
        ("reset", 0, 1),
    ];
    check("cluster", &known, arguments)
}

/// A node looks like a Redis that is in no Redis Cluster: any node takes any key.
pub(super) fn cluster(_: &mut ClientInfo, _: &[Bytes], out: &mut Writer<'_>) {
    out.error(b"ERR This instance has cluster support disabled");
}

pub(super) fn slowlog(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    match &arguments[0] {
        subcommand if is(subcommand, "get") => match &arguments[1..] {
            [] => out.array(0),
            [count] if parse_integer(count).is_some_and(|count| count >= -1) => out.array(0),
            [_] => out.error(b"ERR count should be greater than or equal to -1"),
            _ => out.head(&unknown_or_wrong_arity("slowlog", subcommand)),
        },
        subcommand if is(subcommand, "len") => out.integer(0),
        _ => out.simple("OK"),
    }
}

/// Refuses a subcommand of `SLOWLOG` that is unknown or has a wrong number of arguments.
pub(super) fn check_slowlog(arguments: &[Bytes]) -> Result<(), Reply> {
    check("slowlog", &[("get", 0, usize::MAX), ("len", 0, 0), ("reset", 0, 0)], arguments)
}

pub(super) fn latency(_: &mut ClientInfo, arguments: &[Bytes], out: &mut Writer<'_>) {
    match &arguments[0] {
        subcommand if is(subcommand, "reset") => out.integer(0),
        subcommand if is(subcommand, "doctor") => {
            out.bulk(b"Latencies of a node are at its port for HTTP, under /metrics.\n");
        }
        subcommand if is(subcommand, "histogram") => out.map(0),
        _ => out.array(0),
    }
}

/// Refuses a subcommand of `LATENCY` that is unknown or has a wrong number of arguments.
pub(super) fn check_latency(arguments: &[Bytes]) -> Result<(), Reply> {
    let many = usize::MAX;
    let known =
        [("latest", 0, 0), ("history", 1, 1), ("reset", 0, many), ("doctor", 0, 0), ("histogram", 0, many)];
    check("latency", &known, arguments)
}

pub(super) fn module(_: &mut ClientInfo, _: &[Bytes], out: &mut Writer<'_>) {
    out.array(0);
}

/// Refuses all subcommands of `MODULE` but `LIST`.
pub(super) fn check_module(arguments: &[Bytes]) -> Result<(), Reply> {
    check("module", &[("list", 0, 0)], arguments)
}

/// Refuses a subcommand that is none of those `known`, or has fewer or more arguments than those may have.
pub(super) fn check(command: &str, known: &[(&str, usize, usize)], arguments: &[Bytes]) -> Result<(), Reply> {
    let count = arguments.len() - 1;
    match known.iter().find(|(name, ..)| is(&arguments[0], name)) {
        None => Err(unknown_subcommand(command, &arguments[0])),
        Some((_, least, most)) if (least..=most).contains(&&count) => Ok(()),
        Some((name, ..)) => Err(wrong_arity(&format!("{command}|{name}"))),
    }
}
