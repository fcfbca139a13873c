//! The answer to `INFO`: lines of `key:value` in the sections that Redis has, as far as they apply to a node.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use super::words::is;
use crate::status::Status;

/// The version that clients see: some derive from it what a server can do. redis-py 8.1.0 keeps a cache only
/// of servers from this one on.
pub(super) const REDIS_VERSION: &str = "7.4.0";
/// Names that stand for all sections, as in Redis.
const ALL: [&str; 3] = ["all", "default", "everything"];
const SECONDS_PER_DAY: u64 = 86_400;

/// What the answer is made of.
#[derive(Default, Debug)]
pub(super) struct Facts {
    pub(super) status: Status,
    /// How many keys there are; `None` if the state could not be looked at, as it is being replaced.
    pub(super) keys: Option<usize>,
    /// How many of them have a deadline.
    pub(super) expiring_keys: usize,
    pub(super) port: u16,
    pub(super) uptime: Duration,
    /// A number that differs after each start.
    pub(super) run_id: u128,
    pub(super) connected_clients: usize,
    pub(super) max_clients: usize,
    /// Connections since the node started.
    pub(super) connections: u64,
    /// Connections that were refused because too many were open.
    pub(super) rejected_connections: u64,
    /// Requests since the node started.
    pub(super) requests: u64,
    /// How many bytes of requests and replies went to and fro since then.
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// To how many channels and patterns clients listen.
    pub(super) listening: (usize, usize),
    /// How many clients listen, and how many track keys.
    pub(super) listening_clients: (usize, usize),
}

/// Writes the fields of a section.
type Section = fn(&Facts) -> String;

/// The sections that are asked for, or all if none is.
pub(super) fn text(asked_for: &[Bytes], facts: &Facts) -> String {
    let sections: [(&str, Section); 11] = [
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("CPU", cpu),
        ("Modules", |_| String::new()),
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
        ("multiplexing_api", &"epoll"),
        ("process_id", &std::process::id()),
        ("run_id", &format_args!("{:040x}", facts.run_id)),
        ("tcp_port", &facts.port),
        ("uptime_in_seconds", &seconds),
        ("uptime_in_days", &(seconds / SECONDS_PER_DAY)),
    ])
}

fn clients(facts: &Facts) -> String {
    let (listening, tracking) = facts.listening_clients;
    lines(&[
        ("connected_clients", &facts.connected_clients),
        ("pubsub_clients", &listening),
        ("tracking_clients", &tracking),
        ("maxclients", &facts.max_clients),
        ("blocked_clients", &0),
    ])
}

fn memory(_: &Facts) -> String {
    let Some(bytes) = process_bytes("VmRSS:") else { return String::new() };
    let peak = process_bytes("VmHWM:").unwrap_or(bytes);
    // The resident memory stands for both: the allocator does not count what is in use.
    lines(&[
        ("used_memory", &bytes),
        ("used_memory_human", &human(bytes)),
        ("used_memory_rss", &bytes),
        ("used_memory_rss_human", &human(bytes)),
        ("used_memory_peak", &peak),
        ("used_memory_peak_human", &human(peak)),
        ("maxmemory", &0),
        ("maxmemory_human", &human(0)),
        ("maxmemory_policy", &"noeviction"),
        ("mem_fragmentation_ratio", &"1.00"),
    ])
}

/// A size as Redis shows it to people.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn human(bytes: u64) -> String {
    let units = [(1_u64 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.2}{letter}", bytes as f64 / unit as f64),
        None => format!("{bytes}B"),
    }
}

/// A size that the system tells of the process, where it does.
fn process_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The processor time of the process, where the system tells it.
fn cpu(_: &Facts) -> String {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return String::new() };
    // Only the name of the program, in parentheses, may have spaces in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |place| fields.split_whitespace().nth(place).and_then(|ticks| ticks.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else { return String::new() };
    let per_second = rustix::param::clock_ticks_per_second();
    let hundredths = |ticks: u64| ticks * 100 / per_second.max(1);
    let seconds = |ticks| format!("{}.{:02}", hundredths(ticks) / 100, hundredths(ticks) % 100);
    lines(&[("used_cpu_sys", &seconds(system)), ("used_cpu_user", &seconds(user))])
}

fn persistence(facts: &Facts) -> String {
    lines(&[
        ("loading", &u8::from(facts.status.recovering.is_some())),
        ("async_loading", &0),
        ("rdb_changes_since_last_save", &0),
        ("rdb_bgsave_in_progress", &0),
        ("rdb_last_bgsave_status", &"ok"),
        // Every write goes to the log.
        ("aof_enabled", &1),
        ("aof_rewrite_in_progress", &0),
        ("aof_last_bgrewrite_status", &"ok"),
        ("aof_last_write_status", &"ok"),
    ])
}

fn stats(facts: &Facts) -> String {
    let (channels, patterns) = facts.listening;
    lines(&[
        ("total_connections_received", &facts.connections),
        ("total_commands_processed", &facts.requests),
        ("total_net_input_bytes", &facts.received_bytes),
        ("total_net_output_bytes", &facts.sent_bytes),
        ("rejected_connections", &facts.rejected_connections),
        ("expired_keys", &0),
        ("evicted_keys", &0),
        ("pubsub_channels", &channels),
        ("pubsub_patterns", &patterns),
    ])
}

fn replication(facts: &Facts) -> String {
    let Status { node, role, leader, ballot, chosen, applied, .. } = &facts.status;
    let leader = leader.map_or(0, |leader| leader.0);
    lines(&[
        // Every node takes writes, and some clients look for a master.
        ("role", &"master"),
        ("connected_slaves", &0),
        ("master_failover_state", &"no-failover"),
        ("master_repl_offset", &applied),
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
        Some(keys) => {
            lines(&[("db0", &format_args!("keys={keys},expires={},avg_ttl=0", facts.expiring_keys))])
        }
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
        assert_eq!(all.len(), 11);
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
        assert!(persistence(Some(Recovering::Log { percent: None })).contains("\r\nloading:1\r\n"));
        assert!(persistence(None).contains("\r\nloading:0\r\n"));
    }

    #[test]
    fn each_line_is_a_heading_a_field_or_empty() {
        let facts = Facts {
            keys: Some(3),
            expiring_keys: 2,
            uptime: Duration::from_secs(90_000),
            ..Facts::default()
        };
        let text = text(&[], &facts);
        assert!(text.ends_with("# Keyspace\r\ndb0:keys=3,expires=2,avg_ttl=0\r\n"), "{text}");
        assert!(text.contains("uptime_in_days:1\r\n\r\n# Clients\r\n"), "{text}");
        for line in text.split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line}");
            assert!(!line.contains(['\r', '\n']), "{line}");
        }
    }
}
