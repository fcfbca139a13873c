//! What the process takes, by the names that Prometheus gives it in all programs. Where the system has no
//! `/proc`, nothing is shown.

use metrics::{counter, gauge};
use rustix::process::{Resource, getrlimit};

/// Shows what the process takes now. It reads `/proc`, which takes some milliseconds with many open files.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn show() {
    if let Some((cpu_seconds, resident_bytes)) =
        std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| taken(&stat))
    {
        counter!("process_cpu_seconds_total").absolute(cpu_seconds);
        gauge!("process_resident_memory_bytes").set(resident_bytes as f64);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The directory itself is one of them.
        gauge!("process_open_fds").set(files.count().saturating_sub(1) as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        gauge!("process_max_fds").set(most as f64);
    }
}

/// The seconds of processors and the bytes of memory in a line of `/proc/PID/stat`.
fn taken(stat: &str) -> Option<(u64, u64)> {
    // The second field, the program's name, may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let resident_bytes = field(24)? * rustix::param::page_size() as u64;
    Some((ticks / rustix::param::clock_ticks_per_second().max(1), resident_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let fields: Vec<String> = (3..=52).map(|number| (number * 100).to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(taken(&stat), Some((2900 / ticks, 2400 * rustix::param::page_size() as u64)));
        assert_eq!(taken("1 (a"), None);
    }
}
