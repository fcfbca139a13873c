//! Real nodes as processes, and a Redis client of a few lines to talk to them.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn paxos_node() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paxos-node"));
    command.stdin(Stdio::null());
    command
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
    options: Vec<String>,
}

impl Cluster {
    /// A cluster whose nodes get `options` beside what they need; not started yet.
    pub(crate) fn new(size: usize, options: &[&str]) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // All are held open until the last is known, so that none comes twice.
        let listeners: Vec<TcpListener> =
            (0..3 * size).map(|_| TcpListener::bind("127.0.0.1:0").expect("there are free ports")).collect();
        let port =
            |index: usize| listeners[index].local_addr().expect("a bound socket has an address").port();
        let ports = (0..size).map(|node| [port(3 * node), port(3 * node + 1), port(3 * node + 2)]).collect();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let cluster = Cluster { directory, nodes: (0..size).map(|_| None).collect(), ports, options };
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

    pub(crate) fn serve_arguments(&self, id: usize) -> Vec<String> {
        let peers: Vec<String> = (1..=self.ports.len())
            .map(|peer| format!("{peer}=127.0.0.1:{}", self.ports[peer - 1][0]))
            .collect();
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

    pub(crate) fn start(&mut self, id: usize) {
        let arguments = self.serve_arguments(id);
        self.start_with(id, &arguments);
    }

    pub(crate) fn start_with(&mut self, id: usize, arguments: &[String]) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.path(&format!("node-{id}.log")));
        let log = log.expect("the log file opens");
        let child = paxos_node().args(arguments).stdout(Stdio::null()).stderr(log).spawn();
        self.nodes[id - 1] = Some(child.expect("the program starts"));
    }

    pub(crate) fn kill(&mut self, id: usize) {
        let mut child = self.nodes[id - 1].take().expect("the node runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    pub(crate) fn signal(&self, id: usize, signal: &str) {
        let child = self.nodes[id - 1].as_ref().expect("the node runs");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
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

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Tries until there is a result.
pub(crate) fn wait<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A Redis client.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Client { stream: BufReader::new(stream) }
    }

    /// Sends a command and returns its reply as text: errors with their `-`, nil as `(nil)`, arrays in brackets.
    pub(crate) fn ask(&mut self, command: &[&str]) -> String {
        self.send(command);
        self.reply().expect("the node answers")
    }

    /// The same, where the connection may break instead.
    pub(crate) fn try_ask(&mut self, command: &[&str]) -> Option<String> {
        self.send(command);
        self.reply()
    }

    pub(crate) fn send(&mut self, command: &[&str]) {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes); // If it is broken, so is reading the reply.
    }

    pub(crate) fn reply(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let line = line.trim_end().to_owned();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" | "*" if rest == "-1" => Some(String::from("(nil)")),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
                self.stream.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" | "%" => {
                let count = rest.parse::<usize>().ok()? * if kind == "%" { 2 } else { 1 };
                let elements: Option<Vec<String>> = (0..count).map(|_| self.reply()).collect();
                Some(format!("[{}]", elements?.join(" ")))
            }
            "_" => Some(String::from("(nil)")),
            "-" => Some(line),
            _ => Some(rest.to_owned()),
        }
    }
}

/// The last line of what a command wrote to standard error.
pub(crate) fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}
