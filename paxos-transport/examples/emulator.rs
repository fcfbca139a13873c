//! Measures how exactly the emulator delays datagrams, streams and frames, alone and beside a load:
//! `cargo run --release -p paxos-transport --features emulator --example emulator`
//!
//! The first table has the times of one way, with the emulator and without it. The second one tells how much
//! passes through the emulator.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_transport::emulator::{Emulator, Link, Network};
use paxos_transport::memory::MemoryNetwork;
use paxos_transport::{Lane, Transport, TransportExt};
use socket2::SockRef;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const ROUNDS: usize = 300;
const PACKET_BYTES: usize = 128;
/// The load: datagrams of this length on a link of their own with a delay of 10 ms.
const LOAD_PACKET_BYTES: usize = 1200;
const LOAD_BURST: usize = 10;
const LOAD_PAUSE: Duration = Duration::from_millis(1);
const FLOOD_TIME: Duration = Duration::from_secs(1);
/// So many datagrams of a flood are under way at most.
const FLOOD_PACKETS: usize = 1500;
const FLOOD_SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// A flood is over when nothing arrives for this long.
const FLOOD_END: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<6} {:<10} {:>8} {:>10} {:>10} {:>10} {:>12}",
        "load", "carrier", "asked", "median", "p99", "max", "of that own"
    );
    for has_load in [false, true] {
        for carrier in ["datagrams", "stream", "frames"] {
            let without = measure(carrier, None, has_load)?;
            print(has_load, carrier, "none", &without, None);
            for millis in [0, 1, 10, 50] {
                let delay = Duration::from_millis(millis);
                let network = Network::uniform(Link::default().with(|link| link.delay = delay));
                let emulator = Emulator::start(network, 1)?;
                let times = measure(carrier, Some(&emulator), has_load)?;
                print(has_load, carrier, &format!("{millis} ms"), &times, Some(&emulator));
            }
        }
    }
    println!("\n{:<10} {:>8} {:>10}", "carrier", "asked", "MB/s");
    for asked in ["delay=0s", "delay=10ms"] {
        let emulator = Emulator::start(asked.parse()?, 1)?;
        println!("{:<10} {asked:>8} {:>10}", "datagrams", datagram_flood(&emulator)?);
        println!("{:<10} {asked:>8} {:>10}", "stream", stream_flood(&emulator)?);
    }
    Ok(())
}

fn print(has_load: bool, carrier: &str, asked: &str, times: &[Duration], emulator: Option<&Emulator>) {
    let at = |part: usize| format!("{:.3?}", times[(times.len() - 1) * part / 100]);
    let own = emulator.map_or(String::new(), |emulator| format!("{:.1?}", emulator.accuracy().median));
    let load = if has_load { "yes" } else { "no" };
    println!("{load:<6} {carrier:<10} {asked:>8} {:>10} {:>10} {:>10} {own:>12}", at(50), at(99), at(100));
}

/// The times of one way, in ascending order.
fn measure(
    carrier: &str,
    emulator: Option<&Emulator>,
    has_load: bool,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let load = emulator.filter(|_| has_load).map(Load::start).transpose()?;
    let mut times = match carrier {
        "datagrams" => datagrams(emulator)?,
        "stream" => stream(emulator)?,
        _ => frames(emulator)?,
    };
    drop(load);
    times.sort_unstable();
    Ok(times)
}

/// A pause after each round, so that rounds do not keep in step with a timer.
fn pause(round: usize) {
    thread::sleep(Duration::from_micros(200 + 37 * (round as u64 % 40)));
}

fn datagrams(emulator: Option<&Emulator>) -> Result<Vec<Duration>, Box<dyn Error>> {
    let target = UdpSocket::bind("127.0.0.1:0")?;
    let address = target.local_addr()?;
    let dialed = emulator.map_or(Ok(address), |emulator| emulator.datagrams(ONE, TWO, address))?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let mut buffer = [0; PACKET_BYTES];
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        sender.send_to(&buffer, dialed)?;
        target.recv(&mut buffer)?;
        times.push(start.elapsed());
        pause(round);
    }
    Ok(times)
}

fn stream(emulator: Option<&Emulator>) -> Result<Vec<Duration>, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let dialed = emulator.map_or(Ok(address), |emulator| emulator.stream(ONE, TWO, address))?;
    let mut sender = TcpStream::connect(dialed)?;
    sender.set_nodelay(true)?;
    let (mut target, _) = listener.accept()?;
    let mut buffer = [0; PACKET_BYTES];
    // The first bytes wait until the emulated connection is established.
    sender.write_all(&buffer)?;
    target.read_exact(&mut buffer)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        sender.write_all(&buffer)?;
        target.read_exact(&mut buffer)?;
        times.push(start.elapsed());
        pause(round);
    }
    Ok(times)
}

fn frames(emulator: Option<&Emulator>) -> Result<Vec<Duration>, Box<dyn Error>> {
    let network = MemoryNetwork::new();
    let (one, two) = (network.bind(ONE), network.bind(TWO));
    let mut two: Box<dyn Transport> = Box::new(two);
    if let Some(emulator) = emulator {
        two = emulator.frames(two);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let frame = Bytes::from(vec![0; PACKET_BYTES]);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        one.send(TWO, Lane::Log, frame.clone());
        runtime.block_on(two.receive()).ok_or("the transport is closed")?;
        times.push(start.elapsed());
        pause(round);
    }
    Ok(times)
}

/// How many MB/s of datagrams arrive if a bounded number of them is under way.
fn datagram_flood(emulator: &Emulator) -> Result<u128, Box<dyn Error>> {
    let target = UdpSocket::bind("127.0.0.1:0")?;
    target.set_read_timeout(Some(FLOOD_END))?;
    SockRef::from(&target).set_recv_buffer_size(FLOOD_SOCKET_BUFFER_BYTES)?;
    let dialed = emulator.datagrams(ONE, TWO, target.local_addr()?)?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let started = Instant::now();
    let arrived = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while started.elapsed() < FLOOD_TIME {
                if sent < arrived.load(Ordering::Relaxed) + FLOOD_PACKETS {
                    let _ = sender.send_to(&[0; LOAD_PACKET_BYTES], dialed);
                    sent += 1;
                } else {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let (mut buffer, mut bytes, mut last) = ([0; LOAD_PACKET_BYTES], 0, started);
        while let Ok(length) = target.recv(&mut buffer) {
            arrived.fetch_add(1, Ordering::Relaxed);
            bytes += length;
            last = Instant::now();
        }
        // Bytes in a microsecond are megabytes in a second.
        Ok(bytes as u128 / (last - started).as_micros().max(1))
    })
}

/// How many MB/s of a stream arrive.
fn stream_flood(emulator: &Emulator) -> Result<u128, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(emulator.stream(ONE, TWO, listener.local_addr()?)?)?;
    let (mut target, _) = listener.accept()?;
    let started = Instant::now();
    let flood = thread::spawn(move || {
        let piece = vec![0; 64 << 10];
        while started.elapsed() < FLOOD_TIME && sender.write_all(&piece).is_ok() {}
    });
    let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
    loop {
        match target.read(&mut buffer)? {
            0 => break,
            length => bytes += length,
        }
    }
    flood.join().map_err(|_| "the sender has panicked")?;
    Ok(bytes as u128 / started.elapsed().as_micros().max(1))
}

/// Datagrams from node 3 to node 4.
struct Load {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    fn start(emulator: &Emulator) -> Result<Load, Box<dyn Error>> {
        emulator.set(NodeId(3), NodeId(4), "delay=10ms".parse()?);
        let target = UdpSocket::bind("127.0.0.1:0")?;
        let dialed: SocketAddr = emulator.datagrams(NodeId(3), NodeId(4), target.local_addr()?)?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _target = target;
            while stopped.recv_timeout(LOAD_PAUSE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for _ in 0..LOAD_BURST {
                    let _ = sender.send_to(&[0; LOAD_PACKET_BYTES], dialed);
                }
            }
        });
        Ok(Load { stop, thread: Some(thread) })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
