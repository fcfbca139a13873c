//! A node that is told to stop does so soon, whatever it is doing: `src/cli/serve.rs`.
#![cfg(feature = "file")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Cluster, wait};

/// A node needs less than a second; tests run beside others.
const PROMPTLY: Duration = Duration::from_secs(3);

fn assert_stops(cluster: &mut Cluster, id: usize, what: &str) {
    let since = Instant::now();
    cluster.stop(id);
    assert!(since.elapsed() < PROMPTLY, "{what}: it took {:?} to stop", since.elapsed());
}

#[test]
fn a_node_that_leads_or_follows_stops() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let follower = leader % 3 + 1;
    assert_stops(&mut cluster, follower, "a follower");
    assert_stops(&mut cluster, leader, "the leader");
}

#[test]
fn a_node_without_a_quorum_stops_while_clients_wait() {
    let mut cluster = Cluster::started(3, &[]);
    cluster.kill(1);
    cluster.kill(2);
    let mut clients: Vec<_> = (0..10).map(|_| cluster.client(3)).collect();
    for client in &mut clients {
        client.send(&["SET", "k", "v"]);
        client.send(&["GET", "k"]);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_stops(&mut cluster, 3, "a node alone");
}

#[test]
fn a_node_that_knows_no_peer_stops() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.start(1);
    wait("it answers", || cluster.http(1, "/healthz"));
    assert_stops(&mut cluster, 1, "a node that has met nobody");
}

#[test]
fn a_node_that_clients_flood_stops() {
    let mut cluster = Cluster::started(1, &[]);
    let address = cluster.client_address(1);
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("the node takes clients");
            let mut replies = stream.try_clone().expect("a socket can be shared");
            let reading = std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while replies.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
            let requests = "SET key value\r\nGET key\r\n".repeat(100);
            let writing = std::thread::spawn(move || while stream.write_all(requests.as_bytes()).is_ok() {});
            (reading, writing)
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    assert_stops(&mut cluster, 1, "a node under load");
    for (reading, writing) in floods {
        reading.join().expect("no panic");
        writing.join().expect("no panic");
    }
}

#[test]
fn a_node_that_replays_a_long_log_answers_and_stops() {
    let mut cluster = Cluster::started(1, &[]);
    let mut client = cluster.client(1);
    let value = "x".repeat(100);
    for chunk in 0..200 {
        let mut command = vec![String::from("MSET")];
        command.extend((0..500).flat_map(|key| [format!("key {chunk} {key}"), value.clone()]));
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(client.ask(&command), "OK");
    }
    cluster.kill(1);
    cluster.start(1);
    let alive = wait("it answers", || cluster.http(1, "/healthz"));
    assert_eq!(alive.0, 200);
    let (code, reason) = wait("it answers", || cluster.http(1, "/readyz"));
    let reasons = ["starting", "replaying the log", "belongs to no cluster", "no leader", "catching up: "];
    let is_known = reasons.iter().any(|known| reason.starts_with(known));
    assert!(if code == 200 { reason == "ready\n" } else { is_known }, "{code} {reason}");
    let refused = cluster.client(1).ask(&["PING"]);
    assert!(refused == "PONG" || refused.starts_with("-LOADING "), "{refused}");
    assert_stops(&mut cluster, 1, "a node that has just started");
}
