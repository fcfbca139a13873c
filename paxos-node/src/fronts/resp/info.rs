//! The answer to `INFO`: lines of `key:value` in the sections that Redis has, as far as they apply to a node.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use super::words::is;
use crate::status::Status;

/// The version that clients see: some derive from it what a server can do.
pub(super) const REDIS_VERSION: &str = "7.0.0";
/// Names that stand for all sections, as in Redis.
const ALL: [&str; 3] = ["all", "default", "everything"];
const SECONDS_PER_DAY: u64 = 86_400;

/// What the answer is made of.
#[derive(Default, Debug)]
pub(super) struct Facts {
    pub(super) status: Status,
    /// How many keys there are; `None` if the state could not be looked at, as it is being replaced.
    pub(super) keys: Option<usize>,
    pub(super) port: u16,
    pub(super) uptime: Duration,
    pub(super) connected_clients: usize,
    pub(super) max_clients: usize,
    /// Connections since the node started.
    pub(super) connections: u64,
    /// Connections that were refused because too many were open.
    pub(super) rejected_connections: u64,
    /// Requests since the node started.
    pub(super) requests: u64,
}

/// Writes the fields of a section.
type Section = fn(&Facts) -> String;

/// The sections that are asked for, or all if none is.
pub(super) fn text(asked_for: &[Bytes], facts: &Facts) -> String {
    let sections: [(&str, Section); 9] = [
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("Membership", membership),
        ("Cluster", cluster),
        ("Keyspace", keyspace),
    ];
    let is_wanted = |section: &str| {
        let names = |word: &Bytes| is(word, section) || ALL.iter().any(|all| is(word, all));
        asked_for.is_empty() || asked_for.iter().any(names)
    };
    let wanted = sections.iter().filter(|(section, _)| is_wanted(section));
    let texts: Vec<String> =
        wanted.map(|(section, fields)| format!("# {section}\r\n{}", fields(facts))).collect();
    texts.join("\r\n")
}

fn lines(fields: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut lines = String::new();
    for (name, value) in fields {
        write!(lines, "{name}:{value}\r\n").expect("memory takes everything");
    }
    lines
}

fn server(facts: &Facts) -> String {
    let seconds = facts.uptime.as_secs();
    lines(&[
        ("redis_version", &REDIS_VERSION),
        ("redis_mode", &"standalone"),
        ("paxos_node_version", &env!("CARGO_PKG_VERSION")),
        ("os", &std::env::consts::OS),
        ("arch_bits", &usize::BITS),
        ("process_id", &std::process::id()),
        ("tcp_port", &facts.port),
        ("uptime_in_seconds", &seconds),
        ("uptime_in_days", &(seconds / SECONDS_PER_DAY)),
    ])
}

fn clients(facts: &Facts) -> String {
    lines(&[
        ("connected_clients", &facts.connected_clients),
        ("maxclients", &facts.max_clients),
        ("blocked_clients", &0),
    ])
}

fn memory(_: &Facts) -> String {
    let Some(kibibytes) = resident_kibibytes() else { return String::new() };
    // The resident memory stands for both: the allocator does not count what is in use.
    let bytes = kibibytes * 1024;
    lines(&[("used_memory", &bytes), ("used_memory_rss", &bytes), ("maxmemory_policy", &"noeviction")])
}

/// The resident memory of the process, where the system tells it.
fn resident_kibibytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn persistence(facts: &Facts) -> String {
    lines(&[
        ("loading", &u8::from(facts.status.recovering.is_some())),
        ("async_loading", &0),
        // Every write goes to the log.
        ("aof_enabled", &1),
        ("aof_last_write_status", &"ok"),
    ])
}

fn stats(facts: &Facts) -> String {
    lines(&[
        ("total_connections_received", &facts.connections),
        ("total_commands_processed", &facts.requests),
        ("rejected_connections", &facts.rejected_connections),
        ("expired_keys", &0),
        ("evicted_keys", &0),
    ])
}

fn replication(facts: &Facts) -> String {
    let Status { node, role, leader, ballot, chosen, applied, .. } = &facts.status;
    let leader = leader.map_or(0, |leader| leader.0);
    lines(&[
        // Every node takes writes, and some clients look for a master.
        ("role", &"master"),
        ("connected_slaves", &0),
        ("paxos_role", role),
        ("node_id", node),
        ("leader_id", &leader),
        ("ballot", ballot),
        ("chosen", chosen),
        ("applied", applied),
        ("lag", &facts.status.lag()),
        ("misunderstood", &facts.status.misunderstood),
    ])
}

/// The members, each with what the node knows of it: only a leader knows how far they lag.
fn membership(facts: &Facts) -> String {
    let status = &facts.status;
    let Some(membership) = &status.membership else { return String::new() };
    let mut text = lines(&[
        ("epoch", &membership.epoch()),
        ("voters", &membership.voters().count()),
        ("learners", &membership.learners().count()),
    ]);
    for member in membership.details() {
        let (id, role, address) = (member.id, member.role, &member.address);
        let lag = status.lag_of(id).map(|slots| format!(",lag={slots}")).unwrap_or_default();
        write!(text, "member{id}:role={role},address={address}{lag}\r\n").expect("memory takes everything");
    }
    text
}

fn cluster(_: &Facts) -> String {
    lines(&[("cluster_enabled", &0)])
}

fn keyspace(facts: &Facts) -> String {
    match facts.keys {
        None | Some(0) => String::new(),
        Some(keys) => lines(&[("db0", &format_args!("keys={keys},expires=0,avg_ttl=0"))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Recovering;

    fn sections(asked_for: &[&str], keys: Option<usize>) -> Vec<String> {
        let asked_for: Vec<Bytes> =
            asked_for.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let text = text(&asked_for, &Facts { keys, ..Facts::default() });
        let headings = text.split("\r\n").filter_map(|line| line.strip_prefix("# "));
        headings.map(str::to_owned).collect()
    }

    #[test]
    fn sections_are_those_that_were_asked_for() {
        let all = sections(&[], Some(1));
        assert_eq!(all.len(), 9);
        for name in ["all", "default", "EVERYTHING"] {
            assert_eq!(sections(&[name], Some(1)), all);
        }
        assert_eq!(sections(&["KEYSPACE", "server", "server"], None), ["Server", "Keyspace"]);
        assert_eq!(sections(&["commandstats"], None), [""; 0]);
    }

    #[test]
    fn a_node_that_reads_its_log_is_loading() {
        let persistence = |recovering| {
            let status = Status { recovering, ..Status::default() };
            text(&[Bytes::from_static(b"persistence")], &Facts { status, ..Facts::default() })
        };
        assert!(persistence(Some(Recovering::Log)).contains("\r\nloading:1\r\n"));
        assert!(persistence(None).contains("\r\nloading:0\r\n"));
    }

    #[test]
    fn each_line_is_a_heading_a_field_or_empty() {
        let facts = Facts { keys: Some(3), uptime: Duration::from_secs(90_000), ..Facts::default() };
        let text = text(&[], &facts);
        assert!(text.ends_with("# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n"), "{text}");
        assert!(text.contains("uptime_in_days:1\r\n\r\n# Clients\r\n"), "{text}");
        for line in text.split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line}");
            assert!(!line.contains(['\r', '\n']), "{line}");
        }
    }
}
