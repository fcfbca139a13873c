//! The options of `serve`: flags, environment variables and TOML keys of the same names.
//!
//! A flag takes precedence over the environment, the environment over the file, and the file over the
//! default.

mod resolved;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use paxos_node::backends::{StorageKind, TransportKind};
use serde::{Deserialize, Serialize};

pub(crate) use self::resolved::{ClientTlsFiles, Serve, parse_addresses};
use super::Failure;
use super::choice::one_of;

/// Where and how the log is written.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LogOptions {
    /// What to log, such as `info` or `paxos_node=debug` [default: warn].
    #[arg(long, global = true, env = "PAXOS_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// How to log [default: text].
    #[arg(long, global = true, env = "PAXOS_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// The transports that reach other processes.
pub(crate) const NETWORK_TRANSPORTS: &[TransportKind] = &[TransportKind::Quic, TransportKind::Tcp];

/// How reads are kept linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadKind {
    /// A round of heartbeats to a quorum confirms the leader.
    #[default]
    Quorum,
    /// The leader holds a lease: faster, but relies on clocks that run at nearly the same speed.
    Lease,
}

/// A length of time such as `5s` or `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Period(pub(crate) Duration);

impl std::str::FromStr for Period {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Period, Self::Err> {
        humantime::parse_duration(text).map(Period)
    }
}

impl TryFrom<String> for Period {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Period, Self::Error> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        humantime::format_duration(period.0).to_string()
    }
}

/// The options of `serve` as given; `None` for each that is not.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ServeOptions {
    /// This node's id, from 1 on.
    #[arg(long, env = "PAXOS_ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// The nodes that found the cluster and where their peers reach them: 1=HOST:PORT,2=HOST:PORT,... Once it
    /// is founded the log says who is a member, and this may be left out.
    #[arg(long, env = "PAXOS_PEERS", value_name = "ID=HOST:PORT,..")]
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<String>,
    /// In place of --peers: join a running cluster, of which these are some members' addresses for peers.
    #[arg(long, env = "PAXOS_JOIN", value_name = "HOST:PORT,..", conflicts_with = "peers")]
    #[serde(skip_serializing_if = "Option::is_none")]
    join: Option<String>,
    /// Where to listen for peers [default: this node's own address among the members or in --peers].
    #[arg(long, env = "PAXOS_LISTEN", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Where to listen for Redis clients without TLS. May be left out if --client-tls is given.
    #[arg(long, env = "PAXOS_CLIENT", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// Where to listen for Redis clients with TLS.
    #[arg(long, env = "PAXOS_CLIENT_TLS", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_tls: Option<String>,
    /// The certificate that clients are shown, in PEM form [default: this node's own in --certs].
    #[arg(long, env = "PAXOS_CLIENT_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cert: Option<PathBuf>,
    /// The key of --client-cert.
    #[arg(long, env = "PAXOS_CLIENT_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    /// Clients with TLS must show a certificate by this CA [default: they need none].
    #[arg(long, env = "PAXOS_CLIENT_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca: Option<PathBuf>,
    /// Who Redis clients may be, in the format of Redis's ACL files [default: everybody may do everything].
    #[arg(long, env = "PAXOS_USERS", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<PathBuf>,
    /// Where to serve /healthz, /readyz, /startedz, /status and /metrics.
    #[arg(long, env = "PAXOS_HTTP", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// The data directory, made by `paxos-node format`.
    #[arg(long, env = "PAXOS_DATA", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    /// The directory with ca.pem and this node's certificate and key, made by `paxos-node certs`.
    #[arg(long, env = "PAXOS_CERTS", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    certs: Option<PathBuf>,
    /// The cluster's name, if no data directory holds it [default: paxos].
    #[arg(long, env = "PAXOS_CLUSTER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Found a new cluster without these nodes, which join later; for the first start only.
    #[arg(long, env = "PAXOS_FOUND_WITHOUT", value_name = "ID,..")]
    #[serde(skip_serializing_if = "Option::is_none")]
    found_without: Option<String>,
    /// What carries messages between nodes; the same on all [default: quic].
    #[arg(long, env = "PAXOS_TRANSPORT", value_parser = one_of(NETWORK_TRANSPORTS, TransportKind::name))]
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<TransportKind>,
    /// Where the log is kept [default: file].
    #[arg(long, env = "PAXOS_STORAGE", value_parser = one_of(StorageKind::ALL, StorageKind::name))]
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageKind>,
    /// A TOML file with any of these options, by the same names without the dashes in front.
    #[arg(long, env = "PAXOS_CONFIG", value_name = "FILE.toml")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// How long a request may take before it is answered with TIMEOUT or CLUSTERDOWN [default: 5s].
    #[arg(long, env = "PAXOS_REQUEST_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_timeout: Option<Period>,
    /// How often a leader sends heartbeats [default: 50ms].
    #[arg(long, env = "PAXOS_HEARTBEAT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<Period>,
    /// How long nodes wait for a heartbeat before they elect a new leader [default: 500ms].
    #[arg(long, env = "PAXOS_ELECTION_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout: Option<Period>,
    /// How reads are kept linearizable; the same on all nodes [default: quorum].
    #[arg(long, env = "PAXOS_READS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<ReadKind>,
    /// The longest value a client may set, in bytes; the same on all nodes [default: 1048576].
    #[arg(long, env = "PAXOS_MAX_VALUE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_value_bytes: Option<usize>,
    /// How many clients may be connected; fewer if the limit on open files requires it [default: 10000].
    #[arg(long, env = "PAXOS_MAX_CLIENTS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_clients: Option<usize>,
    /// How many bytes of memory the node may take; 0 for no limit. When state and log take half of it,
    /// commands that need more are refused with OOM. Should be the same on all nodes [default: nine tenths of
    /// what the cgroup allows or the machine has].
    #[arg(long, env = "PAXOS_MEMORY_LIMIT", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<u64>,
    /// How many bytes the requests and replies of all clients may take together; when they need more, the
    /// client that has been silent for longest is disconnected [default: 268435456].
    #[arg(long, env = "PAXOS_CLIENT_BUFFER_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_buffer_bytes: Option<usize>,
    /// How long a client may be silent before the node probes its machine; 0s for never [default: 60s].
    #[arg(long, env = "PAXOS_CLIENT_KEEPALIVE", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_keepalive: Option<Period>,
    /// How long a client may be silent before it is disconnected; 0s for ever [default: 0s].
    #[arg(long, env = "PAXOS_CLIENT_IDLE_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_idle_timeout: Option<Period>,
    /// How many slots may be proposed and not yet chosen; the same on all nodes [default: 256].
    #[arg(long, env = "PAXOS_WINDOW_SLOTS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    window_slots: Option<u64>,
    /// By how many bytes the log may grow before a snapshot is taken [default: 67108864].
    #[arg(long, env = "PAXOS_SNAPSHOT_AFTER_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_after_bytes: Option<u64>,
    /// How many bytes of the log before a snapshot are kept in memory for peers that lag a little [default:
    /// 16777216].
    #[arg(long, env = "PAXOS_RETAINED_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retained_bytes: Option<usize>,
    /// The size of each file of the log, in bytes [default: 67108864].
    #[arg(long, env = "PAXOS_SEGMENT_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// How long a node that has just worked polls for more work before it sleeps; 0s saves processor time and
    /// makes commands slower [default: 100us].
    #[arg(long, env = "PAXOS_BUSY_POLL", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_poll: Option<Period>,
    /// Stop when standard input ends, so that the node ends with the program that started it.
    #[arg(long, hide = true)]
    #[serde(skip)]
    stop_with_stdin: bool,
    /// --log and --log-format, here so that the file may hold them too.
    #[arg(skip)]
    #[serde(flatten)]
    log: LogOptions,
}

impl ServeOptions {
    fn with_file(mut self, log: LogOptions) -> Result<ServeOptions, Failure> {
        self.log = log;
        let Some(path) = self.config.clone() else { return Ok(self) };
        let fail = |problem: String| Failure::usage(format!("--config {}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        self.with_text(&text).map_err(|error| fail(one_line(&error)))
    }

    fn with_text(self, text: &str) -> Result<ServeOptions, toml::de::Error> {
        // Checks the file alone first, so that errors have its line numbers.
        toml::from_str::<ServeOptions>(text)?;
        let mut table: toml::Table = toml::from_str(text)?;
        let given = toml::Table::try_from(&self).map_err(serde::de::Error::custom)?;
        table.extend(given);
        table.try_into()
    }
}

/// What a file with options says about the log.
pub(crate) fn log_in_file(file: &Path) -> Result<Option<String>, Failure> {
    let options = ServeOptions { config: Some(file.to_owned()), ..ServeOptions::default() };
    Ok(options.with_file(LogOptions::default())?.log.log)
}

/// For the fuzz target: reads the bytes as a file with options. Options that are accepted mean the same when
/// they are written down and read again.
///
/// # Panics
///
/// If it does not.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(options) = ServeOptions::default().with_text(text) else { return };
    let written = toml::to_string(&options).expect("what was read can be written");
    let again = ServeOptions::default().with_text(&written).expect("what was written can be read");
    assert_eq!(toml::to_string(&again).expect("and written again"), written);
    let _ = options.peers.as_deref().map(resolved::parse_peers);
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_unknown_keys_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("node.toml");
        std::fs::write(&path, "id = 3\ntransport = 'tcp'\nrequest-timeout = '250ms'\nlog = 'info'\n")
            .expect("the file is written");
        let given = ServeOptions { id: Some(1), config: Some(path.clone()), ..ServeOptions::default() };
        let merged = given.clone().with_file(LogOptions::default()).expect("the file is in order");
        assert_eq!((merged.id, merged.transport), (Some(1), Some(TransportKind::Tcp)));
        assert_eq!(merged.request_timeout, Some(Period(Duration::from_millis(250))));
        assert_eq!(merged.log.log.as_deref(), Some("info"));
        std::fs::write(&path, "idd = 3\n").expect("the file is written");
        let refused = given.with_file(LogOptions::default()).expect_err("idd is no option");
        assert!(refused.line.contains("idd"), "{}", refused.line);
    }
}
