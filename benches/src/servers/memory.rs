//! The memory of whole servers with the same data: three nodes of paxos-node, and Redis alone.
//!
//! All keys are set, then they are overwritten in a random order, and then a node that was away meanwhile
//! installs a snapshot of the others. The memory of all processes is looked at again and again: told are what
//! they take at rest, and the most that they have taken on the way.
//!
//! A node at rest has its log in memory, which is as long as half a snapshot just before the next one is due.
//! So at rest is after the first half of the overwriting, when the log has been as long as it gets: the
//! second half tells whether the memory stays as it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::failure::Failure;
use super::filling::{KEY_BYTES, LOOK_INTERVAL, Load, VALUE_BYTES, set_all, wait};
use super::node::Node;
use super::paxos::{self, Places};
use super::redis;
use super::shared_arguments::{SharedArguments, subdirectory};

/// What is freed or written in the background is so after this time without load.
const REST: Duration = Duration::from_secs(3);

/// At most this much more than Redis a node may take, and this much more than at rest while it writes a
/// snapshot, after all overwriting, and while it installs a snapshot.
const OVER_REDIS: f64 = 1.4;
const WHILE_OVERWRITING: f64 = 1.1;
const AFTER_OVERWRITING: f64 = 1.1;
const WHILE_INSTALLING: f64 = 1.2;

/// Sets the same keys in three nodes of paxos-node and in one Redis, and compares the memory they take.
///
/// Paths are relative to the directory `benches`, where cargo runs this program.
#[derive(Parser, Clone, Debug)]
#[command(name = "memory")]
pub struct MemoryArguments {
    /// How many keys of 16 bytes with values of 100 bytes are set.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    keys: u64,
    /// How many of them are overwritten, in a random order: half of them before the nodes are at rest.
    #[arg(long, value_name = "COUNT", default_value_t = 4_000_000)]
    overwrites: u64,
    /// The program of Redis.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis: PathBuf,
    #[command(flatten)]
    shared: SharedArguments,
}

impl MemoryArguments {
    /// Reads the command line; ends the program with a message if it is wrong.
    #[must_use]
    pub fn read(target: impl Into<PathBuf>, bare: impl Into<PathBuf>) -> MemoryArguments {
        let mut arguments = MemoryArguments::parse();
        arguments.shared.set_built(target, bare);
        arguments
    }
}

/// Measures, and prints the results.
///
/// # Errors
///
/// If a server can't be started or ends by itself, and with `--check` if a figure is above its bound.
pub fn run(arguments: &MemoryArguments) -> Result<(), Failure> {
    let figures = arguments.shared.run("memory-", async |directory| measure(arguments, directory).await)?;
    let missed: Vec<&str> =
        figures.iter().filter(|figure| !figure.tell()).map(|figure| figure.name).collect();
    if arguments.shared.check && !missed.is_empty() {
        return Err(Failure::new(format!("above the bound: {}", missed.join(", "))));
    }
    Ok(())
}

/// A ratio and what it may be at most.
struct Figure {
    name: &'static str,
    bytes: u64,
    beside: u64,
    bound: f64,
}

impl Figure {
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    fn ratio(&self) -> f64 {
        self.bytes as f64 / self.beside as f64
    }

    /// Prints it; `false` if it is above its bound.
    fn tell(&self) -> bool {
        let (is_met, ratio) = (self.ratio() <= self.bound, self.ratio());
        let word = if is_met { "met" } else { "MISSED" };
        let [bytes, beside] = [self.bytes, self.beside].map(mebibytes);
        println!(
            "{word:<8}{:<52}{bytes:>8.0} MiB{beside:>8.0} MiB{ratio:>8.2}   at most {}",
            self.name, self.bound
        );
        is_met
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

async fn measure(arguments: &MemoryArguments, directory: &Path) -> Result<Vec<Figure>, Failure> {
    let MemoryArguments { keys, overwrites, .. } = *arguments;
    let redis = redis::start(&arguments.redis, &subdirectory(directory, "redis")?, 0)?;
    wait("Redis takes clients", || std::net::TcpStream::connect(redis[0].clients).ok()).await?;
    let in_redis = {
        load(&redis, redis[0].clients, keys, Load::All(keys)).await?;
        tokio::time::sleep(REST).await;
        redis[0].process.resident_bytes()
    };
    println!("{keys} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}\n");
    println!("one Redis, at rest: {:.0} MiB", mebibytes(in_redis));
    drop(redis);

    let places = Places::prepare(&arguments.shared.program(), &subdirectory(directory, "paxos-node")?)?;
    let mut nodes = (0..3).map(|place| places.start(place)).collect::<Result<Vec<_>, _>>()?;
    let leader = wait("there is a leader", || paxos::leader(&nodes)).await?;
    let filling = load(&nodes, nodes[leader].clients, keys, Load::All(keys)).await?;
    let at_rest = rest(&nodes).await;
    tell("filling", &filling, "at rest", &at_rest);
    let overwriting = load(&nodes, nodes[leader].clients, keys, Load::Random(overwrites / 2)).await?;
    let at_rest = rest(&nodes).await;
    tell("overwriting", &overwriting, "at rest", &at_rest);
    let overwriting =
        load(&nodes, nodes[leader].clients, keys, Load::Random(overwrites - overwrites / 2)).await?;
    let after = rest(&nodes).await;
    tell("overwriting on", &overwriting, "at rest", &after);

    // So much is written while it is away that it needs a snapshot, and has one of its own.
    let away = (leader + 1) % nodes.len();
    drop(nodes.remove(away));
    let others = if leader > away { leader - 1 } else { leader };
    load(&nodes, nodes[others].clients, keys, Load::Random(keys * 2)).await?;
    let reached = paxos::applied(&nodes[others]).ok_or_else(|| Failure::new("no status of the leader"))?;
    nodes.insert(away, places.start(away)?);
    let mut most = 0;
    wait("the node that was away catches up", || {
        most = most.max(nodes[away].process.resident_bytes());
        paxos::applied(&nodes[away]).filter(|applied| *applied >= reached)
    })
    .await?;
    println!("a node that installs a snapshot: at most {:.0} MiB", mebibytes(most));

    let most_of = |bytes: &[u64]| bytes.iter().copied().max().unwrap_or(0);
    let figure = |name, bytes, beside, bound| Figure { name, bytes, beside, bound };
    println!();
    Ok(vec![
        figure("the largest node at rest, over Redis", most_of(&at_rest), in_redis, OVER_REDIS),
        figure(
            "while overwriting on, over that",
            most_of(&overwriting),
            most_of(&at_rest),
            WHILE_OVERWRITING,
        ),
        figure("after it, over that", most_of(&after), most_of(&at_rest), AFTER_OVERWRITING),
        figure("while installing a snapshot, over that", most, most_of(&after), WHILE_INSTALLING),
    ])
}

async fn rest(nodes: &[Node]) -> Vec<u64> {
    tokio::time::sleep(REST).await;
    nodes.iter().map(|node| node.process.resident_bytes()).collect()
}

fn tell(while_doing: &str, most: &[u64], after: &str, then: &[u64]) {
    let list = |bytes: &[u64]| {
        bytes.iter().map(|bytes| format!("{:.0}", mebibytes(*bytes))).collect::<Vec<_>>().join(", ")
    };
    println!("nodes, {while_doing}: at most {} MiB; {after}: {} MiB", list(most), list(then));
}

/// Sets keys; returns the most memory that each process has taken meanwhile.
async fn load(nodes: &[Node], address: SocketAddr, keys: u64, load: Load) -> Result<Vec<u64>, Failure> {
    let mut most = vec![0; nodes.len()];
    let look = async {
        loop {
            for (most, node) in most.iter_mut().zip(nodes) {
                *most = node.process.resident_bytes().max(*most);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        result = set_all(address, keys, load) => result?,
        () = look => {}
    }
    Ok(most)
}
