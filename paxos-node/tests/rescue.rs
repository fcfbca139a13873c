//! Clusters of processes that have lost their majority for good: `paxos-node rescue`.

mod support;

use std::process::Stdio;

use support::{Client, Cluster, last_line, run, wait};

/// Runs the program; returns its exit code and all that it has written.
fn told(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn done(arguments: &[&str]) -> String {
    let (code, text) = told(arguments);
    assert_eq!(code, Some(0), "{}: {text}", arguments.join(" "));
    text
}

fn fill(client: &mut Client, keys: std::ops::Range<usize>) {
    for key in keys {
        assert_eq!(client.ask(&["SET", &format!("key{key}"), &format!("value {key}")]), "OK");
    }
}

/// Waits until a node serves clients alone or with others.
fn served(cluster: &Cluster, id: usize) -> Client {
    wait("a node that is ready", || cluster.http(id, "/readyz").filter(|(code, _)| *code == 200));
    cluster.client(id)
}

#[test]
fn the_last_node_of_three_goes_on_and_the_lost_ones_are_refused_when_they_come_back() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    let (survivor, lost) = (others[0], [leader, others[1]]);
    fill(&mut cluster.client(survivor), 0..20);
    cluster.wait_for_equal_states();
    // It misses the last writes.
    cluster.stop(survivor);
    fill(&mut cluster.client(leader), 20..40);
    for id in lost {
        cluster.kill(id);
    }
    let (data, file) = (cluster.data(survivor), cluster.path("plan.json"));
    let planned = done(&["rescue", "plan", &data, "--out", &file]);
    assert!(planned.contains("nobody can tell how much"), "{planned}");
    let (code, refused) = told(&["rescue", "apply", &file, "--yes-i-am-sure", "another"]);
    assert_eq!(code, Some(2), "{refused}");
    assert!(refused.contains("nothing is changed"), "{refused}");
    // The name is typed.
    let mut apply = support::paxos_node();
    apply
        .args(["rescue", "apply", &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut apply = apply.spawn().expect("the program starts");
    let mut typed = apply.stdin.take().expect("it is a pipe");
    std::io::Write::write_all(&mut typed, b"paxos\n").expect("it is read");
    drop(typed);
    let output = apply.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let again = done(&["rescue", "apply", &file, "--yes-i-am-sure", "paxos"]);
    assert!(again.contains("already done"), "{again}");

    cluster.start(survivor);
    let mut client = served(&cluster, survivor);
    assert_eq!(client.ask(&["GET", "key19"]), "value 19");
    assert_eq!(client.ask(&["GET", "key39"]), "(nil)", "only the lost nodes knew it");
    fill(&mut client, 40..50);

    // A lost node comes back, is told, and ends; so does the other one, though both knew more.
    for id in lost {
        cluster.start(id);
        assert_eq!(cluster.exit_code(id), Some(5), "{}", cluster.log(id));
        assert!(cluster.log(id).contains("was removed from the cluster in epoch 2"), "{}", cluster.log(id));
    }
    // Nor does one come back after the survivor was started again.
    cluster.stop(survivor);
    cluster.start(survivor);
    served(&cluster, survivor);
    cluster.start(lost[0]);
    assert_eq!(cluster.exit_code(lost[0]), Some(5), "{}", cluster.log(lost[0]));

    // New members join, and one of them may replace the last of the old ones.
    let new: Vec<usize> = (0..2).map(|_| cluster.grow()).collect();
    for id in &new {
        let arguments = cluster.join_arguments(*id, &[survivor]);
        cluster.start_with(*id, &arguments);
        let (name, address) = (id.to_string(), cluster.peer_address(*id));
        cluster.member(&[survivor], &["add", "--id", &name, "--address", &address]);
        wait("a learner that has caught up", || {
            (cluster.try_member(&[survivor], &["promote", "--id", &name]).0 == Some(0)).then_some(())
        });
    }
    cluster.wait_for_equal_states();
    let replacing = cluster.grow();
    let arguments = cluster.join_arguments(replacing, &[new[0]]);
    cluster.start_with(replacing, &arguments);
    let replace = [
        "replace",
        "--id",
        &survivor.to_string(),
        "--with",
        &replacing.to_string(),
        "--address",
        &cluster.peer_address(replacing),
    ]
    .map(str::to_owned);
    let replace: Vec<&str> = replace.iter().map(String::as_str).collect();
    cluster.member(&[new[0]], &replace);
    assert_eq!(cluster.exit_code(survivor), Some(5), "{}", cluster.log(survivor));
    assert_eq!(cluster.client(replacing).ask(&["GET", "key45"]), "value 45");
}

#[test]
fn two_nodes_of_five_go_on_and_the_one_that_was_behind_catches_up() {
    let mut cluster = Cluster::started(5, &[]);
    let leader = cluster.wait_for_leader();
    let others: Vec<usize> = (1..=5).filter(|id| *id != leader).collect();
    let behind = others[0];
    fill(&mut cluster.client(leader), 0..10);
    cluster.wait_for_equal_states();
    cluster.stop(behind);
    fill(&mut cluster.client(others[1]), 10..30);
    cluster.wait_for_equal_states();
    let lost = [leader, others[2], others[3]];
    for id in lost {
        cluster.kill(id);
    }
    cluster.kill(others[1]);
    let (first, second, file) = (cluster.data(behind), cluster.data(others[1]), cluster.path("plan.json"));
    let planned = done(&["rescue", "plan", &first, &second, "--out", &file]);
    assert!(planned.contains(&format!("from the disk of node {}", others[1])), "{planned}");
    done(&["rescue", "apply", &file, "--yes-i-am-sure", "paxos"]);
    for id in [behind, others[1]] {
        cluster.start(id);
    }
    cluster.wait_for_leader();
    cluster.wait_for_equal_states();
    assert_eq!(cluster.client(behind).ask(&["GET", "key29"]), "value 29");
    assert_eq!(cluster.client(behind).ask(&["SET", "next", "1"]), "OK");
    // A majority of the old cluster comes back at once, node by node, and finds nobody.
    cluster.start(lost[0]);
    assert_eq!(cluster.exit_code(lost[0]), Some(5), "{}", cluster.log(lost[0]));
}

#[test]
fn a_plan_for_a_running_node_a_majority_or_two_clusters_is_refused_and_so_is_an_old_plan() {
    let mut cluster = Cluster::started(3, &[]);
    cluster.wait_for_leader();
    fill(&mut cluster.client(1), 0..3);
    let (one, two, file) = (cluster.data(1), cluster.data(2), cluster.path("plan.json"));
    let (code, running) = told(&["rescue", "plan", &one]);
    assert_ne!(code, Some(0), "{running}");
    for id in 1..=3 {
        cluster.kill(id);
    }
    let (code, majority) = told(&["rescue", "plan", &one, &two]);
    assert_eq!(code, Some(2), "{majority}");
    assert!(majority.contains("the majority is not lost"), "{majority}");
    let mut other = Cluster::started(3, &[]);
    other.wait_for_leader();
    other.kill(2);
    let (code, clusters) = told(&["rescue", "plan", &one, &other.data(2)]);
    assert_eq!(code, Some(2), "{clusters}");
    assert!(clusters.contains("rescue one at a time"), "{clusters}");
    // The node was started after the plan was made.
    done(&["rescue", "plan", &one, "--out", &file]);
    cluster.start(1);
    wait("a node that runs", || cluster.status(1, "founding").filter(|id| id != "null"));
    let (code, running) = told(&["rescue", "apply", &file, "--yes-i-am-sure", "paxos"]);
    assert_ne!(code, Some(0), "{running}");
    cluster.kill(1);
    let output = run(&["rescue", "apply", &file, "--yes-i-am-sure", "paxos"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(last_line(&output).contains("has changed since the plan was made"), "{output:?}");
    // Nothing was changed: with its majority the cluster goes on as before.
    for id in 1..=3 {
        cluster.start(id);
    }
    cluster.wait_for_leader();
    assert_eq!(cluster.client(2).ask(&["GET", "key2"]), "value 2");
}
