//! Members of a cluster of processes come, go and move while clients work: `paxos-node member`.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::backends::TransportKind;
use paxos_node::fronts::operator::{Answer, ChangeOrder, Request};
use paxos_transport::TlsIdentity;
use paxos_transport::calls::CallIdentity;

use support::{Cluster, wait};

/// An election takes so long that a gap in service without one is told from one with it on a busy machine.
const ELECTION: Duration = Duration::from_secs(6);
const SLOW_ELECTIONS: &[&str] = &["--election-timeout", "6s", "--request-timeout", "20s"];

/// What a client of one node has written while something else happened.
#[derive(Default)]
struct Written {
    acknowledged: Vec<u64>,
    /// The longest time between two replies.
    longest: Duration,
}

/// Writes through a node while `happen` runs.
fn while_writing(cluster: &mut Cluster, node: usize, happen: impl FnOnce(&mut Cluster)) -> Written {
    let stop = AtomicBool::new(false);
    let mut client = cluster.client(node);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut written, mut last) = (Written::default(), Instant::now());
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if client.ask(&["SET", &format!("k{number}"), &format!("value {number}")]) == "OK" {
                    written.acknowledged.push(number);
                    written.longest = written.longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            written.longest = written.longest.max(last.elapsed());
            written
        });
        std::thread::sleep(Duration::from_millis(200));
        happen(cluster);
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer finishes")
    })
}

impl Written {
    fn assert_kept(&self, cluster: &Cluster, nodes: &[usize]) {
        assert!(self.acknowledged.len() > 5, "only {} writes came through", self.acknowledged.len());
        for id in nodes {
            let mut client = cluster.client(*id);
            for number in &self.acknowledged {
                let value = client.ask(&["GET", &format!("k{number}")]);
                assert_eq!(value, format!("value {number}"), "on node {id}");
            }
        }
    }
}

fn others(cluster: &Cluster, leader: usize, size: usize) -> Vec<usize> {
    assert_eq!(cluster.leader(), Some(leader));
    (1..=size).filter(|id| *id != leader).collect()
}

fn name(id: usize) -> String {
    id.to_string()
}

#[test]
fn a_dead_node_is_replaced_by_one_command_while_a_client_writes() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let dead = others(&cluster, leader, 3)[0];
    let stays = others(&cluster, leader, 3)[1];
    cluster.kill(dead);
    let written = while_writing(&mut cluster, stays, |cluster| {
        let new = cluster.grow();
        let arguments = cluster.join_arguments(new, &[dead, stays]);
        cluster.start_with(new, &arguments);
        let address = cluster.peer_address(new);
        let replace =
            ["replace", "--id", &name(dead), "--with", &name(new), "--address", &address].map(str::to_owned);
        let replace: Vec<&str> = replace.iter().map(String::as_str).collect();
        let mut members = [leader, stays, new];
        members.sort_unstable();
        let line = format!("epoch 3: {}", members.map(name).join(" "));
        assert_eq!(cluster.member(&[dead, stays], &replace), line);
        let again = cluster.member(&[stays], &replace);
        assert!(again.contains("already so") && again.ends_with(&line), "it is safe to run again: {again}");
    });
    written.assert_kept(&cluster, &[leader, stays, 4]);
    cluster.wait_for_equal_states();
    assert_eq!(cluster.status(4, "standing").as_deref(), Some("\"voter\""));
    assert_eq!(cluster.status(4, "epoch").as_deref(), Some("3"));
    // Its data directory knows the cluster now, and needs neither list.
    cluster.stop(4);
    let mut arguments = cluster.join_arguments(4, &[]);
    let at = arguments.iter().position(|argument| argument == "--join").expect("it is there");
    arguments.drain(at..=at + 1);
    cluster.start_with(4, &arguments);
    wait("a restarted node that is ready", || cluster.http(4, "/readyz").filter(|(code, _)| *code == 200));
}

#[test]
fn the_live_leader_is_removed_without_an_election_and_ends_with_a_code_of_its_own() {
    let mut cluster = Cluster::started(3, SLOW_ELECTIONS);
    let leader = cluster.wait_for_leader();
    let stay = others(&cluster, leader, 3);
    let written = while_writing(&mut cluster, stay[0], |cluster| {
        let line = cluster.member(&[leader], &["remove", "--id", &name(leader)]);
        assert_eq!(line, format!("epoch 1: {} {}", stay[0], stay[1]));
        assert_eq!(cluster.exit_code(leader), Some(5), "{}", cluster.log(leader));
    });
    assert!(written.longest < ELECTION / 2, "nobody served for {:?}", written.longest);
    assert!(cluster.log(leader).contains("was removed from the cluster"), "{}", cluster.log(leader));
    written.assert_kept(&cluster, &stay);
    let again = cluster.member(&[stay[0]], &["remove", "--id", &name(leader)]);
    assert!(again.contains("already so"), "{again}");
    let back = cluster
        .try_member(&[stay[0]], &["add", "--id", &name(leader), "--address", &cluster.peer_address(leader)]);
    assert_eq!(back.0, Some(1), "{back:?}");
    assert!(back.1.contains("never used again"), "{back:?}");
}

#[test]
fn of_two_operators_who_saw_the_same_epoch_one_succeeds() {
    let cluster = Cluster::started(3, &[]);
    let start = |id: usize, priority: &str| {
        let arguments = ["priority", "--id", &name(id), "--priority", priority, "--if-epoch", "0"];
        cluster.member_command(&[1, 2, 3], &arguments).spawn().expect("the program starts")
    };
    let both = [start(1, "7"), start(2, "9")];
    let outputs = both.map(|child| child.wait_with_output().expect("it ends"));
    let codes = outputs.each_ref().map(|output| output.status.code());
    assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{outputs:?}");
    let loser = outputs.iter().find(|output| !output.status.success()).expect("one has lost");
    let line = String::from_utf8_lossy(&loser.stderr).into_owned();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("epoch") || line.contains("under way"), "it says why not: {line}");
    let list = cluster.member_command(&[1, 2, 3], &["list", "--json"]).output().expect("the program runs");
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("it is JSON");
    assert_eq!((list["epoch"].as_u64(), list["members"].as_array().map(Vec::len)), (Some(1), Some(3)));
}

#[test]
fn a_stopped_cluster_whose_members_were_changed_is_not_founded_anew() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    cluster.member(&[leader], &["priority", "--id", &name(leader), "--priority", "2"]);
    cluster.stop(leader);
    let output = support::run(&["refound", "--data", &cluster.data(leader), "--members", "1,2,3,4"]);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(
        line.contains("members were changed while the cluster ran") && line.contains("epoch 1: 1 2 3"),
        "{line}"
    );
}

#[test]
fn the_last_voter_that_may_lead_keeps_its_priority() {
    let cluster = Cluster::started(3, &[]);
    for id in [1, 2] {
        cluster.member(&[1, 2, 3], &["priority", "--id", &name(id), "--priority", "0"]);
    }
    let (code, line) = cluster.try_member(&[1, 2, 3], &["priority", "--id", "3", "--priority", "0"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("no voter with a priority above 0 would be left"), "{line}");
}

#[test]
fn a_node_that_was_away_when_it_was_removed_comes_back_and_disturbs_nobody() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let away = others(&cluster, leader, 3)[0];
    let stays = others(&cluster, leader, 3)[1];
    cluster.kill(away);
    cluster.member(&[leader], &["remove", "--id", &name(away)]);
    let ballot = cluster.status(leader, "ballot");
    let log_before = cluster.log(away).len();
    let written = while_writing(&mut cluster, stays, |cluster| {
        cluster.start(away);
        assert_eq!(cluster.exit_code(away), Some(5), "{}", cluster.log(away));
    });
    let log = cluster.log(away)[log_before..].to_owned();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("was removed from the cluster"), "{log}");
    assert_eq!(cluster.status(leader, "ballot"), ballot, "no election was held");
    written.assert_kept(&cluster, &[leader, stays]);
    // Nor does it come back on an empty disk.
    std::fs::remove_dir_all(cluster.data(away)).expect("it is there");
    let format = support::run(&["format", "--id", &name(away), "--data", &cluster.data(away)]);
    assert!(format.status.success(), "{format:?}");
    let arguments = cluster.join_arguments(away, &[leader]);
    cluster.start_with(away, &arguments);
    assert_eq!(cluster.exit_code(away), Some(5), "{}", cluster.log(away));
}

#[test]
fn a_node_that_dies_while_it_catches_up_goes_on_when_it_is_started_again() {
    let mut cluster =
        Cluster::started(3, &["--snapshot-after-bytes", "1000000", "--retained-bytes", "100000"]);
    let leader = cluster.wait_for_leader();
    let stays = others(&cluster, leader, 3)[0];
    let long = "x".repeat(100_000);
    let mut client = cluster.client(leader);
    for number in 0..200 {
        assert_eq!(client.ask(&["SET", &format!("long{number}"), &long]), "OK");
    }
    let new = cluster.grow();
    let arguments = cluster.join_arguments(new, &[1, 2, 3]);
    cluster.member(&[leader], &["add", "--id", "4", "--address", &cluster.peer_address(new)]);
    for pause_millis in [300, 600] {
        cluster.start_with(new, &arguments);
        std::thread::sleep(Duration::from_millis(pause_millis));
        cluster.kill(new);
    }
    cluster.start_with(new, &arguments);
    wait("a learner that has caught up", || {
        let (code, line) = cluster.try_member(&[stays], &["promote", "--id", "4"]);
        assert!(code == Some(0) || line.contains("behind") || line.contains("heard"), "{line}");
        (code == Some(0)).then_some(())
    });
    cluster.wait_for_equal_states();
    assert_eq!(cluster.client(new).ask(&["STRLEN", "long199"]), "100000");
}

#[test]
fn five_become_three_and_five_again() {
    let mut cluster = Cluster::started(5, &[]);
    let leader = cluster.wait_for_leader();
    let others = others(&cluster, leader, 5);
    let (stays, gone) = (others[0], [others[1], others[2]]);
    let written = while_writing(&mut cluster, stays, |cluster| {
        for id in gone {
            cluster.member(&[stays], &["remove", "--id", &name(id)]);
            assert_eq!(cluster.exit_code(id), Some(5), "{}", cluster.log(id));
        }
        for _ in gone {
            let new = cluster.grow();
            let arguments = cluster.join_arguments(new, &[stays]);
            cluster.start_with(new, &arguments);
            cluster.member(&[stays], &["add", "--id", &name(new), "--address", &cluster.peer_address(new)]);
            wait("a learner that has caught up", || {
                (cluster.try_member(&[stays], &["promote", "--id", &name(new)]).0 == Some(0)).then_some(())
            });
        }
    });
    cluster.wait_for_equal_states();
    written.assert_kept(&cluster, &[leader, stays, 6, 7]);
    assert_eq!(cluster.status(6, "epoch").as_deref(), Some("6"));
    assert!(written.longest < Duration::from_secs(5), "nobody served for {:?}", written.longest);
}

#[test]
fn leadership_is_handed_over_without_waiting_for_an_election() {
    let mut cluster = Cluster::started(3, SLOW_ELECTIONS);
    let leader = cluster.wait_for_leader();
    let others = others(&cluster, leader, 3);
    let (next, client) = (others[0], others[1]);
    let written = while_writing(&mut cluster, client, |cluster| {
        let line = cluster.member(&[client], &["transfer", "--to", &name(next)]);
        assert_eq!(line, format!("node {next} leads"));
        cluster.wait_for_leader();
        cluster.stop(next);
        wait("another leader", || cluster.leader());
    });
    assert!(written.longest < ELECTION / 2, "nobody served for {:?}", written.longest);
    written.assert_kept(&cluster, &[leader, client]);
    let (code, line) = cluster.try_member(&[client], &["transfer", "--to", "9"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("node 9 is no voter"), "{line}");
}

#[test]
fn only_an_operators_certificate_changes_members() {
    let cluster = Cluster::started(1, &[]);
    let certs = cluster.path("certs");
    let identity = TlsIdentity::load(Path::new(&certs), NodeId(1), "paxos").expect("they were made");
    let identity = CallIdentity::from(&identity);
    let ask = |request: Request| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let addresses = [cluster.peer_address(1)];
        let call = TransportKind::Quic.call(&addresses, &identity, request.encode());
        let answer: Bytes = runtime.expect("there is a runtime").block_on(call).expect("it is answered");
        Answer::decode(&answer).expect("it is an answer")
    };
    let change = ChangeOrder::Prioritize { id: 1, priority: 3 };
    let refused = ask(Request::Change { change, if_epoch: None, is_forced: false });
    assert!(matches!(&refused, Answer::Refused { reason } if reason.contains("operators")), "{refused:?}");
    assert!(matches!(ask(Request::Transfer { to: None }), Answer::Refused { .. }));
    assert!(matches!(ask(Request::List), Answer::Members(report) if report.epoch == 0));
    // The program does not even take it.
    let other = cluster.path("other");
    std::fs::create_dir(&other).expect("it is new");
    for (from, to) in [("ca.pem", "ca.pem"), ("node-1.pem", "admin.pem"), ("node-1-key.pem", "admin-key.pem")]
    {
        std::fs::copy(format!("{certs}/{from}"), format!("{other}/{to}")).expect("it is there");
    }
    let via = cluster.peer_address(1);
    let output = support::run(&["member", "remove", "--id", "1", "--via", &via, "--certs", &other]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(support::last_line(&output).contains("not that of an operator"), "{output:?}");
}

#[test]
fn a_member_moves_to_another_port_under_its_id_and_disk() {
    let mut cluster = Cluster::started(3, &[]);
    let leader = cluster.wait_for_leader();
    let moves = others(&cluster, leader, 3)[0];
    let stays = others(&cluster, leader, 3)[1];
    cluster.stop(moves);
    let taken = cluster
        .try_member(&[stays], &["move", "--id", &name(moves), "--address", &cluster.peer_address(leader)]);
    assert_eq!(taken.0, Some(1), "{taken:?}");
    assert!(taken.1.contains(&format!("the address is that of node {leader}")), "{taken:?}");
    cluster.change_port(moves);
    let address = cluster.peer_address(moves);
    cluster.member(&[stays], &["move", "--id", &name(moves), "--address", &address]);
    let arguments = cluster.join_arguments(moves, &[]);
    cluster.start_with(moves, &arguments);
    cluster.wait_for_leader();
    assert_eq!(cluster.client(moves).ask(&["SET", "key", "value"]), "OK");
    cluster.wait_for_equal_states();
    let again = cluster.member(&[stays], &["move", "--id", &name(moves), "--address", &address]);
    assert!(again.contains("already so"), "{again}");
}

#[test]
fn a_node_that_joins_waits_for_a_member_to_answer_and_stops_meanwhile() {
    let mut cluster = Cluster::new(3, &[]);
    let new = cluster.grow();
    let arguments = cluster.join_arguments(new, &[1, 2]);
    cluster.start_with(new, &arguments);
    let ready = wait("it answers", || cluster.http(new, "/readyz"));
    assert_eq!(ready, (503, String::from("asking who the members are: none has answered yet\n")));
    assert_eq!(cluster.http(new, "/healthz").map(|(code, _)| code), Some(200));
    let refused = cluster.client(new).ask(&["GET", "key"]);
    assert!(refused.starts_with("-LOADING "), "{refused}");
    wait("a line that says what the node waits for", || {
        cluster.log(new).contains("can't join after").then_some(())
    });
    cluster.stop(new);
    // A voter's disk that was lost is not made up for by an empty one.
    for id in 1..=2 {
        cluster.start(id);
    }
    cluster.start(3);
    cluster.wait_for_leader();
    cluster.stop(3);
    std::fs::remove_dir_all(cluster.data(3)).expect("it is there");
    let format = support::run(&["format", "--id", "3", "--data", &cluster.data(3)]);
    assert!(format.status.success(), "{format:?}");
    let arguments = cluster.join_arguments(3, &[1]);
    cluster.start_with(3, &arguments);
    assert_eq!(cluster.exit_code(3), Some(2), "{}", cluster.log(3));
    assert!(cluster.log(3).contains("its disk is empty"), "{}", cluster.log(3));
}

/// A directory of a later format level than this program knows: what an older program sees of this one's.
fn make_later(cluster: &Cluster, id: usize) {
    const COPY_BYTES: usize = 4096;
    let meta = Path::new(&cluster.data(id)).join("META");
    let mut bytes = std::fs::read(&meta).expect("it is there");
    for copy in bytes.chunks_mut(COPY_BYTES).take(2) {
        assert_eq!(copy[12..14], [2, 0], "the level that was finalized, since there was a snapshot");
        copy[12] = 3;
        let sum = crc32c::crc32c(&copy[..COPY_BYTES - 4]);
        copy[COPY_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    }
    std::fs::write(&meta, bytes).expect("it can be written");
}

#[test]
fn a_finalized_level_is_shown_and_a_program_that_is_too_old_for_it_ends_with_a_code_of_its_own() {
    let mut cluster = Cluster::started(3, &["--snapshot-after-bytes", "65536"]);
    let leader = cluster.wait_for_leader();
    let follower = others(&cluster, leader, 3)[0];
    assert_eq!(cluster.status(leader, "format_level").as_deref(), Some("1"));
    assert_eq!(cluster.member(&[follower], &["finalize"]), "epoch 1: 1 2 3, format level 2");
    let again = cluster.member(&[follower], &["finalize"]);
    assert!(again.starts_with("already so") && again.ends_with("epoch 1: 1 2 3, format level 2"), "{again}");
    let output = cluster.member_command(&[leader], &["list"]).output().expect("the program runs");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains("epoch 1, format level 2, leader") && list.contains("KNOWS LEVEL"), "{list}");
    wait("all are of the new level", || {
        let is_raised = |id| cluster.status(id, "format_level").as_deref() == Some("2");
        (1..=3).all(is_raised).then_some(())
    });
    let mut client = cluster.client(follower);
    let long = "x".repeat(10_000);
    for number in 0..30 {
        assert_eq!(client.ask(&["SET", &format!("long{number}"), &long]), "OK");
    }
    let directory = cluster.data(follower);
    wait("a snapshot", || {
        let files = std::fs::read_dir(&directory).expect("it is there").flatten();
        let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with("snapshot-") && !name.contains('.')).then_some(())
    });
    cluster.stop(follower);
    make_later(&cluster, follower);
    cluster.start(follower);
    assert_eq!(cluster.exit_code(follower), Some(6));
    let told = cluster.log(follower);
    assert!(
        told.contains("is of format level 3, and this version of the program knows levels 1 to 2"),
        "{told}"
    );
}
