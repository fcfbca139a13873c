//! A node that was away for so long that it needs a snapshot catches up over a long link, while clients
//! replace the whole state again and again.
//!
//! Of three nodes, all that goes to and from node 1 passes a [proxy](super::long_link). (Of two nodes the one
//! with the higher id dials, so one proxy in front of node 1 carries all of its connections.) All keys are
//! set; node 1 stops; the keys are set twice more, so that it needs a snapshot; then it is started again
//! under load. It has caught up once it has applied what the leader had applied half a second before.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use super::failure::Failure;
use super::filling::{KEY_BYTES, LOOK_INTERVAL, Load, VALUE_BYTES, set_all, wait};
use super::long_link::{Carries, LinkSettings, LongLink};
use super::node::{NODES, Node};
use super::paxos;
use super::process::free_ports;
use super::shared_arguments::SharedArguments;

/// A node has caught up when it has applied what the leader had applied so long ago.
const LAG: Duration = Duration::from_millis(500);
/// After it has caught up it must stay so for this long.
const STAYS: Duration = Duration::from_secs(5);
/// With `--check` this much time is allowed beside that for the bytes: to start, to read its own state back,
/// to restore that of the snapshot, and to fetch the log that has grown meanwhile.
const BESIDE: Duration = Duration::from_secs(10);
/// With `--check` bytes may come this many times slower than the link or the window allows.
const SLOWER: f64 = 2.0;
/// What a node asks for ahead, by default.
const WINDOW_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// It is given up after this.
const PATIENCE: Duration = Duration::from_secs(600);

const EXAMPLES: &str = "\
Examples:
  cargo build --release -p paxos-node
  cargo bench -p benches --features servers --bench catch_up
  cargo bench -p benches --features servers --bench catch_up -- --transport quic --link-mbit 200 --check
  cargo bench -p benches --features servers --bench catch_up -- --keys 100000 --round-trip-ms 20

Exit codes: 0 done, 1 failed, or with --check it took too long, 2 usage";

/// Measures how soon a node that was away has caught up over a long link, under load.
///
/// Paths are relative to the directory `benches`, where cargo runs this program.
#[derive(Parser, Clone, Debug)]
#[command(name = "catch_up", after_help = EXAMPLES)]
pub struct CatchUpArguments {
    /// How many keys of 16 bytes with values of 100 bytes there are.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// In how many seconds clients overwrite all of them, meanwhile; 0 for no load.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    overwrite_seconds: u64,
    /// How long a message and its answer are on the way.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    round_trip_ms: u64,
    /// The rate of the link in each direction, in million bits per second [default: no limit].
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    link_mbit: Option<u64>,
    /// What carries messages between nodes.
    #[arg(long, default_value = "tcp")]
    transport: Transport,
    #[command(flatten)]
    shared: SharedArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Transport {
    Tcp,
    Quic,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
        }
    }
}

impl CatchUpArguments {
    /// Reads the command line; ends the program with a message if it is wrong.
    #[must_use]
    pub fn read(target: impl Into<PathBuf>, bare: impl Into<PathBuf>) -> CatchUpArguments {
        let mut arguments = CatchUpArguments::parse();
        arguments.shared.set_built(target, bare);
        arguments
    }

    fn link(&self) -> LinkSettings {
        LinkSettings {
            round_trip: Duration::from_millis(self.round_trip_ms),
            rate: self.link_mbit.map(|mbit| mbit * 1_000_000),
            carries: match self.transport {
                Transport::Tcp => Carries::Streams,
                Transport::Quic => Carries::Datagrams,
            },
        }
    }

    /// How many bytes come in a second at most: what the link carries, or a window in each round trip.
    fn most_per_second(&self) -> f64 {
        let window = WINDOW_BYTES / Duration::from_millis(self.round_trip_ms.max(1)).as_secs_f64();
        self.link().rate.map_or(window, |rate| window.min(float(rate) / 8.0))
    }
}

/// Measures, and prints the results.
///
/// # Errors
///
/// If a node can't be started, ends by itself or never catches up, and with `--check` if that takes too long.
pub fn run(arguments: &CatchUpArguments) -> Result<(), Failure> {
    arguments.shared.run("catch-up-", async |directory| measure(arguments, directory).await?.judge(arguments))
}

/// What came of it.
struct Figures {
    took: Duration,
    bytes: u64,
}

impl Figures {
    fn judge(&self, arguments: &CatchUpArguments) -> Result<(), Failure> {
        let allowed = BESIDE.as_secs_f64() + SLOWER * float(self.bytes) / arguments.most_per_second();
        let took = self.took.as_secs_f64();
        let is_met = took <= allowed;
        println!(
            "{}  caught up in {took:.1} s; at most {allowed:.1} s",
            if is_met { "met   " } else { "MISSED" }
        );
        if arguments.shared.check && !is_met {
            return Err(Failure::new(format!("it took {took:.1} s to catch up, not at most {allowed:.1} s")));
        }
        Ok(())
    }
}

async fn measure(arguments: &CatchUpArguments, directory: &Path) -> Result<Figures, Failure> {
    let CatchUpArguments { keys, overwrite_seconds, round_trip_ms, .. } = *arguments;
    let cluster = Cluster::prepare(arguments, directory)?;
    let mut nodes = (0..NODES).map(|place| cluster.start(place)).collect::<Result<Vec<_>, _>>()?;
    let leader = wait("there is a leader", || paxos::leader(&nodes)).await?;
    let rate = arguments.link_mbit.map_or(String::from("no limit"), |mbit| format!("{mbit} Mbit/s"));
    println!("{keys} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}; {}", arguments.transport.name());
    println!("to node 1 and back takes {round_trip_ms} ms; rate of the link: {rate}\n");
    set_all(nodes[leader].clients, keys, Load::All(keys)).await?;

    drop(nodes.remove(0));
    let leader = wait("the others have a leader", || leader_of(&nodes)).await?;
    let address = nodes[leader].clients;
    for _ in 0..2 {
        set_all(address, keys, Load::All(keys)).await?;
    }
    let load = async {
        match overwrite_seconds {
            0 => std::future::pending().await,
            seconds => set_all(address, keys, Load::Paced(keys.div_ceil(seconds))).await,
        }
    };
    let catching_up = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (before, began) = (cluster.link.bytes_to_node(), Instant::now());
        let node = cluster.start(0)?;
        let mut leads = Progress { leader: &nodes[leader], node: &node, applied: Vec::new() };
        let took = leads.until_caught_up(began, &cluster.link, before).await?;
        let bytes = cluster.link.bytes_to_node() - before;
        leads.stays_caught_up().await?;
        paxos::check_understood(nodes.iter().chain([&node]))?;
        Ok::<_, Failure>(Figures { took, bytes })
    };
    let figures: Figures = tokio::select! {
        result = catching_up => result?,
        result = load => return Err(result.err().unwrap_or_else(|| Failure::new("the load has ended"))),
    };
    let (mebibytes, seconds) = (float(figures.bytes) / f64::from(1 << 20), figures.took.as_secs_f64());
    println!("{mebibytes:.0} MiB over the link in {seconds:.1} s: {:.1} MiB/s", mebibytes / seconds);
    if let Some(mbit) = arguments.link_mbit {
        println!("{:.0} % of what the link carries", float(figures.bytes) * 8e-4 / float(mbit) / seconds);
    }
    Ok(figures)
}

/// The leader and the node that catches up.
struct Progress<'a> {
    leader: &'a Node,
    node: &'a Node,
    /// What the leader had applied, and when.
    applied: Vec<(Instant, u64)>,
}

impl Progress<'_> {
    /// Whether the node has applied what the leader had applied a little while ago.
    fn has_caught_up(&mut self) -> bool {
        let now = Instant::now();
        self.applied.extend(paxos::applied(self.leader).map(|applied| (now, applied)));
        let earlier = self.applied.iter().rev().find(|(at, _)| now.duration_since(*at) >= LAG);
        let (Some((_, reached)), Some(applied)) = (earlier, paxos::applied(self.node)) else { return false };
        applied >= *reached
    }

    async fn until_caught_up(
        &mut self,
        began: Instant,
        link: &LongLink,
        before: u64,
    ) -> Result<Duration, Failure> {
        let mut told_at = began;
        while began.elapsed() < PATIENCE {
            if self.has_caught_up() {
                return Ok(began.elapsed());
            }
            if told_at.elapsed() > Duration::from_secs(2) {
                told_at = Instant::now();
                let [leads, node] = [self.leader, self.node].map(|node| paxos::applied(node).unwrap_or(0));
                let mebibytes = (link.bytes_to_node() - before) >> 20;
                let seconds = began.elapsed().as_secs();
                eprintln!("{seconds} s: {mebibytes} MiB; slot {node} of {leads} is applied");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(Failure::new(format!("it has not caught up within {PATIENCE:?}")))
    }

    async fn stays_caught_up(&mut self) -> Result<(), Failure> {
        let since = Instant::now();
        let mut behind_since = None;
        while since.elapsed() < STAYS {
            if self.has_caught_up() {
                behind_since = None;
            } else if behind_since.get_or_insert_with(Instant::now).elapsed() > LAG {
                return Err(Failure::new("it has fallen behind again"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}

/// The place of the leader among those that are left, if they agree.
fn leader_of(nodes: &[Node]) -> Option<usize> {
    let mut leaders = nodes.iter().map(|node| paxos::status(node)?.get("leader")?.as_u64());
    let first = leaders.next()??;
    // Node 1 is away, so the first that is left is node 2.
    let place = usize::try_from(first).ok()?.checked_sub(2)?;
    (leaders.all(|leader| leader == Some(first)) && place < nodes.len()).then_some(place)
}

struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    transport: Transport,
    peers: String,
    /// Where each node listens for peers, for clients and for the status.
    ports: Vec<[u16; 3]>,
    link: LongLink,
}

impl Cluster {
    fn prepare(arguments: &CatchUpArguments, directory: &Path) -> Result<Cluster, Failure> {
        let program = arguments.shared.program();
        paxos::make_certificates(&program, directory, NODES)?;
        let ports = free_ports(3 * NODES + 1);
        let ((entry, _), ports) =
            (ports.split_first().expect("there are ports"), ports[1..].as_chunks::<3>().0);
        let ports: Vec<[u16; 3]> = ports.to_vec();
        let link = LongLink::start(*entry, ports[0][0], arguments.link())?;
        let reached = std::iter::once(link.port).chain(ports[1..].iter().map(|ports| ports[0]));
        let peers: Vec<String> =
            (1..).zip(reached).map(|(id, port): (u64, _)| format!("{id}=127.0.0.1:{port}")).collect();
        let (transport, peers, directory) = (arguments.transport, peers.join(","), directory.to_owned());
        Ok(Cluster { program, directory, transport, peers, ports, link })
    }

    fn start(&self, place: usize) -> Result<Node, Failure> {
        let [peers, clients, status] = self.ports[place];
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, peers)).to_string();
        let more = ["--peers", &self.peers, "--listen", &listen, "--transport", self.transport.name()];
        paxos::serve(&self.program, &self.directory, place as u64 + 1, [clients, status], &more)
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and rates are far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}
