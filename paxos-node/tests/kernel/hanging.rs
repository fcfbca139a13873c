//! A disk that neither fails nor returns: a file system that is frozen, so that every write waits until it is
//! not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::mounts::FileDisk;
use crate::support::wait;
use crate::{Nodes, can_run, set_somewhere, skip};

/// A segment of the log, so that a small disk holds some.
const SEGMENTS: [&str; 2] = ["--segment-bytes", "1048576"];
/// How long the node may take to say that it gives up on the disk; more than it needs, as tests run beside
/// others.
const PROMPTLY: Duration = Duration::from_secs(3);

/// A frozen file system, until it is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(path: &Path) -> Result<Frozen, String> {
        let frozen = Command::new("fsfreeze").arg("--freeze").arg(path).output();
        match frozen {
            Ok(output) if output.status.success() => Ok(Frozen(path.to_owned())),
            other => Err(format!("fsfreeze: {other:?}")),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status(); // Else it stays so.
    }
}

#[test]
fn a_node_whose_disk_hangs_says_so_goes_on_and_can_be_stopped() {
    let test = "a_node_whose_disk_hangs_says_so_goes_on_and_can_be_stopped";
    if !can_run(test, &["mount", "umount", "losetup", "mkfs.ext4", "fsfreeze"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = match FileDisk::create(&directory.path().join("image"), 64) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let of_others = |id| directory.path().join(format!("data-{id}")).display().to_string();
    let data = [disk.path("data").display().to_string(), of_others(2), of_others(3)];
    let mut nodes = Nodes::start(&data, &SEGMENTS);
    set_somewhere(&nodes, &[1, 2, 3], 0);
    let frozen = match Frozen::freeze(&disk.path("")) {
        Ok(frozen) => frozen,
        Err(why) => return skip(test, &why),
    };
    for key in 1..20 {
        set_somewhere(&nodes, &[2, 3], key);
    }
    wait("it is told", || nodes.cluster.log(1).contains("the disk has not answered").then_some(()));
    assert_eq!(nodes.cluster.client(1).ask(&["PING"]), "PONG");
    assert_eq!(nodes.cluster.http(1, "/healthz").map(|(code, _)| code), Some(200));
    assert!(nodes.cluster.status(1, "leader").is_some_and(|leader| leader != "null"), "it hears its peers");
    drop(frozen);
    wait("its return is told", || nodes.cluster.log(1).contains("the disk answers again").then_some(()));
    nodes.wait_for_equal_states();

    let frozen = Frozen::freeze(&disk.path("")).expect("it could be frozen before");
    set_somewhere(&nodes, &[2, 3], 20);
    let since = Instant::now();
    nodes.process(1).ask_to_stop();
    wait("it gives up", || nodes.cluster.log(1).contains("without waiting any longer").then_some(()));
    assert!(since.elapsed() < PROMPTLY, "it took {:?}", since.elapsed());
    // The kernel lets the process go only with its write.
    drop(frozen);
    assert_eq!(nodes.process(1).wait_for_end(), Some(3), "its log: {}", nodes.cluster.log(1));
}

/// How long a node whose disk hangs may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn a_node_whose_disk_hangs_ends_within_a_second_of_sigterm() {
    let test = "a_node_whose_disk_hangs_ends_within_a_second_of_sigterm";
    if !can_run(test, &["strace"]) {
        return;
    }
    for is_leader in [false, true] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = ["1", "2", "3"].map(|name| directory.path().join(name).display().to_string());
        let mut nodes = Nodes::start(&data, &[]);
        let leader = nodes.leader();
        let hangs = if is_leader { leader } else { leader % 3 + 1 };
        let others: Vec<usize> = nodes.ids().filter(|id| *id != hangs).collect();
        let delay = "pwrite64,fdatasync:delay_enter=600000000";
        let tracer = nodes.process(hangs).inject_into_thread("paxos-writer", delay);
        set_somewhere(&nodes, &others, 0);
        wait("its disk hangs", || {
            let disk: serde_json::Value = serde_json::from_str(&nodes.cluster.status(hangs, "disk")?).ok()?;
            disk["busy_milliseconds"].as_u64().filter(|busy| *busy > 100)
        });
        let since = Instant::now();
        nodes.process(hangs).ask_to_stop();
        wait("it gives up", || nodes.cluster.log(hangs).contains("without waiting any longer").then_some(()));
        // A process ends with its last thread, and this one's would wait for strace, as it would for a disk.
        drop(tracer);
        let code = nodes.process(hangs).wait_for_end();
        let took = since.elapsed();
        assert_eq!(code, Some(3), "its log: {}", nodes.cluster.log(hangs));
        assert!(
            took < ENDS_WITHIN,
            "it took {took:?}, leader: {is_leader}; its log: {}",
            nodes.cluster.log(hangs)
        );
        set_somewhere(&nodes, &others, 1);
    }
}
