//! What must hold under any fault of the network.

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::conformance::{self, Backend};

/// The environment variable with a seed to run instead of the default ones.
const SEED_VARIABLE: &str = "PAXOS_SEED";
/// The longest time to reconnect after the network has recovered: an attempt that began too early, the
/// longest pause after it, and the next attempt.
const RECONNECT_BOUND: Duration = Duration::from_millis(2500);
/// The longest time to notice a silent peer: the idle time-out, and the time since the last sign of life.
const NOTICE_BOUND: Duration = Duration::from_secs(7);
const LOG_FRAMES: u64 = 3;

/// Runs a test for each backend and seed. If it fails, the output names the seed.
fn for_seeds(name: &str, count: u64, test: impl Fn(Kind, u64)) {
    let given = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        for kind in Kind::ALL {
            // Shown only if the test fails.
            println!("{kind:?}: to repeat it, {SEED_VARIABLE}={seed} cargo test -p paxos-transport {name}");
            test(kind, seed);
        }
    }
}

fn milliseconds(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A simulation whose nodes have found each other.
fn connected(kind: Kind, seed: u64, min: Duration, max: Duration) -> Simulation {
    let mut simulation = Simulation::new(Cluster::new(kind, seed, |_| {}), min, max);
    simulation.until(milliseconds(5000), "all find each other", |simulation| simulation.are_all_connected());
    simulation
}

/// The frame with this number from one node to another on a lane. Its bytes hold all of this.
fn frame(from: NodeId, to: NodeId, lane: Lane, number: u64) -> Bytes {
    let mut bytes = Vec::new();
    for field in [number, from.0, to.0, lane as u64] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    let mut random = fastrand::Rng::with_seed(number ^ (from.0 << 40) ^ (to.0 << 48) ^ ((lane as u64) << 56));
    let filler = if random.u8(..20) == 0 { 100_000 } else { random.usize(..3000) };
    bytes.extend((0..filler).map(|_| random.u8(..)));
    bytes.into()
}

/// Checks that each received frame is one that its sender has sent to this node on that lane.
fn check_received(node: NodeId, received: &[Received]) {
    for Received { from, lane, frame: bytes } in received {
        let number = bytes.first_chunk().map(|number| u64::from_le_bytes(*number));
        let number = number.expect("every frame begins with its number");
        assert!(
            *bytes == frame(*from, node, *lane, number),
            "frame {number} from {from} to {node} on {lane:?}"
        );
    }
}

/// Sends between both nodes on all lanes until a frame has arrived on each, both ways.
fn frames_pass(simulation: &mut Simulation, one: NodeId, two: NodeId, numbers: &mut u64) {
    let mut missing: Vec<_> =
        Lane::ALL.into_iter().flat_map(|lane| [(one, two, lane), (two, one, lane)]).collect();
    let mut passed = 0;
    simulation.until(RECONNECT_BOUND, "frames pass on every lane", |simulation| {
        for node in [one, two] {
            let received = simulation.take_received(node);
            check_received(node, &received);
            missing.retain(|(from, to, lane)| {
                let is_it = |received: &Received| received.from == *from && received.lane == *lane;
                *to != node || !received.iter().any(is_it)
            });
        }
        if passed % 100 == 0 {
            for (from, to, lane) in &missing {
                *numbers += 1;
                simulation.send(*from, *to, *lane, frame(*from, *to, *lane, *numbers));
            }
        }
        passed += 1;
        missing.is_empty()
    });
}

#[test]
fn an_idle_guest_loses_its_place_and_one_that_speaks_keeps_it() {
    for_seeds("an_idle_guest", 1, |kind, seed| {
        let [one, two, seven] = NODES;
        let adjust = |config: &mut NetworkConfig| {
            if config.node != NodeId(7) {
                config.peers.remove(&NodeId(7));
            }
        };
        let cluster = Cluster::new(kind, seed, adjust);
        let mut simulation = Simulation::new(cluster, milliseconds(1), milliseconds(2));
        let is_up = |simulation: &mut Simulation| {
            simulation.see_each_other(one, two) && simulation.sees(seven, one) && simulation.sees(seven, two)
        };
        simulation.until(milliseconds(5000), "peers and guests connect", is_up);
        let connections = |simulation: &Simulation, peer| {
            simulation.status(seven, peer).expect("it is a peer").counters.connections
        };
        let before = [one, two].map(|peer| connections(&simulation, peer));
        for _ in 0..35 {
            simulation.send(seven, one, Lane::Control, &b"still here"[..]);
            simulation.run_for(milliseconds(1000));
        }
        assert_eq!(connections(&simulation, one), before[0], "{kind:?}: node 1 hears something");
        assert_eq!(connections(&simulation, two), before[1] + 2, "{kind:?}: node 2 hears nothing");
        assert!(is_up(&mut simulation), "{kind:?}: and lets it in again");
    });
}

#[test]
fn a_partition_is_noticed_and_healed_in_time() {
    for_seeds("a_partition_is_noticed", 2, |kind, seed| {
        let [one, two, seven] = NODES;
        let mut simulation = connected(kind, seed, milliseconds(1), milliseconds(20));
        let before = simulation.status(two, one).expect("it is a peer").counters;
        simulation.sim.partition(host(one), host(two));
        simulation.until(NOTICE_BOUND, "both notice", |simulation| {
            !simulation.sees(one, two) && !simulation.sees(two, one)
        });
        assert!(
            simulation.see_each_other(one, seven) && simulation.see_each_other(two, seven),
            "nobody else"
        );
        // Each has two connections, of which one may be noticed a little later.
        simulation.run_for(milliseconds(2000));
        simulation.send(two, one, Lane::Log, &b"in vain"[..]);
        simulation.run_for(milliseconds(3000));
        let away = simulation.status(two, one).expect("it is a peer").counters;
        assert_eq!(away.connections, before.connections, "nothing gets through");
        assert_eq!(away.dropped.disconnected, before.dropped.disconnected + 1, "and nothing waits");
        let mut numbers = 0;
        frames_pass(&mut simulation, one, seven, &mut numbers);

        simulation.sim.repair(host(one), host(two));
        let took = simulation
            .until(RECONNECT_BOUND, "they find each other", |simulation| simulation.see_each_other(one, two));
        println!("{kind:?}: connected again {took:?} after the partition");
        let back = simulation.status(two, one).expect("it is a peer").counters;
        assert_eq!(back.connections, before.connections + 2, "by two new connections");
        frames_pass(&mut simulation, one, two, &mut numbers);
    });
}

#[test]
fn a_link_that_is_cut_one_way_is_noticed_on_both_sides() {
    for_seeds("a_link_that_is_cut_one_way", 1, |kind, seed| {
        let [one, two, _] = NODES;
        for (from, to) in [(one, two), (two, one)] {
            let mut simulation = connected(kind, seed, milliseconds(1), milliseconds(20));
            simulation.sim.partition_oneway(host(from), host(to));
            // The side that hears nothing gives up first; its close may or may not reach the other.
            simulation.until(2 * NOTICE_BOUND, "both notice", |simulation| {
                !simulation.sees(one, two) && !simulation.sees(two, one)
            });
            simulation.sim.repair_oneway(host(from), host(to));
            simulation.until(RECONNECT_BOUND, "they find each other", |simulation| {
                simulation.see_each_other(one, two)
            });
            frames_pass(&mut simulation, one, two, &mut 0);
        }
    });
}

#[test]
fn a_host_that_is_gone_without_a_word_is_noticed_by_its_silence_and_found_again() {
    for_seeds("a_host_that_is_gone_without_a_word", 1, |kind, seed| {
        let mut simulation = connected(kind, seed, milliseconds(1), milliseconds(20));
        let mut numbers = 0;
        for gone in NODES {
            let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != gone).collect();
            // Cut off first, so that nothing of its end arrives.
            for other in &others {
                simulation.sim.partition(host(gone), host(*other));
            }
            simulation.sim.crash(host(gone));
            let is_noticed =
                |simulation: &mut Simulation| others.iter().all(|other| !simulation.sees(*other, gone));
            let took = simulation.until(NOTICE_BOUND, "all others notice", is_noticed);
            assert!(
                took > milliseconds(2000),
                "{kind:?}: by silence, not by an end that came after {took:?}"
            );
            for other in &others {
                simulation.sim.repair(host(gone), host(*other));
            }
            simulation.sim.bounce(host(gone));
            simulation.until(RECONNECT_BOUND, "it is found", |simulation| simulation.are_all_connected());
            for other in &others {
                frames_pass(&mut simulation, gone, *other, &mut numbers);
            }
        }
    });
}

#[test]
fn the_orderly_end_of_a_host_is_noticed_and_it_is_found_again() {
    for_seeds("the_orderly_end_of_a_host", 1, |kind, seed| {
        let mut simulation = connected(kind, seed, milliseconds(1), milliseconds(20));
        let mut numbers = 0;
        for crashed in NODES {
            let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != crashed).collect();
            simulation.sim.crash(host(crashed));
            // Over TCP at once, as the end of its streams arrives; over QUIC by silence.
            simulation.until(NOTICE_BOUND, "all others notice", |simulation| {
                others.iter().all(|other| !simulation.sees(*other, crashed))
            });
            simulation.sim.bounce(host(crashed));
            simulation.until(RECONNECT_BOUND, "it is found", |simulation| simulation.are_all_connected());
            for other in &others {
                frames_pass(&mut simulation, crashed, *other, &mut numbers);
            }

            // And at once, while its peers still believe in the old connections.
            let took = time_to_find_again(&mut simulation, crashed, RECONNECT_BOUND, &mut numbers);
            println!("{kind:?}: node {crashed} was found again {took:?} after it was started twice");
            simulation.run_for(milliseconds(1000));
            let took = time_to_find_again(&mut simulation, crashed, RECONNECT_BOUND, &mut numbers);
            println!("{kind:?}: node {crashed} was found again {took:?} after it was started again");
        }
    });
}

/// Restarts a node at once, and waits until all others have new connections to it.
fn time_to_find_again(
    simulation: &mut Simulation,
    crashed: NodeId,
    limit: Duration,
    numbers: &mut u64,
) -> Duration {
    let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != crashed).collect();
    let connections = |simulation: &Simulation, of: NodeId| {
        simulation.status(of, crashed).map_or(0, |status| status.counters.connections)
    };
    let before: Vec<u64> = others.iter().map(|other| connections(simulation, *other)).collect();
    simulation.sim.bounce(host(crashed));
    simulation.until(limit, "it is found again", |simulation| {
        for (other, lane) in others.iter().flat_map(|other| Lane::ALL.map(|lane| (*other, lane))) {
            *numbers += 1;
            // A node notices the restart when it sends.
            simulation.send(other, crashed, lane, frame(other, crashed, lane, *numbers));
        }
        let mut pairs = others.iter().zip(&before);
        simulation.are_all_connected()
            && pairs.all(|(other, before)| connections(simulation, *other) >= before + 2)
    })
}

#[test]
fn a_frame_lost_on_one_lane_stops_no_other_lane() {
    for_seeds("a_frame_lost_on_one_lane", 2, |kind, seed| {
        if kind == Kind::Tcp {
            return; // A lost packet holds up everything on its connection: that is what QUIC is for.
        }
        let [one, two, _] = NODES;
        let mut simulation = connected(kind, seed, milliseconds(50), milliseconds(50));
        // Until QUIC has found out how long packets may be, and sends no long ones to try.
        simulation.run_for(milliseconds(5000));
        for lost_lane in Lane::ALL {
            for node in NODES {
                simulation.take_received(node);
            }
            simulation.losses.lose_next(1000);
            simulation.send(two, one, lost_lane, vec![1; 1100]);
            simulation.until(milliseconds(10), "it is lost", |simulation| simulation.losses.is_done());
            for lane in Lane::ALL.into_iter().filter(|lane| *lane != lost_lane) {
                simulation.send(two, one, lane, vec![2]);
            }
            if lost_lane == Lane::Log {
                (0..LOG_FRAMES).for_each(|_| simulation.send(two, one, Lane::Log, vec![3]));
            }
            let mut order = Vec::new();
            simulation.until(milliseconds(2000), "the lost one is sent again", |simulation| {
                order.extend(simulation.take_received(one));
                order.iter().any(|received| received.frame[0] == 1)
            });
            let before: Vec<_> = order.iter().map(|received| (received.lane, received.frame[0])).collect();
            for lane in Lane::ALL.into_iter().filter(|lane| *lane != lost_lane) {
                assert!(before.contains(&(lane, 2)), "{lane:?} waits for {lost_lane:?}: {before:?}");
            }
            let is_spread = lost_lane != Lane::Log || before.contains(&(Lane::Log, 3));
            assert!(is_spread, "the streams of the log do not wait for each other: {before:?}");
        }
    });
}

#[test]
fn with_one_stream_a_lost_frame_of_the_log_holds_up_those_behind_it() {
    let [one, two, _] = NODES;
    let cluster = Cluster::new(Kind::Quic, 0, |config| config.log_streams = 1);
    let mut simulation = Simulation::new(cluster, milliseconds(50), milliseconds(50));
    simulation.until(milliseconds(5000), "all find each other", |simulation| simulation.are_all_connected());
    // Until QUIC has found out how long packets may be, and sends no long ones to try.
    simulation.run_for(milliseconds(5000));
    simulation.take_received(one);
    simulation.losses.lose_next(1000);
    simulation.send(two, one, Lane::Log, vec![0; 1100]);
    simulation.until(milliseconds(10), "it is lost", |simulation| simulation.losses.is_done());
    for number in 1..=8 {
        simulation.send(two, one, Lane::Log, vec![number]);
        simulation.run_for(milliseconds(1));
    }
    let mut order = Vec::new();
    simulation.until(milliseconds(2000), "all arrive", |simulation| {
        order.extend(simulation.take_received(one).into_iter().map(|received| received.frame[0]));
        order.len() == 9
    });
    assert_eq!(order, (0..=8).collect::<Vec<u8>>());
}

#[test]
fn whatever_happens_frames_are_right_and_the_network_recovers() {
    for_seeds("whatever_happens", 2, |kind, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let max = milliseconds(random.u64(2..80));
        let mut simulation = Simulation::new(Cluster::new(kind, seed, |_| {}), milliseconds(1), max);
        if kind == Kind::Quic {
            simulation.sim.set_fail_rate(f64::from(random.u8(..4)) / 100.0);
        }
        let (mut numbers, mut delivered) = (0, 0);
        for _ in 0..30 {
            disturb(&mut simulation, &mut random);
            let end = simulation.sim.elapsed() + milliseconds(random.u64(10..1500));
            while simulation.sim.elapsed() < end {
                for (from, to) in pairs() {
                    if random.u8(..10) != 0 {
                        continue;
                    }
                    let lane = Lane::ALL[random.usize(..3)];
                    numbers += 1;
                    simulation.send(from, to, lane, frame(from, to, lane, numbers));
                }
                simulation.run_for(milliseconds(5));
                delivered += check_all(&mut simulation);
            }
        }
        for (one, two) in pairs() {
            simulation.sim.repair(host(one), host(two));
        }
        for node in NODES {
            if !simulation.sim.is_host_running(host(node)) {
                simulation.sim.bounce(host(node));
            }
        }
        simulation.sim.set_fail_rate(0.0);
        // A stuck connection must be noticed first.
        simulation.run_for(NOTICE_BOUND);
        simulation.until(RECONNECT_BOUND, "all find each other", |simulation| simulation.are_all_connected());
        delivered += check_all(&mut simulation);
        for (one, two) in pairs().filter(|(one, two)| one < two) {
            frames_pass(&mut simulation, one, two, &mut numbers);
        }
        println!("{kind:?}: {delivered} frames of {numbers} were delivered");
        assert!(delivered > numbers / 20, "frames get through between the faults, or nothing was tried");
    });
}

/// Cuts or mends a link, or crashes or starts a host.
fn disturb(simulation: &mut Simulation, random: &mut fastrand::Rng) {
    let all: Vec<_> = pairs().collect();
    let (one, two) = all[random.usize(..all.len())];
    let is_running = simulation.sim.is_host_running(host(one));
    match random.u8(..8) {
        0 => simulation.sim.partition(host(one), host(two)),
        1 => simulation.sim.partition_oneway(host(one), host(two)),
        2..=4 => simulation.sim.repair(host(one), host(two)),
        5 if is_running => simulation.sim.crash(host(one)),
        _ => {
            let crashed = NODES.into_iter().find(|node| !simulation.sim.is_host_running(host(*node)));
            simulation.sim.bounce(host(crashed.unwrap_or(one)));
        }
    }
}

fn check_all(simulation: &mut Simulation) -> u64 {
    let mut count = 0;
    for node in NODES {
        let received = simulation.take_received(node);
        check_received(node, &received);
        count += received.len() as u64;
    }
    count
}

/// Starts nodes on their hosts, for a suite that runs on another one.
struct Remote(BTreeMap<NodeId, mpsc::UnboundedSender<oneshot::Sender<NetworkTransport>>>);

#[async_trait]
impl Backend for Remote {
    async fn start(&mut self, node: NodeId) -> Box<dyn Transport> {
        let (reply, started) = oneshot::channel();
        self.0[&node].send(reply).expect("the host takes orders");
        Box::new(started.await.expect("the node starts"))
    }

    fn address(&self, node: NodeId) -> String {
        SocketAddr::from((turmoil::lookup(host(node)), PORT)).to_string()
    }
}

/// A host that starts its node whenever it is asked to.
async fn start_when_asked(
    cluster: &Cluster,
    node: NodeId,
    mut orders: mpsc::UnboundedReceiver<oneshot::Sender<NetworkTransport>>,
) -> turmoil::Result {
    let losses = Arc::default();
    while let Some(reply) = orders.recv().await {
        let transport = loop {
            match cluster.bind(node, &losses).await {
                Ok(transport) => break transport,
                // Tasks of a dropped transport hold its sockets for a moment longer.
                Err(Error::Listen { .. }) => sleep(TICK).await,
                Err(error) => return Err(error.into()),
            }
        };
        let _ = reply.send(transport);
    }
    Ok(())
}

/// Runs the conformance suite with each node on a host of its own.
fn conforms(cluster: Cluster, network: &turmoil::Builder) {
    fastrand::seed(cluster.seed);
    let cluster = Arc::new(cluster);
    let mut sim = network.build();
    let mut orders = BTreeMap::new();
    for node in NODES {
        let (order, inbox) = mpsc::unbounded_channel();
        orders.insert(node, order);
        let (cluster, inbox) = (Arc::clone(&cluster), Mutex::new(Some(inbox)));
        sim.host(host(node), move || {
            let (cluster, inbox) = (Arc::clone(&cluster), lock(&inbox).take());
            async move {
                let inbox = inbox.expect("the host is started once");
                start_when_asked(&cluster, node, inbox).await
            }
        });
    }
    sim.client("suite", async move {
        conformance::check(&mut Remote(orders)).await;
        Ok(())
    });
    sim.run().expect("the suite passes");
}

#[test]
fn both_backends_conform_on_a_network_that_is_far_and_loses_something() {
    for_seeds("both_backends_conform_on_a_network_that_is_far", 1, |kind, seed| {
        let cluster = Cluster::new(kind, seed, |config| config.max_frame_bytes = 1 << 20);
        let mut network = builder(seed, milliseconds(3), milliseconds(3));
        if kind == Kind::Quic {
            network.fail_rate(0.001).repair_rate(0.5);
        }
        conforms(cluster, &network);
    });
}

#[test]
fn both_backends_conform_where_messages_overtake_each_other() {
    for_seeds("both_backends_conform_where_messages_overtake", 1, |kind, seed| {
        // QUIC takes overtaken packets for lost and slows down, so that longer frames would take too long.
        let cluster = Cluster::new(kind, seed, |config| config.max_frame_bytes = 64 << 10);
        conforms(cluster, &builder(seed, milliseconds(1), milliseconds(8)));
    });
}
