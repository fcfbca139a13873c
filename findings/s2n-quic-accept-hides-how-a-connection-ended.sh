#!/usr/bin/env bash
# s2n-quic 1.91.0 (a QUIC stack), a server: what `accept` of a connection says once the connection has ended,
# with quinn 0.11.12 as the other end and for comparison.
#
# Guessed: An error where the peer has vanished (idle timeout), as quinn's TimedOut, and Ok(None) where it
#          closed in order. A stream that arrived before the end can still be accepted and read, as with
#          quinn: its bytes were acknowledged.
# Seen:    The other way round. Where the peer fell silent, `accept` says Ok(None), which its documentation
#          keeps for an end without an error, though the same connection's `open_send_stream` fails with
#          IdleTimerExpired. Where a quinn peer closed in order, with code 0, `accept` fails.
#          A stream that was sent to its end, and acknowledged to the last byte, before the connection ended
#          in either way is gone unless it was accepted by then; one that was accepted can still be read. A
#          quinn server can accept it afterwards.
#
# What follows: don't take Ok(None) for "the peer is done"; ask `open_send_stream` or a stream why the
# connection ended. Accept streams as they come, and close only after the other application has answered: that
# its stack has acknowledged every byte does not mean that it will ever see one.
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
name = "ends"
version = "0.1.0"
edition = "2021"

[dependencies]
quinn = { version = "=0.11.12", default-features = false, features = ["runtime-tokio", "rustls-ring"] }
rcgen = { version = "=0.14.10", default-features = false, features = ["crypto", "pem", "ring"] }
rustls = { version = "0.23", default-features = false, features = ["ring", "std"] }
s2n-quic = { version = "=1.91.0", default-features = false, features = [
    "provider-address-token-default", "provider-tls-rustls",
] }
tokio = { version = "1.48", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::PrivateKeyDer;
use s2n_quic::connection::Error;
use s2n_quic::provider::{limits::Limits, tls};

const IDLE: Duration = Duration::from_millis(600);
/// Long enough for packets on this machine, and shorter than `IDLE`.
const SHORT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Silence,
    Close,
}

/// A client with one connection, which has sent one stream of three bytes, acknowledged, and then ends.
async fn send_and_end(client: quinn::Endpoint, address: SocketAddr, end: End) {
    let connection = client.connect(address, "localhost").unwrap().await.unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    stream.finish().unwrap();
    // Resolves without a code when the peer has acknowledged the end of the stream.
    assert_eq!(stream.stopped().await.unwrap(), None);
    tokio::time::sleep(SHORT).await;
    if end == End::Close {
        connection.close(0_u32.into(), b"");
    }
    tokio::time::sleep(3 * IDLE).await;
}

fn of_s2n<T>(result: Result<Option<T>, Error>) -> String {
    match result {
        Ok(Some(_)) => "a stream".to_owned(),
        Ok(None) => "Ok(None)".to_owned(),
        Err(error) => reason(error),
    }
}

fn reason(error: Error) -> String {
    match error {
        Error::IdleTimerExpired { .. } => "Err(IdleTimerExpired)".to_owned(),
        Error::Application { error, .. } => format!("Err(Application({}))", u64::from(error)),
        error => format!("Err({error:?})"),
    }
}

async fn s2n_server(mut server: s2n_quic::Server, end: End, accepts_early: bool) {
    let mut connection = server.accept().await.unwrap();
    let early = if accepts_early { connection.accept_receive_stream().await.unwrap() } else { None };
    tokio::time::sleep(SHORT + 2 * IDLE).await;
    if let Some(mut stream) = early {
        let read = stream.receive().await.map(|bytes| bytes.map_or(0, |bytes| bytes.len()));
        let read = read.map_or_else(|error| format!("{error}"), |len| format!("{len} bytes"));
        println!("s2n-quic, {end:?}, the stream accepted before: {read}");
    } else {
        println!("s2n-quic, {end:?}, accept: {}", of_s2n(connection.accept_receive_stream().await));
        println!("s2n-quic, {end:?}, accept again: {}", of_s2n(connection.accept_receive_stream().await));
        let opened = connection.open_send_stream().await;
        println!("s2n-quic, {end:?}, open: {}", opened.map_or_else(reason, |_| "a stream".to_owned()));
    }
}

async fn quinn_server(server: quinn::Endpoint, end: End) {
    let connection = server.accept().await.unwrap().await.unwrap();
    tokio::time::sleep(SHORT + 2 * IDLE).await;
    for what in ["accept", "accept again"] {
        let outcome = match connection.accept_uni().await {
            Ok(mut stream) => format!("a stream of {} bytes", stream.read_to_end(10).await.unwrap().len()),
            Err(quinn::ConnectionError::ApplicationClosed(close)) => {
                format!("Err(ApplicationClosed({}))", close.error_code)
            }
            Err(error) => format!("Err({error:?})"),
        };
        println!("quinn, {end:?}, {what}: {outcome}");
    }
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE.try_into().unwrap()));
    let transport = Arc::new(transport);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"ends".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    config.transport_config(transport.clone());
    let client = || {
        let mut client = quinn::Endpoint::client(any).unwrap();
        client.set_default_client_config(config.clone());
        client
    };

    for end in [End::Silence, End::Close] {
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private);
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"ends".to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
        config.transport_config(transport.clone());
        let server = quinn::Endpoint::server(config, any).unwrap();
        let address = server.local_addr().unwrap();
        tokio::join!(send_and_end(client(), address, end), quinn_server(server, end));

        for accepts_early in [false, true] {
            let tls = tls::rustls::Server::builder();
            let tls = tls.with_certificate(certificate.pem().as_str(), key.serialize_pem().as_str()).unwrap();
            let tls = tls.with_application_protocols(["ends"].iter()).unwrap().build().unwrap();
            let limits = Limits::new().with_max_idle_timeout(IDLE).unwrap();
            let server = s2n_quic::Server::builder().with_tls(tls).unwrap().with_limits(limits).unwrap();
            let server = server.with_io(any).unwrap().start().unwrap();
            let address = server.local_addr().unwrap();
            tokio::join!(send_and_end(client(), address, end), s2n_server(server, end, accepts_early));
        }
    }
}
RUST
cargo run --quiet 2>errors | tee seen || { cat errors; exit 1; }
cat > expected <<'TEXT'
quinn, Silence, accept: a stream of 3 bytes
quinn, Silence, accept again: Err(TimedOut)
s2n-quic, Silence, accept: Ok(None)
s2n-quic, Silence, accept again: Ok(None)
s2n-quic, Silence, open: Err(IdleTimerExpired)
s2n-quic, Silence, the stream accepted before: 3 bytes
quinn, Close, accept: a stream of 3 bytes
quinn, Close, accept again: Err(ApplicationClosed(0))
s2n-quic, Close, accept: Err(Application(0))
s2n-quic, Close, accept again: Err(Application(0))
s2n-quic, Close, open: Err(Application(0))
s2n-quic, Close, the stream accepted before: 3 bytes
TEXT
diff expected seen || { echo "quinn or s2n-quic behaves otherwise now"; exit 1; }
