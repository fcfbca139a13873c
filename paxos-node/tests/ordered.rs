//! Nodes that are started one after the other, each when the one before has started, by names that the others
//! can't look up until then, and that stand for other addresses later: what Kubernetes does. `/startedz` in
//! `src/fronts/http.rs`, look-ups in `paxos-transport/src/network/resolve.rs`.
//!
//! Each node has an `/etc/hosts` of the test's own. Needs root for that, and says so where it has to skip.
#![cfg(target_os = "linux")]

mod support;

use std::io::Write;
use std::process::Command;

use support::{Cluster, free_port, wait, wait_telling};

const NODES: usize = 3;

/// A cluster whose nodes know each other by names.
struct Named {
    cluster: Cluster,
    port: u16,
    /// Where each node is, if its name can be looked up.
    addresses: [Option<u8>; NODES],
}

impl Named {
    /// `None` if the system does not let the nodes have an `/etc/hosts` of their own.
    fn new(test: &str, options: &[&str]) -> Option<Named> {
        let mut named =
            Named { cluster: Cluster::new(NODES, options), port: free_port(), addresses: [None; NODES] };
        named.write_hosts();
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", named.hosts());
        let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: needs root and unshare: {tried:?}");
            return None;
        }
        (1..=NODES).for_each(|id| named.cluster.wrap(id, &words));
        Some(named)
    }

    fn hosts(&self) -> String {
        self.cluster.path("hosts")
    }

    /// Replaces what the file holds, and not the file, as the nodes have that one.
    fn write_hosts(&self) {
        let line = |(id, address): (usize, u8)| format!("127.0.0.{address} node-{id}.test\n");
        let known = (1..).zip(self.addresses).filter_map(|(id, address)| Some((id, address?)));
        let text = format!("127.0.0.1 localhost\n{}", known.map(line).collect::<Vec<_>>().concat());
        std::fs::write(self.hosts(), text).expect("the file can be written");
    }

    /// Starts a node at this address, to which its name leads from now on.
    fn start(&mut self, id: usize, address: u8) {
        self.addresses[id - 1] = Some(address);
        self.write_hosts();
        let mut arguments = self.cluster.serve_arguments(id);
        let peers: Vec<String> =
            (1..=NODES).map(|peer| format!("{peer}=node-{peer}.test:{}", self.port)).collect();
        let at = arguments.iter().position(|argument| argument == "--peers").expect("it is given") + 1;
        arguments[at] = peers.join(",");
        arguments.extend([String::from("--listen"), format!("127.0.0.{address}:{}", self.port)]);
        self.cluster.start_with(id, &arguments);
    }

    fn wait_for(&self, id: usize, path: &str) {
        let told = || {
            let logs: Vec<String> = (1..=NODES).map(|node| self.cluster.log(node)).collect();
            let answer = self.cluster.http(id, path);
            format!("node {id} answers 200 to {path}, not {answer:?}; the logs:\n{}", logs.join("\n"))
        };
        wait_telling(told, || self.cluster.http(id, path).filter(|(code, _)| *code == 200));
    }

    fn is_connected(&self, id: usize, other: usize) -> Option<bool> {
        let (_, body) = self.cluster.http(id, "/status")?;
        let report: serde_json::Value = serde_json::from_str(&body).ok()?;
        report["peers"].as_array()?.iter().find(|peer| peer["node"] == other)?["connected"].as_bool()
    }
}

#[test]
fn nodes_start_one_after_the_other_and_are_found_when_their_names_get_other_addresses() {
    for transport in ["quic", "tcp"] {
        let test = "nodes_start_one_after_the_other_and_are_found_when_their_names_get_other_addresses";
        let Some(mut named) = Named::new(test, &["--transport", transport]) else { return };
        // Founded first, and then, after a stop of all nodes, in the order in which they were founded.
        for round in 0..2 {
            for id in 1..=NODES {
                let address = u8::try_from(10 * (round + 1) + id).expect("there are few");
                named.start(id, address);
                named.wait_for(id, "/startedz");
                let ready = named.cluster.http(id, "/readyz").map(|(code, _)| code);
                assert!(id > 1 || ready == Some(503), "a node alone has no leader: {ready:?}");
            }
            (1..=NODES).for_each(|id| named.wait_for(id, "/readyz"));
            assert_eq!(named.cluster.client(1).ask(&["SET", "round", &round.to_string()]), "OK");
            if round == 0 {
                (1..=NODES).for_each(|id| named.cluster.kill(id));
                named.addresses = [None; NODES];
            }
        }
        // One moves while the others run.
        named.cluster.kill(3);
        for id in 1..3 {
            wait("its absence is noticed", || (!named.is_connected(id, 3)?).then_some(()));
        }
        named.start(3, 99);
        named.wait_for(3, "/readyz");
        for id in 1..3 {
            wait("it is found at its new address", || named.is_connected(id, 3)?.then_some(()));
        }
        assert_eq!(named.cluster.client(3).ask(&["GET", "round"]), "1");
    }
}
