//! Callers that do not follow the protocol, over real sockets. Those that do are in `tests/calls.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::wire::{BUSY, READY, REQUEST_TOO_LARGE};
use super::{CallDialer, CallIdentity, CallReceiver, MAX_CALLS, MAX_REQUEST_BYTES, channel};
use crate::certs::make_cluster;
use crate::quic::{self, QuicCaller};
use crate::tcp::{self, TcpCaller};
use crate::{NetworkConfig, NetworkTransport, TlsIdentity};

const ONE: NodeId = NodeId(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(10);

/// The settings of a node, the receiver of its calls, and an operator.
fn parties() -> (NetworkConfig, CallReceiver, CallIdentity) {
    let made = make_cluster("home", &[ONE], &[]).expect("certificates are made");
    let (_, chain, key) = &made.nodes[0];
    let authority = made.authority.as_bytes();
    let identity = TlsIdentity::from_pem(ONE, "home", authority, chain.as_bytes(), key.as_bytes());
    let identity = identity.expect("the certificates are in order");
    let (chain, key) = &made.operator;
    let operator = CallIdentity::from_pem(authority, chain.as_bytes(), key.as_bytes());
    let (sender, receiver) = channel();
    let config = NetworkConfig::new(ONE, ([127, 0, 0, 1], 0).into(), BTreeMap::new(), identity);
    let config = config.with(|config| {
        config.calls = Some(sender);
        config.handshake_timeout = REQUEST_TIMEOUT;
    });
    (config, receiver, operator.expect("the certificates are in order"))
}

/// Dials, and returns what the node says first.
async fn enter<D: CallDialer>(dialer: &D, address: SocketAddr) -> (D::Stream, D::Guard, u8) {
    let (mut stream, guard) = dialer.dial(address).await.expect("the node listens");
    let first = stream.read_u8().await.expect("the node says something");
    (stream, guard, first)
}

async fn slow_callers_lose_their_places<D: CallDialer>(
    dialer: D,
    transport: NetworkTransport,
    mut receiver: CallReceiver,
) {
    let address = transport.local_address();
    let mut slow = Vec::new();
    for _ in 0..MAX_CALLS {
        let (mut stream, guard, first) = enter(&dialer, address).await;
        assert_eq!(first, READY);
        stream.write_all(&[0, 0]).await.expect("the node listens");
        stream.flush().await.expect("the node listens");
        slow.push((stream, guard));
    }
    assert_eq!(enter(&dialer, address).await.2, BUSY);
    for (stream, _guard) in &mut slow {
        let end = timeout(LONG, stream.read(&mut [0])).await.expect("the node hangs up in time");
        assert!(matches!(end, Ok(0) | Err(_)), "it answers nothing: {end:?}");
    }
    let answering = async {
        while let Some(call) = receiver.receive().await {
            call.answer(Bytes::from_static(b"done"));
        }
    };
    let asking = async {
        // The last places may be free a moment after the callers have noticed.
        loop {
            match super::call(&dialer, &[address.to_string()], &Bytes::from_static(b"a")).await {
                Ok(answer) => return answer,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::select! {
        answer = timeout(LONG, asking) => assert_eq!(answer.expect("there are places again"), "done"),
        () = answering => unreachable!("the transport is open"),
    }
    drop(transport);
}

async fn a_request_that_announces_too_much_is_refused<D: CallDialer>(dialer: D, address: SocketAddr) {
    let (mut stream, _guard, first) = enter(&dialer, address).await;
    assert_eq!(first, READY);
    let length = u32::try_from(MAX_REQUEST_BYTES + 1).expect("it is short");
    stream.write_all(&length.to_be_bytes()).await.expect("the node listens");
    stream.flush().await.expect("the node listens");
    assert_eq!(stream.read_u8().await.expect("the node says why"), REQUEST_TOO_LARGE);
}

#[tokio::test]
async fn slow_callers_lose_their_places_over_tcp() {
    let (config, receiver, operator) = parties();
    let transport = tcp::bind(config).await.expect("a port is free");
    let dialer = TcpCaller::new(&operator).expect("the certificates are in order");
    slow_callers_lose_their_places(dialer, transport, receiver).await;
}

#[tokio::test]
async fn slow_callers_lose_their_places_over_quic() {
    let (config, receiver, operator) = parties();
    let transport = quic::bind(config).await.expect("a port is free");
    let dialer = QuicCaller::new(&operator).expect("the certificates are in order");
    slow_callers_lose_their_places(dialer, transport, receiver).await;
}

#[tokio::test]
async fn a_request_that_announces_too_much_is_refused_before_it_comes() {
    let (config, _receiver, operator) = parties();
    let transport = tcp::bind(config).await.expect("a port is free");
    let dialer = TcpCaller::new(&operator).expect("the certificates are in order");
    a_request_that_announces_too_much_is_refused(dialer, transport.local_address()).await;
    let (config, _receiver, operator) = parties();
    let transport = quic::bind(config).await.expect("a port is free");
    let dialer = QuicCaller::new(&operator).expect("the certificates are in order");
    a_request_that_announces_too_much_is_refused(dialer, transport.local_address()).await;
}
