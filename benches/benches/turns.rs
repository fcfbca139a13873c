//! For how long a node does nothing else, whatever its clients ask for: `cargo bench -p benches --bench
//! turns`.
//!
//! Each load meets a node of its own, with clients over TCP on the thread that also drives the protocol. Told
//! are the longest turn of the driver and the longest time that anything kept it from its turn: for so long
//! the node sends no heartbeat and hears nobody. On a machine with other load the second one also holds what
//! that took.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use paxos_core::NodeId;
use paxos_node::fronts::{http, resp};
use paxos_node::kv::Store;
use paxos_node::{ApplyMode, Node, NodeSettings, Status};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::sync::{oneshot, watch};

const KEYS: u32 = 1_000_000;
const KEYS_AT_ONCE: u32 = 1_000;
const LONG_KEY_BYTES: usize = 65_000;

type Load = fn(&mut Client);

const LOADS: &[(&str, Load)] = &[
    ("nothing", |_| thread::sleep(Duration::from_secs(2))),
    ("a million keys set", |client| client.fill(KEYS)),
    ("FLUSHALL of a million keys", |client| {
        client.fill(KEYS);
        client.ask(&["FLUSHALL"]);
    }),
    ("a million keys that expire at once", |client| {
        let deadline = SystemTime::now() + Duration::from_secs(10);
        client.fill_until(KEYS, deadline);
        let left =
            deadline.duration_since(SystemTime::now()).expect("they are set in less than the time they have");
        thread::sleep(left);
        let since = Instant::now();
        while client.count() > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let seconds = since.elapsed().as_secs_f64();
        println!("{:<48} {:>11.0} keys/s", "  expired", f64::from(KEYS) / seconds);
    }),
    ("2000 SCAN COUNT 10000 in one MULTI", |client| {
        client.fill(200_000);
        client.transaction(2_000, &["SCAN", "0", "COUNT", "10000"]);
    }),
    ("20 long keys and a pattern of 16 KiB", |client| {
        for number in 0..20 {
            client.ask(&["SET", &format!("{}{number}", "a".repeat(LONG_KEY_BYTES)), "v"]);
        }
        let pattern = format!("*{}b", "a".repeat(16_384));
        client.transaction(10, &["SCAN", "0", "MATCH", &pattern, "COUNT", "100"]);
    }),
    ("1000 APPENDs to a value of 900 KiB, pipelined", |client| {
        client.ask(&["SET", "long", &"x".repeat(900 << 10)]);
        for _ in 0..1_000 {
            client.send(&["APPEND", "long", "y"]);
        }
        client.wait();
    }),
    ("1000 GETs of a value of 900 KiB, pipelined", |client| {
        client.ask(&["SET", "long", &"x".repeat(900 << 10)]);
        for _ in 0..1_000 {
            client.send(&["GET", "long"]);
        }
        client.wait();
    }),
];

const NODE: NodeId = NodeId(1);

fn main() {
    let recorder = http::recorder(NODE);
    let metrics = recorder.handle();
    metrics::set_global_recorder(recorder).expect("it is the only one");
    println!("{:<48} {:>14} {:>14}", "load", "longest turn", "longest delay");
    for (name, load) in LOADS {
        let (address, stop) = start();
        load(&mut Client::connect(address));
        thread::sleep(Duration::from_millis(100)); // The figures are shown at the next tick.
        let page = metrics.render();
        let milliseconds = |gauge: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(gauge)?.strip_prefix("{node=\"1\"} "));
            line.and_then(|value| value.parse::<f64>().ok()).map_or(f64::NAN, |seconds| 1000.0 * seconds)
        };
        let (turn, delay) =
            (milliseconds("paxos_longest_turn_seconds"), milliseconds("paxos_longest_delay_seconds"));
        println!("{name:<48} {turn:>11.1} ms {delay:>11.1} ms");
        stop.send(()).expect("the node waits for it");
    }
}

/// Starts a node on a thread of its own; gives where it takes clients, and how it is stopped.
fn start() -> (SocketAddr, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let (address_to, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("there are resources for a runtime").block_on(async {
            let id = NODE;
            let settings =
                NodeSettings::new(id, vec![id]).with(|settings| settings.applying = ApplyMode::Inline);
            let transport = Box::new(MemoryNetwork::new().bind(id));
            let storage = Box::new(MemoryStorage::new(Identity::new("turns", id)));
            let node = Node::start(settings, transport, storage, Store::default()).expect("they fit");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let (_stop_front, front_stopped) = watch::channel(false);
            let address = listener.local_addr().expect("it is bound");
            tokio::spawn(resp::serve(listener, node.client(), resp::RespSettings::default(), front_stopped));
            node.status().wait_for(Status::is_ready).await.expect("it runs");
            address_to.send(address).expect("the bench waits for it");
            stopped.await.expect("the bench stops each node");
            node.stop().await.expect("it has not failed");
        });
    });
    (address.recv().expect("the node starts"), stop)
}

/// A client that looks at no reply, but for the one that shows that all others have come.
struct Client {
    stream: TcpStream,
    /// Told by a thread that reads, so that no request waits for a reply to be read.
    replies: std::sync::mpsc::Receiver<()>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the node takes clients");
        let mut reading = stream.try_clone().expect("a socket can be shared");
        let (told, replies) = std::sync::mpsc::channel();
        thread::spawn(move || {
            // The reply to the ECHO of this is looked for.
            let (mut buffer, mut tail) = (vec![0; 1 << 20], Vec::new());
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                tail.extend_from_slice(&buffer[..count]);
                let marks = tail.windows(MARK.len()).filter(|window| *window == MARK.as_bytes()).count();
                let kept = if marks > 0 { 0 } else { MARK.len() - 1 };
                tail.drain(..tail.len().saturating_sub(kept));
                for _ in 0..marks {
                    let _ = told.send(()); // The load may be over.
                }
            }
        });
        Client { stream, replies }
    }

    fn send(&mut self, words: &[&str]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        self.stream.write_all(&request).expect("the node reads requests");
    }

    /// Waits until all that was sent is answered.
    fn wait(&mut self) {
        self.send(&["ECHO", MARK]);
        self.replies.recv().expect("the node answers");
    }

    fn ask(&mut self, words: &[&str]) {
        self.send(words);
        self.wait();
    }

    fn transaction(&mut self, count: usize, words: &[&str]) {
        self.send(&["MULTI"]);
        (0..count).for_each(|_| self.send(words));
        self.ask(&["EXEC"]);
    }

    /// Sets keys that expire at the same time.
    fn fill_until(&mut self, keys: u32, deadline: SystemTime) {
        let at_ms =
            deadline.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis().to_string();
        for first in (0..keys).step_by(KEYS_AT_ONCE as usize) {
            for key in first..first + KEYS_AT_ONCE {
                self.send(&["SET", &format!("key:{key:09}"), "a value of some length", "PXAT", &at_ms]);
            }
            self.wait();
        }
    }

    /// How many keys there are, asked for over a connection of its own.
    fn count(&self) -> u64 {
        let mut stream =
            TcpStream::connect(self.stream.peer_addr().expect("it is connected")).expect("the node takes it");
        stream.write_all(b"*1\r\n$6\r\nDBSIZE\r\n").expect("the node reads requests");
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).expect("the node answers");
        reply.trim().strip_prefix(':').and_then(|count| count.parse().ok()).expect("it is a number")
    }

    fn fill(&mut self, keys: u32) {
        for first in (0..keys).step_by(KEYS_AT_ONCE as usize) {
            let pairs: Vec<String> =
                (first..first + KEYS_AT_ONCE).map(|key| format!("key:{key:09}")).collect();
            let mut words = vec!["MSET"];
            words.extend(pairs.iter().flat_map(|key| [key.as_str(), "a value of some length"]));
            self.ask(&words);
        }
    }
}

/// No reply of a load holds this.
const MARK: &str = "=== all is answered ===";
