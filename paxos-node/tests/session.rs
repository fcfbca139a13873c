//! A command that a client sends again is applied once, whichever node it asks: `src/session.rs`.
#![cfg(feature = "memory")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use paxos_core::NodeId;
use paxos_node::{Client, ClientError, ClientSession, Node, NodeSettings, SessionPosition};
use paxos_storage::{Identity, memory::MemoryStorage};
use paxos_transport::memory::MemoryNetwork;
use tokio::time::timeout;

use support::embedded::{Lengths, PATIENCE, led};

const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

async fn start(machine: Lengths, change: impl Fn(&mut NodeSettings)) -> Vec<Node<Lengths>> {
    let network = MemoryNetwork::new();
    let start = |id: NodeId| {
        let mut settings = NodeSettings::new(id, MEMBERS.to_vec());
        change(&mut settings);
        let storage = Box::new(MemoryStorage::new(Identity::new("sessions", id)));
        Node::start(settings, Box::new(network.bind(id)), storage, machine.clone()).expect("it starts")
    };
    let nodes: Vec<_> = MEMBERS.into_iter().map(start).collect();
    led(&nodes).await;
    nodes
}

/// Nodes of which the first gives its clients no time, so that it does not know what becomes of their
/// commands.
async fn start_with_an_impatient_node() -> Vec<Node<Lengths>> {
    let machine = Lengths { pause: Duration::from_millis(400), ..Lengths::default() };
    start(machine, |settings| {
        if settings.node == MEMBERS[0] {
            settings.request_timeout = Duration::from_millis(200);
        }
    })
    .await
}

async fn sum(client: &Client<Lengths>) -> u64 {
    timeout(PATIENCE, client.read_with(|state| state.sum)).await.expect("in time").expect("there is a leader")
}

/// Asks until there is a session: opening one takes no longer than a command.
async fn session(client: &Client<Lengths>) -> ClientSession<Lengths> {
    loop {
        match client.open_session().await {
            Ok(session) => return session,
            Err(ClientError::OutcomeUnknown | ClientError::NotApplied) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_command_sent_again_through_another_node_is_applied_once() {
    let nodes = start_with_an_impatient_node().await;
    let mut session = session(&nodes[0].client()).await;
    let before = session.position();
    let command = Bytes::from_static(b"one");
    assert_eq!(session.propose(command.clone()).await, Err(ClientError::OutcomeUnknown));
    assert_eq!(session.unanswered(), Some(&command));
    assert_eq!(session.propose(Bytes::from_static(b"other")).await, Err(ClientError::Unanswered));
    session.move_to(nodes[1].client());
    let first = session.propose(command.clone()).await.expect("this node has time");
    assert_eq!(first.response, Bytes::copy_from_slice(&3u64.to_le_bytes()));
    assert_eq!(session.unanswered(), None);
    // A client that has crashed meanwhile goes on from what it has stored.
    let mut resumed = ClientSession::resume(nodes[2].client(), before);
    assert_eq!(resumed.propose(command.clone()).await, Ok(first));
    assert_eq!(sum(&nodes[2].client()).await, 3, "it was sent three times");
    assert_eq!(resumed.position(), session.position());
    let next = session.propose(Bytes::from_static(b"two")).await.expect("this node has time");
    assert_eq!(next.response, Bytes::copy_from_slice(&6u64.to_le_bytes()));
    let mut old = ClientSession::resume(nodes[2].client(), before);
    assert_eq!(old.propose(command).await, Err(ClientError::SessionAhead));
    assert_eq!(sum(&nodes[2].client()).await, 6);
}

#[tokio::test]
async fn without_a_session_each_call_is_a_command_of_its_own() {
    let nodes = start(Lengths::default(), |_| {}).await;
    let command = Bytes::from_static(b"one");
    nodes[0].client().propose(command.clone()).await.expect("there is a leader");
    nodes[1].client().propose(command).await.expect("there is a leader");
    assert_eq!(sum(&nodes[2].client()).await, 6);
}

/// Has a command sent, and does not wait for its answer.
async fn propose_and_drop(session: &mut ClientSession<Lengths>, command: &Bytes) {
    let proposing = session.propose(command.clone());
    tokio::pin!(proposing);
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(proposing.as_mut().poll(context)));
    assert!(polled.await.is_pending());
}

#[tokio::test]
async fn a_dropped_proposal_is_unanswered_and_applied_once_when_it_is_made_again() {
    let nodes = start(Lengths::default(), |_| {}).await;
    let mut session = session(&nodes[0].client()).await;
    let command = Bytes::from_static(b"one");
    propose_and_drop(&mut session, &command).await;
    assert_eq!(session.unanswered(), Some(&command));
    session.propose(command).await.expect("there is a leader");
    assert_eq!(sum(&nodes[0].client()).await, 3);
}

#[tokio::test]
async fn a_session_outlives_the_node_that_it_was_opened_at() {
    let mut nodes = start(Lengths::default(), |_| {}).await;
    let mut session = session(&nodes[0].client()).await;
    session.propose(Bytes::from_static(b"one")).await.expect("there is a leader");
    nodes.remove(0).stop().await.expect("it stops");
    let gone = session.propose(Bytes::from_static(b"two")).await;
    assert_eq!(gone, Err(ClientError::Stopped), "it was not sent, so it is not unanswered");
    session.move_to(nodes[0].client());
    let moved = timeout(PATIENCE, async {
        loop {
            match session.propose(Bytes::from_static(b"two")).await {
                Ok(applied) => return applied,
                Err(ClientError::OutcomeUnknown | ClientError::NotApplied) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let applied = moved.await.expect("two nodes elect a leader in time");
    assert_eq!(applied.response, Bytes::copy_from_slice(&6u64.to_le_bytes()));
}

#[tokio::test]
async fn a_session_that_was_dropped_says_so_and_one_given_up_goes_on() {
    let nodes = start(Lengths::default(), |settings| settings.sessions.sessions = 4).await;
    let client = nodes[0].client();
    let mut first = session(&client).await;
    first.give_up();
    assert_eq!(first.position().next, 1, "there was nothing to give up");
    first.propose(Bytes::from_static(b"one")).await.expect("there is a leader");
    for _ in 0..8 {
        session(&client).await;
    }
    assert_eq!(first.propose(Bytes::from_static(b"two")).await, Err(ClientError::SessionLost));
    assert_eq!(sum(&client).await, 3);
}

#[tokio::test]
async fn a_reply_too_long_to_keep_is_no_reason_to_apply_twice() {
    let nodes = start(Lengths::default(), |settings| settings.sessions.reply_bytes = 4).await;
    let mut session = session(&nodes[0].client()).await;
    let before = session.position();
    let applied = session.propose(Bytes::from_static(b"one")).await.expect("there is a leader");
    // Where it is applied already: elsewhere the answer may be that to the first time.
    let mut resumed = ClientSession::resume(nodes[0].client(), before);
    let again = resumed.propose(Bytes::from_static(b"one")).await;
    assert_eq!(again, Err(ClientError::AppliedBefore { slot: applied.slot }));
    assert_eq!(resumed.position(), session.position());
    assert_eq!(sum(&nodes[2].client()).await, 3);
}

#[tokio::test]
async fn a_command_that_will_never_be_applied_under_its_number_is_told_of_as_such() {
    let nodes = start(Lengths::default(), |_| {}).await;
    let client = nodes[0].client();
    let mut first = session(&client).await;
    let mut second = ClientSession::resume(client.clone(), first.position());
    // Dropped as soon as it is sent; meanwhile another holder of the session goes on.
    propose_and_drop(&mut first, &Bytes::from_static(b"one")).await;
    for _ in 0..2 {
        second.propose(Bytes::from_static(b"one")).await.expect("there is a leader");
    }
    assert_eq!(first.propose(Bytes::from_static(b"one")).await, Err(ClientError::SessionAhead));

    let too_large = Bytes::from(vec![0; NodeSettings::MAX_COMMAND_BYTES]);
    propose_and_drop(&mut second, &too_large).await;
    assert!(matches!(second.propose(too_large).await, Err(ClientError::TooLarge { .. })));
    assert_eq!(sum(&client).await, 6, "each number once");
}

#[tokio::test]
async fn a_position_that_no_session_has_is_refused() {
    let nodes = start(Lengths::default(), |_| {}).await;
    let client = nodes[0].client();
    let position = session(&client).await.position();
    for (next, error) in [(0, ClientError::SessionAhead), (u64::MAX, ClientError::SessionLost)] {
        let mut resumed = ClientSession::resume(client.clone(), SessionPosition { next, ..position });
        assert_eq!(resumed.propose(Bytes::from_static(b"one")).await, Err(error));
    }
    assert_eq!(sum(&client).await, 0);
}
