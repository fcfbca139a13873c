//! Which nodes make a cluster: foundings, new disks, copies of data, and settings that differ.
//! `src/runtime/introductions`.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::{Cluster, free_port, last_line, run, wait};

/// How long nodes are watched that must not do something.
const WATCHED: Duration = Duration::from_secs(3);

fn with(cluster: &Cluster, id: usize, option: &str, value: &str) -> Vec<String> {
    let mut arguments = cluster.serve_arguments(id);
    match arguments.iter().position(|argument| argument == option) {
        Some(at) => value.clone_into(&mut arguments[at + 1]),
        None => arguments.extend([option.to_owned(), value.to_owned()]),
    }
    arguments
}

/// `--peers` of a node, with some of the ids alone.
fn peers(cluster: &Cluster, ids: &[usize]) -> String {
    let arguments = cluster.serve_arguments(1);
    let at = arguments.iter().position(|argument| argument == "--peers").expect("it is given") + 1;
    let kept: Vec<&str> = arguments[at]
        .split(',')
        .filter(|peer| ids.iter().any(|id| peer.starts_with(&format!("{id}="))))
        .collect();
    kept.join(",")
}

fn reformat(cluster: &Cluster, id: usize) {
    std::fs::remove_dir_all(cluster.data(id)).expect("a disk can be lost");
    let output = run(&["format", "--id", &id.to_string(), "--data", &cluster.data(id)]);
    assert!(output.status.success(), "{}", last_line(&output));
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory can be made");
    for file in std::fs::read_dir(from).expect("it can be listed") {
        let file = file.expect("it can be listed");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}

/// Waits until a node's log has all of these words in one line.
fn wait_for_line(cluster: &Cluster, id: usize, words: &[&str]) -> String {
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        let log = cluster.log(id);
        if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "node {id} does not say {words:?} but: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That nodes acknowledge nothing for a while.
fn assert_no_acknowledgement(cluster: &Cluster, ids: &[usize]) {
    let since = Instant::now();
    while since.elapsed() < WATCHED {
        for id in ids {
            let reply = cluster.client(*id).ask(&["SET", "k", "new"]);
            assert!(reply.starts_with("-CLUSTERDOWN"), "node {id} must take no part: {reply}");
        }
    }
}

fn is_ready(cluster: &Cluster, id: usize) -> bool {
    cluster.http(id, "/readyz").is_some_and(|(code, _)| code == 200)
}

#[test]
fn a_new_cluster_is_founded_when_all_have_met_and_not_before() {
    let mut cluster = Cluster::new(3, &["--request-timeout", "2s"]);
    cluster.start(1);
    cluster.start(2);
    assert_no_acknowledgement(&cluster, &[1, 2]);
    wait_for_line(
        &cluster,
        1,
        &["waiting to meet node 3: a new cluster is founded when all its nodes have met"],
    );
    let reason = wait("node 1 says why it is not ready", || cluster.http(1, "/readyz"));
    assert_eq!(reason, (503, String::from("belongs to no cluster yet: waiting to meet node 3\n")));
    cluster.start(3);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
    let founding = cluster.status(1, "founding");
    assert!(founding.as_ref().is_some_and(|founding| founding != "null"), "{founding:?}");
    for id in [2, 3] {
        assert_eq!(cluster.status(id, "founding"), founding, "all know the cluster by the same name");
    }
    // What is founded once needs only a majority.
    (1..=3).for_each(|id| cluster.kill(id));
    cluster.start(2);
    cluster.start(3);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(2).ask(&["GET", "k"]), "v");
}

/// What a node answers to a command and to a read, which must come long before the time-out of requests.
fn answers_at_once(cluster: &Cluster, id: usize) -> [String; 2] {
    [&["SET", "k", "v"][..], &["GET", "k"]].map(|command| {
        let since = Instant::now();
        let answer = cluster.client(id).ask(command);
        assert!(since.elapsed() < support::PATIENCE / 2, "{answer} after {:?}", since.elapsed());
        answer
    })
}

#[test]
fn a_node_that_is_kept_out_says_so_to_its_clients_at_once_and_why() {
    let mut cluster = Cluster::new(3, &["--request-timeout", "60s"]);
    cluster.start(1);
    for answer in answers_at_once(&cluster, 1) {
        let reason =
            "-CLUSTERDOWN the cluster is not founded yet, and this node waits to meet node 2 and 1 more";
        assert!(answer.starts_with(reason), "{answer}");
    }
    cluster.start(2);
    cluster.start(3);
    cluster.wait_for_leader();
    assert_eq!(answers_at_once(&cluster, 1), ["OK", "v"]);
    cluster.stop(3);
    let arguments = with(&cluster, 3, "--reads", "lease");
    cluster.start_with(3, &arguments);
    for answer in answers_at_once(&cluster, 3) {
        let reason =
            "-CLUSTERDOWN this node and node 1 and 1 more do not listen to each other, as settings differ";
        assert!(answer.starts_with(reason) && answer.contains("nothing was applied"), "{answer}");
    }
    assert_eq!(answers_at_once(&cluster, 2), ["OK", "v"], "the others go on");
}

#[test]
fn a_cluster_may_be_founded_without_a_node_by_name_and_it_joins_later() {
    let mut cluster = Cluster::new(3, &["--request-timeout", "2s"]);
    for id in [1, 2] {
        let arguments = with(&cluster, id, "--found-without", "3");
        cluster.start_with(id, &arguments);
    }
    cluster.wait_for_leader();
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
    cluster.start(3);
    cluster.wait_for_leader();
    cluster.wait_for_equal_states();
    cluster.kill(2);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(3).ask(&["GET", "k"]), "v");
    cluster.stop(1);
    let arguments = with(&cluster, 1, "--found-without", "3");
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(2), "{}", last_line(&output));
    assert!(last_line(&output).contains("leave it out"), "{}", last_line(&output));
}

#[test]
fn two_disks_made_anew_beside_a_third_that_is_down_make_no_cluster() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "2s"]);
    assert_eq!(cluster.client(1).ask(&["SET", "k", "old"]), "OK");
    cluster.wait_for_equal_states();
    (1..=3).for_each(|id| cluster.stop(id));
    reformat(&cluster, 1);
    reformat(&cluster, 2);
    cluster.start(1);
    cluster.start(2);
    assert_no_acknowledgement(&cluster, &[1, 2]);
    wait_for_line(&cluster, 1, &["waiting to meet node 3"]);
    cluster.start(3);
    for id in [1, 2] {
        wait_for_line(&cluster, id, &["node 3 refuses this node", "another disk"]);
        wait_for_line(&cluster, 3, &[&format!("node {id} is refused"), "another disk"]);
    }
    assert_no_acknowledgement(&cluster, &[1, 2, 3]);
    assert_eq!(cluster.http(3, "/healthz").map(|(code, _)| code), Some(200), "who has the data goes on");
    assert_eq!(cluster.status(3, "refused").as_deref(), Some("[1,2]"));
}

#[test]
fn a_founder_that_has_a_cluster_of_its_own_is_not_taken_for_one_of_this() {
    let mut cluster = Cluster::new(3, &["--request-timeout", "2s"]);
    let alone = with(&cluster, 1, "--peers", &peers(&cluster, &[1]));
    cluster.start_with(1, &alone);
    wait("node 1 is ready", || is_ready(&cluster, 1).then_some(()));
    assert_eq!(cluster.client(1).ask(&["SET", "k", "old"]), "OK");
    cluster.start(2);
    cluster.start(3);
    assert_no_acknowledgement(&cluster, &[2, 3]);
    for id in [2, 3] {
        wait_for_line(&cluster, id, &["waiting to meet node 1"]);
    }
    wait_for_line(&cluster, 1, &["node 2"]);
    assert_eq!(cluster.client(1).ask(&["GET", "k"]), "old", "who was healthy goes on");
    // Flags do not make it a cluster of three.
    cluster.stop(1);
    let arguments = cluster.serve_arguments(1);
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let line = last_line(&output);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("founded with the members 1 ") && line.contains("1,2,3"), "{line}");
}

#[test]
fn three_nodes_do_not_become_five_by_flags() {
    let mut cluster = Cluster::new(5, &["--request-timeout", "2s"]);
    let three = peers(&cluster, &[1, 2, 3]);
    for id in 1..=3 {
        let arguments = with(&cluster, id, "--peers", &three);
        cluster.start_with(id, &arguments);
    }
    cluster.wait_for_leader();
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
    cluster.stop(3);
    let arguments = cluster.serve_arguments(3);
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(2), "{}", last_line(&output));
    assert!(last_line(&output).contains("can't be changed by settings"), "{}", last_line(&output));
    cluster.start(4);
    cluster.start(5);
    assert_no_acknowledgement(&cluster, &[4, 5]);
    assert_eq!(cluster.client(1).ask(&["GET", "k"]), "v", "the others go on");
}

#[test]
fn settings_that_differ_are_told_on_both_sides_and_nothing_else_stops() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "2s"]);
    cluster.stop(3);
    for (option, value, name) in
        [("--reads", "lease", "reads is"), ("--max-value-bytes", "2000000", "max_value_bytes is")]
    {
        let arguments = with(&cluster, 3, option, value);
        cluster.start_with(3, &arguments);
        for id in [1, 2] {
            wait_for_line(&cluster, id, &["node 3 is refused", name, "must be equal"]);
        }
        wait_for_line(&cluster, 3, &["node 1", name, "must be equal"]);
        assert_eq!(cluster.client(1).ask(&["SET", "k", name]), "OK", "the others go on");
        assert!(!is_ready(&cluster, 3));
        cluster.stop(3);
    }
    cluster.start(3);
    cluster.wait_for_leader();
    wait_for_line(&cluster, 1, &["node 3 is let in again"]);
    cluster.wait_for_equal_states();
}

/// Starts a copy of a node's data beside it.
fn start_copy(cluster: &mut Cluster, id: usize, data: &str) -> std::process::Child {
    let mut arguments = with(cluster, id, "--data", data);
    let free = || format!("127.0.0.1:{}", free_port());
    for option in ["--client", "--http"] {
        let at = arguments.iter().position(|argument| argument == option).expect("it is given") + 1;
        arguments[at] = free();
    }
    arguments.extend(["--listen".to_owned(), free()]);
    let log = std::fs::File::create(cluster.path("copy.log")).expect("the log file opens");
    let mut command = support::paxos_node();
    command.args(arguments).stdout(std::process::Stdio::null()).stderr(log);
    command.spawn().expect("the program starts")
}

#[test]
fn a_copy_of_a_data_directory_is_refused_beside_the_original_and_stops() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "2s"]);
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
    cluster.wait_for_equal_states();
    let copied = cluster.path("copied");
    // The highest id dials all others, so that its copy gets through to all of them.
    copy_directory(Path::new(&cluster.data(3)), Path::new(&copied));
    let mut copy = start_copy(&mut cluster, 3, &copied);
    let deadline = Instant::now() + support::PATIENCE;
    let code = loop {
        if let Some(status) = copy.try_wait().expect("it can be waited for") {
            break status.code();
        }
        if Instant::now() > deadline {
            let _ = copy.kill();
            let log = std::fs::read_to_string(cluster.path("copy.log"));
            panic!("the copy does not stop: {log:?} {} {}", cluster.log(1), cluster.log(2));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let log = std::fs::read_to_string(cluster.path("copy.log")).expect("there is a log");
    assert_eq!(code, Some(4), "{log}");
    assert!(log.contains("older copy"), "{log}");
    for id in [1, 2] {
        wait_for_line(&cluster, id, &["node 3 is refused", "copy of its data"]);
    }
    cluster.wait_for_leader();
    for id in 1..=3 {
        assert_eq!(cluster.client(id).ask(&["SET", &format!("after{id}"), "v"]), "OK");
    }
    cluster.wait_for_equal_states();
    // It is of no use any more, even when the original is gone.
    cluster.stop(3);
    let arguments = with(&cluster, 3, "--data", &copied);
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(4), "{}", last_line(&output));
}

#[test]
fn a_backup_of_a_data_directory_is_refused() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "2s"]);
    cluster.stop(2);
    copy_directory(Path::new(&cluster.data(2)), Path::new(&cluster.path("backup")));
    cluster.start(2);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(2).ask(&["SET", "k", "v"]), "OK");
    cluster.stop(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("it can be lost");
    copy_directory(Path::new(&cluster.path("backup")), Path::new(&cluster.data(2)));
    cluster.start(2);
    for id in [1, 3] {
        wait_for_line(&cluster, id, &["node 2 is refused", "copy of its data"]);
    }
    wait_for_line(&cluster, 2, &["older copy"]);
    assert_eq!(cluster.client(1).ask(&["GET", "k"]), "v", "the others go on");
}

#[test]
fn a_copy_that_was_made_while_the_node_ran_is_refused_in_its_place() {
    let mut cluster = Cluster::started(3, &["--request-timeout", "2s"]);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(1).ask(&["SET", "k", "old"]), "OK");
    copy_directory(Path::new(&cluster.data(2)), Path::new(&cluster.path("backup")));
    for number in 0..20 {
        assert_eq!(cluster.client(1).ask(&["SET", &format!("k{number}"), "v"]), "OK");
    }
    cluster.wait_for_equal_states();
    cluster.stop(2);
    let data = cluster.data(2);
    std::fs::rename(&data, cluster.path("original")).expect("it can be moved");
    std::fs::rename(cluster.path("backup"), &data).expect("it can be moved");
    cluster.start(2);
    for id in [1, 3] {
        wait_for_line(&cluster, id, &["node 2 is refused", "copy of its data"]);
    }
    wait_for_line(&cluster, 2, &["older copy"]);
    // The original comes back as if nothing had happened.
    std::fs::remove_dir_all(&data).expect("it can be lost");
    std::fs::rename(cluster.path("original"), &data).expect("it can be moved");
    cluster.start(2);
    cluster.wait_for_equal_states();
    assert_eq!(cluster.client(2).ask(&["GET", "k19"]), "v");
}
