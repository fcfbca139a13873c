//! An emulated network for any transport, in this process and without privileges.
//!
//! DOCS

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
use tokio::runtime::{Builder, Handle};
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
        let thread = std::thread::Builder::new().name("emulator".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    failed = delivering.run(&timer) => drop(failed),
                }
            });
            drop(timer);
            drop(runtime);
            delivering.clear();
        })?;
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

    /// Puts the links that lead to `node` before its transport: whole frames are delayed, lost, doubled and
    /// reordered after the transport has received them. For transports without sockets.
    #[must_use]
    pub fn frames(&self, transport: Box<dyn Transport>) -> Box<dyn Transport> {
        let (mut ends, ended) = oneshot::channel();
        // Ends with the transport, or with the runtime.
        self.runtime.spawn(async move { ends.closed().await });
        Box::new(DelayedTransport::new(
            transport,
            Arc::clone(&self.lines),
            Arc::clone(&self.schedule),
            ended,
        ))
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

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
