//! The machine on which was measured: figures mean little without it.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How often the disk is asked to sync.
const PROBES: usize = 200;
const PROBE_BYTES: usize = 4096;

/// What the system tells about the machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many processors this process may use at once.
    pub cores: usize,
    /// The system and its version.
    pub system: String,
    /// Median time to append 4 KiB to a file on the logs' disk, with fdatasync; `None` if no logs are on a
    /// disk.
    pub sync_microseconds: Option<f64>,
    /// The size of QUIC's packets, if QUIC is measured.
    pub quic_packets: Option<String>,
}

impl Machine {
    pub(super) fn look(logs: Option<&Path>, with_quic: bool) -> Machine {
        let system = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Machine {
            processor: processor().unwrap_or_else(|| text(system.machine())),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", text(system.sysname()), text(system.release())),
            sync_microseconds: logs
                .and_then(|logs| sync_time(logs).ok())
                .map(|time| time.as_secs_f64() * 1e6),
            quic_packets: if with_quic { quic_packets() } else { None },
        }
    }
}

/// Processor time that the host of a virtual machine has taken away from it. Figures measured meanwhile are
/// too low.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stolen {
    ticks: u64,
    all_ticks: u64,
}

impl Stolen {
    /// Since the machine was started; `None` where the system does not tell.
    pub(super) fn until_now() -> Option<Stolen> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
        Some(Stolen { ticks: *ticks.get(7)?, all_ticks: ticks[..8].iter().sum() })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn part_since(self, earlier: Stolen) -> f64 {
        let all_ticks = self.all_ticks.saturating_sub(earlier.all_ticks).max(1);
        self.ticks.saturating_sub(earlier.ticks) as f64 / all_ticks as f64
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The median time of a small write with its sync.
fn sync_time(directory: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(directory)?;
    let block = [0; PROBE_BYTES];
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[PROBES / 2])
}

fn quic_packets() -> Option<String> {
    // The socket that is asked belongs to a runtime, and who measures may not be in one yet.
    #[cfg(feature = "quic")]
    let runtime = match tokio::runtime::Handle::try_current() {
        Ok(_) => None,
        Err(_) => Some(tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?),
    };
    #[cfg(feature = "quic")]
    let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
    #[cfg(feature = "quic")]
    if let Ok(packets) = paxos_transport::quic::packets() {
        return Some(format!("up to {} bytes, {} in one send (GSO)", packets.max_bytes, packets.segments));
    }
    None
}
