//! Whether a command costs the same after ten million others: `cargo bench -p benches --bench flat`.
//!
//! Real replicas in one thread, without disk and network. An allocator that counts is in place of the
//! system's, which costs a few nanoseconds for each allocation: the rates are a little lower than without it.
//! It counts an allocation that grows as a new one of the full size, since its bytes may have to be copied.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use benches::bare::{Bare, Carriage};
use bytes::Bytes;
use paxos_core::ProtocolSettings;
use rustix::time::{ClockId, clock_gettime};

const COMMAND_BYTES: usize = 256;
const NODES: [u64; 3] = [3, 5, 7];
const COMMANDS: [u64; 3] = [10_000, 1_000_000, 10_000_000];
/// As many commands as one tick of a node leaves room for at a hundred thousand a second.
const COMMANDS_PER_TICK: u64 = 1000;
/// By how much memory may grow from the middle count of commands to the highest one.
const MAX_GROWTH: f64 = 1.05;

/// How commands share slots.
#[derive(Clone, Copy)]
enum Slots {
    /// A slot for each, and so many in flight.
    One { in_flight: usize },
    /// A slot for all that fit a batch.
    Full,
}

#[derive(Clone, Copy)]
struct Row {
    nodes: u64,
    slots: Slots,
    carriage: Carriage,
    commands: u64,
}

struct Figures {
    cpu: Duration,
    memory: AllocationInfo,
}

fn main() -> ExitCode {
    println!(
        "commands of {COMMAND_BYTES} bytes through all replicas in one thread; per command and for all nodes together\n\n\
         {:<25}{:<9}{:>6}{:>12}{:>18}{:>14}{:>12}{:>14}",
        "slots", "messages", "nodes", "commands", "commands/CPU s", "allocations", "bytes", "peak MiB"
    );
    let mut has_grown = false;
    for slots in [Slots::One { in_flight: 64 }, Slots::Full] {
        for nodes in NODES {
            let row = Row { nodes, slots, carriage: Carriage::Values, commands: 0 };
            let peaks = COMMANDS.map(|commands| measured(Row { commands, ..row }).memory.bytes_max);
            has_grown |= tell_growth(peaks);
        }
        for nodes in NODES {
            measured(Row { nodes, slots, carriage: Carriage::Frames, commands: COMMANDS[1] });
        }
    }
    if has_grown {
        eprintln!("memory grows with the number of commands: something is not trimmed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints by how much memory grows with the commands; `true` if that is too much.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn tell_growth([_, middle, most]: [u64; 3]) -> bool {
    let growth = most as f64 / middle as f64;
    println!("{:>98}", format!("{growth:.3} times the peak of {} commands", COMMANDS[1]));
    growth > MAX_GROWTH
}

fn measured(row: Row) -> Figures {
    let mut cpu = Duration::ZERO;
    let memory = measure(|| cpu = run(row));
    let figures = Figures { cpu, memory };
    println!("{}", line(row, &figures));
    figures
}

/// The processor time of all commands. The cluster is made and dropped inside, so that its memory counts.
fn run(row: Row) -> Duration {
    let command = Bytes::from_static(&[b'x'; COMMAND_BYTES]);
    let (options, together) = match row.slots {
        // A batch is full at its first command.
        Slots::One { in_flight } => {
            (ProtocolSettings::default().with(|settings| settings.batch_bytes = 1), in_flight)
        }
        Slots::Full => {
            let options = ProtocolSettings::default();
            let together = options.batch_bytes / paxos_core::Value::bytes_for(&command);
            (options, together)
        }
    };
    let mut bare = Bare::with_leader(row.nodes, &options, row.carriage);
    let started = processor_time();
    let (mut proposed, mut ticks) = (0, 0);
    while proposed < row.commands {
        let count = (row.commands - proposed).min(together as u64);
        bare.propose(vec![command.clone(); usize::try_from(count).expect("it is at most `together`")]);
        proposed += count;
        while ticks < proposed / COMMANDS_PER_TICK {
            bare.tick();
            ticks += 1;
            show_progress(row, proposed, ticks);
        }
    }
    assert_eq!(bare.applied(), row.commands, "every command is applied");
    processor_time().saturating_sub(started)
}

fn show_progress(row: Row, proposed: u64, ticks: u64) {
    if ticks.is_multiple_of(64) && std::io::stderr().is_terminal() {
        eprint!(
            "\r{:>3} % of {} commands on {} nodes \r",
            proposed * 100 / row.commands,
            row.commands,
            row.nodes
        );
        // It is only for the eye.
        let _ = std::io::stderr().flush();
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn line(row: Row, Figures { cpu, memory }: &Figures) -> String {
    let slots = match row.slots {
        Slots::One { in_flight } => format!("one each, {in_flight} in flight"),
        Slots::Full => String::from("full batches"),
    };
    let messages = match row.carriage {
        Carriage::Values => "values",
        Carriage::Frames => "frames",
    };
    let commands = row.commands as f64;
    format!(
        "{slots:<25}{messages:<9}{:>6}{:>12}{:>18.0}{:>14.3}{:>12.1}{:>14.1}",
        row.nodes,
        row.commands,
        commands / cpu.as_secs_f64(),
        memory.count_total as f64 / commands,
        memory.bytes_total as f64 / commands,
        memory.bytes_max as f64 / f64::from(1 << 20),
    )
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("processor time counts up from zero")
}
