//! A proxy between two nodes, which can fall silent, or reset connections in the middle of a frame.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Kind;

/// Longer than any datagram of a node.
const MAX_DATAGRAM_BYTES: usize = 2048;
/// The most bytes of a stream that are passed on at once.
const PIECE_BYTES: usize = 5000;

/// Whether a proxy passes anything on, and the number of its resets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    is_silent: bool,
    resets: u64,
}

/// Passes on the connections from one node to another. Ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy to `target`.
    pub(crate) async fn start(kind: Kind, target: SocketAddr) -> Proxy {
        let mode = watch::Sender::new(Mode { is_silent: false, resets: 0 });
        let mut tasks = JoinSet::new();
        let address = match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
                let address = listener.local_addr().expect("it is bound");
                tasks.spawn(carry_streams(listener, target, mode.subscribe()));
                address
            }
            Kind::Quic => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port");
                let address = socket.local_addr().expect("it is bound");
                tasks.spawn(carry_datagrams(socket, target, mode.subscribe()));
                address
            }
        };
        Proxy { address, mode, _tasks: tasks }
    }

    /// From now on, nothing arrives and nothing ends: datagrams are lost, and streams are not read.
    pub(crate) fn fall_silent(&self) {
        self.mode.send_modify(|mode| mode.is_silent = true);
    }

    /// Passes everything on again.
    pub(crate) fn speak(&self) {
        self.mode.send_modify(|mode| mode.is_silent = false);
    }

    /// Resets all streams, with all bytes in flight. Datagrams come from another port from now on.
    pub(crate) fn reset(&self) {
        self.mode.send_modify(|mode| mode.resets += 1);
    }
}

async fn carry_streams(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let mode = mode.clone();
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            for stream in [&near, &far] {
                // Each stream ends with a reset.
                SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("the option is there");
            }
            let resets = mode.borrow().resets;
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let mut reset = mode.clone();
            tokio::select! {
                () = carry_bytes(from_near, to_far, mode.clone()) => {}
                () = carry_bytes(from_far, to_near, mode) => {}
                _ = reset.wait_for(|mode| mode.resets > resets) => {}
            }
        });
    }
}

async fn carry_bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut piece = [0; PIECE_BYTES];
    loop {
        if mode.wait_for(|mode| !mode.is_silent).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = from.read(&mut piece).await else { return };
        // What was read when the silence began is lost, and the connection's end is not passed on before it
        // is over.
        if mode.wait_for(|mode| !mode.is_silent).await.is_err() || to.write_all(&piece[..read]).await.is_err()
        {
            return;
        }
    }
}

async fn carry_datagrams(near: UdpSocket, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let near = Arc::new(near);
    let dialer = Arc::new(Mutex::new(None));
    loop {
        let far = UdpSocket::bind("127.0.0.1:0").await.expect("there is a free port");
        far.connect(target).await.expect("it is on this machine");
        let resets = mode.borrow().resets;
        let out = async {
            let mut datagram = [0; MAX_DATAGRAM_BYTES];
            loop {
                let Ok((length, from)) = near.recv_from(&mut datagram).await else { continue };
                *dialer.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                if !mode.borrow().is_silent {
                    let _ = far.send(&datagram[..length]).await;
                }
            }
        };
        let back = async {
            let mut datagram = [0; MAX_DATAGRAM_BYTES];
            loop {
                let Ok(length) = far.recv(&mut datagram).await else { continue };
                let to = *dialer.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(to) = to.filter(|_| !mode.borrow().is_silent) {
                    let _ = near.send_to(&datagram[..length], to).await;
                }
            }
        };
        let mut reset = mode.clone();
        tokio::select! {
            () = out => {}
            () = back => {}
            is_open = reset.wait_for(|mode| mode.resets > resets) => if is_open.is_err() { return },
        }
        mode.mark_unchanged();
    }
}
