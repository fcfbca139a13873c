//! Peers that are killed, stopped or restarted, or do not receive what they are sent.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Kind, ONE, TWO, eventually, gets_through};
use paxos_core::NodeId;
use paxos_transport::{Error, Lane, LaneLimit, NetworkConfig, SendOutcome, TransportExt};
use tokio::runtime::Builder;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);

/// A node on its own thread, which can be killed or paused without notice to its peers.
struct Process {
    orders: mpsc::Sender<Order>,
    thread: std::thread::JoinHandle<()>,
}

enum Order {
    Stop(Duration),
    Die,
}

impl Process {
    /// Starts a node that keeps sending to `peer`.
    fn start(kind: Kind, config: NetworkConfig, peer: NodeId) -> Process {
        let (orders, inbox) = mpsc::channel();
        let (is_bound, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime is built");
            let (transport, _) = runtime.block_on(kind.bind(config)).expect("the port is free");
            is_bound.send(()).expect("the test waits");
            loop {
                runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
                transport.send(peer, Lane::Control, Bytes::from_static(b"alive"));
                match inbox.try_recv() {
                    Ok(Order::Stop(time)) => std::thread::sleep(time),
                    Ok(Order::Die) | Err(mpsc::TryRecvError::Disconnected) => break,
                    Err(mpsc::TryRecvError::Empty) => {}
                }
            }
            // The runtime first, so that no task can close the connections in order.
            drop(runtime);
            drop(transport);
        });
        bound.recv().expect("the node starts");
        Process { orders, thread }
    }

    fn die(self) {
        self.orders.send(Order::Die).expect("it runs");
        self.thread.join().expect("it has not panicked");
    }
}

/// Kills the `other` node and restarts it at once.
async fn time_to_reconnect_after_a_kill(kind: Kind, own: NodeId, other: NodeId) -> Duration {
    let mut cluster = Cluster::with_own_ports(kind, &[ONE, TWO]);
    let mut transport = cluster.start(own).await;
    let first = Process::start(kind, cluster.config(other), own);
    eventually(LONG, "they connect", || transport.is_connected(other)).await;
    first.die();
    let before = transport.peers()[0].counters.connections;
    cluster.wait_for_port(other).await;
    let second = Process::start(kind, cluster.config(other), own);
    let took = eventually(LONG, "they connect again", || {
        // A node notices the restart when it sends.
        transport.send(other, Lane::Bulk, Bytes::from_static(b"are you there?"));
        transport.send(other, Lane::Control, Bytes::from_static(b"are you there?"));
        transport.is_connected(other) && transport.peers()[0].counters.connections >= before + 2
    })
    .await;
    while timeout(Duration::from_millis(1), transport.receive()).await.is_ok() {}
    assert!(timeout(LONG, transport.receive()).await.is_ok(), "frames arrive again");
    second.die();
    took
}

#[tokio::test]
async fn a_killed_peer_that_is_back_is_found_at_once() {
    for kind in Kind::ALL {
        for (own, other) in [(ONE, TWO), (TWO, ONE)] {
            let took = time_to_reconnect_after_a_kill(kind, own, other).await;
            println!("{kind:?}: node {other} was found again after {took:?}");
            // Far less than the idle time-out.
            assert!(took < Duration::from_secs(2), "{kind:?}: it took node {own} {took:?}");
        }
    }
}

#[tokio::test]
async fn a_stopped_peer_is_noticed_and_welcome_when_it_goes_on() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let idle_timeout = Duration::from_millis(2100);
        let mut one = cluster.start_with(ONE, |config| config.idle_timeout = idle_timeout).await;
        let two = Process::start(kind, cluster.config(TWO), ONE);
        eventually(LONG, "they connect", || one.is_connected(TWO)).await;
        two.orders.send(Order::Stop(2 * idle_timeout)).expect("it runs");
        let is_noticed = |lane| one.send(TWO, lane, Bytes::new()) == SendOutcome::Disconnected;
        let noticed = eventually(LONG, "the stop is noticed", || Lane::ALL.into_iter().all(is_noticed)).await;
        assert!(noticed < 2 * idle_timeout, "{kind:?}: while it lasts, not after {noticed:?}");
        while timeout(Duration::from_millis(1), one.receive()).await.is_ok() {}
        eventually(LONG, "they connect again", || one.is_connected(TWO)).await;
        assert!(timeout(LONG, one.receive()).await.is_ok(), "{kind:?}: frames arrive again");
        two.die();
    }
}

#[tokio::test]
async fn what_is_queued_is_sent_before_closing() {
    const FRAMES: usize = 100;
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let (mut one, mut two) = (cluster.start(ONE).await, cluster.start(TWO).await);
        eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        for _ in 0..FRAMES {
            assert!(two.send(ONE, Lane::Log, Bytes::from(vec![3; 10_000])).is_queued());
        }
        two.close().await;
        for frame in 0..FRAMES {
            let received = timeout(LONG, one.receive()).await;
            assert!(received.is_ok(), "{kind:?}: frame {frame} of {FRAMES} arrives");
        }
    }
}

#[tokio::test]
async fn the_log_is_spread_over_one_to_seven_streams() {
    const FRAMES: usize = 100;
    for kind in Kind::ALL {
        for log_streams in [1, 7] {
            let mut cluster = Cluster::new(kind, &[ONE, TWO]);
            let mut one = cluster.start(ONE).await;
            let two = cluster.start_with(TWO, |config| config.log_streams = log_streams).await;
            eventually(LONG, "they connect", || two.is_connected(ONE)).await;
            for _ in 0..FRAMES {
                assert!(two.send(ONE, Lane::Log, Bytes::from(vec![3; 100_000])).is_queued());
            }
            for frame in 0..FRAMES {
                let received = timeout(LONG, one.receive()).await;
                assert!(received.is_ok(), "{kind:?}, {log_streams} streams: frame {frame} arrives");
            }
            assert!(two.is_connected(ONE), "{kind:?}: {log_streams} streams are no breach of a limit");
        }
        for log_streams in [0, 8] {
            let mut config = Cluster::new(kind, &[ONE, TWO]).config(TWO);
            config.log_streams = log_streams;
            let refused = kind.bind(config).await.map(drop);
            assert!(matches!(refused, Err(Error::Config { setting: "log_streams", .. })), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_receives_nothing_is_sent_no_more_than_the_bounds_and_control_overtakes() {
    let limit = LaneLimit { frames: 100, bytes: 100_000 };
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let mut one = cluster.start_with(ONE, |config| config.lanes.bulk = limit).await;
        let mut two = cluster.start_with(TWO, |config| config.lanes.bulk = limit).await;
        eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        let mut queued = 0;
        let frame = Bytes::from(vec![3; 1000]);
        let mut still = 0;
        eventually(LONG, "everything between them is full", || {
            let before = queued;
            while two.send(ONE, Lane::Bulk, frame.clone()).is_queued() {
                queued += 1;
            }
            still = if queued == before { still + 1 } else { 0 };
            still > 50
        })
        .await;
        assert!(queued < 50_000, "{kind:?}: windows and queues are bounded, but {queued} frames were taken");
        two.send(ONE, Lane::Control, Bytes::from_static(b"urgent"));
        let (mut bulk, mut before_urgent) = (0, None);
        while bulk < queued {
            let received =
                timeout(LONG, one.receive()).await.expect("all of it arrives").expect("it is open");
            match received.lane {
                Lane::Bulk => bulk += 1,
                _ => before_urgent = before_urgent.or(Some(bulk)),
            }
        }
        let before_urgent = before_urgent.expect("the urgent frame arrives");
        assert!(before_urgent < queued / 2, "{kind:?}: it comes after {before_urgent} of {queued}");
        assert!(gets_through(one.as_ref(), two.as_mut(), LONG).await);
    }
}
