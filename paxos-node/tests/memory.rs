//! Nodes whose memory is limited refuse commands that need more and carry out those that free some:
//! `src/runtime/memory.rs`.

mod support;

use std::ops::Range;
use std::time::Duration;

use support::{Client, Cluster, wait};

const MEBIBYTE: usize = 1 << 20;
const LIMIT_BYTES: usize = 128 * MEBIBYTE;
const VALUE_BYTES: usize = 10 << 10;
/// More than there is room for.
const MAX_KEYS: usize = 2 * LIMIT_BYTES / VALUE_BYTES;
const PIPELINE: usize = 16;
const LASTING_REFUSALS: usize = 5;
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

fn limited() -> Cluster {
    // What is written here is more than a disk that other tests share takes within the usual time-out.
    Cluster::started(3, &["--memory-limit", &LIMIT_BYTES.to_string(), "--request-timeout", "25s"])
}

/// Writes keys until a node refuses them, and goes on refusing when the log behind a snapshot is freed. Tells
/// how many keys there are.
fn fill(cluster: &Cluster, id: usize) -> usize {
    let mut client = cluster.client(id);
    let value = "x".repeat(VALUE_BYTES);
    let (mut keys, mut refusals) = (0, 0);
    while refusals < LASTING_REFUSALS {
        for key in keys..keys + PIPELINE {
            client.send(&["SET", &format!("k{key}"), &value]);
        }
        let answers: Vec<String> = (0..PIPELINE).map(|_| answer(&mut client)).collect();
        let taken = answers.iter().take_while(|answer| *answer == "OK").count();
        assert!(answers[taken..].iter().all(|answer| answer == OOM), "{answers:?}");
        keys += taken;
        assert!(keys < MAX_KEYS, "{keys} values of {VALUE_BYTES} bytes are taken within {LIMIT_BYTES} bytes");
        if taken == 0 {
            refusals += 1;
            std::thread::sleep(Duration::from_millis(300));
        } else {
            refusals = 0;
        }
    }
    keys
}

/// Sets small keys until one is refused: as much as was freed meanwhile.
fn fill_up(client: &mut Client) {
    for key in 0.. {
        match client.ask(&["SET", &format!("more{key}"), &"x".repeat(VALUE_BYTES)]).as_str() {
            "OK" => assert!(key < MAX_KEYS),
            answer => return assert_eq!(answer, OOM),
        }
    }
}

fn delete(client: &mut Client, keys: Range<usize>) {
    let names: Vec<String> = keys.map(|key| format!("k{key}")).collect();
    for names in names.chunks(100) {
        let command: Vec<&str> = std::iter::once("DEL").chain(names.iter().map(String::as_str)).collect();
        assert_eq!(client.ask(&command), names.len().to_string());
    }
}

fn answer(client: &mut Client) -> String {
    client.reply().expect("the node answers")
}

fn assert_fit(cluster: &Cluster, when: &str) {
    for id in 1..=3 {
        let memory = cluster.memory_bytes(id);
        assert!(memory < LIMIT_BYTES, "{when} node {id} takes {memory} of {LIMIT_BYTES} bytes");
    }
}

#[test]
fn values_written_for_ever_meet_an_error_and_what_frees_memory_passes() {
    let cluster = limited();
    let taken = fill(&cluster, 1);
    assert!(taken * VALUE_BYTES > LIMIT_BYTES / 5, "only {taken} values are taken");
    assert_fit(&cluster, "when full");
    let mut client = cluster.client(1);
    // As Redis judges them.
    for command in [
        &["SET", "k0", "smaller"][..],
        &["SETNX", "new", "x"],
        &["GETSET", "k0", "x"],
        &["APPEND", "k0", "x"],
        &["INCR", "n"],
        &["DECRBY", "n", "2"],
        &["MSET", "a", "1", "b", "2"],
    ] {
        assert_eq!(client.ask(command), OOM, "{command:?}");
    }
    assert_eq!(client.ask(&["GET", "k0"]).len(), VALUE_BYTES);
    assert_eq!(client.ask(&["STRLEN", "k1"]), VALUE_BYTES.to_string());
    assert_eq!(client.ask(&["DBSIZE"]), taken.to_string());
    assert_eq!(client.ask(&["GETDEL", "k0"]).len(), VALUE_BYTES);
    // In a pipeline each is judged for itself.
    fill_up(&mut client);
    client.send_raw(b"SET a 1\r\nDEL none k1\r\nGET k2\r\n");
    assert_eq!([0; 2].map(|_| answer(&mut client)), [OOM, "1"]);
    assert_eq!(answer(&mut client).len(), VALUE_BYTES);
    fill_up(&mut client);
    for command in [&["MULTI"][..], &["DEL", "none"], &["SET", "c", "3"]] {
        client.ask(command);
    }
    let refused = format!("-EXECABORT Transaction discarded because of: {}", &OOM[1..]);
    assert_eq!(client.ask(&["EXEC"]), refused);
    client.ask(&["MULTI"]);
    client.ask(&["DEL", "k3"]);
    assert_eq!(client.ask(&["EXEC"]), "[1]");
    wait("the node says so", || cluster.log(1).contains("memory is short").then_some(()));
    delete(&mut client, 4..taken / 2);
    wait("there is room again", || (client.ask(&["SET", "k0", "again"]) == "OK").then_some(()));
    assert_eq!(client.ask(&["FLUSHALL"]), "OK");
    assert_eq!(client.ask(&["DBSIZE"]), "0");
    assert_eq!(client.ask(&["SET", "k0", "again"]), "OK");
    cluster.wait_for_equal_states();
}

#[test]
fn a_full_node_fits_into_its_memory_when_it_replays_its_log_and_when_it_installs_a_snapshot() {
    let mut cluster = limited();
    let behind = (1..=3).find(|id| Some(*id) != cluster.leader()).expect("one does not lead");
    cluster.kill(behind);
    let asked = if behind == 1 { 2 } else { 1 };
    let taken = fill(&cluster, asked);
    // So much that what is written meanwhile is no longer in the log of the others.
    let mut client = cluster.client(asked);
    delete(&mut client, 0..taken / 4);
    cluster.start(behind);
    cluster.wait_for_equal_states();
    assert_fit(&cluster, "after a snapshot is installed");
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.start(id);
    }
    cluster.wait_for_leader();
    assert_fit(&cluster, "after a replay");
    cluster.wait_for_equal_states();
    assert_eq!(cluster.client(asked).ask(&["DBSIZE"]), (taken - taken / 4).to_string());
}

#[test]
fn the_smallest_limit_of_the_nodes_counts_on_all_and_is_told_once() {
    let large = (3 * LIMIT_BYTES).to_string();
    let mut cluster = Cluster::new(3, &["--memory-limit", &large]);
    for id in 1..=3 {
        let mut arguments = cluster.serve_arguments(id);
        let limit = arguments.iter_mut().find(|argument| **argument == large).expect("it is given");
        if id == 3 {
            *limit = LIMIT_BYTES.to_string();
        }
        cluster.start_with(id, &arguments);
    }
    cluster.wait_for_leader();
    let (larger, smaller) = (3 * LIMIT_BYTES / MEBIBYTE, LIMIT_BYTES / MEBIBYTE);
    let told = [
        (1, format!("node 3 has a memory limit of {smaller} MiB, less than this node's {larger} MiB")),
        (2, format!("node 3 has a memory limit of {smaller} MiB, less than this node's {larger} MiB")),
        (3, format!("node 1 has a memory limit of {larger} MiB, more than this node's {smaller} MiB")),
    ];
    for (id, line) in &told {
        wait("the node says so", || cluster.log(*id).contains(line).then_some(()));
    }
    // On a node that has room for three times as much.
    let taken = fill(&cluster, 1);
    assert!(taken * VALUE_BYTES <= LIMIT_BYTES / 2, "{taken} values are more than node 3 takes on itself");
    assert_fit(&cluster, "when full");
    cluster.wait_for_equal_states();
    for (id, line) in &told {
        assert_eq!(cluster.log(*id).matches(line).count(), 1, "node {id}");
    }
    cluster.kill(3);
    assert_eq!(cluster.client(1).ask(&["SET", "k0", "smaller"]), OOM, "it counts while its node is away");
}
