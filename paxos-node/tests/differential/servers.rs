//! The two servers.

use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paxos_core::NodeId;
use paxos_node::fronts::resp;
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

/// A `redis-server` that keeps nothing.
pub(crate) struct Redis {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Redis {
    /// Starts it; `None` if there is none.
    pub(crate) fn start() -> Option<Redis> {
        let is_there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if !is_there.is_ok_and(|status| status.success()) {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        loop {
            // Below the ports that the system hands out.
            let port = fastrand::u16(10_000..32_000);
            if StdListener::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            let mut command = Command::new("redis-server");
            command.args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command
                .args(["--databases", "1", "--slowlog-log-slower-than", "-1", "--dir"])
                .arg(directory.path());
            let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            let mut redis = Redis { process, port, _directory: directory };
            redis.wait();
            return Some(redis);
        }
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).is_err() {
            assert!(
                self.process.try_wait().expect("it can be waited for").is_none(),
                "redis-server has ended"
            );
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended.
        let _ = self.process.wait();
    }
}

/// A cluster of one node with its front.
pub(crate) struct Ours {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    front: JoinHandle<std::io::Result<()>>,
    node: Node<Store>,
}

impl Ours {
    pub(crate) async fn start() -> Ours {
        let id = NodeId(1);
        let settings = NodeSettings::new(id, vec![id]).with(|settings| settings.writer = WriterMode::Inline);
        let transport = Box::new(MemoryNetwork::new().bind(id));
        let storage = Box::new(MemoryStorage::new(Identity::new("differential", id)));
        let node = Node::start(settings, transport, storage, Store::default()).expect("the node starts");
        let mut status = node.status();
        let leads = status.wait_for(paxos_node::Status::is_ready);
        tokio::time::timeout(PATIENCE, leads).await.expect("it leads in time").expect("it runs");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = watch::channel(false);
        let front =
            tokio::spawn(resp::serve(listener, node.client(), resp::RespSettings::default(), stopped));
        Ours { address, stop, front, node }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn stop(self) {
        self.stop.send(true).expect("the front listens");
        self.front.await.expect("it ends").expect("and well");
        self.node.stop().await.expect("the node stops");
    }
}
