#!/usr/bin/env bash
# s2n-quic 1.91.0 (a QUIC stack), its default TLS and rustls: what a client sees of a server that has no
# application protocol (ALPN) in common with it, beside quinn 0.11.12.
#
# Guessed: The server refuses at once with error 0x178 (no_application_protocol), which RFC 9001 (8.1) asks
#          for, so that the client can say what is wrong.
# Seen:    The s2n-quic server sends not one packet, and nothing reaches its own `accept`. It begins a
#          connection anew for each packet that the client repeats, and drops it. A quinn client ends with
#          TimedOut after its idle timeout (2 s here, 30 s by default), one of s2n-quic with
#          MaxHandshakeDurationExceeded (10 s by default): a wrong protocol looks like a host that is down. A
#          quinn server refuses both clients at once, with 0x178.
#
# What follows: a fleet that changes the name of its protocol, version by version, gets time-outs from
# s2n-quic, not refusals. A server of several versions has to offer all of them; the reason shows only in the
# server's events (on_endpoint_connection_attempt_failed).
#
# Needs cargo with Rust 1.95 and a C compiler. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
for tool in cargo cc; do
    command -v "$tool" >/dev/null || { echo "$tool is missing"; exit 1; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "refusals"
version = "0.1.0"
edition = "2021"

[dependencies]
quinn = { version = "=0.11.12", default-features = false, features = ["runtime-tokio", "rustls-ring"] }
rcgen = { version = "=0.14.10", default-features = false, features = ["crypto", "pem", "ring"] }
rustls = { version = "0.23", default-features = false, features = ["ring", "std"] }
s2n-quic = { version = "=1.91.0", features = ["provider-tls-rustls", "provider-tls-s2n"] }
tokio = { version = "1.48", features = ["macros", "net", "rt-multi-thread", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::PrivateKeyDer;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls;
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(2);

struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

/// Starts a server that takes the protocol "server" alone.
fn serve(kind: &str, identity: &Identity) -> SocketAddr {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (certificate, key) = (identity.certificate.pem(), identity.key.serialize_pem());
    macro_rules! s2n_quic_server {
        ($tls:ident) => {{
            let tls = tls::$tls::Server::builder().with_certificate(certificate.as_str(), key.as_str()).unwrap();
            let tls = tls.with_application_protocols(["server"].iter()).unwrap().build().unwrap();
            let builder = s2n_quic::Server::builder().with_tls(tls).unwrap().with_io(any).unwrap();
            let mut server = builder.start().unwrap();
            let address = server.local_addr().unwrap();
            tokio::spawn(async move {
                server.accept().await;
                println!("  the server has accepted something");
            });
            address
        }};
    }
    match kind {
        "s2n-quic with s2n-tls" => s2n_quic_server!(s2n_tls),
        "s2n-quic with rustls" => s2n_quic_server!(rustls),
        _ => {
            let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
            let tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
            let tls = tls.with_no_client_auth().with_single_cert(vec![identity.certificate.der().clone()], key);
            let mut tls = tls.unwrap();
            tls.alpn_protocols = vec![b"server".to_vec()];
            let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
            let endpoint = quinn::Endpoint::server(config, any).unwrap();
            let address = endpoint.local_addr().unwrap();
            tokio::spawn(async move {
                while let Some(incoming) = endpoint.accept().await {
                    _ = incoming.await;
                }
            });
            address
        }
    }
}

/// Connects a client that offers the protocol "client" alone.
async fn connect(kind: &str, identity: &Identity, address: SocketAddr) -> String {
    if kind == "s2n-quic" {
        let tls = tls::rustls::Client::builder().with_certificate(identity.certificate.pem().as_str()).unwrap();
        let tls = tls.with_application_protocols(["client"].iter()).unwrap().build().unwrap();
        let limits = Limits::new().with_max_handshake_duration(PATIENCE).unwrap();
        let client = s2n_quic::Client::builder().with_tls(tls).unwrap().with_limits(limits).unwrap();
        let client = client.with_io("127.0.0.1:0").unwrap().start().unwrap();
        let connect = s2n_quic::client::Connect::new(address).with_server_name("localhost");
        return match client.connect(connect).await {
            Ok(_) => "connected".to_owned(),
            Err(s2n_quic::connection::Error::Transport { code, .. }) => format!("refused: {:#x}", code.as_u64()),
            Err(s2n_quic::connection::Error::MaxHandshakeDurationExceeded { .. }) => "time-out".to_owned(),
            Err(error) => format!("{error:?}"),
        };
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"client".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(PATIENCE.try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    match endpoint.connect_with(config, address, "localhost").unwrap().await {
        Ok(_) => "connected".to_owned(),
        Err(quinn::ConnectionError::ConnectionClosed(close)) => format!("refused: {:#x}", u64::from(close.error_code)),
        Err(quinn::ConnectionError::TimedOut) => "time-out".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// Passes on what goes between one client and the server, and counts what the server sends.
async fn relay(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    back.connect(server).await.unwrap();
    let (address, sent) = (front.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = sent.clone();
    tokio::spawn(async move {
        let (mut out, mut home, mut client) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut out) => {
                    client = Some(from);
                    back.send(&out[..len]).await.unwrap();
                }
                Ok(len) = back.recv(&mut home) => {
                    counter.fetch_add(1, SeqCst);
                    front.send_to(&home[..len], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    (address, sent)
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    for server in ["quinn", "s2n-quic with rustls", "s2n-quic with s2n-tls"] {
        for client in ["quinn", "s2n-quic"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let identity = Identity { certificate: params.self_signed(&key).unwrap(), key };
            let (address, sent) = relay(serve(server, &identity)).await;
            let outcome = connect(client, &identity, address).await;
            let answers = if sent.load(SeqCst) == 0 { "no packet" } else { "packets" };
            println!("{client} at a server of {server}: {outcome}, {answers} from the server");
        }
    }
}
RUST
cargo run --quiet 2>errors | tee seen || { cat errors; exit 1; }
cat > expected <<'TEXT'
quinn at a server of quinn: refused: 0x178, packets from the server
s2n-quic at a server of quinn: refused: 0x178, packets from the server
quinn at a server of s2n-quic with rustls: time-out, no packet from the server
s2n-quic at a server of s2n-quic with rustls: time-out, no packet from the server
quinn at a server of s2n-quic with s2n-tls: time-out, no packet from the server
s2n-quic at a server of s2n-quic with s2n-tls: time-out, no packet from the server
TEXT
diff expected seen || { echo "quinn or s2n-quic behaves otherwise now"; exit 1; }
