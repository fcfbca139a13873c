//! Nodes on disks that fail or fill up, and clients that vanish, for real: the kernel refuses what it would
//! be slow or dangerous to have a disk refuse. Needs root, and says so where it has to skip.

#![cfg(target_os = "linux")]

mod faults;
mod full;
mod hanging;
mod mounts;
mod process;
#[path = "../support/mod.rs"]
mod support;
mod vanished;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use process::Process;
use support::{Client, Cluster, wait};

/// Longer than any election or reconnection takes.
const SERVED_AGAIN: Duration = Duration::from_secs(10);

/// Nodes whose processes this file looks after itself, each with a data directory where the test wants it.
struct Nodes {
    // Dropped first: what the processes use is unmounted and removed after them.
    processes: Vec<Option<Process>>,
    arguments: Vec<Vec<String>>,
    cluster: Cluster,
}

impl Nodes {
    /// Starts a node on each of the directories, which are empty, and waits until they serve.
    fn start(data: &[String], options: &[&str]) -> Nodes {
        let cluster = Cluster::new(data.len(), options);
        let mut nodes = Nodes { processes: Vec::new(), arguments: Vec::new(), cluster };
        for (id, data) in (1..).zip(data) {
            let output = support::run(&["format", "--id", &id.to_string(), "--data", data]);
            assert!(output.status.success(), "format {data}: {output:?}");
            let mut arguments = nodes.cluster.serve_arguments(id);
            let at = arguments.iter().position(|argument| argument == "--data").expect("it is given") + 1;
            data.clone_into(&mut arguments[at]);
            nodes.arguments.push(arguments);
            nodes.processes.push(None);
            nodes.restart(id);
        }
        nodes.wait_until_ready();
        nodes
    }

    fn restart(&mut self, id: usize) {
        let log = self.cluster.path(&format!("node-{id}.log"));
        self.processes[id - 1] = Some(Process::start(&self.arguments[id - 1], &log));
    }

    fn process(&mut self, id: usize) -> &mut Process {
        self.processes[id - 1].as_mut().expect("the node was started")
    }

    fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.processes.len()
    }

    fn wait_until_ready(&self) {
        for id in self.ids() {
            wait(&format!("node {id} is ready; its log: {}", self.cluster.log(id)), || {
                self.cluster.http(id, "/readyz").filter(|(code, _)| *code == 200)
            });
        }
    }

    fn leader(&self) -> usize {
        let leads = |id: &usize| self.cluster.status(*id, "role").as_deref() == Some("\"leader\"");
        wait("a leader", || self.ids().find(leads))
    }

    /// Waits until all have applied the same and have equal states.
    fn wait_for_equal_states(&self) {
        let state = |id| (self.cluster.status(id, "applied"), self.cluster.status(id, "digest"));
        wait("all nodes have equal `applied` and `digest`", || {
            let states: Vec<_> = self.ids().map(state).collect();
            (states[0].0.is_some() && states.iter().all(|state| *state == states[0])).then_some(())
        });
    }

    /// Each of these keys must have its value, whichever node is asked.
    fn assert_kept(&self, keys: &[usize]) {
        for id in self.ids() {
            let mut client = self.cluster.client(id);
            for key in keys {
                let read = client.ask(&["GET", &format!("k{key}")]);
                assert_eq!(read, value(*key), "k{key} on node {id}: {} writes had got an OK", keys.len());
            }
        }
    }
}

/// 256 bytes or so, so that each takes a block of the log as most do.
fn value(key: usize) -> String {
    format!("value {key} {}", "x".repeat(240))
}

fn set(client: &mut Client, key: usize) -> Option<String> {
    client.try_ask(&["SET", &format!("k{key}"), &value(key)])
}

/// Writes these keys, one after the other, until something other than OK comes back. Tells which got their
/// OK, and what came then: `None` if all did, and a text for a connection that broke.
fn set_until_refused(client: &mut Client, keys: std::ops::Range<usize>) -> (Vec<usize>, Option<String>) {
    let mut acknowledged = Vec::new();
    for key in keys {
        match set(client, key) {
            Some(reply) if reply == "OK" => acknowledged.push(key),
            Some(reply) => return (acknowledged, Some(reply)),
            None => return (acknowledged, Some(String::from("no reply"))),
        }
    }
    (acknowledged, None)
}

/// Writes a key through any of these nodes, and tells how long it took.
fn set_somewhere(nodes: &Nodes, ids: &[usize], key: usize) -> Duration {
    let start = Instant::now();
    let mut last = Vec::new();
    while start.elapsed() < SERVED_AGAIN {
        for id in ids {
            match set(&mut nodes.cluster.client(*id), key) {
                Some(reply) if reply == "OK" => return start.elapsed(),
                reply => last.push(format!("node {id}: {reply:?}")),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let last = &last[last.len().saturating_sub(4)..];
    panic!("k{key} was not taken within {SERVED_AGAIN:?} by any of {ids:?}; the last replies: {last:?}");
}

/// Whether these programs are there and may be used. Says so on the terminal if not: past the test harness,
/// which shows nothing of a test that passes.
fn can_run(test: &str, programs: &[&str]) -> bool {
    let answers = |program: &&str| {
        let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok()
    };
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !answers(program)).collect();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let can = is_root && missing.is_empty();
    if !can {
        skip(
            test,
            &if is_root { format!("needs {}", missing.join(" and ")) } else { String::from("needs root") },
        );
    }
    can
}

fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}"); // Without a terminal there is no reader.
}
