//! Standard streams that take nothing, because nobody reads them, they are closed, or their disk is full:
//! `src/cli/terminal.rs`.
#![cfg(feature = "file")]

mod support;

use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Cluster, paxos_node, wait};

/// How long a node may take to end when it is asked to.
const PROMPTLY: Duration = Duration::from_secs(5);

fn full() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").expect("Linux has it"))
}

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    Stdio::from(writer)
}

fn assert_serves(cluster: &Cluster) {
    wait("the node is ready", || cluster.http(1, "/readyz").filter(|(code, _)| *code == 200));
    assert_eq!(cluster.client(1).ask(&["SET", "k", "v"]), "OK");
}

fn assert_ends_promptly(cluster: &mut Cluster) {
    cluster.signal(1, "-TERM");
    let since = Instant::now();
    let ended = wait("the node ends", || cluster.process(1).try_wait().expect("it can be waited for"));
    assert!(ended.success() && since.elapsed() < PROMPTLY, "{ended} after {:?}", since.elapsed());
}

#[test]
fn a_node_serves_and_stops_though_nobody_reads_its_log() {
    let mut cluster = Cluster::new(3, &[]);
    let (unread, writer) = std::io::pipe().expect("there are pipes");
    let talkative = [cluster.serve_arguments(1), ["--log", "trace"].map(str::to_owned).to_vec()].concat();
    cluster.start_on(1, &talkative, Stdio::null(), Stdio::from(writer));
    cluster.start(2);
    cluster.start(3);
    assert_serves(&cluster);
    // Far more lines than the pipe and the queue take.
    let dropped = wait("lines are dropped", || {
        let mut client = cluster.client(1);
        for number in 0..500 {
            client.ask(&["SET", "k", &number.to_string()]);
        }
        let (_, metrics) = cluster.http(1, "/metrics")?;
        let dropped = metrics.lines().find(|line| line.starts_with("paxos_log_lines_dropped_total{"))?;
        Some(dropped.to_owned())
    });
    assert!(!dropped.ends_with(" 0"), "{dropped}");
    assert_eq!(cluster.http(1, "/healthz").map(|(code, _)| code), Some(200));
    assert_ends_promptly(&mut cluster);
    drop(unread);
}

#[test]
fn a_node_serves_and_stops_whatever_its_streams_are() {
    type Streams = (&'static str, fn() -> Stdio, fn() -> Stdio);
    let kinds: [Streams; 4] = [
        ("both full", full, full),
        ("output full", full, Stdio::null),
        ("error closed", Stdio::null, closed),
        ("both closed", closed, closed),
    ];
    for (kind, output, error) in kinds {
        eprintln!("{kind}");
        let mut cluster = Cluster::new(1, &["--log", "debug"]);
        cluster.start_on(1, &cluster.serve_arguments(1), output(), error());
        assert_serves(&cluster);
        assert_ends_promptly(&mut cluster);
    }
}

/// What a command that ends by itself comes to on this output.
fn end_on(output: Stdio, arguments: &[&str]) -> Output {
    let mut command: Command = paxos_node();
    command.args(arguments).stdout(output).stderr(Stdio::piped()).output().expect("the program starts")
}

#[test]
fn commands_report_an_output_that_is_full_and_accept_one_that_is_closed() {
    let cluster = Cluster::started(1, &[]);
    let http = cluster.http_address(1);
    let (certs, data) = (cluster.path("more-certs"), cluster.path("another"));
    let inspected = cluster.data(1);
    let commands: [&[&str]; 4] = [
        &["status", &http],
        &["wal", "inspect", &inspected],
        &["certs", "--out", &certs, "--nodes", "1"],
        &["format", "--id", "1", "--data", &data],
    ];
    for arguments in commands {
        let end = end_on(full(), arguments);
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        assert_eq!(end.status.code(), Some(1), "{arguments:?} on a full output: {said}");
        assert!(said.contains("No space left on device"), "{arguments:?}: {said}");
    }
    for arguments in [&["status", &http][..], &["wal", "inspect", &inspected], &["--help"]] {
        let end = end_on(closed(), arguments);
        assert_eq!(end.status.code(), Some(0), "{arguments:?} on a closed output: {end:?}");
    }
}

#[test]
fn a_log_that_no_terminal_shows_has_no_colours() {
    let mut cluster = Cluster::new(1, &["--log", "debug"]);
    cluster.start(1);
    assert_serves(&cluster);
    assert_ends_promptly(&mut cluster);
    let log = cluster.log(1);
    assert!(log.contains("DEBUG") && !log.contains('\u{1b}'), "{log:?}");
}
