//! Keys that expire, on nodes that fail and whose clocks jump: `src/kv/expiry.rs`, `src/clock.rs`.
#![cfg(all(feature = "server", feature = "memory"))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use paxos_core::{NodeId, Reading, Role, Time};
use paxos_node::kv::{Expiry, Operation, Reply, Store};
use paxos_node::{Clock, Node, NodeSettings};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;

use support::embedded::{MEMBERS, led};
use support::{Cluster, wait};

/// How much later than at its deadline a lock may be gone: an election, and the time of a slow machine.
const LATE: Duration = Duration::from_secs(8);

#[test]
fn a_lock_survives_the_death_of_the_leader_and_is_gone_neither_early_nor_much_later() {
    const LEASE: Duration = Duration::from_secs(6);
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let survivor = if leader == 1 { 2 } else { 1 };
    let mut client = cluster.client(survivor);
    assert_eq!(client.ask(&["SET", "lock", "mine", "NX", "PX", "6000"]), "OK");
    let granted = Instant::now();
    let fence: u64 = client.ask(&["PAXOS.FENCE", "lock"]).parse().expect("somebody has the lock");
    cluster.kill(leader);
    let mut was_seen = false;
    let taken = wait("the lock is free again", || {
        let reply = client.ask(&["GET", "lock"]);
        // Until there is another leader nothing is answered.
        if reply == "mine" {
            was_seen = true;
            let late = granted.elapsed().saturating_sub(LEASE);
            assert!(late < LATE, "it is seen {late:?} after it should have expired");
            return None;
        }
        (client.ask(&["SET", "lock", "other", "NX", "PX", "600000"]) == "OK").then(Instant::now)
    });
    // The lease began before the answer came, and a leader's clock may be a thousandth fast.
    let lasted = taken - granted;
    assert!(was_seen, "the next leader knows the lock");
    assert!(lasted + LEASE / 100 + Duration::from_millis(100) > LEASE, "it was free after {lasted:?}");
    assert!(lasted < LEASE + LATE, "it was free only after {lasted:?}");
    let next: u64 = client.ask(&["PAXOS.FENCE", "lock"]).parse().expect("somebody has the lock");
    assert!(next > fence, "{next} is the fencing number after {fence}");
    cluster.start(leader);
    cluster.wait_for_equal_states();
    assert_eq!(cluster.client(leader).ask(&["PAXOS.FENCE", "lock"]), next.to_string());
}

#[test]
fn keys_expire_at_the_same_slot_on_all_nodes_and_after_a_restart_from_a_snapshot() {
    let mut cluster = Cluster::started(3, &["--snapshot-after-bytes", "65536"]);
    cluster.wait_for_leader();
    let mut client = cluster.client(1);
    let long = "x".repeat(1_000);
    for number in 0..300 {
        let ttl = if number % 2 == 0 { "1500" } else { "600000" };
        assert_eq!(client.ask(&["SET", &format!("key{number}"), &long, "PX", ttl]), "OK");
    }
    cluster.kill(3);
    cluster.start(3);
    wait("half of the keys expire", || (client.ask(&["DBSIZE"]) == "150").then_some(()));
    cluster.wait_for_equal_states();
    for id in 1..=3 {
        let mut client = cluster.client(id);
        assert_eq!(client.ask(&["GET", "key2"]), "(nil)");
        assert_eq!(client.ask(&["GET", "key3"]), long);
    }
}

/// A wall clock that can be set.
#[derive(Clone, Default)]
struct WallClock(Arc<AtomicI64>);

impl WallClock {
    fn clock(&self) -> Clock {
        let (started, offset_ms) = (Instant::now(), Arc::clone(&self.0));
        Clock::new(move || {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than that");
            let now_ms = u64::try_from(since_1970.as_millis()).expect("it is not that late");
            Reading {
                monotonic_ms: u64::try_from(started.elapsed().as_millis()).expect("it is not that long"),
                wall: Time(now_ms.saturating_add_signed(offset_ms.load(Ordering::Relaxed))),
            }
        })
    }

    fn jump(&self, by: Duration, is_back: bool) {
        let ms = i64::try_from(by.as_millis()).expect("it is not that far");
        self.0.store(if is_back { -ms } else { ms }, Ordering::Relaxed);
    }
}

async fn ask(node: &Node<Store>, operation: Operation) -> Reply {
    let applied = node.client().propose(Operation::command(&[operation])).await.expect("there is a leader");
    Reply::decode_all(applied.response).expect("the store has written it").remove(0)
}

#[tokio::test]
async fn a_wall_clock_that_jumps_neither_ends_a_lease_nor_lets_it_last() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LEASE: Duration = Duration::from_secs(3);
    for is_back in [false, true] {
        let (network, walls) = (MemoryNetwork::new(), [(); 3].map(|()| WallClock::default()));
        let start = |place: usize| {
            let id = MEMBERS[place];
            let settings = NodeSettings::new(id, MEMBERS.to_vec())
                .with(|settings| settings.clock = walls[place].clock());
            let storage = Box::new(MemoryStorage::new(Identity::new("jumps", id)));
            Node::start(settings, Box::new(network.bind(id)), storage, Store::default()).expect("it starts")
        };
        let mut nodes = vec![start(0), start(1), start(2)];
        led(&nodes).await;
        let (key, value) = (Bytes::from_static(b"lock"), Bytes::from_static(b"mine"));
        let expiry = Expiry::AfterMs(3_000);
        let (condition, returns_old) = (None, false);
        let set = Operation::SetExpiring { key: key.clone(), value, condition, returns_old, expiry };
        assert_eq!(ask(&nodes[0], set).await, Reply::Ok);
        let granted = Instant::now();
        for wall in &walls {
            wall.jump(DAY, is_back);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        // The leader fails as well, and the next one has heard of the time.
        let leads = |node: &Node<Store>| node.status().borrow().role == Role::Leader;
        let leader = nodes.iter().position(leads).expect("one leads");
        nodes.remove(leader).stop().await.expect("it stops");
        let get = || Operation::get(key.clone());
        while ask(&nodes[0], get()).await != Reply::Nil {
            assert!(granted.elapsed() < LEASE + LATE, "it lasts too long, after a jump back: {is_back}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lasted = granted.elapsed();
        assert!(lasted + LEASE / 50 > LEASE, "it lasted {lasted:?}, after a jump back: {is_back}");
        for node in nodes {
            node.stop().await.expect("it stops");
        }
    }
}

#[tokio::test]
async fn a_read_knows_the_time_of_the_leader() {
    let (id, network) = (NodeId(1), MemoryNetwork::new());
    let storage = Box::new(MemoryStorage::new(Identity::new("reads", id)));
    let settings = NodeSettings::new(id, vec![id]);
    let node =
        Node::start(settings, Box::new(network.bind(id)), storage, Store::default()).expect("it starts");
    ask(&node, Operation::FlushAll).await;
    let client = node.client();
    let first = client.read().await.expect("it leads").time();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let state = client.read().await.expect("it leads");
    assert!(state.time() >= first.later_by_ms(50), "{} after {first}", state.time());
    assert!(state.time() > Store::time(&state), "nothing was applied since");
    drop(state);
    node.stop().await.expect("it stops");
}
