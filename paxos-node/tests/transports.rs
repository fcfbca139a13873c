//! Values of mixed lengths over each transport: what arrives is what was sent.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod support;

use support::Cluster;

/// Around what the frame code reads and writes at once, in batches that a pipeline makes of them.
const LENGTHS: [usize; 12] =
    [10, 1_024, 9_000, 16_379, 25_000, 30_000, 58_000, 60_000, 65_531, 66_000, 70_000, 140_000];
const CLIENTS: usize = 4;
const ROUNDS: usize = 6;

/// A value that no other key has.
fn value(client: usize, key: usize, length: usize) -> String {
    format!("{client}.{key}.").chars().cycle().take(length).collect()
}

/// Sets each length once, all at once, and then small values at the side of them.
fn flood(cluster: &Cluster, number: usize) {
    let mut client = cluster.client(1 + number % 3);
    for round in 0..ROUNDS {
        for place in 0..LENGTHS.len() {
            // In another order for each client and round, with small ones between.
            let place = (place * 5 + round + number) % LENGTHS.len();
            let value = value(number, place, LENGTHS[place]);
            client.send(&["SET", &format!("{number}:{place}"), &value]);
            for small in 0..8 {
                client.send(&["SET", &format!("{number}:small:{small}"), "small"]);
            }
        }
        for request in 0..9 * LENGTHS.len() {
            let reply = client.reply();
            assert_eq!(reply.as_deref(), Some("OK"), "request {request} of round {round}, client {number}");
        }
    }
}

fn survives_a_flood(transport: &str) {
    let cluster = Cluster::started(3, &["--transport", transport, "--request-timeout", "25s"]);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let cluster = &cluster;
            scope.spawn(move || flood(cluster, number));
        }
    });
    cluster.wait_for_equal_states();
    for number in 0..CLIENTS {
        let mut client = cluster.client(1 + (number + 1) % 3);
        for (place, length) in LENGTHS.into_iter().enumerate() {
            let reply = client.ask(&["GET", &format!("{number}:{place}")]);
            assert!(reply == value(number, place, length), "{length} bytes of client {number}");
        }
    }
    for id in 1..=3 {
        assert_eq!(
            cluster.status(id, "misunderstood").as_deref(),
            Some("0"),
            "node {id}: {}",
            cluster.log(id)
        );
    }
}

#[test]
fn values_of_mixed_lengths_arrive_whole_over_tcp() {
    survives_a_flood("tcp");
}

#[test]
fn values_of_mixed_lengths_arrive_whole_over_quic() {
    survives_a_flood("quic");
}
