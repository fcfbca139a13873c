//! Sockets and transports on an emulated network. What becomes of single packets is tested without a clock,
//! in `src/emulator/link/tests.rs`.
//!
//! Nothing here fails because the machine is slow: a test asks that something takes no less than the network
//! makes it take, and that it happens at all.
#![cfg(all(feature = "emulator", feature = "memory", feature = "quic", feature = "tcp"))]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::{Cluster, Kind, ONE, TWO, eventually, gets_through};
use paxos_core::NodeId;
use paxos_transport::conformance::{self, Backend};
use paxos_transport::emulator::{Emulator, Link, Network};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{Lane, Transport, TransportExt};
use tokio::time::timeout;

const SEED: u64 = 5;
/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a test waits for what must not come.
const SILENCE: Duration = Duration::from_millis(200);

fn start(network: &str) -> Emulator {
    let network: Network = network.parse().unwrap_or_else(|error| panic!("{network}: {error}"));
    Emulator::start(network, SEED).expect("there is a thread and a timer")
}

fn link(text: &str) -> Link {
    text.parse().expect("it is a link")
}

fn udp_socket(patience: Duration) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    socket.set_read_timeout(Some(patience)).expect("it is not zero");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// A connection through the emulator: the end that has dialed, and the one that was dialed.
fn tcp_connection(emulator: &Emulator) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let target = listener.local_addr().expect("it is bound");
    let dialed = emulator.stream(ONE, TWO, target).expect("there is a free port");
    let near = TcpStream::connect(dialed).expect("the proxy listens");
    let (far, _) = listener.accept().expect("the proxy connects");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    }
    (near, far)
}

/// Two nodes, of which the second dials the first through the emulator.
async fn nodes(kind: Kind, emulator: &Emulator) -> (Cluster, Box<dyn Transport>, Box<dyn Transport>) {
    let mut cluster = Cluster::new(kind, &[ONE, TWO]);
    let adjust = |config: &mut paxos_transport::NetworkConfig| {
        config.connect_timeout = Duration::from_secs(10);
        config.idle_timeout = PATIENCE;
    };
    let one = cluster.start_with(ONE, adjust).await;
    let target = cluster.config(TWO).peers[&ONE].parse().expect("it is an address");
    let proxy = match kind {
        Kind::Quic => emulator.datagrams(TWO, ONE, target),
        Kind::Tcp => emulator.stream(TWO, ONE, target),
    };
    let proxy = proxy.expect("there is a free port").to_string();
    let two = cluster.start_with(TWO, |config| {
        adjust(config);
        config.peers.insert(ONE, proxy.clone());
    });
    let two = two.await;
    eventually(PATIENCE, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
    (cluster, one, two)
}

#[tokio::test]
async fn quic_and_tcp_connect_and_pass_frames_under_each_profile() {
    for profile in Network::PROFILES {
        let with_arguments = profile.arguments.iter().map(|argument| format!("{}:{argument}", profile.name));
        for network in [profile.name.to_owned()].into_iter().chain(with_arguments.skip(1)) {
            let emulator = start(&network);
            for kind in Kind::ALL {
                println!("{kind:?} over {network}, seed {SEED}");
                let (_cluster, mut one, mut two) = nodes(kind, &emulator).await;
                assert!(gets_through(one.as_ref(), two.as_mut(), PATIENCE).await);
                assert!(gets_through(two.as_ref(), one.as_mut(), PATIENCE).await);
            }
            assert!(emulator.accuracy().delivered > 0, "{network}: everything went through the emulator");
        }
    }
}

#[tokio::test]
async fn quic_delivers_all_frames_over_a_link_that_loses_one_packet_in_a_hundred() {
    const FRAMES: u32 = 500;
    let emulator = start("delay=2ms,loss=1%");
    let (_cluster, mut one, two) = nodes(Kind::Quic, &emulator).await;
    for number in 0..FRAMES {
        let mut frame = vec![7; 4000];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        assert!(two.send(ONE, Lane::Log, frame.into()).is_queued());
    }
    let mut missing: std::collections::BTreeSet<u32> = (0..FRAMES).collect();
    while !missing.is_empty() {
        let received = timeout(PATIENCE, one.receive()).await;
        let received = received.unwrap_or_else(|_| panic!("{} frames are missing", missing.len()));
        let frame = received.expect("the transport is open").frame;
        missing.remove(&u32::from_be_bytes(frame[..4].try_into().expect("it has four bytes")));
    }
    assert!(emulator.accuracy().lost > 0, "seed {SEED}: {}", emulator.accuracy());
}

/// quinn hands the system trains of packets (GSO). None of them may reach the link as one long packet.
#[tokio::test]
async fn trains_of_packets_pass_one_by_one() {
    let emulator = start("delay=1ms,mtu=1500");
    let (_cluster, mut one, two) = nodes(Kind::Quic, &emulator).await;
    let before = emulator.accuracy().delivered;
    let frame = Bytes::from(vec![7; 1 << 20]);
    assert!(two.send(ONE, Lane::Bulk, frame.clone()).is_queued());
    let received =
        timeout(PATIENCE, one.receive()).await.expect("it arrives").expect("the transport is open");
    assert_eq!(received.frame, frame);
    let accuracy = emulator.accuracy();
    assert_eq!(accuracy.too_large, 0);
    assert!(accuracy.delivered - before > (1 << 20) / 1500, "{accuracy}");
}

#[tokio::test]
async fn frames_over_another_transport_keep_its_contract() {
    struct Delayed(MemoryNetwork, Emulator);

    #[async_trait]
    impl Backend for Delayed {
        async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
            self.1.frames(Box::new(self.0.bind(node)))
        }
    }

    // The suite is for networks that lose next to nothing.
    for network in ["delay=0s", "delay=3ms,jitter=1ms,duplication=1%,reordering=5%"] {
        println!("over {network}, seed {SEED}");
        conformance::check(&mut Delayed(MemoryNetwork::new(), start(network))).await;
    }
}

#[tokio::test]
async fn a_frame_takes_as_long_as_the_link_of_its_sender() {
    let emulator = start("delay=0s");
    let delay = Duration::from_millis(30);
    emulator.set(ONE, TWO, link("delay=30ms"));
    let network = MemoryNetwork::new();
    let mut one = emulator.frames(Box::new(network.bind(ONE)));
    let mut two = emulator.frames(Box::new(network.bind(TWO)));
    let mut shortest_back = PATIENCE;
    for _ in 0..100 {
        let sent = Instant::now();
        assert!(one.send(TWO, Lane::Log, Bytes::from_static(b"there")).is_queued());
        two.receive().await.expect("the transport is open");
        assert!(sent.elapsed() >= delay);
        let sent = Instant::now();
        assert!(two.send(ONE, Lane::Log, Bytes::from_static(b"back")).is_queued());
        one.receive().await.expect("the transport is open");
        shortest_back = shortest_back.min(sent.elapsed());
        if shortest_back < delay {
            return;
        }
    }
    panic!("the way back has no delay, but took {shortest_back:?} at least");
}

#[tokio::test]
async fn a_frame_is_lost_or_doubled_as_its_link_says() {
    let emulator = start("loss=100%");
    let network = MemoryNetwork::new();
    let one = network.bind(ONE);
    let mut two = emulator.frames(Box::new(network.bind(TWO)));
    assert!(one.send(TWO, Lane::Log, Bytes::from_static(b"lost")).is_queued());
    timeout(SILENCE, two.receive()).await.expect_err("the frame is lost");
    emulator.set(ONE, TWO, link("delay=1ms,duplication=100%"));
    assert!(one.send(TWO, Lane::Log, Bytes::from_static(b"twice")).is_queued());
    for _ in 0..2 {
        let received = timeout(PATIENCE, two.receive()).await.expect("it arrives").expect("it is open");
        assert_eq!((received.from, received.lane, &received.frame[..]), (ONE, Lane::Log, &b"twice"[..]));
    }
    let accuracy = emulator.accuracy();
    assert_eq!((accuracy.lost, accuracy.doubled, accuracy.delivered), (1, 1, 2));
}

#[test]
fn a_datagram_is_lost_doubled_or_arrives_as_its_link_says() {
    let emulator = start("loss=100%");
    let (target, address) = udp_socket(SILENCE);
    let proxy = emulator.datagrams(ONE, TWO, address).expect("there is a free port");
    let (sender, _) = udp_socket(PATIENCE);
    let mut buffer = [0; 2000];
    sender.send_to(b"lost", proxy).expect("the proxy listens");
    let silent = target.recv(&mut buffer).expect_err("the datagram is lost").kind();
    assert!(matches!(silent, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent:?}");

    emulator.set(ONE, TWO, link("delay=1ms,duplication=100%"));
    target.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    sender.send_to(b"twice", proxy).expect("the proxy listens");
    for _ in 0..2 {
        let length = target.recv(&mut buffer).expect("it arrives");
        assert_eq!(&buffer[..length], b"twice");
    }

    emulator.set(ONE, TWO, link("delay=0s,mtu=1000"));
    sender.send_to(&[1; 1000 - 28], proxy).expect("the proxy listens");
    assert_eq!(
        target.recv(&mut buffer).expect("it arrives"),
        1000 - 28,
        "with headers, it is as long as the MTU"
    );
    target.set_read_timeout(Some(SILENCE)).expect("it is not zero");
    sender.send_to(&[1; 1000 - 27], proxy).expect("the proxy listens");
    assert!(target.recv(&mut buffer).is_err(), "a byte more is too much");
    let accuracy = emulator.accuracy();
    assert_eq!((accuracy.lost, accuracy.doubled, accuracy.too_large), (1, 1, 1));
}

#[test]
fn each_sender_of_datagrams_gets_its_own_answers_over_the_way_back() {
    let emulator = start("delay=1ms");
    let delay = Duration::from_millis(20);
    emulator.set(TWO, ONE, link("delay=20ms"));
    let (target, address) = udp_socket(PATIENCE);
    let proxy = emulator.datagrams(ONE, TWO, address).expect("there is a free port");
    // More than the proxy serves at a time: it forgets the first ones.
    let senders: Vec<UdpSocket> = (0..80).map(|_| udp_socket(PATIENCE).0).collect();
    let mut buffer = [0; 100];
    for (number, sender) in senders.iter().enumerate().chain(senders.iter().enumerate()) {
        let name = format!("sender {number}");
        sender.send_to(name.as_bytes(), proxy).expect("the proxy listens");
        let (length, source) = target.recv_from(&mut buffer).expect("it arrives");
        let answered = Instant::now();
        target.send_to(&buffer[..length], source).expect("the proxy listens");
        let length = sender.recv(&mut buffer).expect("the answer arrives");
        assert_eq!(&buffer[..length], name.as_bytes());
        assert!(answered.elapsed() >= delay);
    }
}

#[test]
fn a_stream_arrives_unchanged_under_loss_and_jitter() {
    const BYTES: usize = 10 << 20;
    let emulator = start("delay=1ms,jitter=1ms,loss=2%,reordering=5%,rate=1gbit");
    let (mut near, mut far) = tcp_connection(&emulator);
    let mut random = fastrand::Rng::with_seed(SEED);
    let sent: Vec<u8> = (0..BYTES).map(|_| random.u8(..)).collect();
    let mut received = vec![0; BYTES];
    thread::scope(|scope| {
        scope.spawn(|| near.write_all(&sent).expect("the proxy reads"));
        far.read_exact(&mut received).expect("everything arrives");
    });
    assert!(received == sent, "seed {SEED}");
    let lost = emulator.accuracy().lost;
    // 2 % of 7242 segments; the standard deviation is 12.
    assert!(lost > 80, "seed {SEED}: only {lost} segments are lost");
}

#[test]
fn a_stream_is_as_fast_as_its_rate() {
    const BYTES: usize = 1_000_000;
    let emulator = start("delay=5ms,rate=20mbit,queue=64KiB");
    let (mut near, mut far) = tcp_connection(&emulator);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| near.write_all(&vec![7; BYTES]).expect("the proxy reads"));
        far.read_exact(&mut vec![0; BYTES]).expect("everything arrives");
    });
    let least = Duration::from_millis(400);
    assert!(started.elapsed() >= least, "not {:?}, but {least:?}", started.elapsed());
    assert_eq!(emulator.accuracy().queue_full, 0, "a stream waits before a full queue");
}

#[test]
fn a_stream_is_read_no_further_than_its_bounds() {
    // The kernel's own buffers hold some megabytes beside what is under way.
    for (network, most_bytes) in [("delay=60s", 40 << 20), ("delay=0s,rate=1kbit,queue=64KiB", 32 << 20)] {
        let emulator = start("delay=0s");
        let (mut near, _far) = tcp_connection(&emulator);
        emulator.set(ONE, TWO, link(network));
        near.set_write_timeout(Some(SILENCE)).expect("it is not zero");
        let mut bytes = 0;
        while let Ok(written) = near.write(&[7; 16 << 10]) {
            bytes += written;
            assert!(bytes < most_bytes, "{network}: {bytes} bytes are taken");
        }
    }
}

#[test]
fn no_more_datagrams_are_under_way_than_the_bound() {
    let emulator = start("delay=60s");
    let (_target, address) = udp_socket(PATIENCE);
    let proxy = emulator.datagrams(ONE, TWO, address).expect("there is a free port");
    let (sender, _) = udp_socket(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    while emulator.accuracy().queue_full == 0 {
        assert!(Instant::now() < deadline, "at some time there are too many");
        sender.send_to(&[7; 1400], proxy).expect("the proxy listens");
    }
    assert_eq!(emulator.accuracy().delivered, 0);
}

#[tokio::test]
async fn no_more_frames_are_under_way_than_the_bound() {
    let emulator = start("delay=60s");
    let network = MemoryNetwork::new();
    let one = network.bind(ONE);
    let mut two = emulator.frames(Box::new(network.bind(TWO)));
    let frame = Bytes::from(vec![7; 1 << 20]);
    let deadline = Instant::now() + PATIENCE;
    while emulator.accuracy().queue_full == 0 {
        assert!(Instant::now() < deadline, "at some time there are too many");
        let _ = one.send(TWO, Lane::Control, frame.clone());
        timeout(Duration::from_millis(1), two.receive()).await.expect_err("nothing arrives yet");
    }
    // Another lane has room.
    let before = emulator.accuracy().queue_full;
    assert!(one.send(TWO, Lane::Log, frame.clone()).is_queued());
    timeout(Duration::from_millis(1), two.receive()).await.expect_err("nothing arrives yet");
    assert_eq!(emulator.accuracy().queue_full, before);
}

#[test]
fn each_end_of_a_stream_hears_what_the_other_does() {
    let emulator = start("delay=2ms");
    let mut buffer = Vec::new();

    let (near, mut far) = tcp_connection(&emulator);
    near.shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(far.read_to_end(&mut buffer).expect("it ends in order"), 0);
    far.write_all(b"still open").expect("the other direction is open");
    drop(far);
    let mut near = near;
    near.read_to_end(&mut buffer).expect("it ends in order");
    assert_eq!(buffer, b"still open");

    let (near, mut far) = tcp_connection(&emulator);
    socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("the option is there");
    drop(near);
    let cut = far.read(&mut [0]).expect_err("a reset is no end in order");
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_cut_reaches_an_end_that_does_not_read() {
    let emulator = start("delay=1ms");
    let (mut near, far) = tcp_connection(&emulator);
    near.set_write_timeout(Some(SILENCE)).expect("it is not zero");
    while near.write(&[7; 16 << 10]).is_ok() {}
    socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("the option is there");
    drop(near);
    let deadline = Instant::now() + PATIENCE;
    while far.take_error().expect("the option is there").is_none() {
        assert!(Instant::now() < deadline, "the other end is reset");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_connection_to_a_target_that_does_not_listen_is_cut() {
    let emulator = start("delay=1ms");
    let target = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let proxy = emulator.stream(ONE, TWO, target.expect("it was bound")).expect("there is a free port");
    let mut near = TcpStream::connect(proxy).expect("the proxy listens");
    near.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let cut = near.read(&mut [0]).expect_err("it is refused");
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_stream_over_a_link_that_loses_everything_waits_until_it_is_changed() {
    let emulator = start("delay=1ms");
    let (mut near, mut far) = tcp_connection(&emulator);
    let mut buffer = [0; 4];
    near.write_all(b"here").expect("the proxy reads");
    far.read_exact(&mut buffer).expect("it arrives");
    emulator.set(ONE, TWO, link("loss=100%"));
    assert_eq!(emulator.link(ONE, TWO), link("loss=100%"));
    near.write_all(b"wait").expect("the system has room");
    far.set_read_timeout(Some(SILENCE)).expect("it is not zero");
    far.read_exact(&mut buffer).expect_err("the link is cut");
    emulator.set(ONE, TWO, link("delay=1ms"));
    far.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    far.read_exact(&mut buffer).expect("it arrives");
    assert_eq!(&buffer, b"wait");
}

#[tokio::test]
async fn proxies_and_transports_end_with_the_emulator() {
    let emulator = start("delay=1ms");
    let (mut near, mut far) = tcp_connection(&emulator);
    let (_target, address) = udp_socket(PATIENCE);
    let datagrams = emulator.datagrams(ONE, TWO, address).expect("there is a free port");
    let streams = emulator.stream(ONE, TWO, address).expect("there is a free port");
    let mut transport = emulator.frames(Box::new(MemoryNetwork::new().bind(ONE)));
    let waiting = tokio::spawn(async move { transport.receive().await });
    tokio::task::yield_now().await;
    drop(emulator);
    assert_eq!(waiting.await.expect("it does not panic"), None, "a transport that waits is told");
    UdpSocket::bind(datagrams).expect("the port is free again");
    TcpStream::connect(streams).expect_err("nobody listens");
    for stream in [&mut near, &mut far] {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the connection has ended");
    }
}
