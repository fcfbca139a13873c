//! Clusters of processes whose nodes are killed, paused, cut off or away for long.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Cluster, wait};

/// Writes `count` keys through a node; each reply must be OK.
fn write_keys(cluster: &Cluster, id: usize, prefix: &str, count: usize) {
    let mut client = cluster.client(id);
    for number in 0..count {
        let reply = client.ask(&["SET", &format!("{prefix}{number}"), &format!("value {number}")]);
        assert_eq!(reply, "OK", "key {prefix}{number} on node {id}");
    }
}

fn assert_keys(cluster: &Cluster, id: usize, prefix: &str, count: usize) {
    let mut client = cluster.client(id);
    for number in 0..count {
        let value = client.ask(&["GET", &format!("{prefix}{number}")]);
        assert_eq!(value, format!("value {number}"), "key {prefix}{number} on node {id}");
    }
}

#[test]
fn a_killed_leader_is_replaced_and_no_acknowledged_write_is_lost() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let survivors: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    let stop = AtomicBool::new(false);
    let (acknowledged, longest) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = cluster.client(survivors[0]);
            let (mut acknowledged, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if client.ask(&["SET", &format!("k{number}"), &format!("value {number}")]) == "OK" {
                    acknowledged.push(number);
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            (acknowledged, longest)
        });
        std::thread::sleep(Duration::from_millis(500));
        cluster.signal(leader, "-KILL");
        std::thread::sleep(Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer finishes")
    });
    assert!(longest < Duration::from_secs(3), "others served again only after {longest:?}");
    assert!(acknowledged.len() > 100, "only {} writes came through", acknowledged.len());
    cluster.kill(leader); // Reaps the process, so that it can be started again.
    cluster.start(leader);
    cluster.wait_for_leader();
    for id in 1..=3 {
        let mut client = cluster.client(id);
        for number in &acknowledged {
            assert_eq!(
                client.ask(&["GET", &format!("k{number}")]),
                format!("value {number}"),
                "on node {id}"
            );
        }
    }
    cluster.wait_for_equal_states();
}

#[test]
fn nothing_is_lost_when_all_are_killed_at_once() {
    let mut cluster = Cluster::started(3, &[]);
    write_keys(&cluster, 1, "k", 100);
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.start(id);
    }
    cluster.wait_for_leader();
    (1..=3).for_each(|id| assert_keys(&cluster, id, "k", 100));
    cluster.wait_for_equal_states();
}

#[test]
fn a_node_that_was_away_past_the_compacted_log_comes_back() {
    // A snapshot every 20 kB or so of log, and next to nothing of the log kept behind it.
    let options = [
        "--snapshot-after-bytes",
        "20000",
        "--retained-bytes",
        "0",
        "--segment-bytes",
        "65536",
        "--log",
        "info",
    ];
    let mut cluster = Cluster::started(3, &options);
    let leader = cluster.wait_for_leader();
    let away = (1..=3).find(|id| *id != leader).expect("there are three");
    write_keys(&cluster, leader, "before", 10);
    cluster.kill(away);
    write_keys(&cluster, leader, "while", 400);
    wait("a snapshot on the leader", || {
        let files = std::fs::read_dir(cluster.data(leader)).ok()?;
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        names.into_iter().find(|name| name.starts_with("snapshot-") && !name.contains(".new"))
    });
    cluster.start(away);
    wait("the node has caught up", || {
        let ready = cluster.http(away, "/readyz").is_some_and(|(code, _)| code == 200);
        (ready && cluster.status(away, "applied") == cluster.status(leader, "applied")).then_some(())
    });
    cluster.wait_for_equal_states();
    assert_keys(&cluster, away, "before", 10);
    assert_keys(&cluster, away, "while", 400);
    assert!(cluster.log(away).contains("caught up by a snapshot"), "the log it missed was compacted");
}

#[test]
fn a_minority_answers_nothing_and_says_so_in_time() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "1s"]);
    write_keys(&cluster, 1, "k", 1);
    let leader = cluster.wait_for_leader();
    let alone = (1..=3).find(|id| *id != leader).expect("there are three");
    for id in (1..=3).filter(|id| *id != alone) {
        cluster.kill(id);
    }
    let mut client = cluster.client(alone);
    for command in [&["GET", "k0"][..], &["SET", "k0", "other"]] {
        let asked = Instant::now();
        let reply = client.ask(command);
        assert!(reply.starts_with("-CLUSTERDOWN") || reply.starts_with("-TIMEOUT"), "{command:?}: {reply}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{command:?} took {:?}", asked.elapsed());
    }
    wait("the node is no longer ready", || cluster.http(alone, "/readyz").filter(|(code, _)| *code == 503));
    assert_eq!(cluster.http(alone, "/healthz").map(|(code, _)| code), Some(200));
    let reply = client.ask(&["SET", "k0", "never"]);
    assert!(reply.starts_with("-CLUSTERDOWN"), "without a leader nothing is sent anywhere: {reply}");
}

#[test]
fn a_paused_leader_serves_no_stale_read_when_it_wakes() {
    for options in [&["--reads", "quorum"], &["--reads", "lease"]] {
        let cluster = Cluster::started(3, options);
        let leader = cluster.wait_for_leader();
        let other = (1..=3).find(|id| *id != leader).expect("there are three");
        write_keys(&cluster, leader, "k", 1);
        let mut to_old = cluster.client(leader);
        cluster.signal(leader, "-STOP");
        to_old.send(&["GET", "k0"]);
        let mut client = cluster.client(other);
        wait("the others write", || (client.ask(&["SET", "k0", "newer"]) == "OK").then_some(()));
        cluster.signal(leader, "-CONT");
        let read = to_old.reply().expect("the old leader answers");
        assert!(read == "newer" || read.starts_with("-CLUSTERDOWN"), "{options:?}: stale read: {read}");
    }
}

#[test]
fn a_node_with_a_foreign_certificate_is_refused() {
    let mut cluster = Cluster::new(3, &["--log", "warn"]);
    let foreign = cluster.path("foreign");
    assert!(support::run(&["certs", "--out", &foreign, "--nodes", "3"]).status.success());
    // The foreign node never gets to be a founder.
    for id in [1, 2] {
        let mut arguments = cluster.serve_arguments(id);
        arguments.extend(["--found-without".to_owned(), "3".to_owned()]);
        cluster.start_with(id, &arguments);
    }
    let mut arguments = cluster.serve_arguments(3);
    let at = arguments.iter().position(|argument| argument == "--certs").expect("it is given") + 1;
    arguments[at] = foreign;
    cluster.start_with(3, &arguments);
    let mut client = cluster.client(1);
    wait("the other two agree", || (client.ask(&["SET", "k", "v"]) == "OK").then_some(()));
    for (id, text) in [
        (1, "it refuses the certificate of this node: it is signed by another CA"),
        (2, "it refuses the certificate of this node: it is signed by another CA"),
        (3, "its certificate is refused by this node: it is signed by another CA"),
    ] {
        wait(&format!("node {id} tells why"), || cluster.log(id).contains(text).then_some(()));
    }
    assert_eq!(cluster.status(3, "applied").as_deref(), Some("0"), "nothing reaches the foreign node");
    assert_eq!(cluster.http(3, "/readyz").map(|(code, _)| code), Some(503));
}

#[test]
fn tcp_and_memory_serve_as_well() {
    for options in [
        &["--transport", "tcp"][..],
        &["--storage", "memory"],
        &["--transport", "tcp", "--storage", "memory"],
    ] {
        let mut cluster = Cluster::started(3, options);
        write_keys(&cluster, 2, "k", 20);
        assert_keys(&cluster, 3, "k", 20);
        (1..=3).for_each(|id| cluster.stop(id));
    }
}

#[test]
fn one_node_alone_is_a_cluster() {
    let mut cluster = Cluster::started(1, &[]);
    write_keys(&cluster, 1, "k", 10);
    cluster.stop(1);
    cluster.start(1);
    cluster.wait_for_leader(); // It takes clients before it has read its log, and tells them so.
    assert_keys(&cluster, 1, "k", 10);
}
