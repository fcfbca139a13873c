//! What a node tells the service manager, over a real socket: `src/cli/supervisor.rs`.
#![cfg(feature = "file")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE};

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    lines: Vec<String>,
}

impl Manager {
    /// Has node 1 told where the manager listens, and that it watches.
    fn of(cluster: &mut Cluster) -> Manager {
        let path = cluster.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it can be set");
        cluster.wrap(1, &["env", &format!("NOTIFY_SOCKET={path}"), "WATCHDOG_USEC=2000000"]);
        Manager { socket, lines: Vec::new() }
    }

    /// Reads what has come since.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }

    fn count(&mut self, line: &str) -> usize {
        self.read();
        self.lines.iter().filter(|other| *other == line).count()
    }

    /// Waits until a line has come this many times.
    fn wait(&mut self, line: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(line) < times {
            assert!(Instant::now() < deadline, "not {times} times {line}: {:?}", self.lines);
        }
    }
}

#[test]
fn the_service_manager_hears_that_a_node_serves_lives_and_stops() {
    let mut cluster = Cluster::new(1, &[]);
    let mut manager = Manager::of(&mut cluster);
    cluster.start(1);
    manager.wait("READY=1", 1);
    manager.wait("STATUS=ready: leads", 1);
    let fed = manager.count("WATCHDOG=1");
    manager.wait("WATCHDOG=1", fed + 2);
    // One that does not go on feeds no watchdog.
    cluster.signal(1, "-STOP");
    manager.read();
    let fed = manager.count("WATCHDOG=1");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(manager.count("WATCHDOG=1"), fed);
    cluster.signal(1, "-CONT");
    manager.wait("WATCHDOG=1", fed + 1);
    cluster.stop(1);
    manager.wait("STOPPING=1", 1);
    assert_eq!(manager.count("READY=1"), 1);
}

#[test]
fn a_node_without_a_quorum_has_started_and_says_what_it_lacks() {
    let mut cluster = Cluster::new(3, &[]);
    let mut manager = Manager::of(&mut cluster);
    cluster.start(1);
    manager.wait("READY=1", 1);
    manager.wait("STATUS=belongs to no cluster yet: waiting to meet nodes 2 and 3", 1);
    cluster.stop(1);
}

#[test]
fn nobody_listens_to_what_a_node_tells() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.wrap(1, &["env", "NOTIFY_SOCKET=/nowhere/at/all"]);
    cluster.start(1);
    cluster.wait_for_leader();
    assert!(cluster.log(1).contains("NOTIFY_SOCKET"), "{}", cluster.log(1));
    cluster.stop(1);
}
