//! Pairs of nodes that introduce themselves.

pub(super) mod frames;

use std::collections::BTreeMap;

use paxos_core::message::Probe;
use paxos_core::{Ballot, Body, Epoch, FormatLevel, Message, NodeId, Slot};
use paxos_storage::{Founding, FoundingId, KnownPeer, Origin, Registry, Start, StorageId};

use super::frame::{self, Contents, Hello, PeerRefusal};
use super::*;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn own(node: NodeId, storage: u128) -> OwnNode {
    OwnNode {
        levels: Levels::own(FormatLevel::FIRST),
        node,
        cluster: String::from("tested"),
        storage: StorageId(storage),
        members: [ONE, TWO, THREE].into(),
        absent: BTreeSet::new(),
        settings: BTreeMap::from([(String::from("reads"), String::from("quorum"))]),
        facts: BTreeMap::new(),
        reach: Reach::default(),
    }
}

fn start(number: u64, nonce: u64) -> Start {
    Start { number, nonce }
}

fn three() -> Membership {
    Membership::new(&[ONE, TWO, THREE]).expect("these members fit")
}

/// What a founded node remembers whose peers have storages of their own ids, and were started once.
fn founded(start: Start) -> Registry {
    let peer = |node: NodeId| {
        (
            node,
            KnownPeer { storage: StorageId(u128::from(node.0)), start: Start { number: 1, nonce: node.0 } },
        )
    };
    Registry {
        start,
        founding: Some(Founding { id: Some(FoundingId(9)), membership: three() }),
        origin: None,
        peers: [ONE, TWO, THREE].map(peer).into(),
        is_superseded: false,
    }
}

fn node(node: NodeId, start: Start) -> Introductions {
    Introductions::new(own(node, u128::from(node.0)), three(), founded(start))
}

/// What nodes have been told, and whether they stop.
#[derive(Default, Debug)]
struct Heard {
    notices: Vec<Notice>,
    stops: usize,
}

/// Lets two nodes exchange what they have to say for as many ticks.
fn meet(one: &mut Introductions, other: &mut Introductions, from_tick: u128, ticks: u128) -> [Heard; 2] {
    let mut heard = [Heard::default(), Heard::default()];
    for now in from_tick..from_tick + ticks {
        one.tick(now);
        other.tick(now);
        loop {
            let first = carry(one, other, &mut heard[0]);
            let second = carry(other, one, &mut heard[1]);
            if !first && !second {
                break;
            }
        }
    }
    heard
}

fn carry(from: &mut Introductions, to: &mut Introductions, heard: &mut Heard) -> bool {
    let mut has_acted = false;
    while let Some(action) = from.take_action() {
        has_acted = true;
        match action {
            Action::Send { to: node, frame } if node == to.own.node => {
                assert!(!matches!(to.receive(from.own.node, frame), Arrival::Malformed(_)));
            }
            Action::Send { .. } => {}
            Action::Remember(registry) => from.on_remembered(registry),
            Action::Tell(notice) => heard.notices.push(notice),
            Action::StopForOtherDisk { .. } | Action::StopForCopy { .. } | Action::StopIfAlone { .. } => {
                heard.stops += 1;
            }
        }
    }
    has_acted
}

fn message() -> Message {
    Message { epoch: Epoch(0), body: Body::Probe(Probe { ballot: Ballot { round: 1, node: TWO } }) }
}

fn hears(listener: &mut Introductions, speaker: &Introductions) -> bool {
    let arrival = listener.receive(speaker.own.node, speaker.frame(&message()));
    match arrival {
        Arrival::Message(bytes) => decode_message(bytes) == Ok(message()),
        _ => false,
    }
}

#[test]
fn messages_are_heard_once_both_have_welcomed_each_other() {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    assert!(!hears(&mut one, &two) && !hears(&mut two, &one), "they have not met");
    let heard = meet(&mut one, &mut two, 0, 1);
    assert!(hears(&mut one, &two) && hears(&mut two, &one));
    assert!(heard.iter().all(|heard| heard.notices.is_empty()), "{heard:?}");
    let mut again = node(TWO, start(2, 22));
    assert!(!hears(&mut one, &again), "it may be another process by now");
    one.receive(TWO, two.farewell());
    meet(&mut one, &mut again, 1, 20);
    assert!(hears(&mut one, &again) && !hears(&mut one, &two), "the later start has taken its place");
}

/// Node 2 was admitted, and has opened many connections in place of ones that seemed to work. Then a later
/// start of it says hello for ten seconds, while as many more connections come with each tick. Returns
/// whether it is heard at the end, and how often it was refused.
fn started_again_after_many_rivals(rivals_per_tick: u64) -> (bool, usize) {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    meet(&mut one, &mut two, 0, 1);
    one.note_rivals(TWO, 100);
    let (mut again, mut refusals) = (node(TWO, start(2, 22)), 0);
    for now in 1..1_000 {
        one.note_rivals(TWO, 100 + rivals_per_tick * u64::try_from(now).expect("it is small"));
        let [heard, _] = meet(&mut one, &mut again, now, 1);
        refusals += heard.notices.len();
    }
    (hears(&mut one, &again), refusals)
}

#[test]
fn a_node_that_was_killed_and_started_several_times_at_once_is_no_copy_of_itself() {
    assert_eq!(started_again_after_many_rivals(0), (true, 0));
    let (is_heard, refusals) = started_again_after_many_rivals(1);
    assert!(!is_heard && refusals > 0, "another process competes with it");
}

#[test]
fn settings_that_differ_are_told_on_both_sides_with_both_values_and_once() {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    two.own.settings.insert(String::from("reads"), String::from("lease"));
    let heard = meet(&mut one, &mut two, 0, 1000);
    assert!(!hears(&mut one, &two) && !hears(&mut two, &one));
    for (heard, peer) in heard.iter().zip(["node 2", "node 1"]) {
        let [notice] = &heard.notices[..] else { panic!("{heard:?}") };
        let line = notice.to_string();
        for word in [peer, "reads is", "quorum", "lease", "this node"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(heard.stops, 0);
    }
    let mut mended = node(TWO, start(2, 22));
    let heard = meet(&mut one, &mut mended, 1000, 200);
    assert!(hears(&mut one, &mended), "a mended peer gets in");
    assert_eq!(heard[0].notices, [Notice::Admitted { peer: TWO }]);
}

/// A node whose program knows no levels.
fn node_without_levels(node: NodeId, start: Start) -> Introductions {
    let own = OwnNode { levels: Levels::UNTOLD, ..own(node, u128::from(node.0)) };
    Introductions::new(own, three(), founded(start))
}

#[test]
fn an_older_program_is_heard_until_a_level_is_finalized_that_it_does_not_know_and_then_refused_by_name() {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node_without_levels(TWO, start(1, 2)));
    meet(&mut one, &mut two, 0, 2);
    assert!(hears(&mut one, &two) && hears(&mut two, &one));
    let newest_of_two = |one: &Introductions| {
        one.known_levels().iter().find(|known| known.node == TWO).map(|known| known.newest)
    };
    assert_eq!(newest_of_two(&one), Some(FormatLevel::FIRST));
    one.set_format_level(FormatLevel(2));
    let heard = meet(&mut one, &mut two, 2, 2);
    assert!(!hears(&mut one, &two), "at once, and not only when it says hello again");
    assert_eq!(newest_of_two(&one), None);
    let told = heard.map(|heard| heard.notices.iter().map(ToString::to_string).collect::<Vec<_>>());
    let [by_one, by_two] = &told;
    assert!(
        by_one[0].starts_with("node 2 is refused: the format level is 1 at most with node 2 and 2 with this")
    );
    assert!(by_two[0].starts_with("node 1 refuses this node: the format level is 1 at most with this node"));
    assert_eq!(by_one.len(), 1, "{by_one:?}");
    one.receive(TWO, two.farewell());
    let mut again = node(TWO, start(2, 22));
    let [heard, _] = meet(&mut one, &mut again, 4, 200);
    assert!(hears(&mut one, &again) && hears(&mut again, &one), "a newer program is welcome");
    assert!(heard.notices.contains(&Notice::Admitted { peer: TWO }), "{heard:?}");
}

#[test]
fn a_node_that_lags_behind_with_a_program_that_knows_the_level_is_heard() {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    one.set_format_level(FormatLevel::NEWEST);
    let heard = meet(&mut one, &mut two, 0, 2);
    assert!(hears(&mut one, &two) && hears(&mut two, &one));
    assert!(heard.iter().all(|heard| heard.notices.is_empty()), "{heard:?}");
}

#[test]
fn a_node_that_was_given_up_in_a_rescue_is_told_so_and_stops_and_one_of_another_cluster_is_only_refused() {
    for (of, gives_up) in [(9, true), (8, false)] {
        let rescued = Registry {
            founding: Some(Founding { id: Some(FoundingId(10)), membership: three() }),
            origin: Some(Origin::Rescue { of: FoundingId(of) }),
            ..founded(start(2, 11))
        };
        let mut one = Introductions::new(own(ONE, 1), three(), rescued);
        one.set_members(&[ONE]);
        one.set_removed(&[TWO, THREE], Epoch(2));
        let mut two = node(TWO, start(2, 2));
        let heard = meet(&mut one, &mut two, 400, 500);
        assert!(!hears(&mut one, &two) && !hears(&mut two, &one));
        assert_eq!(heard[1].stops > 0, gives_up, "{heard:?}");
        let told = heard[1].notices.iter().any(|notice| notice.to_string().contains("removed in epoch 2"));
        assert_eq!(told, gives_up, "{heard:?}");
    }
}

#[test]
fn new_nodes_that_were_not_restored_alike_refuse_each_other_and_an_empty_one_joins_a_restored_cluster() {
    let restored = |node: NodeId, from: &str, registry: Registry| {
        let mut own = own(node, u128::from(node.0));
        if !from.is_empty() {
            own.facts.insert(String::from("restored_from"), from.to_owned());
        }
        Introductions::new(own, three(), registry)
    };
    let new = |number| Registry { start: start(1, number), ..Registry::default() };
    for (from, is_refused) in [("a", false), ("b", true), ("", true)] {
        let (mut one, mut two) = (restored(ONE, "a", new(1)), restored(TWO, from, new(2)));
        let heard = meet(&mut one, &mut two, 0, 100);
        for heard in &heard {
            let told = heard.notices.iter().any(|notice| notice.to_string().contains("restored_from"));
            assert_eq!(told, is_refused, "{from}: {heard:?}");
        }
        let (mut member, mut joins) = (restored(ONE, "a", founded(start(1, 1))), restored(TWO, from, new(2)));
        let heard = meet(&mut member, &mut joins, 0, 100);
        let told = heard[1].notices.iter().any(|notice| notice.to_string().contains("restored_from"));
        assert_eq!(told, from == "b", "{from}: {heard:?}");
    }
}

#[test]
fn an_earlier_start_and_another_one_of_the_same_number_are_refused() {
    for copy in [start(4, 7), start(5, 8)] {
        let mut one = node(ONE, start(1, 1));
        let mut two = node(TWO, start(5, 7));
        meet(&mut one, &mut two, 0, 1);
        let mut copied = node(TWO, copy);
        let heard = meet(&mut one, &mut copied, 1000, 50);
        assert!(!hears(&mut one, &copied) && hears(&mut one, &two), "{copy:?}");
        for heard in &heard {
            assert!(heard.notices.iter().any(|notice| notice.to_string().contains("copy")), "{heard:?}");
        }
        assert_eq!(heard[1].stops, 0, "one of two peers is not most of them");
        // Also after a restart of the peer that knows.
        let mut one =
            Introductions::new(own(ONE, 1), three(), Registry { start: start(2, 3), ..one.durable });
        meet(&mut one, &mut copied, 2000, 200);
        assert!(!hears(&mut one, &copied), "{copy:?}");
        let mut three = node(THREE, start(1, 3));
        meet(&mut three, &mut two, 10, 20);
        let heard = meet(&mut three, &mut copied, 3000, 200);
        assert_eq!(heard[1].stops, 1, "all its peers refuse it: {heard:?}");
        assert!(copied.durable.is_superseded, "and it never starts again");
    }
}

#[test]
fn a_copy_with_a_later_start_is_refused_as_long_as_the_original_is_heard() {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(5, 7)));
    meet(&mut one, &mut two, 0, 1);
    let mut copied = node(TWO, start(6, 8));
    let mut told = Vec::new();
    for now in (1..2000).step_by(20) {
        one.tick(now);
        assert!(hears(&mut one, &two), "the original is not displaced");
        let [heard, _] = meet(&mut one, &mut copied, now, 1);
        told.extend(heard.notices);
        assert!(!hears(&mut one, &copied));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains("copy"), "{told:?}");
    let heard = meet(&mut one, &mut copied, 2200, 200);
    assert!(hears(&mut one, &copied), "the original is silent by now, as after a restart: {heard:?}");
}

fn reach(round: u64, slot: u64) -> Reach {
    Reach { promised: Ballot { round, node: TWO }, slot: Slot(slot) }
}

/// Node two, started on a storage that reaches so far.
fn two_with(start: Start, reach: Reach) -> Introductions {
    let own = OwnNode { reach, ..own(TWO, 2) };
    Introductions::new(own, three(), founded(start))
}

#[test]
fn a_later_start_on_a_storage_that_lacks_something_is_refused() {
    for (held, is_copy) in
        [(reach(2, 5), true), (reach(1, 9), true), (reach(2, 9), false), (reach(3, 10), false)]
    {
        let (mut one, mut three) = (node(ONE, start(1, 1)), node(THREE, start(1, 3)));
        let mut two = two_with(start(5, 7), reach(1, 3));
        meet(&mut one, &mut two, 0, 10);
        meet(&mut one, &mut three, 10, 10);
        one.receive(TWO, two.news(std::iter::empty(), reach(2, 9)));
        meet(&mut one, &mut two, 20, 100);
        assert!(hears(&mut one, &two), "it has stored more since its own hello");
        let mut next = two_with(start(6, 8), held);
        let heard = meet(&mut one, &mut next, 2000, 200);
        assert_eq!(hears(&mut one, &next), !is_copy, "{held:?}");
        assert_eq!(heard[1].notices.iter().any(|notice| notice.to_string().contains("copy")), is_copy);
        // A node that has not heard it is told.
        meet(&mut three, &mut next, 3000, 200);
        assert!(hears(&mut three, &next), "{held:?}");
        three.receive(ONE, one.news(std::iter::empty(), Reach::default()));
        meet(&mut three, &mut next, 4000, 400);
        assert_eq!(hears(&mut three, &next), !is_copy, "{held:?}");
        assert_eq!(next.durable.is_superseded, is_copy, "{held:?}");
    }
}

#[test]
fn another_disk_is_refused_and_stops_only_when_most_peers_know_better() {
    let new = Registry { start: start(1, 77), ..Registry::default() };
    let mut returned = Introductions::new(own(TWO, 22), three(), new);
    let (mut one, mut three) = (node(ONE, start(1, 1)), node(THREE, start(1, 3)));
    let heard = meet(&mut one, &mut returned, 0, 50);
    assert!(!returned.may_take_part() && !hears(&mut one, &returned));
    assert_eq!((heard[0].stops, heard[1].stops), (0, 0));
    for heard in &heard {
        assert!(heard.notices.iter().any(|notice| notice.to_string().contains("another disk")), "{heard:?}");
    }
    let heard = meet(&mut three, &mut returned, 50, 50);
    assert!(heard[0].stops == 0 && heard[1].stops > 0, "{heard:?}");
}

#[test]
fn a_used_disk_from_elsewhere_stops_nobody_healthy() {
    let mut elsewhere = founded(start(3, 3));
    elsewhere.founding = elsewhere.founding.map(|founding| Founding { id: Some(FoundingId(8)), ..founding });
    elsewhere.peers.values_mut().for_each(|peer| peer.storage = StorageId(peer.storage.0 + 100));
    let mut foreign = Introductions::new(own(THREE, 103), three(), elsewhere);
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    meet(&mut one, &mut two, 0, 5);
    for healthy in [&mut one, &mut two] {
        let heard = meet(healthy, &mut foreign, 5, 500);
        assert_eq!(heard[0].stops, 0, "{heard:?}");
        assert!(!heard[0].notices.is_empty() && !heard[1].notices.is_empty(), "{heard:?}");
        assert!(!hears(healthy, &foreign));
    }
    assert!(hears(&mut one, &two) && hears(&mut two, &one));
}

#[test]
fn a_storage_that_two_nodes_have_is_refused() {
    let mut one = node(ONE, start(1, 1));
    let mut two = Introductions::new(own(TWO, 1), three(), founded(start(1, 2)));
    let heard = meet(&mut one, &mut two, 0, 50);
    assert!(!hears(&mut one, &two));
    assert!(heard[0].notices[0].to_string().contains("also that of another node"), "{heard:?}");
}

#[test]
fn a_node_that_is_no_member_is_told_so() {
    let (mut one, mut four) = (node(ONE, start(1, 1)), node(NodeId(4), start(1, 4)));
    four.own.settings.insert(String::from("members"), String::from("1,2,3,4"));
    let heard = meet(&mut one, &mut four, 0, 500);
    assert_eq!(heard[0].notices, [Notice::Stranger { node: NodeId(4), was_removed: false }]);
    assert!(!hears(&mut one, &four));
}

#[test]
fn a_node_that_was_removed_and_has_come_back_on_another_disk_is_told_apart_from_one_that_never_was_a_member()
{
    let (mut one, mut four) = (node(ONE, start(1, 1)), node(NodeId(4), start(1, 4)));
    one.set_removed(&[NodeId(4)], Epoch(3));
    four.own.settings.insert(String::from("members"), String::from("1,2,3,4"));
    let heard = meet(&mut one, &mut four, 0, 500);
    assert_eq!(heard[0].notices, [Notice::Stranger { node: NodeId(4), was_removed: true }]);
    assert!(heard[0].notices[0].to_string().contains("was removed from this cluster"), "{heard:?}");
}

/// The hellos to a node among what is to be done.
fn hellos(node: &mut Introductions, to: NodeId) -> usize {
    let is_hello = |action: Action| match action {
        Action::Send { to: node, frame } => {
            node == to && matches!(frame::decode(frame), Ok((_, Contents::Hello(hello))) if hello.asks)
        }
        _ => false,
    };
    std::iter::from_fn(|| node.take_action()).filter_map(|action| is_hello(action).then_some(())).count()
}

/// Nodes 1 and 2 were introduced. Node 2 was cut off, removed and forgotten by node 1, and knows nothing of
/// it.
fn one_that_has_forgotten_two() -> (Introductions, Introductions) {
    let (mut one, mut two) = (node(ONE, start(1, 1)), node(TWO, start(1, 2)));
    meet(&mut one, &mut two, 0, 1);
    one.set_members(&[ONE, THREE]);
    one.tick(SILENCE_TICKS);
    assert!(hears(&mut two, &one), "node 2 still takes both for introduced");
    assert!(!hears(&mut one, &two), "node 1 has forgotten it");
    (one, two)
}

#[test]
fn a_forgotten_node_that_takes_itself_for_introduced_is_asked_and_heard_as_a_guest() {
    let (mut one, mut two) = one_that_has_forgotten_two();
    meet(&mut one, &mut two, SILENCE_TICKS, 2 * HELLO_TICKS);
    assert!(hears(&mut one, &two), "so that it can be told of its removal");
    assert!(one.peers[&TWO].is_guest);
}

#[test]
fn strangers_that_speak_are_asked_once_in_a_while_and_only_if_there_is_room() {
    let (mut one, two) = one_that_has_forgotten_two();
    assert_eq!(hellos(&mut one, TWO), 1);
    for frame in [two.frame(&message()), two.farewell()] {
        assert_eq!(one.receive(TWO, frame), Arrival::Consumed);
        assert_eq!(hellos(&mut one, TWO), 0, "not again within {HELLO_TICKS} ticks");
    }
    one.tick(SILENCE_TICKS + HELLO_TICKS);
    hellos(&mut one, TWO);
    one.receive(TWO, two.farewell());
    assert_eq!(hellos(&mut one, TWO), 0, "it leaves anyway");
    one.receive(TWO, two.frame(&message()));
    assert_eq!(hellos(&mut one, TWO), 1);
    let now = SILENCE_TICKS + 2 * HELLO_TICKS;
    for id in (4..).take(MAX_GUESTS) {
        meet(&mut one, &mut node(NodeId(id), start(1, id)), now, 1);
    }
    assert_eq!(one.peers.values().filter(|peer| peer.is_guest).count(), MAX_GUESTS);
    one.receive(TWO, two.frame(&message()));
    assert_eq!(hellos(&mut one, TWO), 0, "there are as many guests as there may be");
}

#[test]
fn a_node_that_belongs_to_no_cluster_asks_no_stranger() {
    let new = Registry { start: start(1, 1), ..Registry::default() };
    let mut one = Introductions::new(own(ONE, 1), three(), new);
    one.receive(NodeId(4), node(NodeId(4), start(1, 4)).frame(&message()));
    assert_eq!(hellos(&mut one, NodeId(4)), 0);
}

#[test]
fn who_waits_for_founders_says_so_by_name() {
    let new = |nonce| Registry { start: start(1, nonce), ..Registry::default() };
    let mut one = Introductions::new(own(ONE, 1), three(), new(1));
    let mut two = Introductions::new(own(TWO, 2), three(), new(2));
    let heard = meet(&mut one, &mut two, 0, 1000);
    assert!(!one.may_take_part() && one.missing() == [THREE]);
    let lines: Vec<String> = heard[0].notices.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("waiting to meet node 3: a new cluster is founded when all its nodes have met"),
        "{lines:?}"
    );
}

#[test]
fn old_data_counts_as_founded_and_its_founding_gets_the_same_name_everywhere() {
    let unnamed = |own: NodeId| {
        let mut registry = founded(start(1, own.0));
        registry.founding = registry.founding.map(|founding| Founding { id: None, ..founding });
        registry
    };
    let mut one =
        Introductions::new(own(ONE, 1), three(), Registry { peers: BTreeMap::new(), ..unnamed(ONE) });
    let mut two = Introductions::new(own(TWO, 2), three(), unnamed(TWO));
    meet(&mut one, &mut two, 0, 5);
    assert!(hears(&mut one, &two) && hears(&mut two, &one), "they go on before it has a name");
    assert_eq!(one.founding().map(|founding| founding.id), Some(None), "it has not met all");
    let mut three = Introductions::new(own(THREE, 3), three(), unnamed(THREE));
    meet(&mut one, &mut three, 5, 5);
    let name = |node: &Introductions| node.founding().and_then(|founding| founding.id);
    assert!(name(&one).is_some());
    assert_eq!((name(&one), name(&two)), (name(&two), name(&three)));
}
