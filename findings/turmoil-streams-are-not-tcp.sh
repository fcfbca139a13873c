#!/usr/bin/env bash
# turmoil 0.7.2 (simulated hosts and network for tokio programs): two ways in which its TCP streams differ from TCP, so
# that tests of crashes and partitions prove less than they seem to.
#
# Guessed: a crashed host is silent (its peer's read waits, or fails with a reset once something is sent), and a new
#          connection to it is refused or times out. A partition that is repaired delays what was sent meanwhile.
# Seen:    Sim::crash ends the peer's stream in order: read gives Ok(0) at once, as after a clean shutdown, and later
#          writes succeed. A new connection to the crashed host neither succeeds nor fails: it stays pending.
#          Bytes written during a partition are lost for good, and so is everything behind them: after the repair the
#          stream delivers nothing more, and neither side ever gets an error.
#
# What follows: code that takes an end of stream for "the peer is gone" passes tests that real silence would fail. Test
# time-outs against a peer that holds the connection and says nothing, and put a time-out of your own on connecting.
#
# Needs cargo. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "streams"
version = "0.1.0"
edition = "2021"

[dependencies]
turmoil = { version = "=0.7.2", default-features = false }
tokio = { version = "1.48", features = ["io-util", "rt", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(60);

/// A simulation with a host that prints what it is sent, under a name.
fn simulation() -> turmoil::Sim<'static> {
    let mut simulation = turmoil::Builder::new().simulation_duration(10 * PATIENCE).build();
    simulation.host("server", || async {
        let listener = TcpListener::bind("0.0.0.0:7").await?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                loop {
                    let read = stream.read(&mut bytes).await;
                    match read {
                        Ok(length) if length > 0 => {
                            println!("server: received {}", String::from_utf8_lossy(&bytes[..length]));
                        }
                        end => return println!("server: its stream has ended with {end:?}"),
                    }
                }
            });
        }
    });
    simulation
}

fn crash() {
    let mut simulation = simulation();
    simulation.client("client", async {
        let mut stream = TcpStream::connect("server:7").await?;
        stream.write_all(b"one").await?;
        let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        println!("crash: read {read:?}");
        println!("crash: write {:?}", stream.write_all(b"two").await);
        let connected = timeout(PATIENCE, TcpStream::connect("server:7")).await;
        println!("crash: connect is pending after a minute: {}", connected.is_err());
        Ok(())
    });
    let mut has_crashed = false;
    while !simulation.step().expect("the simulation runs") {
        if !has_crashed && simulation.elapsed() > Duration::from_secs(2) {
            simulation.crash("server");
            has_crashed = true;
        }
    }
}

fn partition() {
    let mut simulation = simulation();
    simulation.client("client", async {
        let mut stream = TcpStream::connect("server:7").await?;
        stream.write_all(b"three").await?;
        sleep(Duration::from_secs(1)).await;
        turmoil::partition("client", "server");
        println!("partition: write during it {:?}", stream.write_all(b"four").await);
        sleep(Duration::from_secs(5)).await;
        turmoil::repair("client", "server");
        println!("partition: write after it {:?}", stream.write_all(b"five").await);
        let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        println!("partition: read is pending after a minute: {}", read.is_err());
        println!("partition: write a minute later {:?}", stream.write_all(b"six").await);
        sleep(PATIENCE).await;
        println!("partition: the client leaves");
        Ok(())
    });
    simulation.run().expect("the simulation runs");
}

fn main() {
    crash();
    partition();
}
RUST
cargo run --quiet > seen.txt
cat seen.txt
diff - seen.txt <<'EXPECTED'
server: received one
crash: read Ok(Ok(0))
crash: write Ok(())
crash: connect is pending after a minute: true
server: received three
partition: write during it Ok(())
partition: write after it Ok(())
partition: read is pending after a minute: true
partition: write a minute later Ok(())
partition: the client leaves
EXPECTED
echo "turmoil 0.7.2 is as described"
