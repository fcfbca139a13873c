//! Calls of operators and nodes, over real sockets with real certificates.
#![cfg(all(feature = "quic", feature = "tcp"))]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{CLUSTER, Cluster, Kind, ONE, TWO, certs, eventually, gets_through, identity};
use paxos_core::NodeId;
use paxos_transport::calls::{
    self, Call, CallError, CallIdentity, CallProblem, CallReceiver, Caller, MAX_ANSWER_BYTES, MAX_CALLS,
    MAX_REQUEST_BYTES,
};
use paxos_transport::{CertificateProblem, Error, TlsIdentity, Transport, quic, tcp};

const LONG: Duration = Duration::from_secs(10);

async fn call(
    kind: Kind,
    addresses: &[String],
    identity: &CallIdentity,
    request: impl Into<Bytes>,
) -> Result<Bytes, CallError> {
    match kind {
        Kind::Quic => quic::call(addresses, identity, request.into()).await,
        Kind::Tcp => tcp::call(addresses, identity, request.into()).await,
    }
}

/// Starts node 1, and returns the receiver of its calls.
async fn start(cluster: &mut Cluster) -> (Box<dyn Transport>, CallReceiver, String) {
    let (sender, receiver) = calls::channel();
    let one = cluster.start_with(ONE, |config| config.calls = Some(sender.clone())).await;
    let address = address(cluster, ONE);
    (one, receiver, address)
}

fn address(cluster: &Cluster, node: NodeId) -> String {
    cluster.config(node).peers[&node].clone()
}

fn operator(certs: &Path) -> CallIdentity {
    CallIdentity::load(certs).expect("the certificates are in order")
}

/// Answers each call with what `answer` makes of it.
fn answer_with(mut receiver: CallReceiver, answer: impl Fn(&Call) -> Bytes + Send + 'static) {
    tokio::spawn(async move {
        while let Some(call) = receiver.receive().await {
            let answer = answer(&call);
            call.answer(answer);
        }
    });
}

fn only_problem(result: Result<Bytes, CallError>) -> CallProblem {
    match result {
        Err(CallError::NotTaken { attempts }) if attempts.len() == 1 => attempts[0].problem.clone(),
        other => panic!("one attempt fails before the request is taken, not {other:?}"),
    }
}

#[tokio::test]
async fn an_operator_and_a_node_call_as_who_they_are() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let (_one, receiver, address) = start(&mut cluster).await;
        answer_with(receiver, |call| format!("{} asks for {:?}", call.caller, call.request).into());
        let addresses = [address];
        let by_operator = operator(cluster.certs.path());
        let answer = call(kind, &addresses, &by_operator, "a").await;
        assert_eq!(answer.expect("it is answered"), r#"an operator asks for b"a""#, "{kind:?}");
        // Node 9 is not among the peers.
        let by_node = CallIdentity::from(&identity(cluster.certs.path(), NodeId(9), CLUSTER));
        let answer = call(kind, &addresses, &by_node, "b").await;
        assert_eq!(answer.expect("it is answered"), r#"node 9 asks for b"b""#, "{kind:?}");
    }
}

#[tokio::test]
async fn another_authority_is_refused_on_both_sides() {
    let foreign = certs(CLUSTER);
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE]);
        let (_one, receiver, address) = start(&mut cluster).await;
        answer_with(receiver, |_| panic!("nobody may ask"));
        let addresses = [address];
        let other_authority = CertificateProblem::OtherAuthority;
        let result = call(kind, &addresses, &operator(foreign.path()), "a").await;
        let expected = CallProblem::Certificate { problem: other_authority.clone() };
        assert_eq!(only_problem(result), expected, "{kind:?}");
        // Trusts the home CA, but has a certificate of the foreign one.
        let read = |directory: &Path, name: &str| std::fs::read(directory.join(name)).expect("it is there");
        let authority = read(cluster.certs.path(), "ca.pem");
        let (chain, key) = (read(foreign.path(), "admin.pem"), read(foreign.path(), "admin-key.pem"));
        let mixed = CallIdentity::from_pem(&authority, &chain, &key).expect("each is in order");
        let result = call(kind, &addresses, &mixed, "a").await;
        let expected = CallProblem::OwnCertificate { problem: other_authority };
        assert_eq!(only_problem(result), expected, "{kind:?}");
    }
}

#[test]
fn operators_and_nodes_have_certificates_of_different_kinds() {
    let certs = certs(CLUSTER);
    let read = |name: &str| std::fs::read(certs.path().join(name)).expect("it is there");
    let (authority, admin, admin_key) = (read("ca.pem"), read("admin.pem"), read("admin-key.pem"));
    assert_eq!(operator(certs.path()).cluster(), CLUSTER);
    let as_node = TlsIdentity::from_pem(ONE, CLUSTER, &authority, &admin, &admin_key);
    assert!(matches!(as_node, Err(Error::Certificate { .. })), "{as_node:?}");
    let as_operator = CallIdentity::from_pem(&authority, &read("node-1.pem"), &read("node-1-key.pem"));
    let error = as_operator.expect_err("a node is no operator").to_string();
    assert_eq!(error, "admin.pem: the certificate is not that of an operator");
}

#[tokio::test]
async fn requests_and_answers_are_bounded() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE]);
        let (_one, receiver, address) = start(&mut cluster).await;
        answer_with(receiver, |call| {
            let over = usize::from(call.request.is_empty());
            vec![7; MAX_ANSWER_BYTES + over].into()
        });
        let (addresses, identity) = ([address], operator(cluster.certs.path()));
        let longest = call(kind, &addresses, &identity, vec![1; MAX_REQUEST_BYTES]).await;
        assert_eq!(longest.expect("it is answered").len(), MAX_ANSWER_BYTES, "{kind:?}");
        let too_long = call(kind, &addresses, &identity, vec![1; MAX_REQUEST_BYTES + 1]).await;
        assert_eq!(too_long, Err(CallError::RequestTooLarge { bytes: MAX_REQUEST_BYTES + 1 }), "{kind:?}");
        let too_much = call(kind, &addresses, &identity, "").await;
        let Err(CallError::NotAnswered { last }) = too_much else { panic!("{kind:?}: {too_much:?}") };
        assert_eq!(last.problem, CallProblem::AnswerTooLarge, "{kind:?}");
    }
}

#[tokio::test]
async fn a_call_goes_on_to_the_next_address_until_a_node_takes_it() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let (_one, receiver, served) = start(&mut cluster).await;
        let _two = cluster.start(TWO).await;
        let not_served = address(&cluster, TWO);
        let closed = UdpSocket::bind("127.0.0.77:0").and_then(|socket| socket.local_addr());
        let closed = closed.expect("there are free ports").to_string();
        let identity = operator(cluster.certs.path());
        let failing = [closed.clone(), not_served.clone()];
        let error = call(kind, &failing, &identity, "a").await.expect_err("nobody takes it").to_string();
        let text = format!("no node takes the call: {closed}: can't connect: ");
        assert!(error.starts_with(&text), "{kind:?}: {error}");
        assert!(error.ends_with(&format!("; {not_served}: it takes no calls")), "{kind:?}: {error}");
        assert_eq!(call(kind, &[], &identity, "a").await, Err(CallError::NoAddress));
        answer_with(receiver, |_| Bytes::from_static(b"done"));
        let all = [closed, not_served, served];
        assert_eq!(call(kind, &all, &identity, "a").await.expect("one answers"), "done", "{kind:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_told_and_not_repeated_elsewhere() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE]);
        let (_one, mut receiver, address) = start(&mut cluster).await;
        let identity = operator(cluster.certs.path());
        let addresses = [address.clone(), address];
        let (result, count) = tokio::join!(call(kind, &addresses, &identity, "a"), async {
            drop(receiver.receive().await.expect("the transport is open"));
            drop(receiver);
        });
        let () = count;
        let Err(CallError::NotAnswered { last }) = result else { panic!("{kind:?}: {result:?}") };
        assert_eq!(last.problem, CallProblem::Dropped, "{kind:?}");
        let result = call(kind, &addresses[..1], &identity, "a").await;
        assert_eq!(only_problem(result), CallProblem::NotServed, "{kind:?}: the receiver is gone");
    }
}

#[tokio::test]
async fn more_calls_than_places_are_told_that_the_node_is_busy_and_peers_do_not_notice() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE, TWO]);
        let (mut one, mut receiver, address) = start(&mut cluster).await;
        let addresses = [address];
        let mut callers = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..MAX_CALLS {
            let (addresses, identity) = (addresses.clone(), operator(cluster.certs.path()));
            callers.push(tokio::spawn(async move { call(kind, &addresses, &identity, "a").await }));
            taken.push(receiver.receive().await.expect("the transport is open"));
        }
        let identity = operator(cluster.certs.path());
        let since = Instant::now();
        let result = call(kind, &addresses, &identity, "one too many").await;
        assert_eq!(only_problem(result), CallProblem::Busy, "{kind:?}");
        assert!(
            since.elapsed() < Duration::from_secs(2),
            "{kind:?}: it need not wait: {:?}",
            since.elapsed()
        );
        let two = cluster.start(TWO).await;
        assert!(gets_through(two.as_ref(), one.as_mut(), LONG).await, "{kind:?}");
        assert!(taken.iter().all(|call| call.caller == Caller::Operator && !call.is_abandoned()));
        for call in taken {
            call.answer(Bytes::from_static(b"done"));
        }
        for caller in callers {
            let answer = caller.await.expect("it does not panic");
            assert_eq!(answer.expect("it is answered"), "done", "{kind:?}");
        }
        answer_with(receiver, |_| Bytes::from_static(b"at last"));
        let answer = call(kind, &addresses, &identity, "a").await;
        assert_eq!(answer.expect("there are places again"), "at last", "{kind:?}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_its_place() {
    for kind in Kind::ALL {
        let mut cluster = Cluster::new(kind, &[ONE]);
        let (_one, mut receiver, address) = start(&mut cluster).await;
        let identity = operator(cluster.certs.path());
        let calling = tokio::spawn(async move { call(kind, &[address], &identity, "a").await });
        let call = receiver.receive().await.expect("the transport is open");
        calling.abort();
        eventually(LONG, "the call is abandoned", || call.is_abandoned()).await;
    }
}
