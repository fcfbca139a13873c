//! `paxos-node check` finds what is wrong before anything is started: `src/cli/check.rs`.
#![cfg(feature = "file")]

mod support;

use std::fmt::Write as _;

use support::{Cluster, last_line, run};

/// Writes the options of node 1 to a file, with some changed, and checks them: the exit code, and the last
/// line.
fn check(cluster: &Cluster, changes: &[(&str, &str)]) -> (Option<i32>, String) {
    let arguments = cluster.serve_arguments(1);
    let mut text = String::new();
    for pair in arguments[1..].chunks(2) {
        let name = pair[0].trim_start_matches("--");
        let given = changes.iter().find(|(other, _)| *other == name);
        let value = given.map_or(pair[1].clone(), |(_, value)| (*value).to_owned());
        let quote = if name == "id" { "" } else { "\"" };
        writeln!(text, "{name} = {quote}{value}{quote}").expect("a string takes all");
    }
    for (name, value) in changes.iter().filter(|(name, _)| !arguments.contains(&format!("--{name}"))) {
        writeln!(text, "{name} = \"{value}\"").expect("a string takes all");
    }
    let file = cluster.path("node.toml");
    std::fs::write(&file, text).expect("it is written");
    let output = run(&["check", "--config", &file]);
    let said = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    (output.status.code(), if output.status.success() { said } else { last_line(&output) })
}

#[test]
fn a_configuration_in_order_is_said_to_be_also_while_the_node_runs() {
    let mut cluster = Cluster::new(1, &[]);
    let in_order = "the configuration of node 1 of cluster paxos is in order: nothing was started";
    assert_eq!(check(&cluster, &[]), (Some(0), in_order.to_owned()));
    cluster.start(1);
    cluster.wait_for_leader();
    assert_eq!(check(&cluster, &[]), (Some(0), in_order.to_owned()));
    assert_eq!(cluster.client(1).ask(&["PING"]), "PONG");
}

#[test]
fn what_is_wrong_is_named() {
    let cluster = Cluster::new(2, &[]);
    let (other, nowhere) = (cluster.data(2), cluster.path("nowhere"));
    for (change, words) in [
        (("data", &*other), "belongs to node 2 of cluster paxos"),
        (("data", &*nowhere), "format"),
        (("certs", &*nowhere), "make certificates with 'paxos-node certs'"),
        (("users", &*nowhere), "--users"),
        (("cluster", "another"), "not to node 1 of cluster another"),
        (("peers", "2=127.0.0.1:9"), "--peers does not name node 1"),
        (("colour", "red"), "colour"),
    ] {
        let (code, line) = check(&cluster, &[change]);
        assert!(code == Some(2) && line.contains(words), "{change:?}: {code:?} {line}");
    }
}
