//! Metrics that nobody scrapes take bounded memory: `src/fronts/http.rs`.
#![cfg(feature = "memory")]

use std::time::{Duration, Instant};

use paxos_core::NodeId;
use paxos_node::fronts::http::{self, UPKEEP_INTERVAL};
use paxos_node::kv::Store;
use paxos_node::{Node, NodeSettings, WriterMode};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

/// Without upkeep three million samples take 50 to 80 MB.
const SAMPLES: usize = 3_000_000;
const SAMPLES_AT_ONCE: usize = 100_000;
const MAX_GROWTH_BYTES: usize = 24 << 20;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells how much memory is used");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * rustix::param::page_size()
}

#[tokio::test]
async fn recorded_times_take_no_more_memory_the_longer_nobody_scrapes() {
    let id = NodeId(1);
    let settings = NodeSettings::new(id, vec![id]).with(|settings| settings.writer = WriterMode::Inline);
    let transport = Box::new(MemoryNetwork::new().bind(id));
    let storage = Box::new(MemoryStorage::new(Identity::new("metrics", id)));
    let node = Node::start(settings, transport, storage, Store::default()).expect("the node starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let recorder = http::recorder(id);
    let handle = recorder.handle();
    let (stop, stopped) = watch::channel(false);
    let front = tokio::spawn(http::serve(listener, node.client(), handle.clone(), stopped));

    let times = metrics::with_local_recorder(&recorder, || metrics::histogram!("test_seconds"));
    let before = resident_bytes();
    for _ in 0..SAMPLES / SAMPLES_AT_ONCE {
        (0..SAMPLES_AT_ONCE).for_each(|_| times.record(0.003));
        sleep(2 * UPKEEP_INTERVAL).await;
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < MAX_GROWTH_BYTES, "{SAMPLES} samples take {growth} bytes");

    let began = Instant::now();
    let page = handle.render();
    assert!(began.elapsed() < Duration::from_millis(100), "a scrape took {:?}", began.elapsed());
    for line in [
        String::from("test_seconds_bucket{node=\"1\",le=\"0.0025\"} 0"),
        format!("test_seconds_bucket{{node=\"1\",le=\"0.005\"}} {SAMPLES}"),
        format!("test_seconds_count{{node=\"1\"}} {SAMPLES}"),
    ] {
        assert!(page.lines().any(|other| other == line), "no line {line} in\n{page}");
    }
    stop.send_replace(true);
    front.await.expect("the front does not panic").expect("and ends well");
    node.stop().await.expect("so does the node");
}
