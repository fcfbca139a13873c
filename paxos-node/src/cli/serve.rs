//! `paxos-node serve`: runs one node until it is told to stop.

use std::time::Duration;

use paxos_node::Node;
use paxos_node::backends::BackendError;
#[cfg(any(feature = "file", feature = "memory"))]
use paxos_node::backends::StorageKind;
use paxos_node::fronts::operator::OperatorSettings;
use paxos_node::fronts::resp::Ports;
use paxos_node::fronts::{http, operator, resp};
use paxos_node::kv::Store;
use paxos_storage::Storage;
use paxos_transport::calls::{self, CallSender};
use paxos_transport::{NetworkConfig, SharedIdentity, TlsIdentity, Transport};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Failure;
use super::descriptors::{self, Demand};
use super::join;
use super::options::Serve;
use super::reread::{self, ClientExpiry, Source};
use super::runtime::{self, StopSignals};
use super::terminal::{self, say};

/// How many connections of peers may be in their TLS handshake: each takes a file descriptor with
/// `--transport tcp`.
const MAX_HANDSHAKES: usize = 32;

/// An environment variable for tests, which is no option of the program.
const TURN_LIMIT: &str = "PAXOS_TEST_TURN_LIMIT";

/// Runs the node on one thread, which driver, peers and clients share: a command crosses threads only to the
/// disk and back.
pub(crate) fn run(serve: Serve) -> Result<(), Failure> {
    terminal::queue_output().map_err(Failure::other)?;
    let runtime = runtime::single_threaded()?;
    let result = runtime.block_on(run_node(serve));
    runtime.shutdown_background();
    result
}

async fn run_node(mut serve: Serve) -> Result<(), Failure> {
    let id = serve.settings.node;
    let front = resp::RespSettings { max_clients: share_descriptors(&serve)?, ..serve.front };
    let (storage, cluster) = open_storage(&serve)?;
    let mut stop_signals = StopSignals::register()?;
    let hangups = runtime::hangups()?;
    let stop_with_stdin = serve.stop_with_stdin;
    tokio::select! {
        joined = join::look_up_members(&mut serve, storage.as_ref(), &cluster) => joined?,
        () = told_to_stop(&mut stop_signals, stop_with_stdin) => {
            say!("node {id} has stopped");
            return Ok(());
        }
    }
    let (identity, of_node) = Source::of_node(&serve.certs, id, &cluster)?;
    let mut sources = vec![of_node];
    let ports = open_ports(&serve, &mut sources).await?;
    let web = listen("http", serve.http).await?;
    let (calls_from, calls) = calls::channel();
    let transport = bind_transport(&serve, identity, calls_from).await?;
    let recorder = http::recorder();
    let metrics = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(Failure::other)?;

    let mut settings = serve.settings.clone();
    // Commands may be applied inline, as the store bounds the work of each.
    settings.applying = paxos_node::ApplyMode::Inline;
    settings.turn_limit = turn_limit()?;
    settings.cluster = Some(cluster.clone());
    if !serve.storage.blocks() {
        settings.writer = paxos_node::WriterMode::Inline;
    }
    #[cfg(feature = "file")]
    if let Some(data) = serve.data.as_ref().filter(|_| serve.storage == StorageKind::File) {
        // A log that filled its volume before the first snapshot could never be trimmed.
        let most = paxos_storage::file::volume_bytes(data)? / 8;
        settings.snapshot_after_bytes = settings.snapshot_after_bytes.min(most);
    }
    let memory_limit = settings.memory_limit_bytes;
    let operators = OperatorSettings::default().with(|operators| {
        operators.cluster.clone_from(&cluster);
        operators.addresses.clone_from(&settings.addresses);
        operators.backup_directory = backup_directory(&serve);
    });
    let mut node = Node::start(settings, transport, storage, Store::default())?;
    let (stop_fronts, stopped) = watch::channel(false);
    let resp_front = tokio::spawn(resp::serve_on(ports, node.client(), front, stopped.clone()));
    let http_front = tokio::spawn(http::serve(web, node.client(), metrics, stopped.clone()));
    let operator_front = tokio::spawn(operator::serve(calls, node.client(), operators, stopped));
    let own_certificate = serve.certs.join(format!("node-{id}.pem"));
    let certificate = serve.client_tls.as_ref().map(|(_, files)| files.certificate.clone());
    let expiry = ClientExpiry::new(certificate.filter(|file| *file != own_certificate));
    let rereading = tokio::spawn(reread::run(id, sources, expiry, serve.log_file.clone(), hangups));
    let life = async {
        if let Err(error) = node.recovered().await {
            return error;
        }
        let (clients, http) = (clients_in_words(&serve), serve.http);
        let memory =
            memory_limit.map_or_else(|| String::from("any amount"), |bytes| format!("{} MiB", bytes >> 20));
        say!(
            "node {id} of cluster {cluster} serves Redis clients on {clients} and HTTP on {http}, within {memory} of memory"
        );
        node.failed().await
    };
    let failed = tokio::select! {
        error = life => Some(error),
        () = told_to_stop(&mut stop_signals, stop_with_stdin) => None,
    };
    rereading.abort();
    let _ = stop_fronts.send(true);
    let fronts = async { tokio::join!(resp_front, http_front, operator_front) };
    let _ = tokio::time::timeout(resp::SHUTDOWN_TIMEOUT, fronts).await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    node.stop().await?;
    say!("node {id} has stopped");
    Ok(())
}

/// Where a backup is kept while it is fetched: beside the log, if there is one on a disk.
fn backup_directory(serve: &Serve) -> std::path::PathBuf {
    match serve.storage {
        #[cfg(feature = "file")]
        StorageKind::File => serve.data.clone().unwrap_or_default(),
        #[allow(unreachable_patterns, reason = "reached only if there are other storages")]
        _ => std::path::PathBuf::new(),
    }
}

/// Opens the ports for Redis clients, and adds the files that they use to `sources`.
async fn open_ports(serve: &Serve, sources: &mut Vec<Source>) -> Result<Ports, Failure> {
    let mut ports = Ports::default();
    if let Some(file) = &serve.users {
        let (users, source) = Source::of_users(file)?;
        if users.is_empty() {
            tracing::warn!(file = %file.display(), "there are no users, so no client can do anything");
        }
        ports.users = Some(users);
        sources.push(source);
    }
    if let Some((address, files)) = &serve.client_tls {
        let (tls, source) = Source::of_clients(files)?;
        ports.tls = Some((listen("client-tls", *address).await?, tls));
        sources.push(source);
    }
    if let Some(address) = serve.client {
        ports.plain = Some(listen("client", address).await?);
    }
    Ok(ports)
}

/// Where Redis clients come in.
fn clients_in_words(serve: &Serve) -> String {
    let plain = serve.client.map(|address| address.to_string());
    let tls = serve.client_tls.as_ref().map(|(address, _)| format!("{address} (TLS)"));
    plain.into_iter().chain(tls).collect::<Vec<_>>().join(", ")
}

/// Resolves when the node is to stop.
async fn told_to_stop(stop_signals: &mut StopSignals, stop_with_stdin: bool) {
    tokio::select! {
        () = stop_signals.received() => {}
        () = stdin_end(), if stop_with_stdin => {}
    }
}

/// The limit that tests set: see `NodeSettings::turn_limit`.
fn turn_limit() -> Result<Option<Duration>, Failure> {
    let Ok(limit) = std::env::var(TURN_LIMIT) else { return Ok(None) };
    let parsed = humantime::parse_duration(&limit);
    parsed.map(Some).map_err(|error| Failure::usage(format!("{TURN_LIMIT} {limit}: {error}; try 50ms")))
}

/// How many clients may be connected, so that file descriptors are left for everything else.
fn share_descriptors(serve: &Serve) -> Result<usize, Failure> {
    let demand = Demand {
        peers: serve.peers.len().saturating_sub(1),
        handshakes: MAX_HANDSHAKES,
        clients: serve.front.max_clients,
    };
    let share = descriptors::share(demand).map_err(Failure::usage)?;
    if share.clients < serve.front.max_clients {
        tracing::warn!(
            "at most {} clients are served in place of {}: this process may have {} files open, and {} of them are kept \
             for the log, peers and HTTP; raise the limit ('ulimit -n', LimitNOFILE= in a systemd unit) or lower \
             --max-clients",
            share.clients,
            serve.front.max_clients,
            share.limit.unwrap_or(u64::MAX),
            share.reserved,
        );
    }
    Ok(share.clients)
}

/// Opens the storage; also returns the cluster's name, which the storage may know.
fn open_storage(serve: &Serve) -> Result<(Box<dyn Storage>, String), Failure> {
    match serve.storage {
        #[cfg(feature = "file")]
        StorageKind::File => open_file(serve),
        #[cfg(feature = "memory")]
        StorageKind::Memory => {
            let cluster = serve.cluster.clone().unwrap_or_else(|| String::from("paxos"));
            terminal::warn_line(
                "paxos-node: --storage memory: this node loses its log when it stops and must then not come \
                 back under its id; use it to measure, not to keep data",
            );
            let identity = paxos_storage::Identity::new(&cluster, serve.settings.node);
            Ok((Box::new(paxos_storage::memory::MemoryStorage::new(identity)), cluster))
        }
        #[allow(unreachable_patterns, reason = "reached only if a storage is left out of the build")]
        other => Err(Failure::usage(BackendError::NotCompiledIn { name: other.name() })),
    }
}

#[cfg(feature = "file")]
fn open_file(serve: &Serve) -> Result<(Box<dyn Storage>, String), Failure> {
    use paxos_storage::file::{FileSettings, FileStorage};
    let id = serve.settings.node;
    let mut options = FileSettings::default();
    options.segment_bytes = serve.segment_bytes;
    let data = serve.data.as_ref().ok_or_else(|| Failure::usage("--data is missing"))?;
    let storage = FileStorage::open(data, options).map_err(|error| match &error {
        paxos_storage::Error::VolumeTooSmall { limit_bytes, .. } => {
            Failure::usage(format!("{error}; give --segment-bytes {limit_bytes} or less, or a larger volume"))
        }
        _ => error.into(),
    })?;
    let identity = storage.identity();
    let cluster = serve.cluster.clone().unwrap_or_else(|| identity.cluster().to_owned());
    if identity.node() != id || identity.cluster() != cluster {
        return Err(Failure::usage(format!(
            "{} belongs to node {} of cluster {}, not to node {id} of cluster {cluster}: name the right --data or --id",
            data.display(),
            identity.node(),
            identity.cluster(),
        )));
    }
    Ok((Box::new(storage), cluster))
}

async fn bind_transport(
    serve: &Serve,
    identity: SharedIdentity,
    calls: CallSender,
) -> Result<Box<dyn Transport>, Failure> {
    let config = network_config(serve, identity)?.with(|config| config.calls = Some(calls));
    serve.transport.bind(config).await.map_err(|error| not_bound(&error))
}

fn not_bound(error: &BackendError) -> Failure {
    match error {
        BackendError::Transport(paxos_transport::Error::Listen { .. }) => Failure::usage(format!(
            "{error}; --listen names where, if that is not this node's own entry in --peers"
        )),
        other => Failure::usage(other),
    }
}

/// The node's own certificate and key.
pub(super) fn load_identity(serve: &Serve, cluster: &str) -> Result<TlsIdentity, Failure> {
    TlsIdentity::load(&serve.certs, serve.settings.node, cluster).map_err(|error| {
        Failure::usage(format!(
            "{error}; make certificates with 'paxos-node certs', or name their directory with --certs"
        ))
    })
}

fn network_config(serve: &Serve, identity: SharedIdentity) -> Result<NetworkConfig, Failure> {
    let listen = serve
        .listen
        .ok_or_else(|| Failure::usage("--listen is missing: name where peers reach this node"))?;
    let mut config = NetworkConfig::new(serve.settings.node, listen, serve.peers.clone(), identity);
    config.max_frame_bytes = config.max_frame_bytes.max(serve.settings.max_message_bytes());
    config.max_handshakes = MAX_HANDSHAKES;
    Ok(config)
}

async fn listen(option: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    let fail = |error| Failure::usage(format!("--{option} {address}: can't listen there: {error}"));
    TcpListener::bind(address).await.map_err(fail)
}

async fn stdin_end() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(count) if count > 0) {}
}
