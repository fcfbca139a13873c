//! `paxos-node local`: a whole cluster on this machine, each node a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use paxos_core::NodeId;
use paxos_transport::certs;

use super::Failure;
use super::options::{LogFormat, LogOptions};
use super::runtime::{self, StopSignals};
use super::terminal::{self, say};

const CLUSTER: &str = "local";
/// The exit code of a node that was removed from the cluster.
const REMOVED: i32 = 5;
/// A node that has died is started again after this time.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long nodes may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the cluster may take to find a leader before that is reported.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Run a whole cluster on this machine.
///
/// Each node is a process of its own, which you can kill, pause and watch. A node that dies is started again.
/// Ctrl-C stops all.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// The directory for the nodes' data [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The first node's port for Redis clients; the others follow.
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    client_port: u16,
    /// The first node's port for HTTP; the others follow.
    #[arg(long, value_name = "PORT", default_value_t = 8001)]
    http_port: u16,
    /// The first node's port for its peers; the others follow.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    peer_port: u16,
    /// What carries messages between the nodes.
    #[arg(long, default_value = "quic")]
    transport: String,
}

pub(crate) fn run(arguments: &Arguments, log: &LogOptions) -> Result<(), Failure> {
    terminal::queue_output().map_err(Failure::other)?;
    check_ports(arguments)?;
    let temporary = match &arguments.data {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("paxos-local-").tempdir().map_err(Failure::other)?),
    };
    let data = arguments.data.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
    let data = data.ok_or_else(|| Failure::other("there is no directory for the data"))?;
    prepare(arguments, data)?;
    runtime::single_threaded()?.block_on(supervise(arguments, data, log))
}

/// Makes the certificates and a formatted directory for each node, unless they exist.
fn prepare(arguments: &Arguments, data: &Path) -> Result<(), Failure> {
    let ids: Vec<NodeId> = (1..=u64::from(arguments.nodes)).map(NodeId).collect();
    let certificates = data.join("certs");
    if !certificates.exists() {
        certs::write_cluster(&certificates, CLUSTER, &ids, &[]).map_err(Failure::usage)?;
    } else if !certificates.join("admin.pem").exists() {
        certs::write_cluster(&certificates, CLUSTER, &[], &[]).map_err(Failure::usage)?;
    }
    for id in ids {
        let directory = node_directory(data, id.0);
        if !directory.exists() {
            super::format::format(&directory, CLUSTER, id)?;
        } else if !certificates.join(format!("node-{id}.pem")).exists() {
            let place = data.display();
            return Err(Failure::usage(format!(
                "{place} was made for fewer nodes: use the same --nodes as then"
            )));
        }
    }
    Ok(())
}

async fn supervise(arguments: &Arguments, data: &Path, log: &LogOptions) -> Result<(), Failure> {
    let mut stop_signals = StopSignals::register()?;
    let mut nodes = Vec::new();
    for id in 1..=u64::from(arguments.nodes) {
        let command = serve_command(arguments, data, id, log)?;
        nodes.push(Running { id, child: start(command)?, fate: Fate::Runs });
    }
    let mut announced = false;
    let started = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            () = stop_signals.received() => break,
            _ = clock.tick() => {}
        }
        for node in &mut nodes {
            node.look_after(|id| start(serve_command(arguments, data, id, log)?))?;
        }
        if !announced && (is_ready(arguments) || started.elapsed() > START_TIMEOUT) {
            announced = true;
            announce(arguments, data, &nodes);
        }
    }
    say!("stopping {} nodes", nodes.len());
    stop(nodes).await;
    say!("stopped");
    Ok(())
}

/// A node's process.
struct Running {
    id: u64,
    child: Child,
    fate: Fate,
}

/// What has become of a node's process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    /// It is started again some time after it has died.
    DiedAt(Instant),
    /// It has ended because the node is no member any more, and is not started again.
    Removed,
}

impl Running {
    /// Starts the node again some time after it has died, unless it refuses to run at all.
    fn look_after(&mut self, start: impl Fn(u64) -> Result<Child, Failure>) -> Result<(), Failure> {
        match self.fate {
            Fate::Runs => {
                if let Ok(Some(status)) = self.child.try_wait() {
                    if status.code() == Some(REMOVED) {
                        say!("node {} was removed from the cluster, and has ended", self.id);
                        self.fate = Fate::Removed;
                        return Ok(());
                    }
                    say!("node {} has died ({status}); starting it again", self.id);
                    self.fate = Fate::DiedAt(Instant::now());
                    if matches!(status.code(), Some(2..=4)) {
                        return Err(Failure::other(format!(
                            "node {} does not run; see above for why",
                            self.id
                        )));
                    }
                }
            }
            Fate::DiedAt(died_at) if died_at.elapsed() >= RESTART_PAUSE => {
                self.child = start(self.id)?;
                self.fate = Fate::Runs;
                say!("node {} runs again as process {}", self.id, self.child.id());
            }
            Fate::DiedAt(_) | Fate::Removed => {}
        }
        Ok(())
    }
}

fn start(mut command: Command) -> Result<Child, Failure> {
    let mut child = command.spawn().map_err(Failure::other)?;
    // Its output appears after ours, in whole lines.
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).for_each(drop));
    }
    Ok(child)
}

fn serve_command(arguments: &Arguments, data: &Path, id: u64, log: &LogOptions) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(Failure::other)?;
    let mut command = Command::new(program);
    command.arg("serve").args(serve_arguments(arguments, data, id)).arg("--stop-with-stdin");
    if let Some(filter) = &log.log {
        command.args(["--log", filter]);
    }
    if matches!(log.log_format, Some(LogFormat::Json)) {
        command.args(["--log-format", "json"]);
    }
    // The pipe on standard input ends when this process does, however that happens.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

fn serve_arguments(arguments: &Arguments, data: &Path, id: u64) -> Vec<String> {
    let peers: Vec<String> = (1..=u64::from(arguments.nodes))
        .map(|id| format!("{id}=127.0.0.1:{}", port(arguments.peer_port, id)))
        .collect();
    let path = |path: PathBuf| path.display().to_string();
    [
        ("--id", id.to_string()),
        ("--peers", peers.join(",")),
        ("--client", format!("127.0.0.1:{}", port(arguments.client_port, id))),
        ("--http", format!("127.0.0.1:{}", port(arguments.http_port, id))),
        ("--data", path(node_directory(data, id))),
        ("--certs", path(data.join("certs"))),
        ("--transport", arguments.transport.clone()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

/// Asks all to stop, waits, and kills those that do not.
async fn stop(mut nodes: Vec<Running>) {
    for node in &mut nodes {
        let process = i32::try_from(node.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(process) = process.filter(|_| node.fate == Fate::Runs) {
            // A node that is gone already needs no signal.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    for node in &mut nodes {
        while matches!(node.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                say!("node {} does not stop; killing it", node.id);
                let _ = node.child.kill();
                let _ = node.child.wait();
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_ready(arguments: &Arguments) -> bool {
    let timeout = Some(Duration::from_millis(200));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(timeout).build().into();
    (1..=u64::from(arguments.nodes)).all(|id| {
        agent.get(format!("http://127.0.0.1:{}/readyz", port(arguments.http_port, id))).call().is_ok()
    })
}

fn announce(arguments: &Arguments, data: &Path, nodes: &[Running]) {
    say!("a cluster of {} nodes runs on this machine:\n", nodes.len());
    say!("  {:<6} {:<10} {:<18} {:<18} data", "node", "process", "redis", "http");
    for node in nodes {
        let redis = format!("127.0.0.1:{}", port(arguments.client_port, node.id));
        let http = format!("127.0.0.1:{}", port(arguments.http_port, node.id));
        let directory = node_directory(data, node.id);
        say!("  {:<6} {:<10} {redis:<18} {http:<18} {}", node.id, node.child.id(), directory.display());
    }
    let all_http: Vec<String> =
        nodes.iter().map(|node| format!("127.0.0.1:{}", port(arguments.http_port, node.id))).collect();
    say!("\ntype next, in another terminal:\n");
    say!("  redis-cli -p {} set greeting hello", port(arguments.client_port, 1));
    say!("  redis-cli -p {} get greeting", port(arguments.client_port, u64::from(arguments.nodes)));
    say!("  paxos-node status {}", all_http.join(","));
    let (first, certs) = (port(arguments.peer_port, 1), data.join("certs"));
    say!("  paxos-node member list --via 127.0.0.1:{first} --certs {}", certs.display());
    if let Some(first) = nodes.first() {
        say!("  kill -9 {}            (the others go on; the node is started again)", first.child.id());
    }
    let fate =
        if arguments.data.is_some() { "is kept" } else { "is removed then; name --data DIR to keep it" };
    say!("\nCtrl-C stops the cluster; its data {fate}.");
}

/// Checks that all ports are free before any node is started.
fn check_ports(arguments: &Arguments) -> Result<(), Failure> {
    for (option, first) in [
        ("client-port", arguments.client_port),
        ("http-port", arguments.http_port),
        ("peer-port", arguments.peer_port),
    ] {
        for id in 1..=u64::from(arguments.nodes) {
            let address = ("127.0.0.1", port(first, id));
            let bound = if option == "peer-port" {
                UdpSocket::bind(address).map(drop)
            } else {
                TcpListener::bind(address).map(drop)
            };
            if let Err(error) = bound {
                let port = address.1;
                return Err(Failure::usage(format!("port {port}: {error}; choose others with --{option}")));
            }
        }
    }
    Ok(())
}

fn port(first: u16, id: u64) -> u16 {
    first.saturating_add(u16::try_from(id - 1).unwrap_or(u16::MAX))
}

fn node_directory(data: &Path, id: u64) -> PathBuf {
    data.join(format!("node-{id}"))
}
