#!/usr/bin/env bash
# s2n-quic 1.91.0 with its default TLS (s2n-tls 0.3.47): which names of application protocols (ALPN) two of
# its own endpoints can agree on.
#
# Guessed: any name of 1 to 255 bytes, as RFC 7301 (3.1) has it, as long as both sides are given the same one.
# Seen:    A name of one byte does not work. s2n-tls takes a list of one such name, two bytes long, for none:
#          a server ignores the extension of a client that offers nothing else, and a client ignores the
#          answer of a server that chose such a name from a longer list. QUIC needs a protocol, so the
#          handshake fails, with MISSING_EXTENSION, which doesn't tell of ALPN; in the first case the server
#          does not even answer. With the same names and `provider-tls-rustls` the endpoints agree.
#
# What follows: give a protocol of your own a name of at least two bytes, or peers on s2n-tls can't talk to
# you.
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
name = "names"
version = "0.1.0"
edition = "2021"

[dependencies]
rcgen = { version = "=0.14.10", default-features = false, features = ["crypto", "pem", "ring"] }
s2n-quic = { version = "=1.91.0", features = ["provider-tls-rustls", "provider-tls-s2n"] }
s2n-tls = "=0.3.47"
tokio = { version = "1.48", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::time::Duration;

use s2n_quic::client::Connect;
use s2n_quic::connection::Error;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::{rustls, s2n_tls};
use s2n_quic::{Client, Server};

/// What a client gets that offers `offered`, from a server that takes `taken` alone.
macro_rules! attempt {
    ($tls:ident, $offered:expr, $taken:expr) => {{
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let limits = Limits::new().with_max_handshake_duration(Duration::from_secs(2)).unwrap();

        let tls = $tls::Server::builder().with_certificate(certificate.as_str(), key.serialize_pem().as_str());
        let tls = tls.unwrap().with_application_protocols([$taken].iter()).unwrap().build().unwrap();
        let server = Server::builder().with_tls(tls).unwrap().with_limits(limits).unwrap();
        let mut server = server.with_io("127.0.0.1:0").unwrap().start().unwrap();
        let address = server.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let _connection = server.accept().await;
            std::future::pending::<()>().await;
        });

        let offered: &[&str] = $offered;
        let tls = $tls::Client::builder().with_certificate(certificate.as_str()).unwrap();
        let tls = tls.with_application_protocols(offered.iter()).unwrap().build().unwrap();
        let client = Client::builder().with_tls(tls).unwrap().with_limits(limits).unwrap();
        let client = client.with_io("127.0.0.1:0").unwrap().start().unwrap();
        let outcome = match client.connect(Connect::new(address).with_server_name("localhost")).await {
            Ok(connection) => {
                let name = connection.application_protocol().unwrap();
                format!("agreed on {:?}", String::from_utf8_lossy(&name))
            }
            Err(Error::MaxHandshakeDurationExceeded { .. }) => "no answer within 2 s".to_owned(),
            Err(Error::Transport { code, .. }) => format!("{code}"),
            Err(error) => format!("{error:?}"),
        };
        println!("{}, {offered:?} offered to {:?}: {outcome}", stringify!($tls), $taken);
        accepting.abort();
    }};
}

#[tokio::main]
async fn main() {
    attempt!(s2n_tls, &["ab"], "ab");
    attempt!(s2n_tls, &["a"], "a");
    attempt!(s2n_tls, &["b", "a"], "a");
    attempt!(s2n_tls, &["a", "ab"], "ab");
    attempt!(rustls, &["a"], "a");
    attempt!(rustls, &["b", "a"], "a");
}
RUST
cargo run --quiet 2>errors | tee seen || { cat errors; exit 1; }
cat > expected <<'TEXT'
s2n_tls, ["ab"] offered to "ab": agreed on "ab"
s2n_tls, ["a"] offered to "a": no answer within 2 s
s2n_tls, ["b", "a"] offered to "a": MISSING_EXTENSION
s2n_tls, ["a", "ab"] offered to "ab": agreed on "ab"
rustls, ["a"] offered to "a": agreed on "a"
rustls, ["b", "a"] offered to "a": agreed on "a"
TEXT
diff expected seen || { echo "s2n-quic behaves otherwise now"; exit 1; }
