//! From the options of `serve`, each perhaps missing, to settings that are complete and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use paxos_core::{NodeId, ReadMode};
use paxos_node::NodeSettings;
use paxos_node::backends::{StorageKind, TransportKind};
use paxos_node::fronts::resp::RespSettings;

use super::{LogOptions, NETWORK_TRANSPORTS, Period, ReadKind, ServeOptions};
use crate::cli::{Failure, listen, memory};

/// The highest limit for values: a value has to fit into a command together with its key.
const MAX_VALUE_BYTES: usize = NodeSettings::MAX_COMMAND_BYTES - (1 << 20);

/// The options of `serve`, complete and checked.
#[derive(Debug)]
#[allow(dead_code, reason = "some are read only by backends that may be left out of the build")]
pub(crate) struct Serve {
    pub(crate) settings: NodeSettings,
    /// Where to listen for peers; `None` for this node's own address among the members.
    pub(crate) listen: Option<SocketAddr>,
    /// The founders' addresses; empty if the data directory or `join` is to tell who the members are.
    pub(crate) peers: BTreeMap<NodeId, String>,
    /// Addresses of members of a running cluster that this node joins.
    pub(crate) join: Vec<String>,
    /// Where Redis clients come in without TLS, if they may.
    pub(crate) client: Option<SocketAddr>,
    /// Where they come in with TLS, if they may, and the files for that.
    pub(crate) client_tls: Option<(SocketAddr, ClientTlsFiles)>,
    /// The file of users.
    pub(crate) users: Option<PathBuf>,
    pub(crate) http: SocketAddr,
    pub(crate) data: Option<PathBuf>,
    pub(crate) certs: PathBuf,
    pub(crate) cluster: Option<String>,
    pub(crate) transport: TransportKind,
    pub(crate) storage: StorageKind,
    /// The front for Redis clients.
    pub(crate) front: RespSettings,
    pub(crate) segment_bytes: u64,
    pub(crate) stop_with_stdin: bool,
    /// The file that says what the log has, if no flag or variable does.
    pub(crate) log_file: Option<PathBuf>,
}

/// The files of a port for clients with TLS.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "without a network the program runs no node")]
pub(crate) struct ClientTlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The CA of clients, if they must show certificates.
    pub(crate) authority: Option<PathBuf>,
}

impl ServeOptions {
    /// Adds the options of the file, checks everything, and starts the log.
    pub(crate) fn resolve(self, log: LogOptions) -> Result<Serve, Failure> {
        let stop_with_stdin = self.stop_with_stdin;
        let log_file = self.config.clone().filter(|_| log.log.is_none());
        let options = self.with_file(log)?;
        crate::cli::logging::start_log(&options.log)?;
        let id = NodeId(required(options.id, "id")?);
        let peers = parse_peers(options.peers.as_deref().unwrap_or_default())?;
        if options.peers.is_some() && !peers.contains_key(&id) {
            return Err(Failure::usage(format!(
                "--peers does not name node {id}; it must list all nodes, this one too"
            )));
        }
        let join = parse_addresses("join", options.join.as_deref().unwrap_or_default())?;
        if options.peers.is_some() && options.join.is_some() {
            return Err(Failure::usage(
                "--peers founds a cluster and --join joins one that runs: give only one of them",
            ));
        }
        let listen = match options.listen.as_deref() {
            None if peers.is_empty() => None,
            given => Some(listen::address(given, id, &peers)?),
        };
        let mut settings = options.node_settings(id, &peers)?;
        let mut front = options.front_settings()?;
        take_values_of(front.max_value_bytes, &mut settings);
        let mut segment_bytes = options.segment_bytes.unwrap_or(64 << 20);
        if let Some(limit) = options.memory_limit()? {
            memory::share(limit, &mut settings, &mut front);
            segment_bytes = memory::segment_bytes(limit, segment_bytes);
        }
        let transport = options.transport.unwrap_or(TransportKind::Quic);
        if !NETWORK_TRANSPORTS.contains(&transport) {
            return Err(Failure::usage(format!(
                "--transport {transport} reaches no other process: use quic or tcp"
            )));
        }
        let storage = options.storage.unwrap_or(StorageKind::File);
        if storage == StorageKind::File && options.data.is_none() {
            return Err(Failure::usage("--data is missing: name a directory made by 'paxos-node format'"));
        }
        let client =
            options.client.as_deref().map(|address| listen::resolve("client", address)).transpose()?;
        let certs = required(options.certs.clone(), "certs")?;
        let client_tls = options.client_tls(id, &certs)?;
        if client.is_none() && client_tls.is_none() {
            return Err(Failure::usage(
                "--client and --client-tls are missing: name where to listen for clients, plainly or with TLS",
            ));
        }
        Ok(Serve {
            settings,
            listen,
            peers,
            join,
            client,
            client_tls,
            users: options.users,
            http: listen::resolve("http", &required(options.http, "http")?)?,
            data: options.data,
            certs,
            cluster: options.cluster,
            transport,
            storage,
            front,
            segment_bytes,
            stop_with_stdin,
            log_file,
        })
    }

    /// Where clients come in with TLS, and by which files.
    fn client_tls(&self, id: NodeId, certs: &Path) -> Result<Option<(SocketAddr, ClientTlsFiles)>, Failure> {
        let Some(address) = &self.client_tls else {
            let given = [("cert", &self.client_cert), ("key", &self.client_key), ("ca", &self.client_ca)];
            return match given.iter().find(|(_, file)| file.is_some()) {
                None => Ok(None),
                Some((name, _)) => Err(Failure::usage(format!(
                    "--client-{name} is for clients with TLS: name where to listen for them with --client-tls"
                ))),
            };
        };
        let (certificate, key) = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (None, None) => (certs.join(format!("node-{id}.pem")), certs.join(format!("node-{id}-key.pem"))),
            (Some(_), None) => {
                return Err(Failure::usage("--client-key is missing: the key of --client-cert"));
            }
            (None, Some(_)) => {
                return Err(Failure::usage("--client-cert is missing: the certificate of --client-key"));
            }
        };
        let files = ClientTlsFiles { certificate, key, authority: self.client_ca.clone() };
        Ok(Some((listen::resolve("client-tls", address)?, files)))
    }

    fn node_settings(&self, id: NodeId, peers: &BTreeMap<NodeId, String>) -> Result<NodeSettings, Failure> {
        let mut settings = NodeSettings::new(id, peers.keys().copied().collect());
        settings.addresses.clone_from(peers);
        if let Some(Period(timeout)) = self.request_timeout {
            settings.request_timeout = timeout;
        }
        settings.protocol.heartbeat_ticks =
            ticks(&settings, self.heartbeat, settings.protocol.heartbeat_ticks);
        settings.protocol.election_timeout_ticks =
            ticks(&settings, self.election_timeout, settings.protocol.election_timeout_ticks);
        if self.reads == Some(ReadKind::Lease) {
            let timeout = settings.protocol.election_timeout_ticks;
            settings.protocol.reads =
                ReadMode::Lease { lease_ticks: timeout - timeout / 10, drift_ticks: timeout / 10 };
        }
        if let Some(window_slots) = self.window_slots {
            settings.protocol.window_slots = window_slots;
        }
        if let Some(bytes) = self.snapshot_after_bytes {
            settings.snapshot_after_bytes = bytes;
        }
        if let Some(Period(time)) = self.busy_poll {
            settings.busy_poll = time;
        }
        if let Some(bytes) = self.retained_bytes {
            settings.protocol.retained_bytes = bytes;
        }
        settings.found_without = parse_ids(self.found_without.as_deref().unwrap_or_default())?;
        Ok(settings)
    }

    fn front_settings(&self) -> Result<RespSettings, Failure> {
        let max_value_bytes = self.max_value_bytes.unwrap_or(1 << 20);
        if !(1..=MAX_VALUE_BYTES).contains(&max_value_bytes) {
            return Err(Failure::usage(format!("--max-value-bytes must be in 1..={MAX_VALUE_BYTES}")));
        }
        let mut front = RespSettings::default().with(|front| front.max_value_bytes = max_value_bytes);
        front.max_clients = self.max_clients.unwrap_or(front.max_clients);
        front.buffer_bytes = self.client_buffer_bytes.unwrap_or(front.buffer_bytes);
        if let Some(Period(silence)) = self.client_keepalive {
            front.keepalive = (!silence.is_zero()).then_some(silence);
        }
        if let Some(Period(silence)) = self.client_idle_timeout {
            front.idle_timeout = (!silence.is_zero()).then_some(silence);
        }
        Ok(front)
    }

    /// The limit of memory in bytes; `None` for no limit.
    fn memory_limit(&self) -> Result<Option<u64>, Failure> {
        match self.memory_limit {
            None => Ok(memory::default_limit().filter(|limit| *limit >= memory::MIN_LIMIT_BYTES)),
            Some(0) => Ok(None),
            Some(limit) if limit < memory::MIN_LIMIT_BYTES => {
                let least = memory::MIN_LIMIT_BYTES;
                Err(Failure::usage(format!("--memory-limit must be at least {least}, or 0 for none")))
            }
            limit => Ok(limit),
        }
    }
}

/// Raises the bounds of the protocol so that a command can hold several values, as in MSET or a transaction.
fn take_values_of(max_value_bytes: usize, settings: &mut NodeSettings) {
    settings.equal.insert(String::from("max_value_bytes"), max_value_bytes.to_string());
    let several = (4 * max_value_bytes).min(NodeSettings::MAX_COMMAND_BYTES);
    settings.protocol.command_bytes = settings.protocol.command_bytes.max(several);
    settings.protocol.queue_bytes = settings.protocol.queue_bytes.max(4 * settings.protocol.command_bytes);
}

/// `1=HOST:PORT,2=HOST:PORT,...`
pub(super) fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, String>, Failure> {
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

/// `HOST:PORT,HOST:PORT,...`
pub(crate) fn parse_addresses(option: &str, text: &str) -> Result<Vec<String>, Failure> {
    let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
    let parse = |address: &str| {
        let parsed =
            address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let fail = || Failure::usage(format!("--{option}: '{address}' is not HOST:PORT"));
        parsed.map(|_| address.to_owned()).ok_or_else(fail)
    };
    addresses.map(parse).collect()
}

/// `1,2,...`
fn parse_ids(text: &str) -> Result<BTreeSet<NodeId>, Failure> {
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    let parse = |id: &str| id.parse().ok().filter(|id| *id > 0).map(NodeId);
    let fail =
        |id: &str| Failure::usage(format!("--found-without: '{id}' is no id of a node; ids start at 1"));
    ids.map(|id| parse(id).ok_or_else(|| fail(id))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_once_each_with_an_address() {
        let peers = parse_peers("1=a:1, 22=[::1]:9").expect("well formed");
        assert_eq!(peers[&NodeId(22)], "[::1]:9");
        assert_eq!(parse_ids("3, 2").expect("well formed"), [2, 3].map(NodeId).into());
        assert!(parse_ids("3,x").is_err() && parse_ids("0").is_err() && parse_ids("").is_ok());
        for wrong in ["1", "1=a", "0=a:1", "x=a:1", "1=a:1,1=b:1", "1=a:99999"] {
            assert!(parse_peers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        let addresses = parse_addresses("join", "a:1, [::1]:9,").expect("well formed");
        assert_eq!(addresses, ["a:1", "[::1]:9"]);
        for wrong in ["a", ":1", "a:x", "a:1,b"] {
            assert!(parse_addresses("join", wrong).is_err(), "{wrong}");
        }
    }
}
