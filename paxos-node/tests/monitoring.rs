//! What is shown to those who look after a node: metrics by the conventions of Prometheus, the alerts and the
//! dashboard in `deploy/` that use them, and the page for people (`src/fronts/page.rs`).
#![cfg(feature = "file")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use support::{Cluster, wait};

const ALERTS: &str = include_str!("../deploy/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../deploy/alerts-test.yaml");
const DASHBOARD: &str = include_str!("../deploy/grafana-dashboard.json");
const DESCRIBED: &str = include_str!("../src/runtime/metrics.rs");

/// Units that have a base unit, which Prometheus wants instead, and words that say what the type says.
const UNWANTED: [&str; 12] = [
    "milliseconds",
    "microseconds",
    "ms",
    "us",
    "minutes",
    "kilobytes",
    "megabytes",
    "percent",
    "counter",
    "gauge",
    "histogram",
    "summary",
];

/// A family of metrics: its type, and the samples' names with their labels.
#[derive(Default)]
struct Family {
    kind: String,
    has_help: bool,
    samples: Vec<String>,
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => families.entry(name.into()).or_default().has_help = !help.is_empty(),
            ["#", "TYPE", name, kind] => families.entry(name.into()).or_default().kind = kind.into(),
            _ => {
                let name = line.split(['{', ' ']).next().expect("there is a first word");
                let of_histogram =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = of_histogram.filter(|family| families.contains_key(*family)).unwrap_or(name);
                let family = families.get_mut(family).unwrap_or_else(|| panic!("{line} has no type"));
                family.samples.push(line.rsplit_once(' ').expect("it has a value").0.into());
            }
        }
    }
    families
}

#[test]
fn metrics_keep_to_the_conventions_of_prometheus() {
    let cluster = Cluster::started(2, &[]);
    let mut client = cluster.client(1);
    assert_eq!(client.ask(&["SET", "key", "value"]), "OK");
    assert_eq!(client.ask(&["GET", "key"]), "value");
    let names = [
        "paxos_client_commands_total{node=\"1\",command=\"set\"} 1",
        "paxos_client_connections{node=\"1\"} 1",
        "paxos_disk_write_seconds_bucket{node=\"1\",le=\"+Inf\"}",
        "paxos_node_info{node=\"1\",cluster=\"paxos\"",
        "paxos_peer_sent_bytes_total{node=\"1\",peer=\"2\"}",
        "paxos_peer_round_trip_seconds{node=\"1\",peer=\"2\"}",
        "paxos_sessions{node=\"1\"} ",
        "paxos_storage_free_bytes",
        "process_open_fds",
    ];
    let page = wait("all of it is shown", || {
        let (_, page) = cluster.http(1, "/metrics")?;
        names.iter().all(|name| page.contains(name)).then_some(page)
    });
    let described: BTreeSet<&str> = described().collect();
    for (name, Family { kind, has_help, samples }) in families(&page) {
        assert!(has_help, "{name} is not explained");
        assert!(described.contains(&*name), "{name} is not described in src/runtime/metrics.rs");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&&*kind), "{name} is a {kind}");
        let unwanted = name.split('_').find(|word| UNWANTED.contains(word));
        assert_eq!(unwanted, None, "in {name}");
        let is_well_formed = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(is_well_formed(&name), "{name}");
        assert!(!samples.is_empty(), "{name} has no value");
        let nameless = samples.iter().find(|sample| !sample.contains("{node=\"1\""));
        assert_eq!(nameless, None, "each sample tells its node");
        let distinct: BTreeSet<&String> = samples.iter().collect();
        assert_eq!(distinct.len(), samples.len(), "{name} has a value twice");
        if kind == "histogram" {
            assert!(samples.iter().any(|sample| sample.contains("le=\"+Inf\"")), "{name} has no last bucket");
            assert!(name.ends_with("_seconds"), "{name} has no unit");
        }
    }
}

/// The names of all metrics that the program describes.
fn described() -> impl Iterator<Item = &'static str> {
    let is_name = |text: &&str| {
        (text.starts_with("paxos_") || text.starts_with("process_")) && !text.contains([' ', '{', '\n'])
    };
    DESCRIBED.split('"').filter(is_name)
}

#[test]
fn the_alerts_and_the_dashboard_name_metrics_that_there_are() {
    let described: BTreeSet<&str> = described().collect();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let expressions = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = expressions.map(|target| target["expr"].as_str().expect("each is a query").to_owned());
    let expressions: Vec<String> = expressions.chain([ALERTS.to_owned()]).collect();
    let mut seen = BTreeSet::new();
    for word in expressions
        .iter()
        .flat_map(|text| text.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_'))
    {
        if !word.starts_with("paxos_") && !word.starts_with("process_") {
            continue;
        }
        let family = word.strip_suffix("_bucket").unwrap_or(word);
        assert!(described.contains(family), "there is no metric {word}");
        seen.insert(family);
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn each_alert_fires_at_its_fault_and_none_in_a_cluster_that_is_well() {
    for alert in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(ALERTS_TEST.contains(&format!("alertname=\"{alert}\"")), "nothing tests {alert}");
    }
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let promtool = |arguments: &[&str]| Command::new("promtool").args(arguments).current_dir(deploy).output();
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts-test.yaml"]] {
        let Ok(output) = promtool(&arguments) else {
            let _ = writeln!(std::io::stderr(), "skipped: tests/monitoring.rs: promtool is not installed");
            return;
        };
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn counters_whose_increase_is_an_alarm_are_there_before_they_count_anything() {
    let cluster = Cluster::started(1, &[]);
    let (_, metrics) = cluster.http(1, "/metrics").expect("it answers");
    let counters = ALERTS.split("increase(").skip(1).filter_map(|rest| rest.split('[').next());
    let absent: Vec<&str> = counters.filter(|name| !metrics.contains(&format!("\n{name}{{"))).collect();
    assert!(absent.is_empty(), "no {absent:?} in {metrics}");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_hears_of_the_node() {
    let cluster = Cluster::started(1, &[]);
    let (code, page) = cluster.http(1, "/").expect("it answers");
    assert_eq!(code, 200);
    for part in
        ["<!doctype html>", "prefers-color-scheme: dark", "name=\"viewport\"", "new EventSource(\"/events\")"]
    {
        assert!(page.contains(part), "{part}");
    }
    for part in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(part), "{part}");
    }
    let mut events = listen(&cluster);
    for _ in 0..2 {
        let event = next_event(&mut events);
        assert_eq!(event["status"]["role"], "leader", "{event}");
        assert!(event["metrics"]["paxos_commands_total"].is_number(), "{event}");
    }
}

#[test]
fn the_status_tells_of_disk_and_clients_what_the_metrics_do() {
    let cluster = Cluster::started(1, &[]);
    let (mut client, other) = (cluster.client(1), cluster.client(1));
    let report = wait("disk and clients are told", || {
        // The mean is that of ten seconds with some writes.
        assert_eq!(client.ask(&["SET", "key", "value"]), "OK");
        let report: serde_json::Value = serde_json::from_str(&cluster.http(1, "/status")?.1).ok()?;
        let is_known =
            report["disk"]["write_mean_microseconds"].is_u64() && report["clients"]["connected"] == 2;
        is_known.then_some(report)
    });
    drop(other);
    let (disk, clients) = (&report["disk"], &report["clients"]);
    for field in [
        "write_longest_microseconds",
        "written_bytes",
        "segments",
        "used_bytes",
        "free_bytes",
        "volume_bytes",
    ] {
        assert!(disk[field].as_u64().is_some_and(|value| value > 0), "{field}: {report}");
    }
    assert!(clients["accepted"].as_u64() >= Some(2) && clients["refused"] == 0, "{report}");
    assert!(
        disk["write_mean_microseconds"].as_u64() <= disk["write_longest_microseconds"].as_u64(),
        "{report}"
    );
    let (_, metrics) = cluster.http(1, "/metrics").expect("it answers");
    for (gauge, value) in
        [("paxos_storage_segments", &disk["segments"]), ("paxos_storage_volume_bytes", &disk["volume_bytes"])]
    {
        let line = format!("{gauge}{{node=\"1\"}} {value}");
        assert!(metrics.lines().any(|other| other == line), "no {line} in {metrics}");
    }
    let shown = next_event(&mut listen(&cluster));
    assert_eq!(shown["status"]["disk"]["volume_bytes"], disk["volume_bytes"], "{shown}");
    assert!(shown["status"]["clients"]["connected"].is_u64(), "{shown}");
}

#[test]
fn listeners_to_events_are_bounded_and_do_not_keep_a_node_from_stopping() {
    let mut cluster = Cluster::started(1, &[]);
    let mut listeners: Vec<_> =
        (0..paxos_node::fronts::page::MAX_LISTENERS).map(|_| listen(&cluster)).collect();
    for events in &mut listeners {
        next_event(events);
    }
    let (code, body) = cluster.http(1, "/events").expect("it answers");
    assert_eq!((code, &*body), (503, "too many listen to events already\n"));
    listeners.pop();
    wait("a place is free again", || {
        let mut line = String::new();
        listen(&cluster).read_line(&mut line).ok()?;
        line.contains(" 200 ").then_some(())
    });
    let since = std::time::Instant::now();
    cluster.stop(1);
    assert!(since.elapsed() < Duration::from_secs(3), "it took {:?} to stop", since.elapsed());
    for mut events in listeners {
        let _ = events.read_to_string(&mut String::new());
    }
}

fn listen(cluster: &Cluster) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(cluster.http_address(1)).expect("it listens");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("it can be set");
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").expect("it reads");
    BufReader::new(stream)
}

fn next_event(events: &mut BufReader<TcpStream>) -> serde_json::Value {
    loop {
        let mut line = String::new();
        assert!(events.read_line(&mut line).expect("events come") > 0, "it has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).expect("it is JSON");
        }
    }
}
