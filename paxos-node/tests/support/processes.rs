//! Nodes as processes of the program.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Client;

/// No node may be at one turn for longer, or be kept from it by other tasks of its thread: a tenth of an
/// election time-out. A build without optimization takes up to 25 ms, and a release build up to 5.
const TURN_LIMIT: &str = "50ms";
/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn paxos_node() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paxos-node"));
    command.stdin(Stdio::null());
    command
}

/// What every node is to be put behind: the words of the environment variable `PAXOS_TEST_WRAPPER`, as
/// `.ci/limited` sets it to run these tests on nodes that may use little.
fn wrapper_of_all() -> Vec<String> {
    let words = std::env::var("PAXOS_TEST_WRAPPER").unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// A port of the loopback interface that is free for UDP and TCP.
///
/// It is not in the range from which the system takes ports for outgoing connections, so that none of those
/// takes it before the test does.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        // Each process begins elsewhere, as several may run tests at once.
        let place = std::process::id().wrapping_mul(997).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + place % COUNT).expect("below those that the system hands out");
        let is_free =
            TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if is_free {
            return port;
        }
    }
}

/// Runs a command that ends by itself, with at most the given time to do so.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = paxos_node();
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("the process can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("paxos-node {} does not end", arguments.join(" "));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output can be read")
}

/// A cluster of processes in a temporary directory.
pub(crate) struct Cluster {
    pub(crate) directory: TempDir,
    nodes: Vec<Option<Child>>,
    ports: Vec<[u16; 3]>,
    /// How many of the nodes found the cluster.
    founders: usize,
    options: Vec<String>,
    /// What each node's command is put behind, such as a program that limits what it may use.
    wrappers: Vec<Vec<String>>,
    /// Nodes that were stopped for a while, which looks to them like a turn that takes long.
    paused: Mutex<BTreeSet<usize>>,
}

impl Cluster {
    /// A cluster whose nodes get `options` beside what they need; not started yet.
    pub(crate) fn new(size: usize, options: &[&str]) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ports = (0..size).map(|_| [free_port(), free_port(), free_port()]).collect();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let (nodes, wrappers) = ((0..size).map(|_| None).collect(), vec![wrapper_of_all(); size]);
        let paused = Mutex::default();
        let cluster = Cluster { directory, nodes, ports, founders: size, options, wrappers, paused };
        let output = run(&["certs", "--out", &cluster.path("certs"), "--nodes", &size.to_string()]);
        assert!(output.status.success(), "{output:?}");
        for id in 1..=size {
            let output = run(&["format", "--id", &id.to_string(), "--data", &cluster.data(id)]);
            assert!(output.status.success(), "{output:?}");
        }
        cluster
    }

    /// A cluster that runs and has a leader.
    pub(crate) fn started(size: usize, options: &[&str]) -> Cluster {
        let mut cluster = Cluster::new(size, options);
        for id in 1..=size {
            cluster.start(id);
        }
        cluster.wait_for_leader();
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn data(&self, id: usize) -> String {
        self.path(&format!("node-{id}"))
    }

    pub(crate) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.path(&format!("node-{id}.log"))).unwrap_or_default()
    }

    /// Makes what another node needs to join the cluster, and returns its id; not started yet.
    pub(crate) fn grow(&mut self) -> usize {
        self.ports.push([free_port(), free_port(), free_port()]);
        self.nodes.push(None);
        self.wrappers.push(wrapper_of_all());
        let id = self.nodes.len();
        let output = run(&["certs", "--out", &self.path("certs"), "--add", &id.to_string()]);
        assert!(output.status.success(), "{output:?}");
        let output = run(&["format", "--id", &id.to_string(), "--data", &self.data(id)]);
        assert!(output.status.success(), "{output:?}");
        id
    }

    /// Has the node listen for its peers at another port when it is started next.
    pub(crate) fn change_port(&mut self, id: usize) {
        self.ports[id - 1][0] = free_port();
    }

    /// Where a node listens for its peers.
    pub(crate) fn peer_address(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.ports[id - 1][0])
    }

    /// The arguments of `serve` for a node that joins by asking these members.
    pub(crate) fn join_arguments(&self, id: usize, via: &[usize]) -> Vec<String> {
        let mut arguments = self.serve_arguments(id);
        let via: Vec<String> = via.iter().map(|member| self.peer_address(*member)).collect();
        let at = arguments.iter().position(|argument| argument == "--peers").expect("it is there");
        arguments[at] = String::from("--join");
        arguments[at + 1] = via.join(",");
        arguments.extend([String::from("--listen"), self.peer_address(id)]);
        arguments
    }

    /// The command `paxos-node member` that asks these members; not started yet.
    pub(crate) fn member_command(&self, via: &[usize], arguments: &[&str]) -> Command {
        let via: Vec<String> = via.iter().map(|member| self.peer_address(*member)).collect();
        let mut command = paxos_node();
        command.arg("member").args(arguments).args(["--via", &via.join(","), "--certs", &self.path("certs")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `paxos-node member`, and returns its exit code and the last line of its output or error.
    pub(crate) fn try_member(&self, via: &[usize], arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.member_command(via, arguments).output().expect("the program runs");
        let text = if output.status.success() { &output.stdout } else { &output.stderr };
        let line = String::from_utf8_lossy(text).lines().last().unwrap_or_default().to_owned();
        (output.status.code(), line)
    }

    /// The same for a command that must succeed.
    pub(crate) fn member(&self, via: &[usize], arguments: &[&str]) -> String {
        let (code, line) = self.try_member(via, arguments);
        assert_eq!(code, Some(0), "member {}: {line}", arguments.join(" "));
        line
    }

    /// The exit code of a node that ends by itself.
    pub(crate) fn exit_code(&mut self, id: usize) -> Option<i32> {
        let mut child = self.nodes[id - 1].take().expect("the node was started");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the process can be waited for") {
                return status.code();
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("node {id} does not end; its log: {}", self.log(id));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn serve_arguments(&self, id: usize) -> Vec<String> {
        let peers: Vec<String> =
            (1..=self.founders).map(|peer| format!("{peer}=127.0.0.1:{}", self.ports[peer - 1][0])).collect();
        let [_, client, http] = self.ports[id - 1];
        let mut arguments: Vec<String> = ["serve", "--id"].map(str::to_owned).to_vec();
        arguments.push(id.to_string());
        for (name, value) in [
            ("--peers", peers.join(",")),
            ("--client", format!("127.0.0.1:{client}")),
            ("--http", format!("127.0.0.1:{http}")),
            ("--data", self.data(id)),
            ("--certs", self.path("certs")),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// Has a node's command put behind these words.
    pub(crate) fn wrap(&mut self, id: usize, words: &[&str]) {
        self.wrappers[id - 1] = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The command that runs a node behind these words; not started yet.
    pub(crate) fn wrapped(&self, words: &[&str], id: usize) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_paxos-node")).args(self.serve_arguments(id));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&mut self, id: usize) {
        let arguments = self.serve_arguments(id);
        self.start_with(id, &arguments);
    }

    pub(crate) fn start_with(&mut self, id: usize, arguments: &[String]) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.path(&format!("node-{id}.log")));
        let log = log.expect("the log file opens");
        self.start_on(id, arguments, Stdio::null(), Stdio::from(log));
    }

    /// Starts a node with streams of the test's own.
    pub(crate) fn start_on(&mut self, id: usize, arguments: &[String], output: Stdio, error: Stdio) {
        let mut command = match self.wrappers[id - 1].split_first() {
            None => paxos_node(),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(env!("CARGO_BIN_EXE_paxos-node")).stdin(Stdio::null());
                command
            }
        };
        command.env("PAXOS_TEST_TURN_LIMIT", TURN_LIMIT);
        let child = command.args(arguments).stdout(output).stderr(error).spawn();
        self.nodes[id - 1] = Some(child.expect("the program starts"));
    }

    /// The process of a node.
    pub(crate) fn process(&mut self, id: usize) -> &mut Child {
        self.nodes[id - 1].as_mut().expect("the node was started")
    }

    pub(crate) fn kill(&mut self, id: usize) {
        let mut child = self.nodes[id - 1].take().expect("the node runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    fn paused(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn signal(&self, id: usize, signal: &str) {
        if signal == "-STOP" {
            self.paused().insert(id);
        }
        let child = self.nodes[id - 1].as_ref().expect("the node runs");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// The memory of a node's process, in bytes, without the pages of its program: the system takes those
    /// away when it needs memory, and a program with debug information has 25 MiB of them.
    pub(crate) fn memory_bytes(&self, id: usize) -> usize {
        let process = self.nodes[id - 1].as_ref().expect("the node runs").id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells its size");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Asks a node to stop and waits for it.
    pub(crate) fn stop(&mut self, id: usize) {
        self.signal(id, "-TERM");
        let mut child = self.nodes[id - 1].take().expect("the node runs");
        assert!(
            child.wait().expect("it can be waited for").success(),
            "node {id} stops cleanly: {}",
            self.log(id)
        );
    }

    /// Where a node listens for Redis clients.
    pub(crate) fn client_address(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.ports[id - 1][1])
    }

    /// Where a node answers HTTP.
    pub(crate) fn http_address(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.ports[id - 1][2])
    }

    pub(crate) fn client(&self, id: usize) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(self.client_address(id)) {
                Ok(stream) => return Client::new(stream),
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("node {id} takes no clients: {error}; its log: {}", self.log(id)),
            }
        }
    }

    /// The body of an HTTP answer, and its status code.
    pub(crate) fn http(&self, id: usize, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[id - 1][2])).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        Some((code, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// A field of a node's `/status`, as JSON text.
    pub(crate) fn status(&self, id: usize, field: &str) -> Option<String> {
        let (_, body) = self.http(id, "/status")?;
        let parsed: serde_json::Value = serde_json::from_str(&body).ok()?;
        Some(parsed.get(field)?.to_string())
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let running = (1..=self.nodes.len()).filter(|id| self.nodes[id - 1].is_some());
        running.into_iter().find(|id| self.status(*id, "role").as_deref() == Some("\"leader\""))
    }

    /// The leader, once all running nodes agree on it and are ready.
    pub(crate) fn wait_for_leader(&self) -> usize {
        wait("a leader that all know", || {
            let leader = self.leader()?;
            let mut running = (1..=self.nodes.len()).filter(|id| self.nodes[id - 1].is_some());
            let all = running.all(|id| {
                self.status(id, "leader") == Some(leader.to_string())
                    && self.http(id, "/readyz").is_some_and(|(code, _)| code == 200)
            });
            all.then_some(leader)
        })
    }

    /// Waits until all running nodes have applied the same and have equal states.
    pub(crate) fn wait_for_equal_states(&self) {
        wait("equal states", || {
            let running = (1..=self.nodes.len()).filter(|id| self.nodes[id - 1].is_some());
            let states: Vec<_> =
                running.map(|id| (self.status(id, "applied"), self.status(id, "digest"))).collect();
            (states[0].0.is_some() && states.iter().all(|state| *state == states[0])).then_some(())
        });
    }
}

/// What a node logs of a peer that sends what is no message, or what is no frame.
const MISUNDERSTANDINGS: [&str; 2] = ["the peer sends invalid frames", "malformed message"];

impl Drop for Cluster {
    fn drop(&mut self) {
        // A node that is not running any more has told it before.
        let mut misunderstandings = Vec::new();
        for id in 1..=self.nodes.len() {
            let count = self.nodes[id - 1].as_ref().and_then(|_| self.status(id, "misunderstood"));
            let log = self.log(id);
            let told = log.lines().filter(|line| MISUNDERSTANDINGS.iter().any(|text| line.contains(text)));
            misunderstandings.extend(told.map(str::to_owned));
            misunderstandings
                .extend(count.filter(|count| count != "0").map(|count| format!("node {id}: {count}")));
        }
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            return;
        }
        assert!(misunderstandings.is_empty(), "nodes have not understood each other: {misunderstandings:#?}");
        for id in (1..=self.nodes.len()).filter(|id| !self.paused().contains(id)) {
            let log = self.log(id);
            let turns: Vec<&str> = log.lines().filter(|line| line.contains("turn limit exceeded")).collect();
            assert!(turns.is_empty(), "node {id} was deaf for too long: {turns:#?}");
        }
    }
}

/// Tries until there is a result.
pub(crate) fn wait<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_telling(|| what.to_owned(), attempt)
}

/// Tries until there is a result; tells what was waited for, and how things are, if there is none.
pub(crate) fn wait_telling<T>(told: impl Fn() -> String, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < deadline, "not in time: {}", told());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The last line of what a command wrote to standard error.
pub(crate) fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}
