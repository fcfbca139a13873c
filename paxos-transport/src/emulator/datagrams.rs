//! The proxy for datagrams.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Route;
use super::link::Fate;
use super::schedule::Delivery;

/// How many senders a proxy serves at a time. A further one takes the place of the one that has been silent
/// for longest.
const MAX_SOURCES: usize = 64;
/// A sender that is neither sent anything nor sends for this long is forgotten.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// The requested size of socket buffers. If the system grants less, bursts lose packets a little earlier.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// The headers of IPv4 and UDP.
const HEADER_BYTES: usize = 28;
/// What a datagram takes of the bound at least, because each one needs some memory beside its bytes.
const MIN_DATAGRAM_COST_BYTES: usize = 256;
/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 1 << 16;
/// How many datagrams a task passes on before others of the thread have their turn.
const DATAGRAMS_PER_TURN: usize = 32;

/// One that sends to the proxy, with the socket that it has towards the target.
struct Source {
    socket: Arc<UdpSocket>,
    last_heard: watch::Sender<Instant>,
    answers: AbortHandle,
}

/// Passes on datagrams until the emulator ends.
pub(super) async fn serve(near: UdpSocket, target: SocketAddr, route: Route) {
    let near = Arc::new(near);
    let mut sources: BTreeMap<SocketAddr, Source> = BTreeMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    let mut turn = 0;
    loop {
        let received = tokio::select! {
            received = near.recv_from(&mut buffer) => received,
            Some(_) = answers.join_next_with_id() => {
                sources.retain(|_, source| !source.answers.is_finished());
                continue;
            }
        };
        // An error tells of an earlier datagram that could not be sent.
        let Ok((length, from)) = received else { continue };
        if !sources.contains_key(&from) {
            make_room(&mut sources);
            let Ok(socket) = upstream_socket(target) else { continue };
            let socket = Arc::new(socket);
            let (last_heard, heard) = watch::channel(Instant::now());
            let task = carry_answers(Arc::clone(&socket), Arc::clone(&near), from, route.reversed(), heard);
            let answers = answers.spawn(task);
            sources.insert(from, Source { socket, last_heard, answers });
        }
        if let Some(source) = sources.get_mut(&from) {
            source.last_heard.send_replace(Instant::now());
            pass_on(&route, &source.socket, None, &buffer[..length]);
        }
        turn += 1;
        if turn % DATAGRAMS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn make_room(sources: &mut BTreeMap<SocketAddr, Source>) {
    if sources.len() < MAX_SOURCES {
        return;
    }
    let longest_silent =
        sources.iter().min_by_key(|(_, source)| *source.last_heard.borrow()).map(|(from, _)| *from);
    if let Some(source) = longest_silent.and_then(|from| sources.remove(&from)) {
        source.answers.abort();
    }
}

/// Carries what the target answers to one sender, until both have been silent for long.
async fn carry_answers(
    far: Arc<UdpSocket>,
    near: Arc<UdpSocket>,
    to: SocketAddr,
    route: Route,
    heard: watch::Receiver<Instant>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    let mut turn = 0;
    loop {
        let received = match tokio::time::timeout(MAX_IDLE, far.recv(&mut buffer)).await {
            Ok(received) => received,
            Err(_) if heard.borrow().elapsed() < MAX_IDLE => continue,
            Err(_) => return,
        };
        // An error tells that nothing listens at the target, which may change.
        let Ok(length) = received else { continue };
        pass_on(&route, &near, Some(to), &buffer[..length]);
        turn += 1;
        if turn % DATAGRAMS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Sends a datagram over the link.
fn pass_on(route: &Route, socket: &Arc<UdpSocket>, to: Option<SocketAddr>, payload: &[u8]) {
    let fate = {
        let mut state = route.line.state();
        state.on_packet(route.schedule.now(), payload.len() + HEADER_BYTES)
    };
    let cost = u32::try_from(payload.len().max(MIN_DATAGRAM_COST_BYTES)).expect("a datagram is short");
    let room = || Arc::clone(&route.line.datagram_room).try_acquire_many_owned(cost).ok();
    let Fate::Delivered { at, copy_at } = fate else {
        route.schedule.record.on_fate(fate);
        return;
    };
    let payload = Bytes::copy_from_slice(payload);
    for at in [Some(at), copy_at].into_iter().flatten() {
        let Some(room) = room() else {
            route.schedule.record.on_fate(Fate::QueueFull);
            return;
        };
        let (socket, payload) = (Arc::clone(socket), payload.clone());
        route.schedule.add(at, Delivery::Datagram { socket, to, payload, room });
    }
    route.schedule.record.on_fate(fate);
}

/// The socket that a node dials.
pub(super) fn listening_socket() -> io::Result<std::net::UdpSocket> {
    socket((Ipv4Addr::LOCALHOST, 0).into())
}

/// A socket towards the target.
fn upstream_socket(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = socket(any)?;
    socket.connect(target)?;
    UdpSocket::from_std(socket)
}

fn socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use paxos_core::NodeId;
    use tokio::time::sleep;

    use super::super::lines::Lines;
    use super::super::network::Network;
    use super::super::schedule::Schedule;
    use super::*;
    use crate::emulator::Link;

    fn route() -> Route {
        let lines = Lines::new(Network::uniform(Link::default()), 1);
        let line = |from, to| lines.line(NodeId(from), NodeId(to));
        Route { line: line(1, 2), way_back: line(2, 1), schedule: Arc::new(Schedule::new()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_forgotten_when_both_sides_have_been_silent_for_long() {
        let target = listening_socket().and_then(|target| target.local_addr()).expect("there is a free port");
        let far = Arc::new(upstream_socket(target).expect("there is a free port"));
        let near =
            Arc::new(UdpSocket::from_std(listening_socket().expect("it is free")).expect("it is bound"));
        let (last_heard, heard) = watch::channel(Instant::now());
        let answers = tokio::spawn(carry_answers(far, near, target, route(), heard));
        for _ in 0..10 {
            sleep(MAX_IDLE / 2).await;
            last_heard.send_replace(Instant::now());
            assert!(!answers.is_finished(), "a sender that is heard is not forgotten");
        }
        sleep(2 * MAX_IDLE).await;
        assert!(answers.is_finished(), "one that is not heard is");
    }
}
