//! Reasons why a peer is not connected: both sides report each, as far as they can know it.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use common::{CLUSTER, Cluster, Kind, Log, ONE, THREE, TWO, certs, eventually, gets_through, identity};
use paxos_core::NodeId;
use paxos_transport::{CertificateOwner, Lane, NetworkConfig, Resolve, SendOutcome, Transport, Unreachable};
use tempfile::TempDir;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(10);

/// The settings of `node`, with peers at these addresses.
fn config(certs: &TempDir, node: NodeId, listen: &str, peers: &[(NodeId, &str)]) -> NetworkConfig {
    let peers: BTreeMap<NodeId, String> =
        peers.iter().map(|(peer, address)| (*peer, (*address).to_owned())).collect();
    let listen = listen.parse().expect("it is an address");
    NetworkConfig::new(node, listen, peers, identity(certs.path(), node, CLUSTER))
}

/// Why `peer` is not connected to this transport.
fn reason(transport: &dyn Transport, peer: NodeId) -> Unreachable {
    let status = transport.peers().into_iter().find(|status| status.peer == peer).expect("it is a peer");
    status.unreachable.unwrap_or(Unreachable::NotYet)
}

async fn eventually_for(transport: &dyn Transport, peer: NodeId, code: &str) -> Unreachable {
    let what = format!("node {peer} is not reached because of {code}");
    eventually(LONG, &what, || reason(transport, peer).code() == code).await;
    reason(transport, peer)
}

/// An address of this machine on which no process listens, over TCP or UDP, and that no other test uses.
fn closed_port() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.77:0").expect("there are free ports");
    socket.local_addr().expect("it has an address")
}

#[tokio::test]
async fn where_nobody_listens_the_dialing_and_the_waiting_side_say_so() {
    for kind in Kind::ALL {
        let certs = certs(CLUSTER);
        let address = closed_port().to_string();
        let peers = [(ONE, address.as_str()), (TWO, "127.0.0.1:0"), (THREE, address.as_str())];
        let two = config(&certs, TWO, "127.0.0.1:0", &peers);
        let (two, _) = kind.bind(two).await.expect("there are free ports");
        eventually_for(two.as_ref(), ONE, "refused").await;
        eventually_for(two.as_ref(), THREE, "refused").await;
    }
}

#[tokio::test]
async fn what_never_answers_is_told_from_what_refuses() {
    for kind in Kind::ALL {
        // Reads everything, and answers nothing.
        let tcp = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
        let address = match kind {
            Kind::Tcp => tcp.local_addr(),
            Kind::Quic => udp.local_addr(),
        };
        let address = address.expect("it has an address").to_string();
        let certs = certs(CLUSTER);
        let two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, &address)]);
        let (two, _) = kind.bind(two).await.expect("there are free ports");
        let code = if kind == Kind::Tcp { "unresponsive" } else { "silent" };
        eventually_for(two.as_ref(), ONE, code).await;
    }
}

#[tokio::test]
async fn a_peer_that_answers_but_does_not_dial_is_told_by_whom_it_should_dial() {
    for kind in Kind::ALL {
        let certs = certs(CLUSTER);
        let closed = closed_port().to_string();
        // Node 2 has a wrong address for node 1.
        let two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, &closed)]);
        let (_two, address) = kind.bind(two).await.expect("there are free ports");
        let one = config(&certs, ONE, "127.0.0.1:0", &[(TWO, &address.to_string())]);
        let (one, _) = kind.bind(one).await.expect("there are free ports");
        eventually_for(one.as_ref(), TWO, "does-not-dial").await;
    }
}

#[tokio::test]
async fn a_peer_that_goes_and_comes_back_is_told_once_each() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::with_own_ports(kind, &[ONE, TWO]);
        let one = cluster.start(ONE).await;
        let mut two = cluster.start(TWO).await;
        eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        two.close().await;
        drop(two);
        eventually(LONG, "node 1 tells", || log.lines_with("node 2 has not been reached") == 1).await;
        let text = log.text();
        assert!(text.contains("nobody listens at"), "{kind:?}: {text}");
        let two = cluster.start(TWO).await;
        eventually(LONG, "it is told", || log.lines_with("node 2 is reached again after") == 1).await;
        eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(log.text().lines().count(), 2, "{kind:?}: no more than that: {}", log.text());
    }
}

/// Looks names up in a table, with a delay.
#[derive(Debug)]
struct Names {
    takes: Duration,
    table: BTreeMap<&'static str, Vec<SocketAddr>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Names {
    fn new(takes: Duration, table: &[(&'static str, &[SocketAddr])]) -> Arc<Names> {
        let table = table.iter().map(|(name, addresses)| (*name, addresses.to_vec())).collect();
        Arc::new(Names { takes, table, under_way: AtomicUsize::new(0), most_under_way: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        sleep(self.takes).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.table.get(name).cloned().ok_or_else(|| io::Error::other("no such host"))
    }
}

#[tokio::test]
async fn a_look_up_slower_than_any_time_out_still_leads_to_a_connection() {
    for kind in Kind::ALL {
        let certs = certs(CLUSTER);
        let one = config(&certs, ONE, "127.0.0.1:0", &[(TWO, "127.0.0.1:1")]);
        let (mut one, address) = kind.bind(one).await.expect("there are free ports");
        let mut two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, "one:9001")]);
        two.connect_timeout = Duration::from_millis(500);
        two.lookup_timeout = Duration::from_millis(700);
        let names = Names::new(Duration::from_secs(3), &[("one:9001", &[address])]);
        two.resolver = Arc::<Names>::clone(&names);
        let (two, _) = kind.bind(two).await.expect("there are free ports");
        let slow = eventually_for(two.as_ref(), ONE, "name-slow").await;
        assert_eq!(slow.to_string(), "looking up its name one:9001 takes longer than 700ms");
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        assert_eq!(names.most_under_way.load(Ordering::Relaxed), 1, "{kind:?}: one look-up at a time");
    }
}

#[tokio::test]
async fn an_unknown_name_is_told_and_of_several_addresses_one_has_to_work() {
    for kind in Kind::ALL {
        let certs = certs(CLUSTER);
        let one = config(&certs, ONE, "127.0.0.1:0", &[(TWO, "127.0.0.1:1")]);
        let (mut one, address) = kind.bind(one).await.expect("there are free ports");
        let closed = closed_port();
        let mut three = config(&certs, THREE, "127.0.0.1:0", &[(ONE, "one:9001"), (TWO, "two:9001")]);
        three.resolver = Names::new(Duration::ZERO, &[("one:9001", &[closed, address])]);
        let mut two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, "one:9001")]);
        two.resolver = Names::new(Duration::ZERO, &[("one:9001", &[closed, address])]);
        let (two, _) = kind.bind(two).await.expect("there are free ports");
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        let (three, _) = kind.bind(three).await.expect("there are free ports");
        let unknown = eventually_for(three.as_ref(), TWO, "name-unknown").await;
        assert_eq!(unknown.to_string(), "its name two:9001 can't be looked up: no such host");
    }
}

#[tokio::test]
async fn a_look_up_under_way_does_not_hold_up_closing() {
    for kind in Kind::ALL {
        let certs = certs(CLUSTER);
        let mut two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, "one:9001")]);
        two.resolver = Names::new(Duration::from_secs(3600), &[]);
        let (mut two, _) = kind.bind(two).await.expect("there are free ports");
        sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        two.close().await;
        assert!(started.elapsed() < Duration::from_secs(2), "{kind:?}: {:?}", started.elapsed());
    }
}

/// Whether this machine has IPv4 and IPv6 addresses.
fn has_both_families() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: this machine has no address of IPv6");
    }
    has
}

#[tokio::test]
async fn nodes_of_different_address_families_reach_each_other() {
    for kind in Kind::ALL.into_iter().filter(|_| has_both_families()) {
        // The IPv6 wildcard serves both families; any other address serves itself alone.
        for listens in [["127.0.0.1:0", "[::1]:0", "[::]:0"], ["[::1]:0", "127.0.0.1:0", "127.0.0.1:0"]] {
            let certs = certs(CLUSTER);
            let mut transports = Vec::new();
            let mut peers: Vec<(NodeId, String)> =
                [ONE, TWO, THREE].map(|node| (node, String::from("127.0.0.1:1"))).to_vec();
            for (index, node) in [ONE, TWO, THREE].into_iter().enumerate() {
                let listen = listens[index];
                let known: Vec<_> = peers.iter().map(|(peer, address)| (*peer, address.as_str())).collect();
                let (transport, address) =
                    kind.bind(config(&certs, node, listen, &known)).await.expect("there are free ports");
                peers[index].1 = address.to_string();
                transports.push(transport);
            }
            eventually(LONG, "all are connected", || {
                transports.iter().all(|transport| transport.peers().iter().all(|status| status.is_connected))
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_wildcard_of_ipv6_is_for_ipv4_too() {
    for kind in Kind::ALL.into_iter().filter(|_| has_both_families()) {
        let certs = certs(CLUSTER);
        let one = config(&certs, ONE, "[::]:0", &[(TWO, "127.0.0.1:1"), (THREE, "[::1]:1")]);
        let (mut one, address) = kind.bind(one).await.expect("there are free ports");
        for (node, host) in [(TWO, "127.0.0.1"), (THREE, "[::1]")] {
            let address = format!("{host}:{}", address.port());
            let other = config(&certs, node, &format!("{host}:0"), &[(ONE, &address)]);
            let (other, _) = kind.bind(other).await.expect("there are free ports");
            assert!(gets_through(other.as_ref(), one.as_mut(), LONG).await, "{kind:?} {host}");
        }
    }
}

#[tokio::test]
async fn a_node_that_only_its_own_machine_reaches_is_told_so() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let certs = certs(CLUSTER);
        // RFC 5737 reserves 192.0.2.0/24, so no machine has these addresses.
        let one = config(&certs, ONE, "127.0.1.1:0", &[(TWO, "192.0.2.1:9001")]);
        let (_one, _) = kind.bind(one).await.expect("there are free ports");
        let text = "which is reached from this machine only, but node 2 is at 192.0.2.1:9001";
        eventually(LONG, "it is told", || log.lines_with(text) == 1).await;
        let two = config(&certs, TWO, "127.0.0.1:0", &[(ONE, "127.0.0.1:1")]);
        let (_two, _) = kind.bind(two).await.expect("there are free ports");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(
            log.lines_with("this machine only"),
            1,
            "{kind:?}: where all are, it is right: {}",
            log.text()
        );
    }
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_told_with_its_size_and_the_limit() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let one = cluster.start_with(ONE, |config| config.max_frame_bytes = 1000).await;
        for size in [1001, 1777, 1500] {
            let outcome = one.send(TWO, Lane::Bulk, Bytes::from(vec![0; size]));
            assert_eq!(outcome, SendOutcome::TooLarge);
        }
        let text = "frames to node 2 were dropped as too large: one has 1777 bytes, and the limit is 1000";
        eventually(LONG, "it is told", || log.lines_with(text) == 1).await;
    }
}

/// A directory of certificates, in which those of these nodes are valid for these years.
fn certs_valid(nodes: &[NodeId], years: std::ops::Range<i32>) -> TempDir {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let write = |name: String, text: String| {
        std::fs::write(directory.path().join(name), text).expect("there is room for temporary files");
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().expect("a key is made");
    let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate is made");
    write(String::from("ca.pem"), authority.pem());
    for node in (1..=3).map(NodeId) {
        let mut params =
            CertificateParams::new([format!("node-{node}.{CLUSTER}")]).expect("the name is in order");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if nodes.contains(&node) {
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        }
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &authority).expect("a certificate is made");
        write(format!("node-{node}.pem"), certificate.pem());
        write(format!("node-{node}-key.pem"), key.serialize_pem());
    }
    directory
}

#[tokio::test]
async fn an_expired_certificate_and_one_of_the_future_are_told_on_both_sides() {
    for kind in Kind::ALL {
        for (bad, years, problem, of_own) in [
            (ONE, 2001..2002, "it has expired", "the certificate of this node has expired"),
            (TWO, 2001..2002, "it has expired", "the certificate of this node has expired"),
            (TWO, 2990..2991, "it is not valid yet", "the certificate of this node is not valid yet"),
        ] {
            let (log, _guard) = Log::start();
            let mut cluster = Cluster::new(kind, &[ONE, TWO]);
            cluster.certs = certs_valid(&[bad], years);
            let (one, two) = (cluster.start(ONE).await, cluster.start(TWO).await);
            let (good, other) = if bad == ONE { (&two, ONE) } else { (&one, TWO) };
            let refused = eventually_for(good.as_ref(), other, "certificate").await;
            let text = format!("its certificate is refused by this node: {problem}");
            assert!(refused.to_string().starts_with(&text), "{kind:?}: {refused}");
            let (bad_end, other) = if bad == ONE { (&one, TWO) } else { (&two, ONE) };
            let refused = eventually_for(bad_end.as_ref(), other, "own-certificate").await;
            let text = "it refuses the certificate of this node: it has expired, or is not valid yet";
            assert_eq!(refused.to_string(), text, "{kind:?}");
            eventually(LONG, of_own, || log.lines_with(of_own) == 1).await;
            eventually(LONG, "both tell", || log.lines_with("has not been reached for 1 s") == 2).await;
        }
    }
}

#[tokio::test]
async fn the_certificates_of_peers_are_known_by_their_ends() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        cluster.certs = certs_valid(&[TWO], 2001..2900);
        let (one, two) = (cluster.start(ONE).await, cluster.start(TWO).await);
        eventually(LONG, "they connect", || one.is_connected(TWO) && two.is_connected(ONE)).await;
        let of_two = |transport: &dyn Transport| {
            let owner = CertificateOwner::Node(TWO);
            let certificates = transport.certificates();
            assert_eq!(certificates.len(), 3, "the CA and two nodes: {certificates:?}");
            certificates.into_iter().find(|certificate| certificate.owner == owner).expect("it was seen")
        };
        assert_eq!(of_two(one.as_ref()), of_two(two.as_ref()), "{kind:?}: both know the same");
        let year_2900 = SystemTime::UNIX_EPOCH + Duration::from_secs(29_348_006_400);
        assert_eq!(of_two(one.as_ref()).not_after, year_2900);
    }
}
