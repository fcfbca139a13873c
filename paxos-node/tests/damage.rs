//! Damaged data directories: which nodes repair themselves, and which are refused; `paxos-node wal`.

mod support;

use std::path::PathBuf;
use std::process::Stdio;

use support::{Cluster, last_line, run, wait};

/// The segments of a node's log, in order.
fn segments(cluster: &Cluster, id: usize) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cluster.data(id)).expect("the directory is there");
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let mut segments: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().contains("wal-")).collect();
    segments.sort();
    segments
}

/// Flips bits of the command of a slot in a node's first segment, and gives the offset of its frame.
fn damage(cluster: &Cluster, id: usize, slot: u64) -> u64 {
    let report = inspected(cluster, id).1;
    let frames = report["segments"][0]["frames"].as_array().expect("the frames are a list");
    // A frame without records would be none: behind its header there is nothing that could be damaged.
    let holds_slot = |frame: &&serde_json::Value| {
        frame["slots"][0].as_u64() <= Some(slot) && frame["slots"][1].as_u64() >= Some(slot)
    };
    let frame = frames.iter().find(holds_slot).expect("a frame has the slot");
    let offset = frame["offset"].as_u64().expect("an offset is a number");
    let segment = &segments(cluster, id)[0];
    let mut bytes = std::fs::read(segment).expect("the segment is there");
    bytes[usize::try_from(offset).expect("segments are small") + 200] ^= 0xff;
    std::fs::write(segment, bytes).expect("it can be written");
    offset
}

fn write_numbers(cluster: &Cluster, id: usize, count: usize) {
    let mut client = cluster.client(id);
    for number in 0..count {
        assert_eq!(client.ask(&["SET", &format!("k{number}"), &number.to_string()]), "OK");
    }
}

fn assert_numbers(cluster: &Cluster, id: usize, count: usize) {
    let mut client = cluster.client(id);
    for number in 0..count {
        assert_eq!(client.ask(&["GET", &format!("k{number}")]), number.to_string(), "k{number} at node {id}");
    }
}

/// What `serve` says when it ends by itself, and its exit code.
fn refused(cluster: &Cluster, id: usize) -> (Option<i32>, String) {
    let arguments = cluster.serve_arguments(id);
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    (output.status.code(), last_line(&output))
}

fn inspected(cluster: &Cluster, id: usize) -> (Option<i32>, serde_json::Value) {
    let output = run(&["wal", "inspect", &cluster.data(id), "--json", "--frames"]);
    let report = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    (output.status.code(), report)
}

#[test]
fn a_follower_with_a_damaged_log_learns_anew_what_it_lost_and_takes_part_again() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let damaged = (1..=3).find(|id| *id != leader).expect("there are three");
    write_numbers(&cluster, leader, 30);
    cluster.wait_for_equal_states();
    cluster.stop(damaged);
    let (code, sound) = inspected(&cluster, damaged);
    assert_eq!(
        (code, &sound["damage"], sound["node"].as_u64()),
        (Some(0), &serde_json::json!([]), Some(damaged as u64))
    );
    assert!(sound["segments"][0]["frames"].as_array().is_some_and(|frames| frames.len() > 10), "{sound}");
    let offset = damage(&cluster, damaged, 12);
    let (code, report) = inspected(&cluster, damaged);
    assert_eq!((code, &report["is_promise_intact"]), (Some(4), &serde_json::json!(true)), "{report}");
    assert_eq!(report["damage"][0]["offset"].as_u64(), Some(offset), "{report}");
    assert_eq!(report["promised"], sound["promised"], "{report}");

    write_numbers(&cluster, leader, 35);
    cluster.start(damaged);
    wait("the log is whole again", || cluster.log(damaged).contains("has been learned anew").then_some(()));
    wait("the node is ready", || {
        cluster.http(damaged, "/readyz").is_some_and(|(code, _)| code == 200).then_some(())
    });
    let log = cluster.log(damaged);
    let place = format!("is damaged at byte {offset}");
    assert!(log.contains(&place) && log.contains("the promise is intact"), "{log}");
    // It takes part again: with the other follower gone it is needed for every quorum.
    let other = (1..=3).find(|id| ![leader, damaged].contains(id)).expect("there are three");
    cluster.kill(other);
    write_numbers(&cluster, damaged, 40);
    assert_numbers(&cluster, damaged, 40);
    cluster.stop(damaged);
    assert_eq!(inspected(&cluster, damaged).1["incomplete_through"], 0, "what was learned is in the log");
}

#[test]
fn damage_in_different_places_on_all_nodes_loses_nothing() {
    let mut cluster = Cluster::started(3, &[]);
    write_numbers(&cluster, 1, 40);
    cluster.wait_for_equal_states();
    (1..=3).for_each(|id| cluster.kill(id));
    damage(&cluster, 1, 10);
    damage(&cluster, 2, 20);
    (1..=3).for_each(|id| cluster.start(id));
    cluster.wait_for_leader();
    assert_numbers(&cluster, 1, 40);
    cluster.wait_for_equal_states();
}

#[test]
fn a_damaged_node_without_peers_is_refused_with_a_code_of_its_own() {
    let mut cluster = Cluster::started(1, &[]);
    write_numbers(&cluster, 1, 20);
    cluster.stop(1);
    damage(&cluster, 1, 5);
    let (code, line) = refused(&cluster, 1);
    assert_eq!(code, Some(4), "{line}");
    assert!(line.contains("no peer"), "{line}");
    assert!(inspected(&cluster, 1).1["is_promise_intact"] == true);
}

#[test]
fn a_node_that_may_have_lost_its_promise_is_refused_and_told_how_it_is_replaced() {
    let mut cluster = Cluster::started(1, &[]);
    write_numbers(&cluster, 1, 5);
    cluster.stop(1);
    let meta = PathBuf::from(cluster.data(1)).join("META");
    let whole = std::fs::read(&meta).expect("META is there");
    std::fs::write(&meta, vec![0; whole.len()]).expect("it can be written");
    let (code, line) = refused(&cluster, 1);
    assert_eq!(code, Some(4), "{line}");
    assert!(line.contains("META") && line.contains("a new id"), "{line}");
    let (code, report) = inspected(&cluster, 1);
    assert_eq!(code, Some(4));
    assert!(report["node"].is_null() && report["is_promise_intact"] == false, "{report}");
    assert!(
        report["segments"][0]["frame_count"].as_u64() >= Some(5),
        "the log is shown all the same: {report}"
    );
    std::fs::write(&meta, whole).expect("it can be written");
    std::fs::remove_file(&segments(&cluster, 1)[0]).expect("it can be removed");
    let (code, line) = refused(&cluster, 1);
    assert_eq!(code, Some(4), "{line}");
    assert!(line.contains("wal-000000000001") && line.contains("missing"), "{line}");
}

#[test]
fn who_has_seen_enough_of_an_inspection_may_stop_reading() {
    let mut cluster = Cluster::started(1, &[]);
    write_numbers(&cluster, 1, 1000);
    cluster.stop(1);
    let mut inspection = support::paxos_node();
    inspection.args(["wal", "inspect", &cluster.data(1), "--frames"]);
    let mut child =
        inspection.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its output can be read");
    assert_eq!((output.status.code(), last_line(&output)), (Some(0), String::new()));
}

#[test]
fn what_is_no_data_directory_is_not_inspected() {
    let output = run(&["wal", "inspect", "/"]);
    assert_eq!(output.status.code(), Some(2), "{}", last_line(&output));
    assert!(last_line(&output).contains("holds no node's data"), "{}", last_line(&output));
}

#[test]
fn a_node_that_comes_back_with_another_disk_is_refused_and_stops() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let lost = (1..=3).find(|id| *id != leader).expect("there are three");
    write_numbers(&cluster, leader, 5);
    cluster.kill(lost);
    std::fs::remove_dir_all(cluster.data(lost)).expect("a disk can be lost");
    let formatted = run(&["format", "--id", &lost.to_string(), "--data", &cluster.data(lost)]);
    assert!(formatted.status.success(), "{}", last_line(&formatted));
    let (code, line) = refused(&cluster, lost);
    assert_eq!(code, Some(4), "{line}");
    assert!(line.contains("another disk") && line.contains("a new id"), "{line}");
    let told = (1..=3).filter(|id| cluster.log(*id).contains("has come back with another disk")).count();
    assert!(told >= 1, "at least one peer says whom it refuses: {}", cluster.log(leader));
    write_numbers(&cluster, leader, 10);
    // Whoever starts again still knows.
    cluster.stop(leader);
    cluster.start(leader);
    cluster.wait_for_leader();
    let (code, line) = refused(&cluster, lost);
    assert_eq!(code, Some(4), "{line}");
}

/// As the README tells it.
#[test]
fn a_lost_node_is_replaced_by_one_with_a_new_id() {
    let mut cluster = Cluster::new(4, &[]);
    let without = |arguments: Vec<String>, gone: usize| -> Vec<String> {
        let prefix = format!("{gone}=");
        let keep = |peers: &str| {
            let kept: Vec<&str> = peers.split(',').filter(|peer| !peer.starts_with(&prefix)).collect();
            kept.join(",")
        };
        arguments.iter().map(|word| if word.contains("=127.") { keep(word) } else { word.clone() }).collect()
    };
    for id in 1..=3 {
        let arguments = without(cluster.serve_arguments(id), 4);
        cluster.start_with(id, &arguments);
    }
    cluster.wait_for_leader();
    write_numbers(&cluster, 1, 20);
    cluster.kill(3);
    cluster.wait_for_leader();
    cluster.wait_for_equal_states();
    cluster.stop(1);
    cluster.stop(2);
    for id in [1, 2] {
        let output = run(&["refound", "--data", &cluster.data(id), "--members", "1,2,4"]);
        assert!(output.status.success(), "{}", last_line(&output));
    }
    for id in [1, 2, 4] {
        let arguments = without(cluster.serve_arguments(id), 3);
        cluster.start_with(id, &arguments);
    }
    cluster.wait_for_leader();
    cluster.wait_for_equal_states();
    assert_numbers(&cluster, 4, 20);
    cluster.kill(1);
    write_numbers(&cluster, 4, 25);
}
