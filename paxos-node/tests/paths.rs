//! Nodes on machines of their own, as far as the kernel can make such (network namespaces), on paths that
//! lose what is long, refuse, or are silent. Needs root and `ip`, and says so where it has to skip.

#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE};

/// The addresses of nodes 1 and 2.
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const PORT: u16 = 9001;

/// Two namespaces with a cable between them, one for each of two nodes. Removed when dropped.
struct Machines {
    names: [String; 2],
    processes: Vec<Child>,
    cluster: Cluster,
}

impl Machines {
    /// Lays a cable whose ends take packets of so many bytes: what is longer gets lost at the end that takes
    /// less, without a word to the sender. `None` if the system does not let us.
    fn connected(test: &str, mtus: [u32; 2], options: &[&str]) -> Option<Machines> {
        let name = |node: u32| format!("paxos-{}-{test}-{node}", std::process::id());
        let machines =
            Machines { names: [name(1), name(2)], processes: Vec::new(), cluster: Cluster::new(2, options) };
        if let Err(problem) = machines.lay_cable(mtus) {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: needs root and ip ({problem})");
            return None;
        }
        Some(machines)
    }

    fn lay_cable(&self, mtus: [u32; 2]) -> Result<(), String> {
        let [first, second] = &self.names;
        for name in &self.names {
            run(&["netns", "add", name])?;
            run(&["-n", name, "link", "set", "lo", "up"])?;
        }
        run(&[
            "-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second,
        ])?;
        for (name, (address, mtu)) in self.names.iter().zip(ADDRESSES.iter().zip(mtus)) {
            run(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            run(&["-n", name, "link", "set", "cable", "mtu", &mtu.to_string(), "up"])?;
        }
        Ok(())
    }

    /// Changes the routes of a node's machine.
    fn route(&self, node: usize, arguments: &[&str]) {
        let routed = run(&[&["-n", &self.names[node - 1], "route"], arguments].concat());
        routed.expect("routes can be changed where a cable can be laid");
    }

    /// Starts a node with these addresses of the two nodes.
    fn start(&mut self, node: usize, addresses: [&str; 2]) {
        let mut arguments = self.cluster.serve_arguments(node);
        let at = arguments.iter().position(|argument| argument == "--peers").expect("it is given") + 1;
        arguments[at] = format!("1={}:{PORT},2={}:{PORT}", addresses[0], addresses[1]);
        arguments.extend([String::from("--listen"), format!("{}:{PORT}", ADDRESSES[node - 1])]);
        let log = File::create(self.cluster.path(&format!("node-{node}.log"))).expect("the log file opens");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[node - 1], env!("CARGO_BIN_EXE_paxos-node")]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.processes.push(command.spawn().expect("the program starts"));
    }

    /// Waits until a node has told of another, and returns why it is not reached.
    fn reason(&self, node: usize, other: usize) -> String {
        let start = format!("node {other} has not been reached for ");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.cluster.log(node);
            if let Some(line) = log.lines().find(|line| line.contains(&start)) {
                return line.split_once(" s: ").map_or(line, |(_, reason)| reason).to_owned();
            }
            assert!(Instant::now() < deadline, "node {node} tells of node {other}; its log: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        for name in &self.names {
            let _ = run(&["netns", "del", name]); // It may never have been there.
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn a_path_too_narrow_for_quic_is_told_by_both_sides_whichever_end_is_narrow() {
    for (test, mtus) in [("narrow-1", [1000, 1500]), ("narrow-2", [1500, 1000])] {
        let Some(mut machines) = Machines::connected(test, mtus, &["--transport", "quic"]) else { return };
        machines.start(1, ADDRESSES);
        machines.start(2, ADDRESSES);
        for (node, other) in [(1, 2), (2, 1)] {
            let reason = machines.reason(node, other);
            assert!(
                reason
                    .starts_with("packets of the 1228 bytes that QUIC needs at least do not get to 10.77.0."),
                "{mtus:?}: node {node}: {reason}"
            );
            assert!(reason.contains("raise the MTU"), "{reason}");
        }
    }
}

#[test]
fn a_machine_that_is_not_there_is_silent_and_one_without_the_node_is_not() {
    for transport in ["quic", "tcp"] {
        let test = format!("silent-{transport}");
        let Some(mut machines) = Machines::connected(&test, [1500, 1500], &["--transport", transport]) else {
            return;
        };
        // Nobody has this address.
        machines.start(2, ["10.77.0.9", ADDRESSES[1]]);
        let carrier = if transport == "quic" { "UDP" } else { "TCP" };
        let reason = machines.reason(2, 1);
        let is_silent = reason.starts_with(&format!("no answer from 10.77.0.9:{PORT} over {carrier}"));
        assert!(is_silent || reason.contains("No route to host"), "{reason}");
        machines.start(1, ADDRESSES);
        // Node 2 is there, but does not look for node 1 where it is.
        let reason = machines.reason(1, 2);
        assert!(
            reason.starts_with(&format!("it answers at 10.77.0.2:{PORT} ({carrier}), but does not")),
            "{reason}"
        );
    }
}

#[test]
fn what_the_routes_of_this_machine_refuse_is_told_in_the_words_of_the_system() {
    for (route, transport, problem) in [
        ("unreachable", "quic", "No route to host"),
        ("unreachable", "tcp", "No route to host"),
        ("prohibit", "quic", "Permission denied"),
        ("blackhole", "tcp", "Invalid argument"),
    ] {
        let test = format!("{route}-{transport}");
        let Some(mut machines) = Machines::connected(&test, [1500, 1500], &["--transport", transport]) else {
            return;
        };
        machines.route(2, &["add", route, "10.77.0.1/32"]);
        machines.start(2, ADDRESSES);
        let reason = machines.reason(2, 1);
        let told = format!("this machine can't send to 10.77.0.1:{PORT}: {problem}");
        assert!(reason.starts_with(&told), "{route} {transport}: {reason}");
    }
}

#[test]
fn answers_that_get_lost_on_their_way_back_are_silence_on_one_side_and_no_route_on_the_other() {
    for (transport, carrier) in [("quic", "UDP"), ("tcp", "TCP")] {
        let test = format!("back-{transport}");
        let Some(mut machines) = Machines::connected(&test, [1500, 1500], &["--transport", transport]) else {
            return;
        };
        machines.route(1, &["add", "blackhole", "10.77.0.2/32"]);
        machines.start(1, ADDRESSES);
        machines.start(2, ADDRESSES);
        let reason = machines.reason(2, 1);
        assert!(reason.starts_with(&format!("no answer from 10.77.0.1:{PORT} over {carrier}")), "{reason}");
        let reason = machines.reason(1, 2);
        assert!(reason.starts_with(&format!("this machine can't send to 10.77.0.2:{PORT}")), "{reason}");
    }
}
