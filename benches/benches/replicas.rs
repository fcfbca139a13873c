//! What a replica costs that has nothing to do: `cargo bench -p benches --bench replicas [-- --check]`.
//!
//! A process that holds many groups pays for each of them in memory and in ticks, however quiet it is. Real
//! replicas in groups of three, in one thread, without disk and network. An allocator that counts is in place
//! of the system's. `--check` fails if an idle replica holds more than 4 KiB.

use std::process::ExitCode;
use std::time::Duration;

use allocation_counter::measure;
use benches::bare::{Bare, Carriage};
use bytes::Bytes;
use paxos_core::{ProtocolSettings, Replica};
use rustix::time::{ClockId, clock_gettime};

const NODES: u64 = 3;
const COMMANDS: usize = 1000;
const COMMAND_BYTES: usize = 256;
/// How many commands are in flight at once, each in a slot of its own.
const TOGETHER: usize = 50;
const GROUPS: [u64; 3] = [1, 1000, 10_000];
/// How many ticks of a replica are measured, over all groups.
const REPLICA_TICKS: u64 = 30_000_000;
/// The most bytes that an idle replica may hold.
const MOST_IDLE_BYTES: u64 = 4096;

/// What a replica has behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Elected,
    /// With the values of its commands in its log.
    Busy,
    /// All of the log is in a snapshot.
    Trimmed,
}

fn main() -> ExitCode {
    let is_check = std::env::args().any(|argument| argument == "--check");
    // `cargo test` runs it without this option, to see that it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    println!(
        "heap of a replica in bytes, the mean of a group of {NODES}; {} of them the replica itself",
        own_bytes()
    );
    let lives = [
        (Life::Elected, "idle, a leader is elected"),
        (Life::Busy, "after 1000 commands of 256 bytes"),
        (Life::Trimmed, "idle again, all of them in a snapshot"),
    ];
    let mut is_beyond = false;
    for (life, told) in lives {
        let bytes = heap_bytes(life);
        println!("{told:<40}{bytes:>9}");
        is_beyond |= life != Life::Busy && bytes > MOST_IDLE_BYTES;
    }
    println!("\n{:<10}{:>22}", "groups", "ns for an idle tick");
    for groups in GROUPS {
        let ticks = if is_bench { REPLICA_TICKS / NODES / groups } else { 1 };
        println!("{groups:<10}{:>22.1}", tick_nanoseconds(groups, ticks));
    }
    if is_check && is_beyond {
        eprintln!("an idle replica holds more than {MOST_IDLE_BYTES} bytes");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn own_bytes() -> usize {
    size_of::<Replica>()
}

/// Settings as for many groups in a process: a trimmed log is gone, and peers that lag get a snapshot. Each
/// command takes a slot, as those of few clients do.
fn settings() -> ProtocolSettings {
    ProtocolSettings::default().with(|settings| {
        settings.retained_bytes = 0;
        settings.batch_bytes = 1; // A batch is full at its first command.
    })
}

/// How many bytes of heap a replica holds, itself included.
fn heap_bytes(life: Life) -> u64 {
    let mut replicas = Vec::new();
    let memory = measure(|| replicas = group_after(life));
    let bytes = u64::try_from(memory.bytes_current).expect("what is held was allocated");
    bytes / NODES
}

fn group_after(life: Life) -> Vec<Replica> {
    let mut bare = Bare::with_leader(NODES, &settings(), Carriage::Frames);
    if life != Life::Elected {
        for _ in 0..COMMANDS / TOGETHER {
            bare.propose(vec![Bytes::from(vec![b'x'; COMMAND_BYTES]); TOGETHER]);
        }
        // Followers hear of the last ones by a heartbeat.
        (0..settings().heartbeat_ticks).for_each(|_| bare.tick());
    }
    if life == Life::Trimmed {
        bare.save_snapshots();
        bare.tick();
    }
    bare.into_replicas()
}

/// The processor time of a tick of one replica, with the heartbeats that it sends, hears and answers.
#[expect(clippy::cast_precision_loss, reason = "counts and times are far below 2^52")]
fn tick_nanoseconds(groups: u64, ticks: u64) -> f64 {
    let group = |_| Bare::with_leader(NODES, &settings(), Carriage::Values);
    let mut groups: Vec<Bare> = (0..groups).map(group).collect();
    let started = processor_time();
    for _ in 0..ticks {
        groups.iter_mut().for_each(Bare::tick);
    }
    let time = processor_time().saturating_sub(started);
    time.as_nanos() as f64 / (ticks * NODES * groups.len() as u64) as f64
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("processor time counts up from zero")
}
