//! The longest waits of paxos-node beside Redis, while snapshots are written and segments filled, and beside
//! the bare disk.
//!
//! Each row is measured for so long that a node's log outgrows its last snapshot many times. The disk is
//! asked to write and sync a block every few milliseconds meanwhile, so that its own longest sync is known.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paxos_node::bench::load::Plan;

use super::arguments::Arguments;
use super::contender::Contender;
use super::disk::Disk;
use super::failure::Failure;
use super::row::Row;
use super::server::{Sample, Server};
use super::{WARM_UP, announce};
use crate::goal::{Goal, judge};

/// How long 64 clients are measured on each server.
const MANY_TIME: Duration = Duration::from_secs(60);
/// How many lone SETs are looked at, and how long they are measured at a time.
const LONE_SETS: u64 = 200_000;
const LONE_TIME: Duration = Duration::from_secs(20);
/// How often the disk is asked for a sync of its own: rarely enough to be in nobody's way.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// With 16 SETs at once, and with one at a time, the 99.9th percentile may be so many times that of Redis.
const PIPELINED_OVER_REDIS: f64 = 2.0;
const LONE_OVER_REDIS: f64 = 1.5;
/// The longest lone SET may take so much longer than the disk's own longest sync, in milliseconds.
const BEYOND_DISK: f64 = 10.0;

/// Measures, and prints the results.
///
/// # Errors
///
/// If a server can't be started or ends by itself, and with `--check` if a figure is above its bound.
pub(super) async fn run(arguments: &Arguments, directory: &Path) -> Result<(), Failure> {
    let mut paxos = Server::start(Contender::PaxosNode, arguments, directory).await?;
    let mut redis = Server::start(Contender::Redis, arguments, directory).await?;
    println!("{:<28} {:<11} {:>10}  {:>8} {:>8} {:>8}", "", "", "requests/s", "p99 ms", "p99.9 ms", "max ms");
    let mut goals = Vec::new();
    for (row, name, most) in [
        (Row::SetPipelined, "99.9 % of SET, 64 clients, 16 at once, over Redis", PIPELINED_OVER_REDIS),
        (Row::SetMany, "99.9 % of SET, 64 clients, over Redis", LONE_OVER_REDIS),
    ] {
        let plan = Plan { warm_up: WARM_UP, time: MANY_TIME };
        let [of_redis, of_paxos] = [&mut redis, &mut paxos].map(|server| (server, row, plan));
        let of_redis = measure(of_redis).await?;
        let of_paxos = measure(of_paxos).await?;
        let slow = |sample: &Sample| sample.measured.milliseconds(0.999);
        goals.push(goal(name, slow(&of_paxos) / slow(&of_redis), most, ""));
    }
    let beyond = lone_sets(&mut paxos, directory).await?;
    let name = "the longest of 200 000 lone SETs, beyond the longest sync";
    goals.push(goal(name, beyond, BEYOND_DISK, " ms"));
    println!();
    let missed = judge(&goals);
    if arguments.check && !missed.is_empty() {
        return Err(Failure::new(format!("above the bound: {}", missed.join("; "))));
    }
    Ok(())
}

fn goal(what: &str, value: f64, most: f64, unit: &'static str) -> Goal {
    Goal { what: what.to_owned(), value, bounds: f64::NEG_INFINITY..=most, unit }
}

async fn measure((server, row, plan): (&mut Server, Row, Plan)) -> Result<Sample, Failure> {
    let sample = server.measure(row, 1, plan).await?;
    announce("measured", server.contender, row, &sample);
    let at = |quantile| sample.measured.milliseconds(quantile);
    println!(
        "{:<28} {:<11} {:>10.0}  {:>8.3} {:>8.3} {:>8.3}",
        row.name(),
        server.contender.name(),
        sample.measured.rate(),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Ok(sample)
}

/// How much longer the longest of many lone SETs took than the longest of the disk's own syncs, in
/// milliseconds.
async fn lone_sets(paxos: &mut Server, directory: &Path) -> Result<f64, Failure> {
    let probe = DiskProbe::start(directory)?;
    let (mut count, mut longest) = (0, 0.0f64);
    while count < LONE_SETS {
        let plan = Plan { warm_up: WARM_UP, time: LONE_TIME };
        let sample = measure((paxos, Row::SetLone, plan)).await?;
        if sample.measured.requests == 0 {
            return Err(Failure::new("no lone SET is answered"));
        }
        count += sample.measured.requests;
        longest = longest.max(sample.measured.milliseconds(1.0));
    }
    let longest_sync = probe.stop()?.as_secs_f64() * 1000.0;
    println!(
        "the longest of {count} lone SETs: {longest:.2} ms; the disk's own longest sync: {longest_sync:.2} ms"
    );
    Ok(longest - longest_sync)
}

/// Writes and syncs a block again and again, on a thread of its own.
struct DiskProbe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Duration>>,
}

impl DiskProbe {
    fn start(directory: &Path) -> Result<DiskProbe, Failure> {
        let mut disk = Disk::look(directory)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !seen.load(Ordering::Relaxed) {
                let started = Instant::now();
                disk.write(&[7; 4096])?;
                longest = longest.max(started.elapsed());
                std::thread::sleep(PROBE_INTERVAL);
            }
            Ok(longest)
        });
        Ok(DiskProbe { is_over, thread })
    }

    /// Stops it; how long the longest write with its sync took.
    fn stop(self) -> Result<Duration, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        let longest = self.thread.join().map_err(|_| Failure::new("the disk's thread has panicked"))?;
        longest.map_err(|error| Failure::new(format!("the disk has failed: {error}")))
    }
}
