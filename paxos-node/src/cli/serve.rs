//! `paxos-node serve`: one node, until it is told to stop.

use paxos_node::kv::Store;
use paxos_node::{Node, http, resp};
use paxos_storage::Storage;
use paxos_transport::Transport;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Failure;
use super::options::Serve;
use super::runtime::{self, StopSignals};

/// Runs the node on one thread: driver, peers and clients share it, so that no command crosses threads but to
/// the disk and back.
pub(crate) fn run(serve: Serve) -> Result<(), Failure> {
    let runtime = runtime::single_threaded()?;
    let result = runtime.block_on(run_node(serve));
    runtime.shutdown_background();
    result
}

async fn run_node(serve: Serve) -> Result<(), Failure> {
    let id = serve.settings.node;
    let (storage, cluster) = open_storage(&serve)?;
    let clients = listen("client", serve.client).await?;
    let web = listen("http", serve.http).await?;
    let transport = bind_transport(&serve, &cluster).await?;
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(Failure::other)?;

    let mut stop_signals = StopSignals::register()?;
    let mut settings = serve.settings;
    if serve.storage == super::options::StorageKind::Memory {
        settings.writer = paxos_node::WriterMode::Inline;
    }
    let mut node = Node::start(settings, transport, storage, Store::default())?;
    let (stop_fronts, stopped) = watch::channel(false);
    let options = resp::Options {
        max_value_bytes: serve.max_value_bytes,
        max_clients: serve.max_clients,
        ..resp::Options::default()
    };
    let resp_front = tokio::spawn(resp::serve(clients, node.client(), options, stopped.clone()));
    let http_front = tokio::spawn(http::serve(web, node.client(), metrics, stopped));
    println!(
        "node {id} of cluster {cluster} serves Redis clients on {} and HTTP on {}",
        serve.client, serve.http
    );

    let failed = tokio::select! {
        error = node.failed() => Some(error),
        () = stop_signals.received() => None,
        () = stdin_end(), if serve.stop_with_stdin => None,
    };
    let _ = stop_fronts.send(true);
    for front in [resp_front, http_front] {
        let _ = tokio::time::timeout(resp::SHUTDOWN_TIMEOUT, front).await;
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    node.stop().await?;
    println!("node {id} has stopped");
    Ok(())
}

/// Opens the storage; it also knows the name of the cluster.
fn open_storage(serve: &Serve) -> Result<(Box<dyn Storage>, String), Failure> {
    match serve.storage {
        #[cfg(feature = "file")]
        super::options::StorageKind::File => open_file(serve),
        #[cfg(feature = "memory")]
        super::options::StorageKind::Memory => {
            let cluster = serve.cluster.clone().unwrap_or_else(|| String::from("paxos"));
            eprintln!(
                "paxos-node: --storage memory: this node loses its log when it stops and must then not come \
                 back under its id; use it to measure, not to keep data"
            );
            let identity = paxos_storage::Identity::new(&cluster, serve.settings.node);
            Ok((Box::new(paxos_storage::memory::MemoryStorage::new(identity)), cluster))
        }
        #[allow(unreachable_patterns, reason = "reached only if a storage is left out of the build")]
        other => Err(Failure::usage(format!("this program was built without --storage {other:?}"))),
    }
}

#[cfg(feature = "file")]
fn open_file(serve: &Serve) -> Result<(Box<dyn Storage>, String), Failure> {
    use paxos_storage::file::{FileStorage, Options};
    let id = serve.settings.node;
    let mut options = Options::default();
    if let Some(segment_bytes) = serve.segment_bytes {
        options.segment_bytes = segment_bytes;
    }
    let data = serve.data.as_ref().ok_or_else(|| Failure::usage("--data is missing"))?;
    let storage = FileStorage::open(data, options)?;
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

async fn bind_transport(serve: &Serve, cluster: &str) -> Result<Box<dyn Transport>, Failure> {
    match serve.transport {
        #[cfg(feature = "quic")]
        super::options::TransportKind::Quic => {
            let config = network_config(serve, cluster)?;
            let transport = paxos_transport::quic::bind(config).await.map_err(Failure::usage)?;
            Ok(Box::new(transport))
        }
        #[cfg(feature = "tcp")]
        super::options::TransportKind::Tcp => {
            let config = network_config(serve, cluster)?;
            let transport = paxos_transport::tcp::bind(config).await.map_err(Failure::usage)?;
            Ok(Box::new(transport))
        }
        #[allow(unreachable_patterns, reason = "reached only if a transport is left out of the build")]
        other => Err(Failure::usage(format!(
            "this program was built without --transport {other:?}, so it can't join cluster {cluster}"
        ))),
    }
}

#[cfg(any(feature = "quic", feature = "tcp"))]
fn network_config(serve: &Serve, cluster: &str) -> Result<paxos_transport::NetworkConfig, Failure> {
    use paxos_transport::{NetworkConfig, TlsIdentity};
    let id = serve.settings.node;
    let identity = TlsIdentity::load(&serve.certs, id, cluster).map_err(Failure::usage)?;
    let mut config = NetworkConfig::new(id, serve.listen, serve.peers.clone(), identity);
    config.max_frame_bytes = config.max_frame_bytes.max(2 * serve.settings.protocol.command_bytes);
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
