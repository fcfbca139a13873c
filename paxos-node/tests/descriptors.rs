//! Nodes whose file descriptors run out: `src/cli/descriptors.rs`.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use support::{Cluster, last_line};

/// Few enough that clients meet the limit, and more than a node needs for itself.
const DESCRIPTORS: &str = "256";
const IDLE_CLIENTS: usize = 300;

/// A cluster of which some nodes may have few files open.
fn with_few_descriptors(limited: &[usize], options: &[&str]) -> Cluster {
    let mut cluster = Cluster::new(3, options);
    for id in limited {
        cluster.wrap(*id, &["sh", "-c", "ulimit -n \"$0\" && exec \"$@\"", DESCRIPTORS]);
    }
    (1..=3).for_each(|id| cluster.start(id));
    cluster.wait_for_leader();
    cluster
}

/// Connections that say nothing; what the node says to those that it refuses.
fn idle_clients(cluster: &Cluster, id: usize) -> (Vec<TcpStream>, Vec<String>) {
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..IDLE_CLIENTS {
        let mut stream = TcpStream::connect(cluster.client_address(id)).expect("the node accepts");
        stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out can be set");
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Err(_) if answer.is_empty() => served.push(stream),
            _ => refused.push(answer),
        }
    }
    (served, refused)
}

/// Writes enough for all nodes to need new segments and snapshots.
fn write_much(cluster: &Cluster, id: usize, megabytes: usize) {
    let mut client = cluster.client(id);
    let value = "x".repeat(64 << 10);
    for number in 0..megabytes * 16 {
        let reply = client.ask(&["SET", &format!("k{}", number % 64), &value]);
        assert_eq!(reply, "OK", "write {number} of {} through node {id}", megabytes * 16);
    }
}

const SMALL_FILES: [&str; 4] = ["--segment-bytes", "1048576", "--snapshot-after-bytes", "8388608"];

#[test]
fn idle_clients_take_no_descriptor_that_the_log_or_a_peer_needs() {
    for transport in ["quic", "tcp"] {
        let options = [&SMALL_FILES[..], &["--transport", transport]].concat();
        let mut cluster = with_few_descriptors(&[1], &options);
        let (served, refused) = idle_clients(&cluster, 1);
        assert!(served.len() > 64, "only {} of {IDLE_CLIENTS} clients are served", served.len());
        assert!(refused.len() > 64, "only {} of {IDLE_CLIENTS} clients are refused", refused.len());
        for answer in &refused {
            assert_eq!(answer, "-ERR max number of clients reached\r\n");
        }
        write_much(&cluster, 2, 20);
        // Its peers come and go meanwhile.
        cluster.kill(3);
        cluster.start(3);
        cluster.wait_for_leader();
        write_much(&cluster, 3, 20);
        cluster.wait_for_equal_states();
        let log = cluster.log(1);
        assert_eq!(log.matches("clients are served in place of").count(), 1, "it says so once: {log}");
        assert!(!log.contains("os error 24"), "no file lacks a descriptor: {log}");
        drop(served);
        assert_eq!(cluster.client(1).ask(&["GET", "k0"]).len(), 64 << 10, "there is room for clients again");
        cluster.stop(1);
    }
}

#[test]
fn a_cluster_whose_nodes_all_have_few_descriptors_goes_on() {
    let cluster = with_few_descriptors(&[1, 2, 3], &SMALL_FILES);
    // The last place on each node is for the test.
    let place: Vec<_> = (1..=3).map(|id| cluster.client(id)).collect();
    let held: Vec<_> = (1..=3).map(|id| idle_clients(&cluster, id).0).collect();
    let mut clients = place.into_iter();
    let value = "x".repeat(64 << 10);
    for (id, client) in (1..=3).zip(&mut clients) {
        let mut client = client;
        for number in 0..200 {
            let reply = client.ask(&["SET", &format!("k{}", number % 16), &value]);
            assert_eq!(reply, "OK", "write {number} through node {id}: {}", cluster.log(id));
        }
    }
    cluster.wait_for_equal_states();
    drop(held);
    for id in 1..=3 {
        assert_eq!(cluster.client(id).ask(&["DBSIZE"]), "16");
    }
}

#[test]
fn a_limit_that_leaves_no_descriptor_for_clients_is_refused_at_the_start() {
    let cluster = Cluster::new(3, &[]);
    let mut command = cluster.wrapped(&["sh", "-c", "ulimit -n \"$0\" && exec \"$@\"", "64"], 1);
    let output = command.output().expect("the shell starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let line = last_line(&output);
    assert!(line.contains("may have 64 files open") && line.contains("ulimit -n"), "{line}");
}

#[test]
fn a_node_raises_its_own_limit_as_far_as_it_may() {
    let mut cluster = Cluster::new(1, &["--max-clients", "400"]);
    cluster.wrap(1, &["sh", "-c", "ulimit -Sn 64 && exec \"$@\"", "sh"]);
    cluster.start(1);
    cluster.wait_for_leader();
    let (served, refused) = idle_clients(&cluster, 1);
    assert_eq!((served.len(), refused.len()), (IDLE_CLIENTS, 0), "{}", cluster.log(1));
    assert_eq!(cluster.log(1), "", "there is nothing to complain of");
}
