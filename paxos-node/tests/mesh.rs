//! What an operator is told about the network, by the log, `/status`, `paxos-node status` and metrics:
//! `src/runtime/mesh.rs`, `src/cli/listen.rs`.

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use support::{Cluster, PATIENCE, free_port, run, wait};

/// `serve` for a node, with the value of one option replaced.
fn with(cluster: &Cluster, id: usize, option: &str, value: &str) -> Vec<String> {
    let mut arguments = cluster.serve_arguments(id);
    let at = arguments.iter().position(|argument| argument == option).expect("it is given") + 1;
    value.clone_into(&mut arguments[at]);
    arguments
}

fn wait_for_line(cluster: &Cluster, id: usize, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.log(id).contains(text) {
        assert!(Instant::now() < deadline, "node {id} does not say: {text}; its log: {}", cluster.log(id));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The report of `/status` on one of a node's peers.
fn peer(cluster: &Cluster, id: usize, peer: usize) -> Option<serde_json::Value> {
    let (_, body) = cluster.http(id, "/status")?;
    let report: serde_json::Value = serde_json::from_str(&body).ok()?;
    report["peers"].as_array()?.iter().find(|entry| entry["node"] == peer).cloned()
}

#[test]
fn a_peer_that_is_gone_is_told_everywhere_and_so_is_its_return() {
    for transport in ["quic", "tcp"] {
        let mut cluster = Cluster::started(3, &["--transport", transport]);
        let addresses: Vec<String> = (1..=3).map(|id| cluster.http_address(id)).collect();
        let status = || {
            let output = run(&["status", &addresses.join(",")]);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        wait("all are connected", || (status().matches("2/2").count() == 3).then_some(()));
        // Of nodes 1 and 3 one has dialed it, and one was dialed by it.
        cluster.kill(2);
        for id in [1, 3] {
            wait_for_line(&cluster, id, "node 2 has not been reached for");
            wait_for_line(&cluster, id, "nobody listens at 127.0.0.1");
            wait_for_line(
                &cluster,
                id,
                "connected to 1 of 2 peers: with one failure more this node reaches no quorum",
            );
            let missing =
                wait("it is reported", || peer(&cluster, id, 2).filter(|peer| peer["connected"] == false));
            assert_eq!(missing["reason"], "refused", "{missing}");
            assert!(missing["for_seconds"].as_u64().is_some_and(|seconds| seconds >= 5), "{missing}");
            let text = status();
            assert!(text.contains(&format!("node {id} has not reached node 2 for")), "{text}");
            let (_, metrics) = cluster.http(id, "/metrics").expect("the node answers");
            for sample in [
                format!("paxos_peer_connected{{node=\"{id}\",peer=\"2\"}} 0"),
                format!("paxos_certificate_expiry_timestamp_seconds{{node=\"{id}\",certificate=\"the CA\"}}"),
            ] {
                assert!(metrics.contains(&sample), "no {sample} in {metrics}");
            }
        }
        cluster.start(2);
        for id in [1, 3] {
            wait_for_line(&cluster, id, "node 2 is reached again after");
            wait_for_line(&cluster, id, "connected to 2 of 2 peers again after");
            wait("it is reported", || peer(&cluster, id, 2).filter(|peer| peer["connected"] == true));
            let log = cluster.log(id);
            // On a machine that is busy with other tests a node may get its turn late, and says so.
            let told = log.lines().filter(|line| !line.contains("driver::turns")).count();
            assert_eq!(told, 4, "node {id} says nothing else: {log}");
        }
    }
}

/// The report of a leader's `/status` on a member.
fn member(cluster: &Cluster, leader: usize, member: usize) -> Option<serde_json::Value> {
    let (_, body) = cluster.http(leader, "/status")?;
    let report: serde_json::Value = serde_json::from_str(&body).ok()?;
    report["members"].as_array()?.iter().find(|entry| entry["id"] == member).cloned()
}

#[test]
fn a_leader_tells_everywhere_how_far_its_members_are_in_the_log_and_on_the_network() {
    const VALUES: u64 = 40;
    const VALUE_BYTES: u64 = 10_000;
    for transport in ["quic", "tcp"] {
        let mut cluster = Cluster::started(3, &["--transport", transport]);
        let leader = cluster.wait_for_leader();
        let (stays, lags) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let round_trip = wait("the round trip is known", || {
            peer(&cluster, leader, stays)?["round_trip_microseconds"].as_u64()
        });
        assert!((1..5_000_000).contains(&round_trip), "{round_trip} us over {transport}");
        cluster.kill(lags);
        let mut client = cluster.client(leader);
        for key in 0..VALUES {
            let value = "v".repeat(usize::try_from(VALUE_BYTES).expect("it is small"));
            assert_eq!(client.ask(&["SET", &key.to_string(), &value]), "OK");
        }
        let written = VALUES * VALUE_BYTES;
        let lag = wait("the lag is told", || {
            let lag = member(&cluster, leader, lags)?["lag_bytes"].as_u64()?;
            (lag >= written).then_some(lag)
        });
        assert!(lag < written * 12 / 10, "{lag} bytes after {written} were written");
        let (_, metrics) = cluster.http(leader, "/metrics").expect("the node answers");
        let gauge = format!("paxos_member_lag_bytes{{node=\"{leader}\",member=\"{lags}\"}} ");
        let shown = metrics.lines().find_map(|line| line.strip_prefix(&gauge)).expect("it is shown");
        assert!(shown.parse::<u64>().is_ok_and(|shown| shown >= written), "{shown}");
        let output = run(&["status", &cluster.http_address(leader)]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("node {leader} leads: ")), "{text}");
        assert!(text.contains(" KiB) behind") && text.contains("behind, round trip "), "{text}");
        cluster.start(lags);
        wait("it has caught up", || {
            (member(&cluster, leader, lags)?["lag_bytes"].as_u64()? == 0).then_some(())
        });
    }
}

#[test]
fn a_node_whose_own_name_no_peer_could_use_listens_on_all_addresses() {
    // RFC 5737 gives 192.0.2.0/24 to no one, and by RFC 2606 .invalid is no top-level domain.
    for (own, problem) in [("localhost:PORT", "stands for"), ("node-1.invalid:PORT", "can't be looked up")] {
        let mut cluster = Cluster::new(1, &[]);
        let port = free_port();
        let own = own.replace("PORT", &port.to_string());
        let arguments = with(&cluster, 1, "--peers", &format!("1={own},2=192.0.2.1:9001"));
        cluster.start_with(1, &arguments);
        wait_for_line(&cluster, 1, &format!("this node's own address {own} {problem}"));
        wait_for_line(&cluster, 1, "listening for peers on all addresses instead");
        wait("it runs", || cluster.http(1, "/healthz").filter(|(code, _)| *code == 200));
        assert!(UdpSocket::bind(format!("127.0.0.1:{port}")).is_err(), "it listens there");
    }
}

#[test]
fn nodes_of_both_address_families_make_one_cluster() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no address of IPv6");
        return;
    }
    for transport in ["quic", "tcp"] {
        let mut cluster = Cluster::new(3, &["--transport", transport]);
        let given = cluster.serve_arguments(1);
        let at = given.iter().position(|argument| argument == "--peers").expect("it is given") + 1;
        let peers = given[at].replace("2=127.0.0.1", "2=[::1]");
        for id in 1..=3 {
            let arguments = with(&cluster, id, "--peers", &peers);
            cluster.start_with(id, &arguments);
        }
        cluster.wait_for_leader();
        let all_connected = |id: usize| {
            let others = (1..=3).filter(move |other| *other != id);
            others
                .into_iter()
                .all(|other| peer(&cluster, id, other).is_some_and(|peer| peer["connected"] == true))
        };
        wait("each is connected to each", || (1..=3).all(all_connected).then_some(()));
    }
}

/// The day that many days from now.
fn day(days_ahead: u64) -> (i32, u8, u8) {
    let day = SystemTime::now() + Duration::from_secs(days_ahead * 24 * 60 * 60);
    let text = humantime::format_rfc3339_seconds(day).to_string();
    let number =
        |range: std::ops::Range<usize>| text[range].parse::<u16>().expect("a date is made of numbers");
    let small = |range| u8::try_from(number(range)).expect("months and days are small");
    (i32::from(number(0..4)), small(5..7), small(8..10))
}

#[test]
fn a_certificate_near_its_end_is_told_at_start_and_shown() {
    let mut cluster = Cluster::new(1, &[]);
    let make = || -> Result<(), rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut params = CertificateParams::new([String::from("node-1.paxos")])?;
        let (year, month, day) = day(10);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let files = [
            ("ca.pem", authority.pem()),
            ("node-1.pem", certificate.pem()),
            ("node-1-key.pem", key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(format!("{}/{name}", cluster.path("certs")), text).expect("the file is written");
        }
        Ok(())
    };
    make().expect("certificates are made");
    cluster.start(1);
    wait_for_line(&cluster, 1, "the certificate of this node expires in 9 days: renew it");
    cluster.wait_for_leader(); // A node that recovers shows no certificates yet.
    let output = run(&["status", &cluster.http_address(1)]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("node 1: the certificate of node 1 expires at "), "{text}");
}
