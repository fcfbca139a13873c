//! A transport over Unix sockets, for nodes on one machine:
//! `cargo run --release -p paxos-transport --features certs --example unix`
//!
//! A node has a connection for each lane with each peer. Who dials says which node it is, and which lane the
//! connection is for. It is believed if its process runs under the same user; nothing is encrypted, as
//! nothing leaves the machine.
#![cfg_attr(not(unix), allow(unused))]

mod support;

#[cfg(not(unix))]
fn main() {
    println!("this system has no Unix sockets");
}

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    support::check_and_measure("unix", &mut unix::cluster(), false).await;
}

#[cfg(unix)]
pub(crate) mod unix {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use paxos_core::NodeId;
    use paxos_transport::backend::{Claim, Dialer, Hub, HubConfig, HubTransport, Pulse};
    use paxos_transport::{Error, Lane, Peer, Unreachable};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::Semaphore;
    use tokio::time::{sleep, timeout};

    use super::support::{Bind, Cluster};

    /// How many connections may be about to say who they are; further ones are closed.
    const MAX_GREETINGS: usize = 64;
    const GREETING_TIMEOUT: Duration = Duration::from_secs(1);
    const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
    /// A process that was stopped keeps its connections, but sends nothing.
    const PULSE: Pulse =
        Pulse { interval: Some(Duration::from_secs(1)), timeout: Some(Duration::from_secs(5)) };

    /// Listens on `socket`. The addresses of peers are the paths of their sockets.
    pub(crate) fn bind(config: HubConfig, socket: &Path, peers: &[Peer]) -> Result<HubTransport, Error> {
        // A process that was killed leaves its socket behind.
        let _ = std::fs::remove_file(socket);
        let listen = |error| Error::foreign(format!("can't listen on {}: {error}", socket.display()));
        let listener = UnixListener::bind(socket).map_err(listen)?;
        let dialer = UnixDialer(config.node);
        let (hub, inbox) = Hub::new(config);
        hub.spawn(accept(Arc::clone(&hub), listener));
        HubTransport::start(hub, inbox, dialer, peers).map_err(Error::foreign)
    }

    struct UnixDialer(NodeId);

    #[async_trait]
    impl Dialer for UnixDialer {
        async fn connect(&self, claim: &Claim) -> Unreachable {
            let path = claim.link().address();
            match dial(self.0, claim.lanes()[0], Path::new(&path)).await {
                Ok(stream) => carry(claim, stream).await,
                Err(error) => Unreachable::Foreign { problem: format!("can't connect to {path}: {error}") },
            }
        }
    }

    async fn dial(own: NodeId, lane: Lane, path: &Path) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_u64(own.0).await?;
        stream.write_u8(lane as u8).await?;
        Ok(stream)
    }

    async fn accept(hub: Arc<Hub>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(MAX_GREETINGS));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await; // There may be too many open files.
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let serving = Arc::clone(&hub);
            hub.spawn(async move {
                if let Ok(Ok((stream, node, lane))) = timeout(GREETING_TIMEOUT, greet(stream)).await {
                    let carry = |claim: Arc<Claim>| async move { carry(&claim, stream).await };
                    // A connection that is refused is closed.
                    let _ = serving.serve(node, &[lane], carry);
                }
                drop(place);
            });
        }
    }

    /// Finds out who has dialed.
    async fn greet(mut stream: UnixStream) -> io::Result<(UnixStream, NodeId, Lane)> {
        let own_user = UnixStream::pair()?.0.peer_cred()?.uid();
        if stream.peer_cred()?.uid() != own_user {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let node = NodeId(stream.read_u64().await?);
        let lane = Lane::ALL.get(usize::from(stream.read_u8().await?));
        Ok((stream, node, *lane.ok_or(io::ErrorKind::InvalidData)?))
    }

    async fn carry(claim: &Claim, stream: UnixStream) -> Unreachable {
        let (mut reader, mut writer) = stream.into_split();
        claim.carry(&mut reader, &mut writer, PULSE).await
    }

    /// Gives each node a socket in a directory.
    pub(crate) struct UnixSockets {
        directory: TempDir,
        given: AtomicUsize,
    }

    pub(crate) fn cluster() -> Cluster<UnixSockets> {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        Cluster::new(UnixSockets { directory, given: AtomicUsize::new(0) }, 5 << 20)
    }

    #[async_trait]
    impl Bind for UnixSockets {
        async fn bind(&self, config: HubConfig, path: &str, peers: &[Peer]) -> Result<HubTransport, Error> {
            bind(config, Path::new(path), peers)
        }

        fn free_address(&self) -> String {
            let name = format!("{}.sock", self.given.fetch_add(1, Ordering::Relaxed));
            self.directory.path().join(name).display().to_string()
        }
    }
}
