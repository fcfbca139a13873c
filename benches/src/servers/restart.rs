//! How soon a node is ready after a restart, beside one Redis with the same data in its append-only file.
//!
//! All keys are set in three nodes and in one Redis. Then in each round a follower and Redis are stopped by
//! SIGTERM and started again, one after the other: until the node answers that it is ready, which takes its
//! whole state and a leader, and until Redis answers a PING.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use paxos_node::bench::load::resp::{Connection, RawReply};

use super::failure::Failure;
use super::filling::{KEY_BYTES, Load, VALUE_BYTES, set_all, wait};
use super::node::Node;
use super::paxos::{self, Places};
use super::process::free_ports;
use super::redis;
use super::shared_arguments::{SharedArguments, subdirectory};
use crate::statistics::percentile;

/// With `--check` a node may take as long as Redis.
const OVER_REDIS: f64 = 1.0;
/// How often it is asked whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(300);
/// After this time without load, what is written in the background is written.
const REST: Duration = Duration::from_secs(2);

/// Measures how soon a node of paxos-node and Redis are ready after a restart with the same keys.
///
/// Paths are relative to the directory `benches`, where cargo runs this program.
#[derive(Parser, Clone, Debug)]
#[command(name = "restart")]
pub struct RestartArguments {
    /// How many keys of 16 bytes with values of 100 bytes there are.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    keys: u64,
    /// How many times each is started again; the median counts.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// The program of Redis.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis: PathBuf,
    #[command(flatten)]
    shared: SharedArguments,
}

impl RestartArguments {
    /// Reads the command line; ends the program with a message if it is wrong.
    #[must_use]
    pub fn read(target: impl Into<PathBuf>, bare: impl Into<PathBuf>) -> RestartArguments {
        let mut arguments = RestartArguments::parse();
        arguments.shared.set_built(target, bare);
        arguments
    }
}

/// Measures, and prints the results.
///
/// # Errors
///
/// If a server can't be started or ends by itself, and with `--check` if the node takes longer than Redis.
pub fn run(arguments: &RestartArguments) -> Result<(), Failure> {
    let ratio = arguments.shared.run("restart-", async |directory| measure(arguments, directory).await)?;
    let is_met = ratio <= OVER_REDIS;
    println!(
        "{}  ready after a restart, over Redis: {ratio:.2}; at most {OVER_REDIS}",
        if is_met { "met   " } else { "MISSED" }
    );
    if arguments.shared.check && !is_met {
        return Err(Failure::new(format!("a restart takes {ratio:.2} times as long as that of Redis")));
    }
    Ok(())
}

async fn measure(arguments: &RestartArguments, directory: &Path) -> Result<f64, Failure> {
    let RestartArguments { keys, rounds, .. } = *arguments;
    println!("{keys} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}\n");
    let (redis_directory, redis_port) = (subdirectory(directory, "redis")?, free_ports(1)[0]);
    let start_redis = || redis::serve(&arguments.redis, &redis_directory, "redis", redis_port, &[]);
    let mut redis = start_redis()?;
    until_answers(&redis).await?;
    set_all(redis.clients, keys, Load::All(keys)).await?;

    let places = Places::prepare(&arguments.shared.program(), &subdirectory(directory, "paxos-node")?)?;
    let mut nodes = (0..3).map(|place| places.start(place)).collect::<Result<Vec<_>, _>>()?;
    let leader = wait("there is a leader", || paxos::leader(&nodes)).await?;
    set_all(nodes[leader].clients, keys, Load::All(keys)).await?;
    tokio::time::sleep(REST).await;
    let follower = (leader + 1) % nodes.len();

    let (mut of_node, mut of_redis) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        end(&mut nodes[follower]).await?;
        nodes[follower] = places.start(follower)?;
        let began = Instant::now();
        until_ready(&nodes[follower]).await?;
        of_node.push(began.elapsed());
        end(&mut redis).await?;
        redis = start_redis()?;
        let began = Instant::now();
        until_answers(&redis).await?;
        of_redis.push(began.elapsed());
        let [node, redis] =
            [&of_node, &of_redis].map(|times| times.last().map_or(0.0, Duration::as_secs_f64));
        eprintln!("round {round} of {rounds}: node {node:.2} s, Redis {redis:.2} s");
    }
    let [node, redis] = [&mut of_node, &mut of_redis].map(|times| {
        times.sort_unstable();
        percentile(times, 500).as_secs_f64()
    });
    println!("node, until it is ready:      {node:.2} s");
    println!("Redis, until it answers PING: {redis:.2} s\n");
    Ok(node / redis)
}

/// Has a process end, and waits until it has.
async fn end(node: &mut Node) -> Result<(), Failure> {
    node.process.terminate()?;
    wait("it has ended", || node.process.has_ended().then_some(())).await
}

async fn until_ready(node: &Node) -> Result<(), Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if paxos::is_ready(node) {
            return Ok(());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    Err(Failure::new(format!("the node is not ready after {PATIENCE:?}")))
}

/// Waits until Redis answers a PING, which it refuses while it loads its file.
async fn until_answers(redis: &Node) -> Result<(), Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Ok(mut connection) = Connection::open(redis.clients).await {
            connection.add_request(&[b"PING"]);
            let check = |reply: RawReply<'_>| match reply {
                RawReply::Status => Ok(()),
                other => Err(format!("{other:?}")),
            };
            if connection.exchange(1, check).await.is_ok() {
                return Ok(());
            }
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    Err(Failure::new(format!("Redis does not answer after {PATIENCE:?}")))
}
