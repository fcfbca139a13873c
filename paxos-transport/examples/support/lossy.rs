//! A stretch of network that loses and delays packets: a relay of UDP within this process.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_transport::conformance::{Backend, NODES};
use socket2::SockRef;

use super::{
    Bind, Carrier, Cluster, LARGE_BYTES, LARGE_FRAMES_PER_MIB, Secure, there_and_back, throughput,
    wait_until_connected,
};

/// How long a packet takes in each direction.
const DELAY: Duration = Duration::from_millis(5);
/// How many packets are on the way in each direction; further ones are lost, too.
const MAX_PACKETS: usize = 4000;
const MAX_PACKET_BYTES: usize = 2048;
const LOSSES_PERCENT: [f64; 4] = [0.0, 0.1, 1.0, 5.0];
const ROUND_TRIPS: usize = 300;
const SENDING_TIME: Duration = Duration::from_secs(5);
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const SEED: u64 = 1;

/// Makes a cluster of which no node was started yet.
type MakeCluster<B> = fn() -> Cluster<B>;

/// Measures `quic`, and some clusters of an example, where packets get lost.
pub(crate) async fn measure_with_losses<B: Bind>(others: &[(&str, MakeCluster<B>)]) {
    println!("\npackets take {DELAY:?} in each direction, and get lost at random, seed {SEED}");
    println!(
        "{:<12} {:>6} {:>20} {:>10} {:>14}",
        "backend", "lost", "128 B there and back", "p99", "64 KiB, MiB/s"
    );
    for percent in LOSSES_PERCENT {
        let mut quic = Secure::new(Carrier::Quic);
        quic.addresses.insert(NODES[0], relay_to(&quic.own[&NODES[0]], percent));
        measure("quic, cubic", percent, &mut quic).await;
        for (name, cluster) in others {
            let mut cluster = cluster();
            cluster.addresses.insert(NODES[0], relay_to(&cluster.own[&NODES[0]], percent));
            measure(name, percent, &mut cluster).await;
        }
    }
}

async fn measure(name: &str, percent: f64, backend: &mut dyn Backend) {
    let mut one = backend.start(NODES[0]).await;
    let mut two = backend.start(NODES[1]).await;
    wait_until_connected(one.as_ref(), two.as_ref()).await;
    let mut round_trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        there_and_back(one.as_mut(), two.as_mut()).await;
        round_trips.push(started.elapsed());
    }
    round_trips.sort_unstable();
    let (median, p99) = (round_trips[ROUND_TRIPS / 2], round_trips[ROUND_TRIPS * 99 / 100]);
    let frame = Bytes::from(vec![7; LARGE_BYTES]);
    let (frames, _) = throughput(two.as_ref(), one.as_mut(), &frame, SENDING_TIME).await;
    let mib = frames / LARGE_FRAMES_PER_MIB;
    println!("{name:<12} {percent:>4} % {median:>20.1?} {p99:>10.1?} {mib:>14.2}");
}

/// The address of a new relay, for one client, to the node at `address`.
fn relay_to(address: &str, percent: f64) -> String {
    let (front, back) = (socket(), socket());
    let node: SocketAddr = address.parse().expect("it is an address");
    let relay = front.local_addr().expect("it is bound").to_string();
    let client = Arc::new(OnceLock::new());
    let learned = Arc::clone(&client);
    pass(&front, &back, percent, SEED, move |from| {
        let _ = learned.set(from);
        Some(node)
    });
    pass(&back, &front, percent, SEED + 1, move |_| client.get().copied());
    relay
}

/// A socket that loses nothing by itself, as long as the threads behind it have a core now and then.
fn socket() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    let _ = SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    Arc::new(socket)
}

/// Passes packets from one socket on through another, to where `towards` says.
fn pass(
    from: &Arc<UdpSocket>,
    through: &Arc<UdpSocket>,
    percent: f64,
    seed: u64,
    mut towards: impl FnMut(SocketAddr) -> Option<SocketAddr> + Send + 'static,
) {
    let (from, through) = (Arc::clone(from), Arc::clone(through));
    let (sender, packets) = sync_channel(MAX_PACKETS);
    let mut random = fastrand::Rng::with_seed(seed);
    // Both threads end with the program.
    thread::spawn(move || {
        let mut packet = [0; MAX_PACKET_BYTES];
        loop {
            let Ok((length, source)) = from.recv_from(&mut packet) else { continue };
            let Some(to) = towards(source) else { continue };
            if random.f64() * 100.0 >= percent {
                // If it does not fit, it is lost.
                let _ = sender.try_send((Instant::now() + DELAY, packet[..length].to_vec(), to));
            }
        }
    });
    thread::spawn(move || {
        for (due, packet, to) in packets {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = through.send_to(&packet, to);
        }
    });
}
