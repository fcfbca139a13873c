//! Only nodes of the cluster are accepted, each under its own id.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::{CLUSTER, Cluster, Kind, Log, ONE, THREE, TWO, certs, eventually, gets_through, identity};
use paxos_core::NodeId;
use paxos_transport::certs::{add_nodes, write_cluster};
use paxos_transport::{Error, Lane, TlsIdentity};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(600);

fn read(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).expect("the file is there")
}

/// Starts node 2 with the certificate `own` beside node 1, which must refuse it. Returns the log of both.
async fn refused(kind: Kind, own: impl FnOnce(&Cluster) -> TlsIdentity) -> String {
    let (log, _guard) = Log::start();
    let mut cluster = Cluster::new(kind, &[ONE, TWO]);
    let mut one = cluster.start(ONE).await;
    let config = cluster.config_as(TWO, own(&cluster));
    let (two, _) = kind.bind(config).await.expect("the port is free");
    assert!(!gets_through(two.as_ref(), one.as_mut(), SHORT).await, "{kind:?}");
    eventually(LONG, "both sides tell why", || log.lines_with("has not been reached for 1 s") == 2).await;
    for (transport, peer) in [(&one, TWO), (&two, ONE)] {
        assert!(!transport.is_connected(peer), "{kind:?}: a refused connection does not count as one");
        assert_eq!(transport.peers()[0].counters.connections, 0, "{kind:?}: and never has");
    }
    log.text()
}

#[tokio::test]
async fn the_right_certificate_gets_through() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let (mut one, two) = (cluster.start(ONE).await, cluster.start(TWO).await);
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_the_dialing_side() {
    let foreign = certs(CLUSTER);
    for kind in Kind::ALL {
        let log = refused(kind, |_| identity(foreign.path(), TWO, CLUSTER)).await;
        let text = "node 1 has not been reached for 1 s: its certificate is refused by this node: it is signed by another CA";
        assert!(log.contains(text), "{kind:?}: {log}");
        let text = "node 2 has not been reached for 1 s: it refuses the certificate of this node: it is signed by another CA";
        assert!(log.contains(text), "{kind:?}: the other side is told too: {log}");
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_the_dialed_side() {
    let foreign = certs(CLUSTER);
    for kind in Kind::ALL {
        // Trusts the home CA, but has a certificate of the foreign one.
        let mixed = |cluster: &Cluster| {
            let authority = read(cluster.certs.path(), "ca.pem");
            let (chain, key) = (read(foreign.path(), "node-2.pem"), read(foreign.path(), "node-2-key.pem"));
            TlsIdentity::from_pem(TWO, CLUSTER, &authority, &chain, &key).expect("each is in order")
        };
        let log = refused(kind, mixed).await;
        for text in [
            "node 2 has not been reached for 1 s: its certificate is refused by this node: it is signed by another CA",
            "node 1 has not been reached for 1 s: it refuses the certificate of this node: it is signed by another CA",
        ] {
            let lines = log.lines().filter(|line| line.contains(text)).count();
            assert_eq!(lines, 1, "{kind:?}: said once, though tried again and again: {log}");
        }
    }
}

#[tokio::test]
async fn another_cluster_is_refused() {
    for kind in Kind::ALL {
        let renamed = |cluster: &Cluster| {
            let directory = cluster.certs.path().join("both");
            write_cluster(&directory, "away", &[TWO], &[]).expect("certificates are made");
            identity(&directory, TWO, "away")
        };
        let log = refused(kind, renamed).await;
        assert!(log.contains("node 1 has not been reached for 1 s: its certificate"), "{kind:?}: {log}");
    }
}

#[tokio::test]
async fn a_node_in_place_of_another_is_refused_and_logged() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::new(kind, &[ONE, TWO, THREE]);
        let one = cluster.start(ONE).await;
        let mut config = cluster.config(THREE);
        // Node 1 listens at node 2's address.
        let address = config.peers[&ONE].clone();
        config.peers.insert(TWO, address);
        let (three, _) = kind.bind(config).await.expect("the port is free");
        let text = "node 2 has not been reached for 1 s: its certificate is refused by this node: it is that of another node";
        eventually(LONG, "it is logged", || log.lines_with(text) == 1).await;
        let is_welcome = || three.is_connected(ONE) && one.is_connected(THREE);
        eventually(LONG, "node 1 as itself is welcome", is_welcome).await;
        assert!(!three.is_connected(TWO), "{kind:?}");
    }
}

#[tokio::test]
async fn a_frame_longer_than_allowed_ends_the_connection_and_is_logged() {
    for kind in Kind::ALL {
        let (log, _guard) = Log::start();
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let mut one = cluster.start_with(ONE, |config| config.max_frame_bytes = 1000).await;
        let two = cluster.start(TWO).await;
        eventually(LONG, "they connect", || two.is_connected(ONE) && one.is_connected(TWO)).await;
        two.send(ONE, Lane::Log, Bytes::from(vec![0; 1001]));
        eventually(LONG, "they connect again", || one.peers()[0].counters.connections == 3).await;
        assert_eq!(log.lines_with("longer than this node's max_frame_bytes"), 1, "{kind:?}: {}", log.text());
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}: and then go on");
    }
}

#[tokio::test]
async fn garbage_from_strangers_changes_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let mut one = cluster.start(ONE).await;
        let address: SocketAddr = cluster.config(ONE).listen;
        let mut silent = Vec::new();
        match kind {
            Kind::Quic => {
                let stranger = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
                for length in 1..1400 {
                    let garbage: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                    stranger.send_to(&garbage, address).expect("it is sent");
                }
            }
            Kind::Tcp => {
                for _ in 0..10 {
                    let mut noisy = TcpStream::connect(address).await.expect("the port is open");
                    let garbage: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
                    noisy.write_all(&garbage).await.expect("it is sent");
                    silent.push(TcpStream::connect(address).await.expect("the port is open"));
                }
            }
        }
        let two = cluster.start(TWO).await;
        assert!(
            gets_through(two.as_ref(), one.as_mut(), LONG).await,
            "{kind:?}: the right peer gets through"
        );
    }
}

#[test]
fn unusable_certificates_are_told_by_file_and_remedy() {
    let home = certs(CLUSTER);
    let problem = |node, cluster: &str| match TlsIdentity::load(home.path(), node, cluster) {
        Err(error @ Error::Certificate { .. }) => error.to_string(),
        other => panic!("a certificate error is expected, not {other:?}"),
    };
    assert!(problem(NodeId(77), CLUSTER).contains("node-77.pem: No such file"));
    assert!(problem(ONE, "away").contains("for node-1.home, not for node-1.away"));
    let key = home.path().join("node-1-key.pem");
    std::fs::write(&key, read(home.path(), "node-2-key.pem")).expect("it is written");
    assert!(problem(ONE, CLUSTER).contains("node-1-key.pem: does not fit the certificate in"));
    std::fs::write(&key, "nonsense").expect("it is written");
    assert!(problem(ONE, CLUSTER).contains("node-1-key.pem: not a private key in PEM form"));
    std::fs::write(home.path().join("ca.pem"), "nonsense").expect("it is written");
    assert!(problem(TWO, CLUSTER).contains("ca.pem: there is no certificate in PEM form in it"));
}

#[test]
fn nodes_are_added_only_to_a_ca_with_its_key() {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let directory = directory.path();
    let problem = || match add_nodes(directory, CLUSTER, &[TWO], &[]) {
        Err(error @ Error::Certificate { .. }) => error.to_string(),
        other => panic!("a certificate error is expected, not {other:?}"),
    };
    assert!(problem().contains("ca.pem: is missing: nodes can be added only to a CA made before"));
    write_cluster(directory, CLUSTER, &[ONE], &[]).expect("certificates are made");
    std::fs::rename(directory.join("ca-key.pem"), directory.join("kept.pem")).expect("it is there");
    assert!(problem().contains("ca-key.pem: is missing: the key of the CA is needed to sign certificates"));
    std::fs::rename(directory.join("kept.pem"), directory.join("ca-key.pem")).expect("it is there");
    std::fs::remove_file(directory.join("admin.pem")).expect("it is there");
    std::fs::remove_file(directory.join("admin-key.pem")).expect("it is there");
    let made = add_nodes(directory, CLUSTER, &[TWO], &[]).expect("the CA and its key are there");
    assert_eq!(made, ["node-2.pem", "node-2-key.pem"].map(|name| directory.join(name)), "and nothing else");
}

/// All files of a directory, with their contents.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(directory).expect("the directory is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned());
    names.map(|name| (name.clone(), read(directory, &name))).collect()
}

#[test]
fn certificates_are_never_overwritten_and_keys_are_private() {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let directory = directory.path();
    let made = write_cluster(directory, CLUSTER, &[TWO], &[]).expect("certificates are made");
    assert_eq!(made.len(), 6, "certificate and key of the CA, the node and the operators: {made:?}");
    #[cfg(unix)]
    for key in ["ca-key.pem", "node-2-key.pem", "admin-key.pem"] {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(directory.join(key)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{key}");
    }
    let misnamed = write_cluster(&directory.join("new"), "no spaces", &[ONE], &[]);
    assert!(matches!(misnamed, Err(Error::Name { .. })));
}

#[tokio::test]
async fn a_node_is_added_to_a_cluster_that_has_its_certificates() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, NodeId(10)]);
        let directory = cluster.certs.path();
        let before = contents(directory);
        let made = add_nodes(directory, CLUSTER, &[ONE, NodeId(10)], &[]).expect("one is missing");
        let names: Vec<_> = made.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(names, ["node-10.pem", "node-10-key.pem"], "only what is missing is made");
        let after = contents(directory);
        assert!(before.iter().all(|(name, content)| after[name] == *content), "what was there is as it was");
        let again = write_cluster(directory, CLUSTER, &[ONE, NodeId(10)], &[]);
        assert_eq!(again.expect("all is there"), Vec::<std::path::PathBuf>::new());
        let (mut one, ten) = (cluster.start(ONE).await, cluster.start(NodeId(10)).await);
        assert!(
            gets_through(ten.as_ref(), one.as_mut(), LONG).await,
            "{kind:?}: the others take it for a node"
        );
    }
}

#[test]
fn a_node_is_not_added_to_what_is_no_cluster_of_this_name() {
    let problem = |directory: &Path, cluster: &str| {
        let before = contents(directory);
        let error = write_cluster(directory, cluster, &[ONE, NodeId(10)], &[]).expect_err("it is refused");
        assert_eq!(contents(directory), before, "nothing is written");
        assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
        error.to_string()
    };
    let (home, foreign) = (certs(CLUSTER), certs(CLUSTER));
    let home = home.path();
    assert!(problem(home, "away").contains("ca.pem: not the CA of cluster away"));
    std::fs::write(home.join("node-1.pem"), read(foreign.path(), "node-1.pem")).expect("it is written");
    assert!(problem(home, CLUSTER).contains("node-1.pem: not signed by the CA beside it"));
    std::fs::remove_file(home.join("node-1-key.pem")).expect("it is there");
    assert!(problem(home, CLUSTER).contains("node-1-key.pem: is missing, but"));
    std::fs::write(home.join("ca-key.pem"), read(foreign.path(), "ca-key.pem")).expect("it is written");
    assert!(problem(home, CLUSTER).contains("ca-key.pem: does not fit the certificate beside it"));
    std::fs::write(home.join("ca-key.pem"), "nonsense").expect("it is written");
    assert!(problem(home, CLUSTER).contains("ca-key.pem: "));
    std::fs::remove_file(home.join("ca-key.pem")).expect("it is there");
    assert!(problem(home, CLUSTER).contains("ca-key.pem: is missing, but"));
}
