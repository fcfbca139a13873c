//! What the program refuses, with which words and which exit code: `src/cli`.

mod support;

use std::net::TcpListener;

use support::{Cluster, last_line, run};

fn refused(arguments: &[String]) -> (Option<i32>, String) {
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!lines.contains("panicked"), "{lines}");
    (output.status.code(), last_line(&output))
}

/// `serve` for node 1, with the value of one option replaced.
fn with(cluster: &Cluster, option: &str, value: &str) -> Vec<String> {
    let mut arguments = cluster.serve_arguments(1);
    match arguments.iter().position(|argument| argument == option) {
        Some(at) => value.clone_into(&mut arguments[at + 1]),
        None => arguments.extend([option.to_owned(), value.to_owned()]),
    }
    arguments
}

#[test]
fn directories_that_are_not_the_nodes_own_are_refused() {
    let cluster = Cluster::new(2, &[]);
    let (code, line) = refused(&with(&cluster, "--data", &cluster.path("nothing")));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("paxos-node format"), "it says what to do: {line}");
    let (code, line) = refused(&with(&cluster, "--data", &cluster.data(2)));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("belongs to node 2"), "{line}");
    let (code, line) = refused(&with(&cluster, "--cluster", "another"));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("another"), "{line}");
    let format = ["format", "--id", "1", "--data", &cluster.data(1)].map(str::to_owned);
    let (code, line) = refused(&format);
    assert_eq!(code, Some(2), "{line}");
    assert!(
        line.contains("is that of node 1") && line.contains("--if-missing"),
        "it says what to do: {line}"
    );
    let output = run(&["format", "--id", "1", "--data", &cluster.data(1), "--if-missing"]);
    assert!(output.status.success(), "a script may run again: {output:?}");
    let other = ["format", "--id", "2", "--data", &cluster.data(1), "--if-missing"].map(str::to_owned);
    let (code, line) = refused(&other);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("is that of node 1"), "{line}");
    let (code, line) = refused(&["format", "--id", "1", "--data", &cluster.path("certs")].map(str::to_owned));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("not empty"), "{line}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.start(1);
    cluster.wait_for_leader();
    let (code, line) = refused(&cluster.serve_arguments(1));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("in use"), "{line}");
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_in_one_line() {
    let cluster = Cluster::new(1, &[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let taken = taken.local_addr().expect("it has an address").to_string();
    for (option, value, word) in [
        ("--client", taken.as_str(), "can't listen"),
        ("--http", &taken, "can't listen"),
        ("--client", "nonsense", "--client"),
        ("--peers", "2=127.0.0.1:1", "does not name node 1"),
        ("--peers", "1=127.0.0.1", "ID=HOST:PORT"),
        ("--certs", "/nonexistent", "ca.pem"),
        ("--config", "/nonexistent.toml", "/nonexistent.toml"),
        ("--log", "===", "--log"),
        ("--max-value-bytes", "0", "--max-value-bytes"),
        ("--client-key", "key.pem", "--client-tls"),
        ("--users", "/nonexistent.acl", "--users /nonexistent.acl: No such file"),
    ] {
        let (code, line) = refused(&with(&cluster, option, value));
        assert_eq!(code, Some(2), "{option} {value}: {line}");
        assert!(line.contains(word), "{option} {value}: {line}");
    }
    let (code, _) = refused(&with(&cluster, "--transport", "pigeon"));
    assert_eq!(code, Some(2));
    let (code, line) = refused(&["serve".to_owned()]);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("--id is missing"), "{line}");
}

#[test]
fn certificates_are_made_once_and_for_new_nodes_later() {
    let cluster = Cluster::new(1, &[]);
    let certs = cluster.path("certs");
    let again = run(&["certs", "--out", &certs, "--nodes", "1"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing was written"), "{again:?}");
    let more = run(&["certs", "--out", &certs, "--nodes", "2"]);
    assert_eq!(more.status.code(), Some(0), "{more:?}");
    let written = String::from_utf8_lossy(&more.stdout).into_owned();
    assert_eq!(written.matches("wrote").count(), 2, "only what is missing: {written}");
    assert!(written.contains("the certificate that expires first is that of"), "{written}");
    assert!(written.contains("node-2.pem") && written.contains("node-2-key.pem"), "{written}");
    for file in ["admin.pem", "admin-key.pem"] {
        assert!(std::fs::exists(format!("{certs}/{file}")).expect("the directory is there"), "{file}");
    }
    let added = run(&["certs", "--out", &certs, "--add", "7,2"]);
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    let written = String::from_utf8_lossy(&added.stdout).into_owned();
    assert_eq!(written.matches("wrote").count(), 2, "only what is missing: {written}");
    assert!(written.contains("node-7.pem") && written.contains("node-7-key.pem"), "{written}");
    let other = ["certs", "--out", &certs, "--nodes", "3", "--cluster", "other"].map(str::to_owned);
    let (code, line) = refused(&other);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("ca.pem: not the CA of cluster other"), "{line}");
    std::fs::remove_file(format!("{certs}/ca-key.pem")).expect("it is there");
    let (code, line) = refused(&["certs", "--out", &certs, "--add", "8"].map(str::to_owned));
    assert_eq!(code, Some(2), "{line}");
    assert!(
        line.contains("ca-key.pem: is missing: the key of the CA is needed to sign certificates"),
        "{line}"
    );
    let (code, line) = refused(&["certs", "--out", &certs].map(str::to_owned));
    assert_eq!(code, Some(2), "{line}");
}

#[test]
fn status_says_if_nobody_answers() {
    let output = run(&["status", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("no answer"));
}
