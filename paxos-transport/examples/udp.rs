//! A transport over plain UDP:
//! `cargo run --release -p paxos-transport --features certs --example udp`
//!
//! **It neither encrypts nor authenticates: whoever can send packets can claim to be any node. It is for
//! closed networks only.** Frames are cut into datagrams; none is sent again, so a lost datagram is a lost
//! frame. A node says every 100 ms that it is there, and how much it has received: that bounds what is on the
//! way. A datagram is its kind, the sender's id, the start of the sender's process, and then the bytes
//! received so far or a piece of a frame.

pub(crate) mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use paxos_core::NodeId;
use paxos_transport::backend::{
    Claim, Dialer, Hub, HubConfig, HubTransport, Link, Reassembler, Window, fragments, pop_any, wait_for_any,
};
use paxos_transport::{Error, Lane, Peer, Unreachable};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Notify;
use tokio::time::{Instant, interval};

const HELLO: u8 = 0;
const PIECE: u8 = 1;
const HEADER_BYTES: usize = 17;
/// Without the header. Goes through any network whole.
const DATAGRAM_BYTES: usize = 1400;
const MAX_FRAME_BYTES: usize = 1 << 20;
/// The most bytes on the way to a peer: what the socket buffers of most systems hold.
const WINDOW_BYTES: u64 = 64 << 10;
const LOST_AFTER: Duration = Duration::from_millis(5);
/// The most bytes of a peer's frames that wait for pieces.
const MAX_WAITING_BYTES: usize = 4 << 20;
const HELLO_INTERVAL: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    support::check_and_measure("udp", &mut cluster(), false).await;
}

pub(crate) fn cluster() -> support::Cluster<Udp> {
    support::Cluster::new(Udp, MAX_FRAME_BYTES)
}

pub(crate) struct Udp;

#[async_trait]
impl support::Bind for Udp {
    async fn bind(&self, config: HubConfig, address: &str, peers: &[Peer]) -> Result<HubTransport, Error> {
        let bound = UdpSocket::bind(address).await;
        let socket = bound.map_err(|error| Error::foreign(format!("can't listen on {address}: {error}")))?;
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let start = u64::try_from(since_epoch).unwrap_or(u64::MAX);
        let (hub, inbox) = Hub::new(config);
        let (sessions, numbers) = (Mutex::default(), AtomicU64::new(start));
        let node = Arc::new(Node { hub: Arc::clone(&hub), socket, start, sessions, numbers });
        hub.spawn(receive_all(Arc::clone(&node)));
        HubTransport::start(hub, inbox, UdpDialer(node), peers).map_err(Error::foreign)
    }
}

struct Node {
    hub: Arc<Hub>,
    socket: UdpSocket,
    /// Tells this process from an earlier one.
    start: u64,
    sessions: Mutex<BTreeMap<NodeId, Weak<Session>>>,
    /// The number of the next frame.
    numbers: AtomicU64,
}

/// What is known of a peer while both processes run.
struct Session {
    link: Arc<Link>,
    address: SocketAddr,
    /// The start of the peer's process, once it has said it.
    start: OnceLock<u64>,
    heard: Notify,
    window: Window,
    reassembler: Mutex<Reassembler>,
    received: AtomicU64,
}

struct UdpDialer(Arc<Node>);

#[async_trait]
impl Dialer for UdpDialer {
    fn connections(&self) -> &'static [&'static [Lane]] {
        &[&Lane::ALL]
    }

    async fn connect(&self, claim: &Claim) -> Unreachable {
        let name = claim.link().address();
        let Some(address) = lookup_host(&name).await.ok().and_then(|mut found| found.next()) else {
            return Unreachable::NameUnknown { name, problem: String::from("it has no address") };
        };
        self.0.carry(claim, &self.0.start_session(claim, address, OnceLock::new())).await
    }
}

async fn receive_all(node: Arc<Node>) {
    let mut datagram = [0; HEADER_BYTES + DATAGRAM_BYTES];
    loop {
        // An error is about something that was sent before.
        let Ok((length, from)) = node.socket.recv_from(&mut datagram).await else { continue };
        let Some((header, rest)) = datagram[..length].split_first_chunk::<HEADER_BYTES>() else { continue };
        let (kind, sender, start) = (header[0], NodeId(number(&header[1..9])), number(&header[9..]));
        let session = node.sessions.lock().expect("never poisoned").get(&sender).and_then(Weak::upgrade);
        match (session, kind) {
            (Some(session), _) if session.address != from => {}
            // Of a process that was started again nothing is heard, so that the session ends.
            (Some(session), _) if *session.start.get_or_init(|| start) != start => {}
            (Some(session), PIECE) => node.receive_piece(&session, rest),
            (Some(session), _) => {
                session.heard.notify_one();
                session.window.on_received(number(rest));
            }
            (None, HELLO) => {
                let serving = Arc::clone(&node);
                // One that is refused is not answered.
                let _ = node.hub.serve(sender, &Lane::ALL, |claim| {
                    let session = serving.start_session(&claim, from, start.into());
                    session.heard.notify_one();
                    async move { serving.carry(&claim, &session).await }
                });
            }
            (None, _) => {}
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

impl Node {
    fn start_session(&self, claim: &Claim, address: SocketAddr, start: OnceLock<u64>) -> Arc<Session> {
        let (link, heard, received) = (Arc::clone(claim.link()), Notify::new(), AtomicU64::new(0));
        let reassembler = Mutex::new(Reassembler::new(MAX_FRAME_BYTES, MAX_WAITING_BYTES));
        let window = Window::new(WINDOW_BYTES, LOST_AFTER);
        let session = Arc::new(Session { link, address, start, heard, window, reassembler, received });
        let mut sessions = self.sessions.lock().expect("never poisoned");
        sessions.retain(|_, session| session.strong_count() > 0);
        sessions.insert(session.link.node(), Arc::downgrade(&session));
        session
    }

    /// Sends until the peer is silent or was started again, or this node closes.
    async fn carry(&self, claim: &Claim, session: &Session) -> Unreachable {
        let outboxes = claim.outboxes();
        let (mut hellos, mut heard_at) = (interval(HELLO_INTERVAL), Instant::now());
        while heard_at.elapsed() < SILENCE && !outboxes.iter().all(|outbox| outbox.is_done()) {
            tokio::select! {
                () = session.heard.notified() => {
                    heard_at = Instant::now();
                    claim.opened();
                }
                _ = hellos.tick() => self.say_hello(session),
                () = wait_for_any(&outboxes) => {}
            }
            let Some((lane, frame)) = pop_any(&outboxes) else { continue };
            let number = self.numbers.fetch_add(1, Relaxed);
            for (header, piece) in fragments(lane, number, &frame, DATAGRAM_BYTES) {
                session.window.send(header.len() + piece.len()).await;
                let datagram = self.datagram(PIECE, &header, piece);
                let _ = self.socket.send_to(&datagram, session.address).await; // It may get lost anyway.
            }
        }
        Unreachable::Lost { problem: String::from("no sign of life") }
    }

    fn receive_piece(&self, session: &Session, piece: &[u8]) {
        let before = session.received.fetch_add(piece.len() as u64, Relaxed);
        if (before + piece.len() as u64) / (WINDOW_BYTES / 4) > before / (WINDOW_BYTES / 4) {
            self.say_hello(session);
        }
        match session.reassembler.lock().expect("never poisoned").put(piece) {
            Ok(Some((lane, frame))) => session.link.receive(lane, frame),
            Ok(None) => {}
            Err(_) => session.link.counters().on_nonsense(),
        }
    }

    fn say_hello(&self, session: &Session) {
        let hello = self.datagram(HELLO, &session.received.load(Relaxed).to_le_bytes(), &[]);
        let _ = self.socket.try_send_to(&hello, session.address); // The next one does as well.
    }

    fn datagram(&self, kind: u8, header: &[u8], content: &[u8]) -> Vec<u8> {
        let node = self.hub.config().node.0;
        [&[kind][..], &node.to_le_bytes(), &self.start.to_le_bytes(), header, content].concat()
    }
}
