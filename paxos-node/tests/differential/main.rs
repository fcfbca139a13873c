//! The front beside a real `redis-server`: random requests get the same replies, to the type and the text.
//!
//! Skipped, with a message, where no `redis-server` is installed. `PAXOS_DIFFERENTIAL_SEED` repeats one seed,
//! `PAXOS_DIFFERENTIAL_SEEDS` sets how many are tried. What is meant to differ stands in `differences`.
#![cfg(feature = "memory")]

mod differences;
mod draw;
mod servers;
mod wire;

use servers::{Ours, Redis};
use wire::{Connection, Value};

/// How many seeds are tried, and how many requests each has.
const SEEDS: u64 = 40;
const REQUESTS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_answered_as_by_redis() {
    let Some(redis) = Redis::start() else {
        println!("skipped: there is no redis-server; install it to run this test");
        return;
    };
    let ours = Ours::start().await;
    let (theirs_at, ours_at) = (redis.address(), ours.address());
    let compared = tokio::task::spawn_blocking(move || {
        for seed in seeds() {
            compare(seed, ours_at, theirs_at);
        }
    });
    compared.await.expect("all replies are equal, or the difference is listed");
    ours.stop().await;
}

/// The table of commands tells the same of each command as that of Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_described_as_by_redis() {
    let Some(redis) = Redis::start() else {
        println!("skipped: there is no redis-server; install it to run this test");
        return;
    };
    let ours = Ours::start().await;
    let (theirs_at, ours_at) = (redis.address(), ours.address());
    let compared = tokio::task::spawn_blocking(move || {
        let (mut ours, mut theirs) = (Connection::open(ours_at), Connection::open(theirs_at));
        let Value::Array(names) = ours.ask(&["COMMAND", "LIST"]) else { panic!("a list of names") };
        for name in names.iter().map(Value::text) {
            let [ours, theirs] =
                [&mut ours, &mut theirs].map(|server| server.ask(&["COMMAND", "INFO", &name]));
            let (ours, theirs) = (wire::description(&ours), wire::description(&theirs));
            let Some(theirs) = theirs else { continue };
            let listed = differences::DESCRIPTIONS.iter().find(|(command, _)| *command == name);
            match (ours == Some(theirs.clone()), listed) {
                (true, None) | (false, Some(_)) => {}
                (true, Some((_, reason))) => panic!("{name} does not differ any more: {reason}"),
                (false, None) => panic!("{name}: {ours:?}, and in Redis {theirs:?}"),
            }
        }
    });
    compared.await.expect("all descriptions are equal, or the difference is listed");
    ours.stop().await;
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("it is a number"));
    if let Some(seed) = number("PAXOS_DIFFERENTIAL_SEED") {
        return vec![seed];
    }
    let first = fastrand::u64(..1 << 40);
    let count = number("PAXOS_DIFFERENTIAL_SEEDS").unwrap_or(SEEDS);
    // The same ones each time, and as many that nobody has tried.
    (1..=count / 2).chain(first..first + count - count / 2).collect()
}

/// Sends the same requests to both, over two connections each, so that one can meddle with the other's watch.
fn compare(seed: u64, ours_at: std::net::SocketAddr, theirs_at: std::net::SocketAddr) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ours = [Connection::open(ours_at), Connection::open(ours_at)];
    let mut theirs = [Connection::open(theirs_at), Connection::open(theirs_at)];
    let mut sent = Vec::new();
    let mut requests = vec![(0, vec![b"FLUSHALL".to_vec()])];
    if seed.is_multiple_of(2) {
        requests.extend([0, 1].map(|client| (client, vec![b"HELLO".to_vec(), b"3".to_vec()])));
    }
    while sent.len() < REQUESTS {
        requests.extend(draw::requests(&mut random));
        for (client, request) in requests.drain(..) {
            sent.push((client, wire::shown(&request)));
            let [our_reply, their_reply] =
                [&mut ours[client], &mut theirs[client]].map(|server| server.ask(&request));
            let [our_reply, their_reply] =
                [our_reply, their_reply].map(|reply| differences::leave_out(&request, reply));
            if our_reply != their_reply && differences::reason(&request, &our_reply, &their_reply).is_none() {
                let history: Vec<String> =
                    sent.iter().map(|(client, request)| format!("client {client}: {request}")).collect();
                panic!(
                    "{}\nis answered with {our_reply:?}\nand by Redis with {their_reply:?}\nrepeat with \
                     PAXOS_DIFFERENTIAL_SEED={seed} cargo test -p paxos-node --test differential",
                    history.join("\n")
                );
            }
        }
    }
}
