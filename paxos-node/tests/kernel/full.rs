//! Disks without space: the node says so, the others go on, and nothing that was acknowledged is lost.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::mounts::{FileDisk, Filler, MemoryDisk};
use crate::support::wait;
use crate::{Nodes, can_run, set, set_somewhere, set_until_refused, skip};

/// The smallest segments: the first, of 1 MiB, has room for 255 writes, and each other for 15.
const SEGMENTS: [&str; 2] = ["--segment-bytes", "65536"];
const DISK_KIB: usize = 8 << 10;
/// More writes than fit into the two segments that a new node has, if each is written for itself.
const MORE_THAN_FIT: usize = 400;
/// More than fit if a node that lags behind merges them.
const FAR_MORE: usize = 6000;
/// Longer than the writer of an idle node goes without a look at whether there is room.
const LOOKS_AGAIN: Duration = Duration::from_millis(500);

#[test]
fn a_follower_on_a_full_disk_refuses_commands_while_the_others_go_on() {
    let test = "a_follower_on_a_full_disk_refuses_commands_while_the_others_go_on";
    let Some((disks, mut nodes)) = on_memory_disks(test) else { return };
    let full = follower(&nodes);
    let filler = disks[full - 1].fill();
    let keys = fill_first_segment(&nodes, &disks, full);
    std::thread::sleep(LOOKS_AGAIN);
    refuses_until_there_is_space(&mut nodes, full, filler, keys);
}

#[test]
fn a_leader_on_a_full_disk_refuses_commands_while_the_others_go_on() {
    let test = "a_leader_on_a_full_disk_refuses_commands_while_the_others_go_on";
    let Some((disks, mut nodes)) = on_memory_disks(test) else { return };
    let full = nodes.leader();
    let filler = disks[full - 1].fill();
    let keys = fill_first_segment(&nodes, &disks, full);
    std::thread::sleep(LOOKS_AGAIN);
    refuses_until_there_is_space(&mut nodes, full, filler, keys);
}

#[test]
fn a_follower_whose_disk_fills_up_in_no_time_refuses_commands_too() {
    let test = "a_follower_whose_disk_fills_up_in_no_time_refuses_commands_too";
    let Some((disks, mut nodes)) = on_memory_disks(test) else { return };
    let full = follower(&nodes);
    let filler = disks[full - 1].fill();
    refuses_until_there_is_space(&mut nodes, full, filler, 0);
}

#[test]
fn a_node_that_waits_for_space_stops_when_it_is_told_to() {
    let Some((disks, mut nodes)) = on_memory_disks("a_node_that_waits_for_space_stops_when_it_is_told_to")
    else {
        return;
    };
    let full = follower(&nodes);
    let _filler = disks[full - 1].fill();
    fill_log(&nodes, full);
    assert_eq!(nodes.process(full).stop(), Some(0), "its log: {}", nodes.cluster.log(full));
}

#[test]
fn a_node_that_waits_for_space_needs_no_memory_for_what_the_others_write() {
    const VALUE_BYTES: usize = 64 << 10;
    const BOUND_KIB: u64 = 64 << 10;
    let test = "a_node_that_waits_for_space_needs_no_memory_for_what_the_others_write";
    // Disks that stay large enough for the others, whose logs are freed behind each snapshot.
    let options = ["--segment-bytes", "1048576", "--snapshot-after-bytes", "4194304"];
    let Some((disks, mut nodes)) = on_memory_disks_of(test, 16 * DISK_KIB, &options) else { return };
    let full = follower(&nodes);
    let _filler = disks[full - 1].fill();
    let leader = nodes.leader();
    let mut client = nodes.cluster.client(leader);
    let value = "x".repeat(VALUE_BYTES);
    let mut write = |count: usize| {
        for _ in 0..count {
            assert_eq!(client.ask(&["SET", "the same", &value]), "OK", "two of three have space");
        }
    };
    // Until the node waits, and what all nodes keep in memory anyway has its size.
    write(400);
    let memory_kib = |nodes: &mut Nodes| [full, leader].map(|id| nodes.process(id).memory_kib());
    let before_kib = memory_kib(&mut nodes);
    let count = 2 * usize::try_from(BOUND_KIB).expect("it fits") * 1024 / VALUE_BYTES;
    write(count);
    let after_kib = memory_kib(&mut nodes);
    let grown_kib = [0, 1].map(|node| after_kib[node].saturating_sub(before_kib[node]));
    assert!(
        grown_kib[0] < BOUND_KIB,
        "node {full} has grown by {} KiB over {count} writes of {VALUE_BYTES} bytes, the leader by {} KiB",
        grown_kib[0],
        grown_kib[1]
    );
}

#[test]
fn a_node_that_was_killed_while_it_waited_for_space_starts_again_before_there_is_any() {
    let test = "a_node_that_was_killed_while_it_waited_for_space_starts_again_before_there_is_any";
    let Some((disks, mut nodes)) = on_memory_disks(test) else { return };
    let full = follower(&nodes);
    let filler = disks[full - 1].fill();
    let acknowledged = fill_log(&nodes, full);
    nodes.process(full).kill();
    nodes.restart(full);
    wait(&format!("node {full} answers"), || nodes.cluster.http(full, "/healthz"));
    assert!(nodes.process(full).is_running(), "its log: {}", nodes.cluster.log(full));
    drop(filler);
    nodes.wait_for_equal_states();
    nodes.assert_kept(&acknowledged);
}

#[test]
fn a_node_below_whose_file_system_the_space_ends_stops_and_loses_nothing() {
    let test = "a_node_below_whose_file_system_the_space_ends_stops_and_loses_nothing";
    if !can_run(test, &["mount", "umount", "losetup", "mkfs.ext4"]) {
        return;
    }
    let made = MemoryDisk::mount(4 * DISK_KIB).and_then(|below| {
        let disk = FileDisk::create(&below.path("image"), 64)?;
        Ok((below, disk))
    });
    let (below, mut disk) = match made {
        Ok(made) => made,
        Err(why) => return skip(test, &why),
    };
    let mut nodes = Nodes::start(&[disk.path("data").display().to_string()], &SEGMENTS);
    let filler = below.fill();
    let (acknowledged, refused) = set_until_refused(&mut nodes.cluster.client(1), 0..FAR_MORE);
    let count = acknowledged.len();
    let refused =
        refused.unwrap_or_else(|| panic!("{count} writes found space where there was none: {test}"));
    // A system that tells the file system below of the lack of space makes the node wait for some.
    let waits = refused.contains("the disk of this node is almost full");
    if !waits {
        let code = nodes.process(1).wait_for_end();
        let log = nodes.cluster.log(1);
        assert_eq!(code, Some(3), "after {count} writes and {refused}: {log}");
        assert!(log.contains("data/") && log.contains("(os error "), "it says what failed, and how: {log}");
    }
    nodes.process(1).kill();
    drop(filler);
    disk.mount_again().unwrap_or_else(|why| panic!("the file system mounts again: {why}"));
    nodes.restart(1);
    nodes.wait_until_ready();
    nodes.assert_kept(&acknowledged);
    let next = set(&mut nodes.cluster.client(1), FAR_MORE);
    assert_eq!(next.as_deref(), Some("OK"), "it takes writes again: {}", nodes.cluster.log(1));
}

#[test]
fn a_volume_without_room_for_a_few_segments_is_refused_and_smaller_segments_fit() {
    let test = "a_volume_without_room_for_a_few_segments_is_refused_and_smaller_segments_fit";
    if !can_run(test, &["mount", "umount"]) {
        return;
    }
    let disk = match MemoryDisk::mount(5 * DISK_KIB) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let data = disk.path("data").display().to_string();
    let output = crate::support::run(&["format", "--id", "1", "--data", &data]);
    assert!(output.status.success(), "{output:?}");
    let cluster = crate::Cluster::new(1, &["--memory-limit", "0"]);
    let mut arguments = cluster.serve_arguments(1);
    let at = arguments.iter().position(|argument| argument == "--data").expect("it is given") + 1;
    arguments[at].clone_from(&data);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = crate::support::run(&words);
    let line = crate::support::last_line(&output);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let limit = DISK_KIB * 1024 * 5 / 4;
    assert!(line.contains(&format!("--segment-bytes {limit} or less")), "{line}");
    drop(cluster);
    let options = ["--segment-bytes", &limit.to_string()];
    std::fs::remove_dir_all(&data).expect("it can be formatted again");
    let nodes = Nodes::start(&[data], &options);
    // More than the volume could ever hold at once.
    let mut client = nodes.cluster.client(1);
    for number in 0..2 * 5 * DISK_KIB / 64 {
        let reply = client.ask(&["SET", "k", &"x".repeat(64 << 10)]);
        assert_eq!(reply, "OK", "write {number}: {}", nodes.cluster.log(1));
    }
}

#[test]
fn a_node_without_room_for_a_whole_segment_goes_on_with_smaller_ones() {
    const VALUE_BYTES: usize = 64 << 10;
    let test = "a_node_without_room_for_a_whole_segment_goes_on_with_smaller_ones";
    if !can_run(test, &["mount", "umount"]) {
        return;
    }
    let disk = match MemoryDisk::mount(5 * DISK_KIB) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    // A new node has a segment of 1 MiB, and wants the next one to have 8.
    let filler = disk.fill_but(5 << 10);
    let options = ["--segment-bytes", "8388608"];
    let mut nodes = Nodes::start(&[disk.path("data").display().to_string()], &options);
    let write = |nodes: &Nodes, keys: std::ops::Range<usize>| {
        let mut client = nodes.cluster.client(1);
        for key in keys {
            let reply = client.ask(&["SET", &format!("key-{key}"), &"x".repeat(VALUE_BYTES)]);
            assert_eq!(reply, "OK", "key {key}: {}", nodes.cluster.log(1));
        }
    };
    write(&nodes, 0..40);
    nodes.process(1).kill();
    nodes.restart(1);
    nodes.wait_until_ready();
    assert_eq!(nodes.cluster.client(1).ask(&["DBSIZE"]), "40", "nothing is lost");
    drop(filler);
    write(&nodes, 40..200);
    assert_eq!(nodes.cluster.client(1).ask(&["DBSIZE"]), "200", "its segments grow again");
}

/// Three nodes, each on a small disk of its own.
fn on_memory_disks(test: &str) -> Option<(Vec<MemoryDisk>, Nodes)> {
    on_memory_disks_of(test, DISK_KIB, &SEGMENTS)
}

fn on_memory_disks_of(test: &str, size_kib: usize, options: &[&str]) -> Option<(Vec<MemoryDisk>, Nodes)> {
    if !can_run(test, &["mount", "umount"]) {
        return None;
    }
    let disks: Result<Vec<_>, String> = (0..3).map(|_| MemoryDisk::mount(size_kib)).collect();
    let disks = disks.inspect_err(|why| skip(test, why)).ok()?;
    let data: Vec<String> = disks.iter().map(|disk| disk.path("data").display().to_string()).collect();
    let nodes = Nodes::start(&data, options);
    Some((disks, nodes))
}

fn follower(nodes: &Nodes) -> usize {
    let leader = nodes.leader();
    nodes.ids().find(|id| *id != leader).expect("there are three")
}

fn others(nodes: &Nodes, full: usize) -> Vec<usize> {
    nodes.ids().filter(|id| *id != full).collect()
}

/// Writes until a node has begun its second segment, so that it looks for space for the third; tells how many
/// keys that took.
fn fill_first_segment(nodes: &Nodes, disks: &[MemoryDisk], id: usize) -> usize {
    let second = disks[id - 1].path("data/wal-000000000002");
    let others = others(nodes, id);
    let has_begun = || {
        let mut first_byte = [0];
        let read = std::fs::File::open(&second).and_then(|file| file.read_at(&mut first_byte, 4096));
        read.is_ok() && first_byte != [0]
    };
    let mut keys = 0;
    while !has_begun() {
        assert!(keys < FAR_MORE, "{} is not begun after {keys} writes", second.display());
        set_somewhere(nodes, &others, keys);
        keys += 1;
    }
    keys
}

/// Writes until a node whose disk is full waits for space; gives the keys.
fn fill_log(nodes: &Nodes, full: usize) -> Vec<usize> {
    let others = others(nodes, full);
    let mut keys = Vec::new();
    while !nodes.cluster.log(full).contains("waiting for space") {
        assert!(keys.len() < FAR_MORE, "node {full} still finds space after {} writes", keys.len());
        set_somewhere(nodes, &others, keys.len());
        keys.push(keys.len());
    }
    keys
}

/// The others, which have taken `keys` keys already, go on; the node itself refuses commands until `filler`
/// is gone, and has all of the keys then.
fn refuses_until_there_is_space(nodes: &mut Nodes, full: usize, filler: Filler, written: usize) {
    let others = others(nodes, full);
    let refused_key = written + MORE_THAN_FIT;
    for key in written..refused_key {
        set_somewhere(nodes, &others, key);
    }
    let mut last = None;
    for _ in 0..20 {
        last = set(&mut nodes.cluster.client(full), refused_key);
        if last.as_ref().is_some_and(|reply| reply != "OK") {
            break;
        }
        std::thread::sleep(LOOKS_AGAIN / 10);
    }
    let is_refused = last
        .as_ref()
        .is_some_and(|reply| reply.starts_with("-CLUSTERDOWN the disk of this node is almost full"));
    let log = nodes.cluster.log(full);
    assert!(is_refused, "node {full}, without space, answers a SET with {last:?}; its log: {log}");
    assert!(log.contains("no space"), "node {full} tells its operator: {log}");
    let last_key = refused_key + 100;
    for key in refused_key..last_key {
        set_somewhere(nodes, &others, key);
    }
    assert!(nodes.process(full).is_running(), "node {full} waits for space: {}", nodes.cluster.log(full));
    drop(filler);
    wait(&format!("node {full} takes commands again"), || {
        set(&mut nodes.cluster.client(full), last_key).filter(|reply| reply == "OK")
    });
    nodes.wait_for_equal_states();
    nodes.assert_kept(&(0..=last_key).collect::<Vec<_>>());
}
