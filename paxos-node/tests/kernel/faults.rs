//! Calls that fail: a node stops at the first one, says which, and has lost nothing it had acknowledged.

use std::time::Duration;

use crate::{Nodes, can_run, set, set_somewhere, set_until_refused};

/// Keys written before anything fails.
const BEFORE: usize = 10;
/// Time enough for the mark behind a last write, and for the node to end if that fails.
const MARKED: Duration = Duration::from_secs(2);
/// More than any of these faults lets pass.
const MANY: usize = 2000;

#[test]
fn a_failed_sync_stops_the_node() {
    let test = "a_failed_sync_stops_the_node";
    let calls = stops_at(test, "fdatasync:error=EIO:when=8+", &["sync ", "wal-", "Input/output error"]);
    assert_none_acknowledged_after_a_fault(&calls, test);
}

#[test]
fn a_failed_write_stops_the_node() {
    let test = "a_failed_write_stops_the_node";
    let calls = stops_at(test, "pwrite64:error=EIO:when=8+", &["write ", "wal-", "Input/output error"]);
    assert_none_acknowledged_after_a_fault(&calls, test);
}

#[test]
fn a_write_that_finds_no_space_in_a_segment_made_ahead_stops_the_node() {
    let test = "a_write_that_finds_no_space_in_a_segment_made_ahead_stops_the_node";
    let calls =
        stops_at(test, "pwrite64:error=ENOSPC:when=8+", &["write ", "wal-", "No space left on device"]);
    assert_none_acknowledged_after_a_fault(&calls, test);
}

#[test]
fn a_failed_mark_stops_an_idle_node() {
    let test = "a_failed_mark_stops_an_idle_node";
    if !can_run(test, &["strace"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = Nodes::start(&[directory.path().join("data").display().to_string()], &[]);
    let mut client = nodes.cluster.client(1);
    assert_eq!(set(&mut client, 0).as_deref(), Some("OK"), "the node's session is open");
    std::thread::sleep(MARKED);
    // The first sync is that of the write, the next one that of the mark behind it.
    let _tracer = nodes.process(1).inject_into_thread("paxos-writer", "fdatasync:error=EIO:when=2+");
    let reply = set(&mut client, 1);
    assert_eq!(reply.as_deref(), Some("OK"), "its log: {}", nodes.cluster.log(1));
    std::thread::sleep(MARKED);
    assert!(nodes.cluster.log(1).contains("Input/output error"), "no mark failed: {}", nodes.cluster.log(1));
    let log_lines = nodes.cluster.log(1).lines().count();
    assert!(!nodes.process(1).is_running(), "it runs on, and has logged {log_lines} lines");
    assert_eq!(nodes.process(1).wait_for_end(), Some(3), "its log: {}", nodes.cluster.log(1));
}

#[test]
fn a_segment_whose_name_can_not_be_made_stable_stops_the_node_when_it_is_needed() {
    // The second segment was made at the start; the third fails while the second is in use, and writes go on.
    let test = "a_segment_whose_name_can_not_be_made_stable_stops_the_node_when_it_is_needed";
    stops_at(test, "fsync:error=EIO:when=1+", &["prepare ", "wal-000000000003", "Input/output error"]);
}

#[test]
fn a_leader_whose_disk_fails_is_replaced_and_comes_back() {
    let test = "a_leader_whose_disk_fails_is_replaced_and_comes_back";
    if !can_run(test, &["strace"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = ["1", "2", "3"].map(|name| directory.path().join(name).display().to_string());
    let mut nodes = Nodes::start(&data, &[]);
    let leader = nodes.leader();
    let others: Vec<usize> = nodes.ids().filter(|id| *id != leader).collect();
    let mut acknowledged: Vec<usize> = (0..BEFORE).collect();
    for key in &acknowledged {
        set_somewhere(&nodes, &others, *key);
    }
    let tracer = nodes.process(leader).inject("fdatasync:error=EIO:when=20+");
    let mut key = BEFORE;
    let mut client = nodes.cluster.client(others[0]);
    while nodes.process(leader).is_running() {
        assert!(key < MANY, "node {leader} still runs after {key} writes: {test}");
        // What was under way when the leader failed may have come to anything but to an OK that is lost.
        if set(&mut client, key).is_some_and(|reply| reply == "OK") {
            acknowledged.push(key);
        }
        key += 1;
    }
    assert_eq!(nodes.process(leader).wait_for_end(), Some(3), "{}", nodes.cluster.log(leader));
    assert!(tracer.calls().iter().any(|call| call.contains("INJECTED")), "strace made no call fail: {test}");
    let waited = set_somewhere(&nodes, &others, key);
    acknowledged.push(key);
    nodes.restart(leader);
    nodes.wait_until_ready();
    assert!(
        acknowledged.len() > BEFORE + 1,
        "only {} writes came through; the last waited {waited:?}",
        acknowledged.len()
    );
    nodes.assert_kept(&acknowledged);
    nodes.wait_for_equal_states();
}

/// A node alone, with one client that has one write under way. Gives all that strace saw until the node's
/// end.
fn stops_at(test: &str, fault: &str, words: &[&str]) -> Vec<String> {
    if !can_run(test, &["strace"]) {
        return Vec::new();
    }
    let repeat = format!("repeat with: cargo test -p paxos-node --test kernel {test}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = [directory.path().join("data").display().to_string()];
    let mut nodes = Nodes::start(&data, &["--segment-bytes", "65536"]);
    let mut client = nodes.cluster.client(1);
    let (mut acknowledged, refused) = set_until_refused(&mut client, 0..BEFORE);
    assert_eq!(refused, None, "before any fault; {repeat}");
    let tracer = nodes.process(1).inject(fault);
    let (later, refused) = set_until_refused(&mut client, BEFORE..MANY);
    acknowledged.extend(later);
    assert!(refused.is_some(), "{MANY} writes were acknowledged though calls fail: {fault}; {repeat}");
    let code = nodes.process(1).wait_for_end();
    let log = nodes.process(1).log();
    assert_eq!(code, Some(3), "{fault}: its log: {log}\n{repeat}");
    let is_told = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(is_told, "{fault}: no line has all of {words:?}: {log}\n{repeat}");
    nodes.restart(1);
    nodes.wait_until_ready();
    nodes.assert_kept(&acknowledged);
    let next = set(&mut nodes.cluster.client(1), MANY);
    assert_eq!(next.as_deref(), Some("OK"), "it takes writes again; {repeat}");
    tracer.calls()
}

/// Replies before the fault must be seen, so that none after it means something.
fn assert_none_acknowledged_after_a_fault(calls: &[String], test: &str) {
    if calls.is_empty() {
        return; // It was skipped.
    }
    let repeat = format!("repeat with: cargo test -p paxos-node --test kernel {test}");
    let Some(first) = calls.iter().position(|call| call.contains("INJECTED")) else {
        panic!("strace made no call fail: {calls:?}; {repeat}");
    };
    let is_reply = |call: &&String| call.contains("+OK");
    assert!(calls[..first].iter().any(|call| is_reply(&call)), "no reply is seen: {calls:?}; {repeat}");
    let after: Vec<_> = calls[first..].iter().filter(is_reply).collect();
    assert!(after.is_empty(), "acknowledged after {}: {after:?}; {repeat}", calls[first]);
}
