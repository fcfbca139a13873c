//! An emulated network between nodes on one machine: delay, jitter, loss, a limited rate and more, for any
//! transport, in user space and without privileges.
//!
//! An [`Emulator`] is given a [`Network`]: a [`Link`] for each ordered pair of nodes. Traffic passes over it
//! in one of three ways:
//!
//! | carrier | for | how |
//! |---|---|---|
//! | [`datagrams`](Emulator::datagrams) | UDP, QUIC | a proxy that a node dials in place of a peer |
//! | [`stream`](Emulator::stream) | TCP | the same |
//! | [`frames`](Emulator::frames) | memory, Unix sockets, others | delays what a wrapped [`Transport`] receives |
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant};
//!
//! use paxos_core::NodeId;
//! use paxos_transport::emulator::{Emulator, Network};
//!
//! let network: Network = "delay=10ms,jitter=1ms".parse()?; // or "wan:3-regions"
//! let emulator = Emulator::start(network, 7)?;
//!
//! // Node 2 listens. Node 1 sends to the proxy instead.
//! let listening = UdpSocket::bind("127.0.0.1:0")?;
//! let proxy = emulator.datagrams(NodeId(1), NodeId(2), listening.local_addr()?)?;
//! let sending = UdpSocket::bind("127.0.0.1:0")?;
//! let sent = Instant::now();
//! sending.send_to(b"hello", proxy)?;
//!
//! let mut buffer = [0; 100];
//! let (length, from) = listening.recv_from(&mut buffer)?;
//! assert_eq!(&buffer[..length], b"hello");
//! assert!(sent.elapsed() >= Duration::from_millis(10));
//!
//! // The answer passes over the link from node 2 to node 1.
//! listening.send_to(b"welcome", from)?;
//! sending.recv(&mut buffer)?;
//! println!("{}", emulator.accuracy());
//! # Ok(())
//! # }
//! ```
//!
//! # What is emulated
//!
//! A packet first waits for the bottleneck, which sends at the link's rate and drops what its queue can't
//! hold. It is then lost, doubled or held back with the link's probabilities, and arrives after the delay and
//! a drawn jitter. [`LinkState`] does all this. Everything that one node sends to another shares one
//! bottleneck, whatever carries it.
//!
//! Lengths count with the headers of IPv4 and UDP or TCP, except for frames, which count as they are, pass
//! whole, and have no MTU.
//!
//! A stream can't lose bytes. It is cut into segments of the MTU, and a segment that the link loses arrives
//! one round trip later for each loss, which is what a fast retransmission takes. Nothing of the same
//! connection overtakes it. Connecting takes a round trip, too. A stream is not doubled or reordered, as TCP
//! hides both, and while its link loses everything, it waits.
//!
//! Links have seeds: the same seed and the same packets at the same times have the same fates. Real sockets
//! do not send at the same times twice, so runs are alike but not equal. For runs that repeat to the letter,
//! use a simulator.
//!
//! # How exact it is
//!
//! On Linux, packets are delivered by a timer that is exact to tens of microseconds if the machine has a core
//! to spare, elsewhere to about a millisecond. No packet is early. [`Emulator::accuracy`] tells the errors of
//! a run; look at it beside each measurement. The example `emulator` of this crate measures from outside,
//! with all that the system adds. All packets pass one thread, which takes some microseconds for each; when
//! it or the machine is busy, packets are late, which shows as `p99` and `max`.
//!
//! # What is deliberately absent
//!
//! - The queues of the kernel (`tc`, `netem`): they need privileges, and delay other traffic of the machine.
//! - Congestion control of TCP on the link: the proxy acknowledges everything over the loopback interface at
//!   once. So a lost segment delays its stream, but does not slow the sender down; over a long or lossy link
//!   a stream has more throughput here than in reality, and its sender measures no round trip. QUIC runs end
//!   to end through the proxy, so that its congestion control sees the link. Compare throughputs of `quic`
//!   and `tcp` only where nothing is lost; what the emulator tells of both is latency.
//! - Retransmission time-outs: a real TCP that loses the last segment of a burst waits 200 ms and more.
//! - Loss in bursts, and delays that depend on the load of other nodes: each link is independent.
//! - Nodes on several machines: proxies listen on 127.0.0.1.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | datagrams under way on one link | 64 MiB; further ones are dropped |
//! | senders of datagrams to one proxy | 64; one that is silent for a minute is forgotten |
//! | connections of one stream proxy | 64; further ones wait |
//! | bytes under way in one direction of a connection | 8 MiB; no more is read meanwhile |
//! | frames from a node on a lane | as by default in [`LaneLimits`](crate::LaneLimits); others are dropped |
//!
//! # Where things are
//!
//! | looking for | see |
//! |---|---|
//! | what becomes of a packet | `link.rs` |
//! | which link is between two nodes | `network.rs`, `profiles.rs`, `lines.rs` |
//! | how settings are written | `text.rs` |
//! | what is under way, and when it is delivered | `schedule.rs`, `timer.rs` |
//! | the three carriers | `datagrams.rs`, `stream.rs`, `frames.rs` |

mod accuracy;
mod datagrams;
mod frames;
mod lines;
mod link;
mod network;
mod profiles;
mod schedule;
mod stream;
mod text;
mod timer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use paxos_core::NodeId;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use self::frames::DelayedTransport;
use self::lines::{Line, Lines};
use self::schedule::Schedule;
use self::timer::Timer;
use crate::Transport;

pub use accuracy::Accuracy;
pub use link::{Fate, Link, LinkState, Probability};
pub use network::{Network, NetworkError};
pub use profiles::Profile;
pub use text::{LinkError, ProbabilityError};

/// A network at work, on a thread of its own. When it is dropped, its proxies and their connections are
/// closed, and so are its [transports](Emulator::frames).
#[derive(Debug)]
pub struct Emulator {
    lines: Arc<Lines>,
    schedule: Arc<Schedule>,
    runtime: Handle,
    /// Dropped to stop the thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The link from one node to another, and that back.
#[derive(Clone, Debug)]
struct Route {
    line: Arc<Line>,
    way_back: Arc<Line>,
    schedule: Arc<Schedule>,
}

impl Route {
    fn reversed(&self) -> Route {
        let (line, way_back) = (Arc::clone(&self.way_back), Arc::clone(&self.line));
        Route { line, way_back, schedule: Arc::clone(&self.schedule) }
    }
}

impl Emulator {
    /// Starts the thread of a network. With the same seed, packets of the same lengths at the same times have
    /// the same fates.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread, or a descriptor for its timer or its I/O.
    pub fn start(network: Network, seed: u64) -> io::Result<Emulator> {
        let schedule = Arc::new(Schedule::new());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let timer = {
            let _guard = runtime.enter();
            Timer::new()?
        };
        let (running, stopped) = oneshot::channel();
        let delivering = Arc::clone(&schedule);
        let thread = std::thread::Builder::new()
            .name("emulator".to_owned())
            .spawn(move || carry_traffic(runtime, timer, &delivering, stopped))?;
        Ok(Emulator {
            lines: Arc::new(Lines::new(network, seed)),
            schedule,
            runtime: handle,
            running: Some(running),
            thread: Some(thread),
        })
    }

    /// Opens a proxy for datagrams, and returns the address that `from` dials in place of `target`, the
    /// address of `to`. Answers go back over the link from `to` to `from`.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub fn datagrams(&self, from: NodeId, to: NodeId, target: SocketAddr) -> io::Result<SocketAddr> {
        let socket = datagrams::listening_socket()?;
        let address = socket.local_addr()?;
        let socket = {
            let _guard = self.runtime.enter();
            UdpSocket::from_std(socket)?
        };
        self.runtime.spawn(datagrams::serve(socket, target, self.route(from, to)));
        Ok(address)
    }

    /// Opens a proxy for streams, and returns the address that `from` dials in place of `target`, the address
    /// of `to`. Answers go back over the link from `to` to `from`.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub fn stream(&self, from: NodeId, to: NodeId, target: SocketAddr) -> io::Result<SocketAddr> {
        let listener = stream::listening_socket()?;
        let address = listener.local_addr()?;
        let listener = {
            let _guard = self.runtime.enter();
            TcpListener::from_std(listener)?
        };
        self.runtime.spawn(stream::serve(listener, target, self.route(from, to)));
        Ok(address)
    }

    /// Puts the links from all other nodes before the transport of a node. Whole frames are delayed, lost,
    /// doubled and reordered after the transport has received them; all else is the transport's own. For
    /// transports without sockets. The other nodes need the same, for the other direction.
    ///
    /// A frame is under way from when the user asks for frames, so a user who does so late receives late.
    #[must_use]
    pub fn frames(&self, transport: Box<dyn Transport>) -> Box<dyn Transport> {
        let (mut ends, ended) = oneshot::channel();
        // Ends with the transport, or with the runtime.
        self.runtime.spawn(async move { ends.closed().await });
        Box::new(DelayedTransport::new(transport, Arc::clone(&self.lines), Arc::clone(&self.schedule), ended))
    }

    /// Changes the link from one node to another. What is under way arrives as it was to; later packets may
    /// overtake it. A stream whose link loses everything waits until it does no longer.
    pub fn set(&self, from: NodeId, to: NodeId, link: Link) {
        self.lines.line(from, to).set(link);
    }

    /// The present link from one node to another.
    #[must_use]
    pub fn link(&self, from: NodeId, to: NodeId) -> Link {
        self.lines.line(from, to).state().link().clone()
    }

    /// How exact it was, and what the links have lost, since it was started.
    #[must_use]
    pub fn accuracy(&self) -> Accuracy {
        self.schedule.record.accuracy()
    }

    fn route(&self, from: NodeId, to: NodeId) -> Route {
        Route {
            line: self.lines.line(from, to),
            way_back: self.lines.line(to, from),
            schedule: Arc::clone(&self.schedule),
        }
    }
}

/// Runs the thread of an emulator. What is under way when it stops is lost.
fn carry_traffic(runtime: Runtime, timer: Timer, schedule: &Schedule, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {}
            error = schedule.run(&timer) => panic!("the system keeps a timer that it has given: {error}"),
        }
    });
    drop(timer);
    drop(runtime); // Ends all tasks, and so closes their sockets.
    schedule.clear();
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
