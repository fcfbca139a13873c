//! A node whose wall clock is wrong says so: `src/runtime/driver/clock_watch.rs`.
//!
//! libfaketime puts the clock wrong while the node runs. Where it is not installed the test says that it
//! skips.
#![cfg(target_os = "linux")]

mod support;

use std::io::Write;
use std::path::PathBuf;

use support::{Cluster, run, wait};

const NODES: usize = 3;

/// The library of Debian's package `libfaketime`.
fn faketime() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").ok()?.flatten();
    directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Has the wall clock of a node show another time, in the words of libfaketime.
fn shift(cluster: &Cluster, id: usize, by: &str) {
    std::fs::write(cluster.path(&format!("clock-{id}")), by).expect("the file can be written");
}

fn ahead_ms(cluster: &Cluster, id: usize) -> Option<i64> {
    cluster.status(id, "clock_ahead_milliseconds")?.parse().ok()
}

#[test]
fn a_node_whose_clock_differs_says_so_once_and_again_when_it_agrees() {
    let Some(library) = faketime() else {
        // Past the test harness, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: tests/clocks.rs: libfaketime is not installed");
        return;
    };
    let mut cluster = Cluster::new(NODES, &[]);
    for id in 1..=NODES {
        shift(&cluster, id, "+0");
        let preload = format!("LD_PRELOAD={}", library.display());
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", cluster.path(&format!("clock-{id}")));
        let settings = ["FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        cluster.wrap(id, &["env", &preload, &file, settings[0], settings[1]]);
        cluster.start(id);
    }
    let leader = cluster.wait_for_leader();
    let wrong = leader % NODES + 1;
    for id in 1..=NODES {
        wait("the clocks agree", || ahead_ms(&cluster, id).filter(|ms| ms.abs() < 400));
    }
    shift(&cluster, wrong, "+3");
    let line = "s ahead of the cluster's time, by which keys expire";
    wait("it is told", || cluster.log(wrong).contains(line).then_some(()));
    let ahead = wait("it is shown", || ahead_ms(&cluster, wrong).filter(|ms| *ms > 2500));
    assert!(ahead < 3500, "{ahead} ms");
    let (_, metrics) = cluster.http(wrong, "/metrics").expect("the node answers");
    let gauge = format!("paxos_clock_ahead_seconds{{node=\"{wrong}\"}} ");
    let shown = metrics.lines().find_map(|line| line.strip_prefix(&gauge)).expect("it is shown");
    assert!(shown.parse::<f64>().is_ok_and(|seconds| (2.5..3.5).contains(&seconds)), "{shown}");
    let status = run(&["status", &cluster.http_address(wrong)]);
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains(&format!("node {wrong}: its clock is ")), "{text}");
    assert_eq!(cluster.client(wrong).ask(&["SET", "key", "value"]), "OK", "the cluster goes on");
    shift(&cluster, wrong, "+0");
    wait("that it agrees is told", || cluster.log(wrong).contains("agree again").then_some(()));
    assert_eq!(cluster.log(wrong).matches(line).count(), 1, "{}", cluster.log(wrong));
    for id in (1..=NODES).filter(|id| *id != wrong) {
        assert!(!cluster.log(id).contains("cluster's time"), "node {id}: {}", cluster.log(id));
    }
}
