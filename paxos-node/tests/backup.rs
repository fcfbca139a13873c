//! Backups of a cluster of processes, and new clusters from them: `paxos-node backup` and `restore`.

mod support;

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Client, Cluster, last_line, run, wait};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes a backup by asking the first node.
fn try_backup(cluster: &Cluster, out: &str, options: &[&str]) -> Output {
    let (via, certs) = (cluster.peer_address(1), cluster.path("certs"));
    let mut arguments = vec!["backup", "--via", &via, "--certs", &certs, "--out", out];
    arguments.extend(options);
    run(&arguments)
}

fn verified(file: &str) -> serde_json::Value {
    serde_json::from_str(&text(&run(&["backup", "verify", file, "--json"]))).expect("it is JSON")
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Sets keys until there are so many.
fn fill(client: &mut Client, keys: usize) {
    for key in 0..keys {
        assert_eq!(client.ask(&["SET", &format!("key{key}"), &format!("value {key}")]), "OK");
    }
}

/// The data directories of a new cluster, restored from a backup; not started yet.
fn restored(size: usize, file: &str, options: &[&str]) -> Cluster {
    let cluster = Cluster::new(size, &[]);
    for id in 1..=size {
        restore(&cluster, id, file, options);
    }
    cluster
}

fn restore(cluster: &Cluster, id: usize, file: &str, options: &[&str]) -> String {
    let (id, data) = (id.to_string(), cluster.data(id));
    std::fs::remove_dir_all(&data).expect("it is there");
    let mut arguments = vec!["restore", "--from", file, "--id", &id, "--data", &data];
    arguments.extend(options);
    text(&run(&arguments))
}

#[test]
fn a_new_cluster_begins_with_what_was_backed_up_from_a_follower_while_clients_wrote() {
    let cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let mut client = cluster.client(leader);
    fill(&mut client, 50);
    assert_eq!(client.ask(&["SET", "lock", "token", "NX", "PX", "600000"]), "OK");
    let fence = number(&client.ask(&["PAXOS.FENCE", "lock"]));
    let file = cluster.path("today.backup");
    let is_over = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = cluster.client(leader);
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Both or none are in a state.
                client.ask(&["MSET", "left", &number.to_string(), "right", &number.to_string()]);
                number += 1;
            }
        });
        let output = try_backup(&cluster, &file, &[]);
        is_over.store(true, Ordering::Relaxed);
        output
    });
    let told = text(&output);
    let report = verified(&file);
    assert_ne!(report["node"].as_u64(), Some(leader as u64), "it is not taken from the leader: {told}");
    assert!(told.contains(report["sha256"].as_str().expect("it has a name")), "{told}");
    assert_eq!(
        (report["cluster"].as_str(), report["members"].as_array().map(Vec::len)),
        (Some("paxos"), Some(3))
    );
    let revision = report["revision"].as_u64().expect("a number");
    assert!(report["keys"].as_u64() >= Some(51), "{report}");

    // An existing file stays, unless it may be replaced; nothing is left beside it.
    let refused = try_backup(&cluster, &file, &[]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(last_line(&refused).contains("--overwrite"), "{refused:?}");
    text(&try_backup(&cluster, &file, &["--overwrite", "--node", &leader.to_string()]));
    assert_eq!(verified(&file)["node"].as_u64(), Some(leader as u64));
    let parts = std::fs::read_dir(cluster.directory.path()).expect("it is there");
    let parts = parts.filter(|entry| {
        entry.as_ref().expect("it is there").file_name().to_string_lossy().ends_with(".part")
    });
    assert_eq!(parts.count(), 0);

    let mut new = restored(3, &file, &["--raise-revisions", "1000000"]);
    for id in 1..=3 {
        new.start(id);
    }
    new.wait_for_leader();
    let mut client = new.client(2);
    assert_eq!(client.ask(&["GET", "key49"]), "value 49");
    assert_eq!(client.ask(&["GET", "left"]), client.ask(&["GET", "right"]));
    assert_eq!(number(&client.ask(&["PAXOS.FENCE", "lock"])), fence, "a grant keeps its number");
    let rest = number(&client.ask(&["PTTL", "lock"]));
    assert!((1..=600_000).contains(&rest), "deadlines go on: {rest}");
    assert_eq!(client.ask(&["SET", "next", "token", "NX"]), "OK");
    let next = number(&client.ask(&["PAXOS.FENCE", "next"]));
    assert!(next > revision + 1_000_000, "{next} follows {revision}");
    new.wait_for_equal_states();
    // It is a cluster like any other: it grows, and is backed up.
    let joins = new.grow();
    let arguments = new.join_arguments(joins, &[1, 2]);
    new.start_with(joins, &arguments);
    new.member(&[1], &["add", "--id", "4", "--address", &new.peer_address(joins)]);
    wait("a learner that has caught up", || {
        (new.try_member(&[1], &["promote", "--id", "4"]).0 == Some(0)).then_some(())
    });
    let file = new.path("second.backup");
    text(&try_backup(&new, &file, &[]));
    assert!(verified(&file)["revision"].as_u64() >= Some(next));
    new.stop(1);
    new.start(1);
    new.wait_for_leader();
    assert_eq!(new.client(1).ask(&["GET", "key0"]), "value 0");
}

#[test]
fn founders_with_other_backups_or_none_refuse_each_other_and_found_nothing() {
    let mut cluster = Cluster::started(1, &[]);
    let mut client = cluster.client(1);
    fill(&mut client, 3);
    let (first, second) = (cluster.path("first.backup"), cluster.path("second.backup"));
    text(&try_backup(&cluster, &first, &[]));
    fill(&mut client, 4);
    text(&try_backup(&cluster, &second, &[]));
    cluster.stop(1);
    // Node 2 begins with another backup, and node 3 with none.
    let mut new = Cluster::new(3, &[]);
    restore(&new, 1, &first, &[]);
    restore(&new, 2, &second, &[]);
    for id in 1..=3 {
        new.start(id);
    }
    for id in 1..=3 {
        wait("a refusal", || new.log(id).contains("restored_from").then_some(()));
        assert_eq!(new.status(id, "founding").as_deref(), Some("null"), "node {id} is of no cluster");
    }
    assert!(new.client(1).ask(&["SET", "a", "1"]).starts_with('-'), "there is no cluster");
    for id in [2, 3] {
        new.kill(id);
        restore(&new, id, &first, &[]);
        new.start(id);
    }
    new.wait_for_leader();
    assert_eq!(new.client(3).ask(&["GET", "key2"]), "value 2");
    assert_eq!(new.client(3).ask(&["GET", "key3"]), "(nil)");
}

#[test]
fn a_directory_that_is_used_and_a_backup_that_is_damaged_are_refused() {
    let cluster = Cluster::started(1, &[]);
    fill(&mut cluster.client(1), 3);
    let file = cluster.path("today.backup");
    text(&try_backup(&cluster, &file, &[]));
    let bytes = std::fs::read(&file).expect("it is there");
    let data = cluster.data(1);
    let output = run(&["restore", "--from", &file, "--id", "1", "--data", &data]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let new = cluster.path("new");
    for (what, damaged) in [
        ("cut", bytes[..bytes.len() - 20].to_vec()),
        ("damaged", {
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 4;
            flipped
        }),
    ] {
        let bad = cluster.path("bad.backup");
        std::fs::write(&bad, damaged).expect("there is room");
        for arguments in
            [vec!["backup", "verify", &bad], vec!["restore", "--from", &bad, "--id", "1", "--data", &new]]
        {
            let output = run(&arguments);
            assert_eq!(output.status.code(), Some(4), "{output:?}");
            let line = last_line(&output);
            assert!(line.contains(what) && line.contains("at byte "), "{line}");
        }
        assert!(!Path::new(&new).exists(), "nothing was made");
    }
    let output = run(&["backup", "verify", &cluster.path("missing")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_cluster_without_a_majority_gives_what_a_node_has_only_if_that_is_wanted() {
    let mut cluster = Cluster::started(3, &[]);
    cluster.wait_for_leader();
    fill(&mut cluster.client(1), 20);
    cluster.wait_for_equal_states();
    for id in [2, 3] {
        cluster.kill(id);
    }
    wait("a leader that is lost", || (cluster.status(1, "leader")? == "null").then_some(()));
    let file = cluster.path("last.backup");
    text(&try_backup(&cluster, &file, &["--stale"]));
    assert_eq!(verified(&file)["keys"].as_u64(), Some(20));
}

#[test]
fn a_large_backup_passes_in_pieces_and_one_that_is_interrupted_leaves_nothing() {
    let cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let mut client = cluster.client(leader);
    let long = "x".repeat(128 << 10);
    for number in 0..12 {
        // A slow disk may take longer than a client waits.
        wait("a value that is set", || {
            (client.ask(&["SET", &format!("long{number}"), &long]) == "OK").then_some(())
        });
    }
    let file = cluster.path("large.backup");
    let (via, certs) = (cluster.peer_address(1), cluster.path("certs"));
    let mut child = support::paxos_node();
    child.args(["backup", "--via", &via, "--certs", &certs, "--out", &file]);
    let mut child = child.spawn().expect("the program starts");
    let names = || {
        let entries = std::fs::read_dir(cluster.directory.path()).expect("it is there");
        let names =
            entries.map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains("large.backup")).collect::<Vec<_>>()
    };
    wait("an unfinished file", || (!names().is_empty()).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill is there").success());
    let status = child.wait().expect("it can be waited for");
    if status.code() != Some(0) {
        assert_eq!((status.code(), names()), (Some(1), Vec::new()));
    }
    // The node serves the next one when the one that was given up is idle.
    let output = try_backup(&cluster, &file, &["--overwrite"]);
    text(&output);
    let report = verified(&file);
    assert_eq!(report["keys"].as_u64(), Some(12));
    assert!(report["size_bytes"].as_u64() > Some(1 << 20), "{report}");
}
