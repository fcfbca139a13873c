//! `paxos-node serve`: runs one node until it is told to stop.

use std::io;
use std::pin::pin;
use std::time::Duration;

use paxos_core::NodeId;
use paxos_node::backends::BackendError;
#[cfg(any(feature = "file", feature = "memory"))]
use paxos_node::backends::StorageKind;
use paxos_node::fronts::operator::OperatorSettings;
use paxos_node::fronts::resp::Ports;
use paxos_node::fronts::{http, operator, resp};
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, NodeStart, Recovering};
use paxos_storage::Storage;
use paxos_transport::calls::{self, CallSender};
use paxos_transport::{NetworkConfig, SharedIdentity, TlsIdentity, Transport};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::Failure;
use super::descriptors::{self, Demand};
use super::join;
use super::options::Serve;
use super::reread::{self, ClientExpiry, Source};
use super::runtime::{self, StopSignals};
use super::supervisor::Supervisor;
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

/// Runs a node from its start to its end; a signal ends it at any time, also while it waits for a disk or for
/// other nodes.
async fn run_node(serve: Serve) -> Result<(), Failure> {
    let id = serve.settings.node;
    let mut stop_signals = StopSignals::register()?;
    let stop_with_stdin = serve.stop_with_stdin;
    let mut stopping = pin!(told_to_stop(&mut stop_signals, stop_with_stdin));
    let opening = tokio::task::spawn_blocking(move || open_storage(&serve).map(|opened| (serve, opened)));
    let (serve, opened) = tokio::select! {
        opened = opening => opened.map_err(Failure::other)??,
        () = &mut stopping => {
            say_stopped(id);
            return Ok(());
        }
    };
    let (stop_fronts, fronts_stop) = watch::channel(false);
    let mut fronts = Fronts::open(&serve, &opened.1, fronts_stop).await?;
    let mut running = None;
    let supervisor = Supervisor::of_environment();
    let telling = tell_supervisor(supervisor.as_ref(), &fronts);
    let life = live(serve, opened, &mut fronts, &mut running);
    let failed = tokio::select! {
        error = life => Some(error),
        () = stopping => None,
        () = telling => unreachable!("it goes on as long as it is asked to"),
    };
    if let Some(supervisor) = &supervisor {
        supervisor.stopping();
    }
    let _ = stop_fronts.send(true);
    let _ = tokio::time::timeout(resp::SHUTDOWN_TIMEOUT, fronts.ended()).await;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let Some(node) = running {
        node.stop().await?;
    }
    say_stopped(id);
    Ok(())
}

fn say_stopped(id: NodeId) {
    say!("node {id} has stopped");
}

/// The node's life from the look-up of its members on; returns why it has ended by itself. The node is left
/// in `running`, so that it can be stopped.
async fn live(
    mut serve: Serve,
    (storage, cluster): (Box<dyn Storage>, String),
    fronts: &mut Fronts,
    running: &mut Option<Node<Store>>,
) -> Failure {
    let started = start(&mut serve, storage, cluster.clone(), fronts).await;
    let node = match started {
        Ok(node) => running.insert(node),
        Err(failure) => return failure,
    };
    if let Err(error) = node.recovered().await {
        return error.into();
    }
    let id = serve.settings.node;
    let (clients, http) = (clients_in_words(&serve), serve.http);
    let memory = serve.settings.memory_limit_bytes;
    let memory = memory.map_or_else(|| String::from("any amount"), |bytes| format!("{} MiB", bytes >> 20));
    say!(
        "node {id} of cluster {cluster} serves Redis clients on {clients} and HTTP on {http}, within {memory} of memory"
    );
    node.failed().await.into()
}

/// Learns who the members are, and starts the node.
async fn start(
    serve: &mut Serve,
    storage: Box<dyn Storage>,
    cluster: String,
    fronts: &mut Fronts,
) -> Result<Node<Store>, Failure> {
    let Some((node, identity)) = fronts.to_start.take() else { unreachable!("a node is started once") };
    if !serve.join.is_empty() {
        node.show(Recovering::Joining);
    }
    join::look_up_members(serve, storage.as_ref(), &cluster).await?;
    let (calls_from, calls) = calls::channel();
    let transport = bind_transport(serve, identity, calls_from).await?;
    let settings = node_settings(serve, &cluster)?;
    let operators = OperatorSettings::default().with(|operators| {
        operators.cluster = cluster;
        operators.addresses.clone_from(&settings.addresses);
        operators.backup_directory = backup_directory(serve);
    });
    let node = node.start(settings, transport, storage)?;
    fronts.tasks.spawn(operator::serve(calls, node.client(), operators, fronts.stop.clone()));
    Ok(node)
}

fn node_settings(serve: &Serve, cluster: &str) -> Result<NodeSettings, Failure> {
    let mut settings = serve.settings.clone();
    // Commands may be applied inline, as the store bounds the work of each.
    settings.applying = paxos_node::ApplyMode::Inline;
    settings.turn_limit = turn_limit()?;
    settings.cluster = Some(cluster.to_owned());
    if !serve.storage.blocks() {
        settings.writer = paxos_node::WriterMode::Inline;
    }
    #[cfg(feature = "file")]
    if let Some(data) = serve.data.as_ref().filter(|_| serve.storage == StorageKind::File) {
        // A log that filled its volume before the first snapshot could never be trimmed.
        let most = paxos_storage::file::volume_bytes(data)? / 8;
        settings.snapshot_after_bytes = settings.snapshot_after_bytes.min(most);
    }
    Ok(settings)
}

/// What clients, people and programs talk to. It answers from the start on, and says what the node waits for.
struct Fronts {
    /// The node, until it is started, and the certificate that it shows its peers.
    to_start: Option<(NodeStart<Store>, SharedIdentity)>,
    tasks: JoinSet<()>,
    /// Tasks that do not end by themselves.
    forever: Vec<AbortHandle>,
    stop: watch::Receiver<bool>,
}

impl Fronts {
    async fn open(serve: &Serve, cluster: &str, stop: watch::Receiver<bool>) -> Result<Fronts, Failure> {
        let id = serve.settings.node;
        let front = resp::RespSettings { max_clients: share_descriptors(serve)?, ..serve.front };
        let hangups = runtime::hangups()?;
        let (identity, of_node) = Source::of_node(&serve.certs, id, cluster)?;
        let mut sources = vec![of_node];
        let ports = open_ports(serve, &mut sources).await?;
        let web = listen("http", serve.http).await?;
        let recorder = http::recorder(id);
        let metrics = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(Failure::other)?;
        crate::runtime::metrics::describe_program();
        crate::runtime::metrics::show_node(cluster, serve.transport.name(), serve.storage.name());
        let node = NodeStart::new(&serve.settings, Store::default());
        let mut tasks = JoinSet::new();
        let redis = resp::serve_on(ports, node.client(), front, stop.clone());
        tasks.spawn(async { tell_end("Redis clients", redis.await) });
        let web = http::serve(web, node.client(), metrics, stop.clone());
        tasks.spawn(async { tell_end("HTTP clients", web.await) });
        let own_certificate = serve.certs.join(format!("node-{id}.pem"));
        let certificate = serve.client_tls.as_ref().map(|(_, files)| files.certificate.clone());
        let expiry = ClientExpiry::new(certificate.filter(|file| *file != own_certificate));
        let rereading = tokio::spawn(reread::run(id, sources, expiry, serve.log_file.clone(), hangups));
        let watching = watch_space(serve);
        let forever = [Some(rereading.abort_handle()), watching].into_iter().flatten().collect();
        Ok(Fronts { to_start: Some((node, identity)), tasks, forever, stop })
    }

    /// Waits for those who were told to stop.
    async fn ended(mut self) {
        self.forever.iter().for_each(AbortHandle::abort);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Tells the service manager how the node is, if there is one; never ends.
fn tell_supervisor<'a>(
    supervisor: Option<&'a Supervisor>,
    fronts: &Fronts,
) -> impl Future<Output = ()> + use<'a> {
    let client = fronts.to_start.as_ref().map(|(node, _)| node.client());
    async move {
        if let (Some(supervisor), Some(client)) = (supervisor, client) {
            supervisor.watch(client).await;
        }
        std::future::pending::<()>().await;
    }
}

/// Starts to watch the space of the data directory, if there is one.
#[allow(unused_variables, reason = "without a storage in files there is no directory")]
fn watch_space(serve: &Serve) -> Option<AbortHandle> {
    #[cfg(feature = "file")]
    if let Some(data) = serve.data.clone().filter(|_| serve.storage == StorageKind::File) {
        return Some(tokio::spawn(super::space::watch(data)).abort_handle());
    }
    None
}

fn tell_end(clients: &str, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "{clients} are served no longer");
    }
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

/// Whether a data directory is that of the node and the cluster that the options name.
#[cfg(feature = "file")]
pub(super) fn check_identity(
    serve: &Serve,
    data: &std::path::Path,
    identity: &paxos_storage::Identity,
) -> Result<(), Failure> {
    let id = serve.settings.node;
    let cluster = serve.cluster.as_deref().unwrap_or(identity.cluster());
    if identity.node() == id && identity.cluster() == cluster {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} belongs to node {} of cluster {}, not to node {id} of cluster {cluster}: name the right --data or --id",
        data.display(),
        identity.node(),
        identity.cluster(),
    )))
}

#[cfg(feature = "file")]
fn open_file(serve: &Serve) -> Result<(Box<dyn Storage>, String), Failure> {
    use paxos_storage::file::{FileSettings, FileStorage};
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
    check_identity(serve, data, identity)?;
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
