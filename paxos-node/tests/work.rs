//! Commands that ask for much work are done in bounded pieces or refused, and delay nobody else:
//! `src/kv/work.rs`, `src/fronts/resp/run.rs`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Cluster};

const TOO_MUCH: &str =
    "-ERR not carried out: this is too much work at once, use smaller commands or transactions";
/// An election takes half a second of silence: within a shorter wait there was none.
const ELECTION: Duration = Duration::from_millis(500);
/// How long clients wait is measured here, and must not end a test on a busy machine.
const PATIENT: [&str; 2] = ["--request-timeout", "25s"];

/// Does something while another connection sends PING to each node, over and over; returns the longest
/// anybody waited for an answer.
fn longest_pong(cluster: &Cluster, size: usize, work: impl FnOnce()) -> Duration {
    let is_over = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (1..=size)
        .map(|id| {
            let (mut client, is_over) = (cluster.client(id), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !is_over.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    let answer = client.ask(&["PING"]);
                    // A node that has just been started may still read its log, but it says so.
                    assert!(answer == "PONG" || answer.starts_with("-LOADING"), "{answer}");
                    longest = longest.max(since.elapsed());
                    std::thread::sleep(Duration::from_millis(1));
                }
                longest
            })
        })
        .collect();
    work();
    is_over.store(true, Ordering::Relaxed);
    let longest = askers.into_iter().map(|asker| asker.join().expect("every PING is answered")).max();
    longest.expect("there are nodes")
}

/// The ballot that each node has promised: it grows with each election.
fn ballots(cluster: &Cluster, size: usize) -> Vec<Option<String>> {
    (1..=size).map(|id| cluster.status(id, "ballot")).collect()
}

/// Runs a script as one transaction and returns the reply to EXEC.
fn transaction(client: &mut Client, commands: &[Vec<&str>]) -> String {
    client.send(&["MULTI"]);
    for command in commands {
        client.send(command);
    }
    assert_eq!(client.reply().as_deref(), Some("OK"));
    for _ in commands {
        assert_eq!(client.reply().as_deref(), Some("QUEUED"));
    }
    client.ask(&["EXEC"])
}

/// Sets keys with names that begin so, in pipelines.
fn fill(client: &mut Client, prefix: &str, count: usize) {
    for first in (0..count).step_by(1000) {
        let numbers = first..count.min(first + 1000);
        for number in numbers.clone() {
            client.send(&["SET", &format!("{prefix}{number}"), "v"]);
        }
        for _ in numbers {
            assert_eq!(client.reply().as_deref(), Some("OK"));
        }
    }
}

#[test]
fn no_transaction_of_scans_keeps_a_node_from_its_peers_even_when_it_is_replayed() {
    let mut cluster = Cluster::started(3, &PATIENT);
    let mut client = cluster.client(1);
    for number in 0..20 {
        let key = format!("{}{number:02}", "a".repeat(65_000));
        assert_eq!(client.ask(&["SET", &key, "v"]), "OK");
    }
    let before = ballots(&cluster, 3);
    let plain = format!("*{}b", "a".repeat(16_384));
    let tried_everywhere = format!("*{}b*", "?a".repeat(8_192));
    let longest = longest_pong(&cluster, 3, || {
        for pattern in [&plain, &tried_everywhere] {
            let scan = vec!["SCAN", "0", "MATCH", pattern, "COUNT", "100"];
            let reply = transaction(&mut client, &[scan]);
            assert!(reply.starts_with("[[") || reply == format!("[{TOO_MUCH}]"), "{reply}");
        }
        let scans = vec![vec!["SCAN", "0", "COUNT", "10000"]; 2000];
        let reply = transaction(&mut client, &scans);
        assert!(reply.contains(TOO_MUCH), "the last of them are refused");
    });
    assert!(longest < ELECTION, "{longest:?}");
    assert_eq!(ballots(&cluster, 3), before, "nobody was elected meanwhile");
    // The same commands again, as a node that starts carries them out.
    cluster.kill(3);
    cluster.start(3);
    let longest = longest_pong(&cluster, 3, || cluster.wait_for_equal_states());
    assert!(longest < ELECTION, "{longest:?}");
}

#[test]
fn removing_many_keys_at_once_keeps_nobody_waiting() {
    let cluster = Cluster::started(3, &PATIENT);
    let mut client = cluster.client(2);
    fill(&mut client, "key", 50_000);
    cluster.wait_for_equal_states();
    let before = ballots(&cluster, 3);
    let longest = longest_pong(&cluster, 3, || {
        assert_eq!(client.ask(&["FLUSHALL"]), "OK");
        assert_eq!(client.ask(&["DBSIZE"]), "0");
    });
    assert!(longest < ELECTION, "{longest:?}");
    assert_eq!(ballots(&cluster, 3), before, "nobody was elected meanwhile");
    let keys: Vec<String> = (0..20_000).map(|number| format!("key{number}")).collect();
    let delete: Vec<&str> = ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.ask(&delete), TOO_MUCH);
}

#[test]
fn a_pipeline_that_changes_a_long_value_is_carried_out_whole_and_in_order() {
    let cluster = Cluster::started(3, &PATIENT);
    let mut client = cluster.client(3);
    let value = "x".repeat((1 << 20) - 1000);
    assert_eq!(client.ask(&["SET", "k", &value]), "OK");
    let before = ballots(&cluster, 3);
    let longest = longest_pong(&cluster, 3, || {
        for _ in 0..200 {
            client.send(&["APPEND", "k", "y"]);
        }
        for length in value.len() + 1..=value.len() + 200 {
            assert_eq!(client.reply(), Some(length.to_string()));
        }
    });
    assert!(longest < ELECTION, "{longest:?}");
    assert_eq!(ballots(&cluster, 3), before, "nobody was elected meanwhile");
    let appends = vec![vec!["APPEND", "k", "y"]; 200];
    let reply = transaction(&mut client, &appends);
    assert!(reply.starts_with("[1047777 1047778 ") && reply.ends_with(&format!("{TOO_MUCH}]")), "{reply}");
    let refused = reply.matches(TOO_MUCH).count();
    assert!((100..200).contains(&refused), "{refused} of 200");
    assert_eq!(client.ask(&["STRLEN", "k"]), (value.len() + 400 - refused).to_string());
}

#[test]
fn reads_outside_of_transactions_may_be_as_long_as_they_like() {
    let cluster = Cluster::started(1, &PATIENT);
    let mut client = cluster.client(1);
    fill(&mut client, "key", 1000);
    let keys: Vec<String> = (0..40_000).map(|number| format!("key{}", number % 2000)).collect();
    let with = |name| [name].into_iter().chain(keys.iter().map(String::as_str)).collect::<Vec<&str>>();
    let longest = longest_pong(&cluster, 1, || {
        assert_eq!(client.ask(&with("EXISTS")), "20000");
        let values = client.ask(&with("MGET"));
        assert_eq!((values.matches(['v']).count(), values.matches("(nil)").count()), (20_000, 20_000));
        for _ in 0..500 {
            client.send(&["SCAN", "0", "COUNT", "1000"]);
            client.send(&["GET", "key1"]);
        }
        for _ in 0..500 {
            let page = client.reply().expect("the node answers");
            assert!(page.matches("key").count() > 900, "a page holds what was asked for");
            assert_eq!(client.reply().as_deref(), Some("v"));
        }
    });
    assert!(longest < ELECTION, "{longest:?}");
    assert_eq!(transaction(&mut client, &[with("MGET")]), format!("[{TOO_MUCH}]"));
}
