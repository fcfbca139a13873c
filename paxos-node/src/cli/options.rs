//! The options of `serve`: flags, environment variables and TOML keys of the same names.
//!
//! A flag wins over the environment, that over the file, and that over the default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use paxos_core::{NodeId, ReadMode};
use paxos_node::NodeSettings;
use serde::{Deserialize, Serialize};

use super::Failure;

/// The highest limit for values: with its key, one must fit into a command.
const MAX_VALUE_BYTES: usize = NodeSettings::MAX_COMMAND_BYTES - (1 << 20);

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
    /// For machines, an object a line.
    Json,
}

/// Which transport carries messages between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransportKind {
    /// QUIC over UDP.
    #[default]
    Quic,
    /// TLS over TCP.
    Tcp,
}

/// Where the log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageKind {
    /// A write-ahead log in the data directory.
    #[default]
    File,
    /// Memory: for measurements only. A node that restarts has forgotten what it promised.
    Memory,
}

/// How reads are made safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadKind {
    /// By a round of heartbeats to a quorum.
    #[default]
    Quorum,
    /// By a leader lease: faster, but relies on clocks that run at nearly the same speed.
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

/// The options of `serve` as they are given, each perhaps not at all.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ServeOptions {
    /// This node's id, one of those in --peers.
    #[arg(long, env = "PAXOS_ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// All nodes and where their peers reach them: 1=HOST:PORT,2=HOST:PORT,...
    #[arg(long, env = "PAXOS_PEERS", value_name = "ID=HOST:PORT,..")]
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<String>,
    /// Where to listen for peers, if not at this node's own address in --peers.
    #[arg(long, env = "PAXOS_LISTEN", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Where to listen for Redis clients.
    #[arg(long, env = "PAXOS_CLIENT", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// Where to serve /healthz, /readyz, /status and /metrics.
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
    /// The cluster's name, where no data directory tells it [default: paxos].
    #[arg(long, env = "PAXOS_CLUSTER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// What carries messages between nodes; the same on all [default: quic].
    #[arg(long, env = "PAXOS_TRANSPORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<TransportKind>,
    /// Where the log is kept [default: file].
    #[arg(long, env = "PAXOS_STORAGE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageKind>,
    /// A TOML file with any of these options, by the same names without the dashes in front.
    #[arg(long, env = "PAXOS_CONFIG", value_name = "FILE.toml")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// After how long a request is answered with TIMEOUT or CLUSTERDOWN [default: 5s].
    #[arg(long, env = "PAXOS_REQUEST_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_timeout: Option<Period>,
    /// How often a leader shows that it lives [default: 50ms].
    #[arg(long, env = "PAXOS_HEARTBEAT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<Period>,
    /// After how long without a leader others look for a new one [default: 500ms].
    #[arg(long, env = "PAXOS_ELECTION_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout: Option<Period>,
    /// How reads are made safe; the same on all nodes [default: quorum].
    #[arg(long, env = "PAXOS_READS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<ReadKind>,
    /// The longest value a client may set, in bytes; the same on all nodes [default: 1048576].
    #[arg(long, env = "PAXOS_MAX_VALUE_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_value_bytes: Option<usize>,
    /// How many clients may be connected [default: 10000].
    #[arg(long, env = "PAXOS_MAX_CLIENTS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_clients: Option<usize>,
    /// How many slots may be proposed and not yet chosen; the same on all nodes [default: 256].
    #[arg(long, env = "PAXOS_WINDOW_SLOTS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    window_slots: Option<u64>,
    /// A snapshot is taken when the log has grown by this many bytes [default: 67108864].
    #[arg(long, env = "PAXOS_SNAPSHOT_AFTER_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_after_bytes: Option<u64>,
    /// How much of the log behind a snapshot is kept in memory for peers that lag a little [default: 16777216].
    #[arg(long, env = "PAXOS_RETAINED_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retained_bytes: Option<usize>,
    /// How large a file of the log is, in bytes [default: 67108864].
    #[arg(long, env = "PAXOS_SEGMENT_BYTES", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// How long a node that has just worked looks for more before it sleeps; 0s saves processor time, and commands
    /// take longer [default: 100us].
    #[arg(long, env = "PAXOS_BUSY_POLL", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_poll: Option<Period>,
    /// Stop when standard input ends: ties a node to the program that started it.
    #[arg(long, hide = true)]
    #[serde(skip)]
    stop_with_stdin: bool,
    /// As --log and --log-format; they stand here so that the file may hold them too.
    #[arg(skip)]
    #[serde(flatten)]
    log: LogOptions,
}

/// The options of `serve`, complete and checked.
#[derive(Debug)]
#[allow(dead_code, reason = "some are read only by backends that may be left out of the build")]
pub(crate) struct Serve {
    pub(crate) settings: NodeSettings,
    pub(crate) listen: SocketAddr,
    pub(crate) peers: BTreeMap<NodeId, String>,
    pub(crate) client: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) data: Option<PathBuf>,
    pub(crate) certs: PathBuf,
    pub(crate) cluster: Option<String>,
    pub(crate) transport: TransportKind,
    pub(crate) storage: StorageKind,
    pub(crate) max_value_bytes: usize,
    pub(crate) max_clients: usize,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) stop_with_stdin: bool,
}

impl ServeOptions {
    /// Adds what the file says, checks everything, and starts the log.
    pub(crate) fn resolve(self, log: LogOptions) -> Result<Serve, Failure> {
        let stop_with_stdin = self.stop_with_stdin;
        let options = self.with_file(log)?;
        super::start_log(&options.log)?;
        let id = NodeId(required(options.id, "id")?);
        let peers = parse_peers(&required(options.peers, "peers")?)?;
        let Some(own) = peers.get(&id) else {
            return Err(Failure::usage(format!(
                "--peers does not name node {id}; it must list all nodes, this one too"
            )));
        };
        let listen = resolve("listen", options.listen.as_ref().unwrap_or(own))?;
        let mut settings = NodeSettings::new(id, peers.keys().copied().collect());
        if let Some(Period(timeout)) = options.request_timeout {
            settings.request_timeout = timeout;
        }
        settings.protocol.heartbeat_ticks =
            ticks(&settings, options.heartbeat, settings.protocol.heartbeat_ticks);
        settings.protocol.election_timeout_ticks =
            ticks(&settings, options.election_timeout, settings.protocol.election_timeout_ticks);
        if options.reads == Some(ReadKind::Lease) {
            let timeout = settings.protocol.election_timeout_ticks;
            settings.protocol.reads =
                ReadMode::Lease { lease_ticks: timeout - timeout / 10, drift_ticks: timeout / 10 };
        }
        if let Some(window_slots) = options.window_slots {
            settings.protocol.window_slots = window_slots;
        }
        if let Some(bytes) = options.snapshot_after_bytes {
            settings.snapshot_after_bytes = bytes;
        }
        if let Some(Period(time)) = options.busy_poll {
            settings.busy_poll = time;
        }
        if let Some(bytes) = options.retained_bytes {
            settings.protocol.retained_bytes = bytes;
        }
        let max_value_bytes = options.max_value_bytes.unwrap_or(1 << 20);
        if !(1..=MAX_VALUE_BYTES).contains(&max_value_bytes) {
            return Err(Failure::usage(format!("--max-value-bytes must be in 1..={MAX_VALUE_BYTES}")));
        }
        // A command may hold several values, as in MSET or a transaction.
        let several = (4 * max_value_bytes).min(NodeSettings::MAX_COMMAND_BYTES);
        settings.protocol.command_bytes = settings.protocol.command_bytes.max(several);
        settings.protocol.queue_bytes =
            settings.protocol.queue_bytes.max(4 * settings.protocol.command_bytes);
        let storage = options.storage.unwrap_or_default();
        if storage == StorageKind::File && options.data.is_none() {
            return Err(Failure::usage("--data is missing: name a directory made by 'paxos-node format'"));
        }
        Ok(Serve {
            settings,
            listen,
            peers,
            client: resolve("client", &required(options.client, "client")?)?,
            http: resolve("http", &required(options.http, "http")?)?,
            data: options.data,
            certs: required(options.certs, "certs")?,
            cluster: options.cluster,
            transport: options.transport.unwrap_or_default(),
            storage,
            max_value_bytes,
            max_clients: options.max_clients.unwrap_or(10_000),
            segment_bytes: options.segment_bytes,
            stop_with_stdin,
        })
    }

    fn with_file(mut self, log: LogOptions) -> Result<ServeOptions, Failure> {
        self.log = log;
        let Some(path) = self.config.clone() else { return Ok(self) };
        let fail = |problem: String| Failure::usage(format!("--config {}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        self.with_text(&text).map_err(|error| fail(one_line(&error)))
    }

    fn with_text(self, text: &str) -> Result<ServeOptions, toml::de::Error> {
        // Checks names and types of the file by itself, so that its own line numbers are reported.
        toml::from_str::<ServeOptions>(text)?;
        let mut table: toml::Table = toml::from_str(text)?;
        let given = toml::Table::try_from(&self).map_err(serde::de::Error::custom)?;
        table.extend(given);
        table.try_into()
    }
}

/// What the fuzz target calls: a file with options. What is taken means the same when it is written down again.
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
    let _ = options.peers.as_deref().map(parse_peers);
}

/// `1=HOST:PORT,2=HOST:PORT,...`
fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
    let mut peers = BTreeMap::new();
    for peer in text.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
        let parsed = peer.split_once('=').and_then(|(id, address)| {
            let id = id.trim().parse().ok().filter(|id| *id > 0)?;
            address.rsplit_once(':')?.1.parse::<u16>().ok()?;
            Some((NodeId(id), address.trim().to_owned()))
        });
        let Some((id, address)) = parsed else {
            return Err(Failure::usage(format!(
                "--peers: '{peer}' is not ID=HOST:PORT with an id from 1 on"
            )));
        };
        if peers.insert(id, address).is_some() {
            return Err(Failure::usage(format!("--peers: node {id} is named twice")));
        }
    }
    Ok(peers)
}

/// The first address that `HOST:PORT` stands for.
pub(crate) fn resolve(option: &str, address: &str) -> Result<SocketAddr, Failure> {
    use std::net::ToSocketAddrs;
    let fail = |problem: String| Failure::usage(format!("--{option} {address}: {problem}"));
    let mut addresses = address.to_socket_addrs().map_err(|error| fail(error.to_string()))?;
    addresses.next().ok_or_else(|| fail(String::from("the name has no address")))
}

fn required<T>(option: Option<T>, name: &str) -> Result<T, Failure> {
    let variable = name.to_uppercase().replace('-', "_");
    option.ok_or_else(|| {
        Failure::usage(format!(
            "--{name} is missing: give it as a flag, as {name} in the --config file, or as PAXOS_{variable}"
        ))
    })
}

fn ticks(settings: &NodeSettings, period: Option<Period>, default: u32) -> u32 {
    let ticks = |Period(period)| period.as_nanos().div_ceil(settings.tick.as_nanos());
    period.map_or(default, |period| u32::try_from(ticks(period)).unwrap_or(u32::MAX / 4))
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_once_each_with_an_address() {
        let peers = parse_peers("1=a:1, 22=[::1]:9").expect("well formed");
        assert_eq!(peers[&NodeId(22)], "[::1]:9");
        for wrong in ["1", "1=a", "0=a:1", "x=a:1", "1=a:1,1=b:1", "1=a:99999"] {
            assert!(parse_peers(wrong).is_err(), "{wrong}");
        }
    }

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
