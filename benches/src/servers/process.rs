//! A server's process: started, paused while others are measured, and killed at the end.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::failure::Failure;

/// Ports are taken from here, below those that Linux gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How much of a process's output is shown if it dies.
const LAST_WORDS: usize = 5;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it, with its output in a file of the directory.
    pub(super) fn start(name: &str, mut command: Command, directory: &Path) -> Result<Process, Failure> {
        let fail = |error: std::io::Error| Failure::new(format!("{name} can't be started: {error}"));
        let log = directory.join(format!("{name}.log"));
        // One that is started again says more.
        let output = File::options().append(true).create(true).open(&log).map_err(fail)?;
        command.stdout(output.try_clone().map_err(fail)?).stderr(output).stdin(Stdio::piped());
        Ok(Process { child: command.spawn().map_err(fail)?, name: name.to_owned(), log })
    }

    /// Pauses it, so that it does not disturb the measurement of others.
    pub(super) fn pause(&self) -> Result<(), Failure> {
        self.send(Signal::STOP)
    }

    /// Lets it run again.
    pub(super) fn resume(&self) -> Result<(), Failure> {
        self.send(Signal::CONT)
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) -> Result<(), Failure> {
        self.send(Signal::TERM)
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Fails with its last output if it has died.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let Ok(Some(status)) = self.child.try_wait() else { return Ok(()) };
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
        Err(Failure::new(format!("{} has ended ({status}); it said last:\n  {last}", self.name)))
    }

    /// Processor time that it has used so far.
    pub(super) fn cpu_time(&self) -> Duration {
        cpu_time(&self.child.id().to_string())
    }

    /// Its memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * rustix::param::page_size() as u64
    }

    fn send(&self, signal: Signal) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| Failure::new(format!("{} can't be sent a signal: {error}", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this process, the clients of all servers.
pub(super) fn own_cpu_time() -> Duration {
    cpu_time("self")
}

fn cpu_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let ticks = cpu_ticks(&stat).unwrap_or(0);
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// The fields utime and stime. The name of the program before them may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Processor time that the host of a virtual machine has taken away from it. Figures measured meanwhile are
/// too low.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stolen {
    ticks: u64,
    all_ticks: u64,
}

impl Stolen {
    /// Since the machine was started.
    pub(super) fn until_now() -> Stolen {
        Stolen::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
            .unwrap_or(Stolen { ticks: 0, all_ticks: 0 })
    }

    fn parse(text: &str) -> Option<Stolen> {
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
        Some(Stolen { ticks: *ticks.get(7)?, all_ticks: ticks[..8].iter().sum() })
    }

    /// As a part of all processors' time.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn part_since(self, earlier: Stolen) -> f64 {
        let all_ticks = self.all_ticks.saturating_sub(earlier.all_ticks).max(1);
        self.ticks.saturating_sub(earlier.ticks) as f64 / all_ticks as f64
    }
}

/// `count` different ports that are free for TCP and UDP.
pub(super) fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    // All are held until the last is known, so that none comes twice.
    while ports.len() < count {
        let port = fastrand::u16(PORTS);
        let address = ("127.0.0.1", port);
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            held.push((tcp, udp));
            ports.push(port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 31 9 9 20 0 4 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("42 (cut off) S 1"), None);
    }

    #[test]
    fn what_the_host_took_is_a_part_of_all_time() {
        let earlier = Stolen::parse("cpu 10 0 10 70 5 0 0 5 3 0\ncpu0 1").expect("well formed");
        let later = Stolen::parse("cpu 60 0 10 70 5 0 0 55 3 0\n").expect("well formed");
        assert!((later.part_since(earlier) - 0.5).abs() < 1e-9);
        assert!(Stolen::parse("cpu 1 2 3").is_none());
    }

    #[test]
    fn a_process_that_is_dropped_is_gone_even_if_paused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = Process::start("sleep", command, directory.path()).expect("sleep is there");
        process.check().expect("it sleeps");
        process.pause().expect("it can be paused");
        let stat = format!("/proc/{}/stat", process.child.id());
        drop(process);
        assert!(!Path::new(&stat).exists());
    }

    #[test]
    fn a_process_that_dies_is_heard() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        let mut process = Process::start("sh", command, directory.path()).expect("sh is there");
        let failure = loop {
            match process.check() {
                Ok(()) => std::thread::sleep(Duration::from_millis(5)),
                Err(failure) => break failure.to_string(),
            }
        };
        assert!(failure.contains("no such luck") && failure.contains('3'), "{failure}");
    }
}
