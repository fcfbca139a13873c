//! Certificates that end or are withdrawn, and nodes that take up new ones while they run.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{CLUSTER, Cluster, Kind, Log, ONE, TWO, certs, eventually, gets_through, identity};
use paxos_core::NodeId;
use paxos_transport::calls::{self, CallError, CallIdentity, CallReceiver};
use paxos_transport::certs::{RenewedKeys, add_nodes, renew, write_cluster};
use paxos_transport::{Error, Peer, SharedIdentity, TlsIdentity, Transport, quic, tcp};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

const LONG: Duration = Duration::from_secs(20);
/// How long a connection that must not come about is given.
const SHORT: Duration = Duration::from_millis(1500);

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).expect("the file is there")
}

/// An identity by the CA of a directory that is valid until `end`.
fn short_lived(directory: &Path, node: NodeId, end: SystemTime) -> TlsIdentity {
    let authority = read(directory, "ca.pem");
    let key = KeyPair::from_pem(&read(directory, "ca-key.pem")).expect("it is a key");
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, format!("{CLUSTER} cluster CA"));
    let issuer = Issuer::new(issuer, key);
    let mut params = CertificateParams::new(vec![format!("node-{node}.{CLUSTER}")]).expect("it is a name");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let since_epoch = end.duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    let own = KeyPair::generate().expect("a key is made");
    let certificate = params.signed_by(&own, &issuer).expect("it is signed");
    let (chain, key) = (certificate.pem(), own.serialize_pem());
    let made = TlsIdentity::from_pem(node, CLUSTER, authority.as_bytes(), chain.as_bytes(), key.as_bytes());
    made.expect("the certificates are in order")
}

/// Nodes 1 and 2 with identities that can be replaced. Node 2 dials.
struct Pair {
    cluster: Cluster,
    one: Box<dyn Transport>,
    two: Box<dyn Transport>,
    identities: [SharedIdentity; 2],
    address: SocketAddr,
    calls: CallReceiver,
    has_moved: bool,
    /// Each test has one: a line that is first written on a thread without a log may never be shown
    /// elsewhere.
    log: Log,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Pair {
    async fn start(kind: Kind, make: impl Fn(&Path, NodeId) -> TlsIdentity) -> Pair {
        let (log, guard) = Log::start();
        let cluster = Cluster::new(kind, &[ONE, TWO]);
        let identities = [ONE, TWO].map(|node| SharedIdentity::from(make(cluster.certs.path(), node)));
        let (sender, calls) = calls::channel();
        let config = cluster.config_as(ONE, identities[0].clone()).with(|config| config.calls = Some(sender));
        let (one, address) = kind.bind(config).await.expect("there are free ports");
        let mut config = cluster.config_as(TWO, identities[1].clone());
        config.peers.insert(ONE, address.to_string());
        let (two, _) = kind.bind(config).await.expect("there are free ports");
        let pair =
            Pair { cluster, one, two, identities, address, calls, has_moved: false, log, _guard: guard };
        pair.connected().await;
        pair
    }

    async fn connected(&self) {
        let are_connected = || self.one.is_connected(TWO) && self.two.is_connected(ONE);
        eventually(LONG, "they connect", are_connected).await;
    }

    /// Has node 2 dial anew, by another name of the same address.
    fn dial_anew(&mut self) {
        self.has_moved = !self.has_moved;
        let host = if self.has_moved { "localhost" } else { "127.0.0.1" };
        let peer = Peer::new(ONE, format!("{host}:{}", self.address.port()));
        self.two.set_peers(&[peer]).expect("there is one peer");
    }

    /// Fails if the nodes are connected now, or soon.
    async fn stays_apart(&mut self, why: &str) {
        let kind = self.cluster.kind;
        eventually(LONG, "the old connections end", || !self.two.is_connected(ONE)).await;
        let arrived = gets_through(self.two.as_ref(), self.one.as_mut(), SHORT).await;
        assert!(!arrived && !self.one.is_connected(TWO), "{kind:?}: {why}");
    }

    /// Asks node 1 something as the operator whose certificate is in a directory.
    async fn call(&mut self, directory: &Path) -> Result<Bytes, CallError> {
        let operator = CallIdentity::load(directory).expect("the certificates are in order");
        let (addresses, request) = ([self.address.to_string()], Bytes::from_static(b"hello"));
        let (kind, calls) = (self.cluster.kind, &mut self.calls);
        let answer = async {
            let call = calls.receive().await.expect("the transport is open");
            call.answer(Bytes::from_static(b"done"));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = async {
                match kind {
                    Kind::Quic => quic::call(&addresses, &operator, request).await,
                    Kind::Tcp => tcp::call(&addresses, &operator, request).await,
                }
            } => result,
            () = answer => unreachable!("it waits for ever"),
        }
    }
}

#[tokio::test]
async fn a_peer_whose_certificate_has_ended_is_refused_and_welcome_again_with_a_new_one() {
    for kind in Kind::ALL {
        let end = SystemTime::now() + Duration::from_secs(5);
        let make = |certs: &Path, node| match node {
            TWO => short_lived(certs, TWO, end),
            node => identity(certs, node, CLUSTER),
        };
        let mut pair = Pair::start(kind, make).await;
        // While the certificate is valid, it is taken whenever node 2 dials: so its sessions could be
        // resumed.
        pair.dial_anew();
        tokio::time::sleep(Duration::from_millis(200)).await;
        pair.connected().await;
        eventually(LONG, "the certificate ends", || SystemTime::now() > end + Duration::from_secs(1)).await;
        assert!(pair.one.is_connected(TWO), "{kind:?}: a connection outlives the certificate");
        pair.dial_anew();
        pair.stays_apart("an expired certificate is refused, resumed session or not").await;
        let text = "its certificate is refused by this node: it has expired";
        eventually(LONG, "it is logged", || pair.log.lines_with(text) == 1).await;
        let new = identity(pair.cluster.certs.path(), TWO, CLUSTER);
        pair.identities[1].replace(new).expect("it is that of the same node");
        pair.connected().await;
        assert!(
            gets_through(pair.two.as_ref(), pair.one.as_mut(), LONG).await,
            "{kind:?}: nobody was restarted"
        );
    }
}

#[tokio::test]
async fn a_node_whose_own_certificate_has_ended_is_refused_by_those_that_dial_it() {
    for kind in Kind::ALL {
        let end = SystemTime::now() + Duration::from_secs(5);
        let make = |certs: &Path, node| match node {
            ONE => short_lived(certs, ONE, end),
            node => identity(certs, node, CLUSTER),
        };
        let mut pair = Pair::start(kind, make).await;
        eventually(LONG, "the certificate ends", || SystemTime::now() > end + Duration::from_secs(1)).await;
        pair.dial_anew();
        pair.stays_apart("an expired certificate is refused, resumed session or not").await;
        let new = identity(pair.cluster.certs.path(), ONE, CLUSTER);
        pair.identities[0].replace(new).expect("it is that of the same node");
        pair.connected().await;
    }
}

#[tokio::test]
async fn a_ca_that_is_replaced_ends_the_connections_of_those_it_does_not_vouch_for() {
    let new = certs(CLUSTER);
    for kind in Kind::ALL {
        let mut pair = Pair::start(kind, |certs, node| identity(certs, node, CLUSTER)).await;
        let old = pair.cluster.certs.path().to_owned();
        assert_eq!(pair.call(&old).await.expect("the operator is known"), "done", "{kind:?}");
        pair.identities[0].replace(identity(new.path(), ONE, CLUSTER)).expect("it is of the same node");
        pair.stays_apart("node 2 has a certificate of the old CA").await;
        assert!(pair.call(&old).await.is_err(), "{kind:?}: so has the operator");
        assert_eq!(pair.call(new.path()).await.expect("it is known"), "done", "{kind:?}: unlike the new one");
        pair.identities[1].replace(identity(new.path(), TWO, CLUSTER)).expect("it is of the same node");
        pair.connected().await;
        assert!(
            gets_through(pair.two.as_ref(), pair.one.as_mut(), LONG).await,
            "{kind:?}: nobody was restarted"
        );
    }
}

#[tokio::test]
async fn renewed_certificates_are_taken_up_without_a_break() {
    for (kind, keys) in Kind::ALL.into_iter().zip([RenewedKeys::Same, RenewedKeys::New]) {
        let mut pair = Pair::start(kind, |certs, node| identity(certs, node, CLUSTER)).await;
        let directory = pair.cluster.certs.path().to_owned();
        renew(&directory, CLUSTER, keys).expect("the CA and its key are there");
        let before = pair.two.peers()[0].counters.connections;
        for (node, shared) in [ONE, TWO].into_iter().zip(pair.identities.clone()) {
            shared.replace(identity(&directory, node, CLUSTER)).expect("it is of the same node");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.connected().await;
        assert_eq!(pair.two.peers()[0].counters.connections, before, "{kind:?}: the old connections go on");
        pair.dial_anew();
        eventually(LONG, "they connect anew", || pair.two.peers()[0].counters.connections >= before + 2)
            .await;
        pair.connected().await;
        assert_eq!(pair.call(&directory).await.expect("the operator's are new, too"), "done", "{kind:?}");
    }
}

#[test]
fn only_a_valid_identity_of_the_same_node_replaces_another() {
    let (home, foreign) = (certs(CLUSTER), certs(CLUSTER));
    let shared = SharedIdentity::from(identity(home.path(), ONE, CLUSTER));
    let refused = |identity: TlsIdentity| shared.replace(identity).expect_err("it is refused").to_string();
    assert!(refused(identity(home.path(), TWO, CLUSTER)).contains("belongs to another node"));
    let away = home.path().join("away");
    write_cluster(&away, "away", &[ONE], &[]).expect("certificates are made");
    assert!(refused(identity(&away, ONE, "away")).contains("belongs to another cluster"));
    let over = short_lived(home.path(), ONE, SystemTime::now() - Duration::from_secs(60));
    assert!(refused(over).contains("the CA does not vouch for the certificate of this node: "));
    let [chain, key] = ["node-1.pem", "node-1-key.pem"].map(|name| read(foreign.path(), name));
    let authority = read(home.path(), "ca.pem");
    let mixed = TlsIdentity::from_pem(ONE, CLUSTER, authority.as_bytes(), chain.as_bytes(), key.as_bytes());
    assert!(refused(mixed.expect("each is in order")).contains("does not vouch"));
    let present = shared.current();
    assert_eq!(present.certificates(), identity(home.path(), ONE, CLUSTER).certificates(), "it is as it was");
}

/// The serial number of a certificate: it follows the version.
fn serial_number(directory: &Path, name: &str) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_slice(read(directory, name).as_bytes()).expect("it is one");
    let version = [0xa0, 3, 2, 1, 2];
    let start = certificate.windows(5).position(|bytes| bytes == version).expect("it is version 3") + 5;
    let [2, length, rest @ ..] = &certificate[start..] else { panic!("the serial number is an integer") };
    rest[..usize::from(*length)].to_vec()
}

#[test]
fn renewed_certificates_have_the_old_names_and_new_serial_numbers() {
    let made = tempfile::tempdir().expect("there is room for temporary files");
    let directory = made.path();
    let hosts = ["example.org", "10.0.0.1", "fd00::1"].map(str::to_owned);
    write_cluster(directory, CLUSTER, &[ONE, TWO], &hosts).expect("certificates are made");
    let files = ["node-1.pem", "node-2.pem", "admin.pem"];
    let keys = ["node-1-key.pem", "node-2-key.pem", "admin-key.pem"];
    let mut serial_numbers = Vec::new();
    let mut note = || serial_numbers.extend(files.map(|file| serial_number(directory, file)));
    note();
    let (authority, first_keys) = (read(directory, "ca.pem"), keys.map(|key| read(directory, key)));
    let written = renew(directory, CLUSTER, RenewedKeys::Same).expect("the CA and its key are there");
    assert_eq!(written, files.map(|file| directory.join(file)));
    note();
    assert_eq!(keys.map(|key| read(directory, key)), first_keys);
    let written = renew(directory, CLUSTER, RenewedKeys::New).expect("the CA and its key are there");
    assert_eq!(written.len(), 6, "{written:?}");
    note();
    assert!(keys.iter().zip(&first_keys).all(|(key, first)| read(directory, key) != *first));
    assert_eq!(read(directory, "ca.pem"), authority, "the CA is the old one");
    serial_numbers.sort_unstable();
    serial_numbers.dedup();
    assert_eq!(serial_numbers.len(), 9, "no two are equal: {serial_numbers:?}");
    let certificate = CertificateDer::from_pem_slice(read(directory, "node-1.pem").as_bytes()).expect("one");
    let parsed = webpki::EndEntityCert::try_from(&certificate).expect("it is one");
    for name in ["node-1.home", "example.org", "10.0.0.1", "fd00::1"] {
        let name = ServerName::try_from(name).expect("it is a name");
        assert!(parsed.verify_is_valid_for_subject_name(&name).is_ok(), "{name:?}");
    }
    identity(directory, ONE, CLUSTER);
    CallIdentity::load(directory).expect("the operator's are in order");
    #[cfg(unix)]
    for key in keys {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(directory.join(key)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[test]
fn certificates_are_renewed_only_by_their_ca() {
    let (home, foreign) = (certs(CLUSTER), certs(CLUSTER));
    let home = home.path();
    let problem = |cluster: &str| match renew(home, cluster, RenewedKeys::Same) {
        Err(error @ Error::Certificate { .. }) => error.to_string(),
        other => panic!("a certificate error is expected, not {other:?}"),
    };
    let before = read(home, "node-1.pem");
    assert!(problem("away").contains("ca.pem: not the CA of cluster away"));
    std::fs::copy(foreign.path().join("node-2.pem"), home.join("node-2.pem")).expect("it is written");
    assert!(problem(CLUSTER).contains("node-2.pem: not signed by the CA beside it"));
    assert_eq!(read(home, "node-1.pem"), before, "nothing is written");
    std::fs::remove_file(home.join("node-2.pem")).expect("it is there");
    std::fs::remove_file(home.join("node-2-key.pem")).expect("it is there");
    std::fs::remove_file(home.join("ca-key.pem")).expect("it is there");
    assert!(problem(CLUSTER).contains("ca-key.pem: is missing: the key of the CA is needed"));
    std::fs::remove_file(home.join("ca.pem")).expect("it is there");
    assert!(problem(CLUSTER).contains("ca.pem: is missing: certificates are renewed only by the CA"));
    assert!(add_nodes(home, CLUSTER, &[ONE], &[]).is_err());
}
