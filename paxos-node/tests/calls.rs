//! Calling nodes without knowing their transport. `src/backends.rs`.
#![cfg(all(feature = "in-process", feature = "quic", feature = "tcp"))]

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::backends::call;
use paxos_transport::calls::{self, CallError, CallIdentity};
use paxos_transport::{NetworkConfig, NetworkTransport, TlsIdentity, certs, quic, tcp};

const ONE: NodeId = NodeId(1);
const CLUSTER: &str = "ours";

fn config(made: &certs::ClusterCerts) -> NetworkConfig {
    let (_, chain, key) = &made.nodes[0];
    let authority = made.authority.as_bytes();
    let identity = TlsIdentity::from_pem(ONE, CLUSTER, authority, chain.as_bytes(), key.as_bytes());
    let listen = "127.0.0.1:0".parse().expect("an address");
    NetworkConfig::new(ONE, listen, BTreeMap::new(), identity.expect("they are whole"))
}

fn operator(made: &certs::ClusterCerts) -> CallIdentity {
    let (chain, key) = &made.operator;
    CallIdentity::from_pem(made.authority.as_bytes(), chain.as_bytes(), key.as_bytes())
        .expect("they are whole")
}

async fn bind(is_quic: bool, config: NetworkConfig) -> NetworkTransport {
    let bound = if is_quic { quic::bind(config).await } else { tcp::bind(config).await };
    bound.expect("a port is free")
}

#[tokio::test]
async fn a_node_is_called_over_the_transport_that_it_uses() {
    let made = certs::make_cluster(CLUSTER, &[ONE], &[]).expect("certificates are made");
    for is_quic in [false, true] {
        let silent = bind(is_quic, config(&made)).await;
        let (sender, mut receiver) = calls::channel();
        let node = bind(is_quic, config(&made).with(|config| config.calls = Some(sender))).await;
        tokio::spawn(async move {
            while let Some(call) = receiver.receive().await {
                call.answer(Bytes::from_static(b"done"));
            }
        });
        let addresses = [&silent, &node].map(|transport| transport.local_address().to_string());
        let answer = call(&addresses, &operator(&made), Bytes::from_static(b"do it")).await;
        assert_eq!(answer.expect("one of them answers"), "done");
        let result = call(&addresses[..1], &operator(&made), Bytes::from_static(b"do it")).await;
        let Err(CallError::NotTaken { attempts }) = result else { panic!("{result:?}") };
        assert_eq!(attempts.len(), 1 + usize::from(is_quic), "one over each transport: {attempts:?}");
        assert!(attempts.iter().any(|attempt| attempt.to_string().ends_with("it takes no calls")));
    }
}
