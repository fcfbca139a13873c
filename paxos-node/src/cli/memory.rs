//! How much memory the process may take, and what each of its parts gets.

use std::path::{Path, PathBuf};

use paxos_node::NodeSettings;

use crate::fronts::resp;

/// With less memory a node refuses to start.
pub(crate) const MIN_LIMIT_BYTES: u64 = 64 << 20;
const PAGE_BYTES: u64 = 4096;

/// The limit by default: nine tenths of what the cgroup allows or the machine has. `None` where the system
/// does not tell.
pub(crate) fn default_limit() -> Option<u64> {
    let least = cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let least = least.into_iter().chain(machine_memory()).min()?;
    Some(least / 10 * 9)
}

fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().next()?.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The smallest limit of the process's cgroup and its ancestors, in either version of cgroups.
fn cgroup_limit(own: &Path, mounted_at: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(own).ok()?;
    let limits = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => (mounted_at.to_owned(), "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                (mounted_at.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        least_limit(&root, path, file)
    });
    limits.min()
}

/// The smallest limit of the cgroup at `path` and its ancestors. Within a container the path may be one of
/// the machine, which does not exist there; the mounted root is then the container's own cgroup.
fn least_limit(root: &Path, path: &str, file: &str) -> Option<u64> {
    let mut directory: PathBuf = root.join(path.trim_start_matches('/'));
    let mut least = None;
    while directory.starts_with(root) {
        let limit = std::fs::read_to_string(directory.join(file)).ok();
        // Without a limit version 2 says `max`, and version 1 a number larger than any memory.
        let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
        least = least
            .into_iter()
            .chain(limit.filter(|limit| *limit < u64::MAX / 2 / PAGE_BYTES * PAGE_BYTES))
            .min();
        if !directory.pop() {
            break;
        }
    }
    least
}

/// Lowers the bounds of all buffers so that they fit into the half of the limit that state and log leave.
pub(crate) fn share(limit_bytes: u64, settings: &mut NodeSettings, front: &mut resp::RespSettings) {
    settings.memory_limit_bytes = Some(limit_bytes);
    let part = |share: u64| usize::try_from(limit_bytes / share).unwrap_or(usize::MAX);
    front.buffer_bytes = front.buffer_bytes.min(part(8));
    settings.protocol.retained_bytes = settings.protocol.retained_bytes.min(part(16));
    settings.protocol.log_bytes = settings.protocol.log_bytes.min(part(4));
    settings.protocol.catch_up_window_bytes = settings.protocol.catch_up_window_bytes.min(part(32));
    settings.snapshot_after_bytes = settings.snapshot_after_bytes.min(limit_bytes / 8);
}

/// How large a segment of the log may be: recovery reads a whole one into memory.
pub(crate) fn segment_bytes(limit_bytes: u64, wanted: u64) -> u64 {
    wanted.min(limit_bytes / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(own: &str, files: &[(&str, &str)]) -> Option<u64> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it is in the directory")).expect("it is made");
            std::fs::write(path, text).expect("it is written");
        }
        let path = directory.path().join("own");
        std::fs::write(&path, own).expect("it is written");
        cgroup_limit(&path, directory.path())
    }

    #[test]
    fn the_smallest_limit_of_all_cgroups_around_counts() {
        let files = [("a/memory.max", "500\n"), ("a/b/memory.max", "max\n"), ("a/b/c/memory.max", "700\n")];
        assert_eq!(limit_of("0::/a/b/c\n", &files), Some(500));
        assert_eq!(limit_of("0::/\n", &files), None);
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/x/memory.limit_in_bytes", "314572800\n"),
        ];
        let own = "5:cpu,cpuacct:/y\n4:memory:/x\n1:name=systemd:/z\n0::/z\n";
        assert_eq!(limit_of(own, &files), Some(300 << 20));
    }

    #[test]
    fn within_a_container_the_cgroup_that_is_mounted_counts() {
        let own = "4:memory:/docker/0123456789\n";
        assert_eq!(limit_of(own, &[("memory/memory.limit_in_bytes", "1000\n")]), Some(1000));
        assert_eq!(limit_of("nonsense", &[]), None);
    }
}
