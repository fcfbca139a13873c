//! State machines that are slow, looked at for long, or panic: `src/runtime/applier.rs` and `applying.rs`.
#![cfg(feature = "memory")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_node::{ApplyMode, ClientError, Node, NodeError};
use tokio::time::{sleep, timeout};

use support::embedded::{
    Lengths, PATIENCE, POISON, PROMPTLY, RIDDLE, alone, assert_led_on, led, start, start_alone,
};

async fn a_slow_state_machine_costs_no_election() {
    let machine = Lengths { pause: Duration::from_secs(1), ..Lengths::default() };
    let (nodes, _) = start(|_| {}, &machine);
    let leader = led(&nodes).await;
    let client = nodes[leader].client();
    let command = tokio::spawn(async move {
        client.propose(Bytes::from_static(b"one")).await?;
        client.propose(Bytes::from_static(b"two")).await
    });
    assert_led_on(&nodes, leader, Duration::from_secs(3)).await;
    let applied = timeout(PATIENCE, command).await.expect("in time").expect("no panic").expect("applied");
    assert_eq!(applied.response, Bytes::copy_from_slice(&6u64.to_le_bytes()));
    for node in nodes {
        let since = Instant::now();
        node.stop().await.expect("it stops");
        assert!(since.elapsed() < PROMPTLY);
    }
}

#[tokio::test]
async fn a_slow_state_machine_costs_no_election_on_one_thread() {
    a_slow_state_machine_costs_no_election().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_state_machine_costs_no_election_on_many_threads() {
    a_slow_state_machine_costs_no_election().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_that_takes_long_costs_no_election_though_others_are_applied_inline() {
    let machine = Lengths { pause: Duration::from_secs(1), ..Lengths::default() };
    let (nodes, _) = start(|settings| settings.applying = ApplyMode::Inline, &machine);
    let leader = led(&nodes).await;
    let client = nodes[leader].client();
    let command = tokio::spawn(async move { client.propose(Bytes::from_static(b"long")).await });
    assert_led_on(&nodes, leader, Duration::from_secs(2)).await;
    let applied = timeout(PATIENCE, command).await.expect("in time").expect("no panic").expect("applied");
    assert_eq!(applied.response, Bytes::copy_from_slice(&4u64.to_le_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slot_of_many_commands_costs_no_election_though_they_are_applied_inline() {
    const COMMANDS: u64 = 50;
    let machine = Lengths { pause: Duration::from_millis(40), ..Lengths::default() };
    let (nodes, _) = start(|settings| settings.applying = ApplyMode::Inline, &machine);
    let leader = led(&nodes).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..COMMANDS {
        let client = nodes[leader].client();
        asked.spawn(async move { client.propose(Bytes::from_static(b"one")).await });
    }
    assert_led_on(&nodes, leader, Duration::from_secs(3)).await;
    let answers = timeout(PATIENCE, asked.join_all()).await.expect("in time");
    let mut sums = Vec::new();
    for answer in answers {
        let response = answer.expect("applied").response;
        sums.push(u64::from_le_bytes(response[..].try_into().expect("a sum")));
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=COMMANDS).map(|place| 3 * place).collect::<Vec<_>>(), "each once");
}

#[tokio::test]
async fn what_a_slow_state_machine_has_to_do_is_bounded() {
    let machine = Lengths { pause: Duration::from_millis(50), ..Lengths::default() };
    let node = start_alone(alone(), machine).await;
    let mut refused = 0;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..200 {
        for _ in 0..64 {
            let client = node.client();
            asked.spawn(async move { client.propose(Bytes::from(vec![0; 16 << 10])).await });
        }
        sleep(Duration::from_millis(5)).await; // So that few share a slot.
        while let Some(answer) = asked.try_join_next() {
            refused += usize::from(answer.expect("no panic") == Err(ClientError::Overloaded));
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "commands were taken without end");
    asked.abort_all();
    let since = Instant::now();
    node.stop().await.expect("it stops");
    assert!(since.elapsed() < PROMPTLY);
}

#[tokio::test]
async fn a_look_at_the_state_that_is_held_for_long_stops_no_node() {
    for applying in [ApplyMode::Thread, ApplyMode::Inline] {
        let (nodes, _) = start(|settings| settings.applying = applying, &Lengths::default());
        let leader = led(&nodes).await;
        let client = nodes[leader].client();
        let state = client.read().await.expect("it leads");
        let proposing = client.clone();
        let command = tokio::spawn(async move { proposing.propose(Bytes::from_static(b"one")).await });
        assert_led_on(&nodes, leader, Duration::from_secs(2)).await;
        assert!(!command.is_finished(), "the state is looked at, so it does not change");
        assert_eq!(state.sum, 0);
        drop(state);
        timeout(PATIENCE, command).await.expect("in time").expect("no panic").expect("applied");
        assert_eq!(client.read_with(|state| state.sum).await, Ok(3));
    }
}

#[tokio::test]
async fn a_panic_of_the_state_machine_is_told_as_such_with_its_slot() {
    for applying in [ApplyMode::Thread, ApplyMode::Inline] {
        let mut node =
            start_alone(alone().with(|settings| settings.applying = applying), Lengths::default()).await;
        let client = node.client();
        let slot = client.propose(Bytes::from_static(b"one")).await.expect("it leads").slot;
        let refused = client.propose(Bytes::from_static(POISON)).await;
        assert_eq!(refused, Err(ClientError::OutcomeUnknown));
        let error = timeout(PATIENCE, node.failed()).await.expect("it fails in time");
        let said = error.to_string();
        assert!(
            matches!(error, NodeError::StateMachinePanicked { slot: at, message }
                if at > slot && message == "this command is poison"),
            "{said}"
        );
        assert_eq!(client.read_stale_with(|state| state.sum).await, Err(ClientError::Stopped));
        assert_eq!(client.read_with(|state| state.sum).await, Err(ClientError::Stopped));
        let again = node.failed().await;
        assert!(matches!(&again, NodeError::AlreadyFailed { cause } if *cause == said), "{again}");
        let stopped = node.stop().await.expect_err("it had failed");
        assert_eq!(stopped.to_string(), said);
    }
}

/// Asserts that the node has failed by a panic of its state machine at a [`RIDDLE`].
async fn assert_failed_at_riddle(mut node: Node<Lengths>) {
    let error = timeout(PATIENCE, node.failed()).await.expect("it fails in time");
    assert!(
        matches!(&error, NodeError::StateMachinePanicked { message, .. } if message == "this command is a riddle"),
        "{error}"
    );
}

#[tokio::test]
async fn a_state_machine_that_panics_when_asked_what_a_command_costs_is_told_of() {
    let node =
        start_alone(alone().with(|settings| settings.applying = ApplyMode::Inline), Lengths::default()).await;
    node.client().propose(Bytes::from_static(RIDDLE)).await.expect_err("it is never answered");
    assert_failed_at_riddle(node).await;

    let node =
        start_alone(alone().with(|settings| settings.memory_limit_bytes = Some(1)), Lengths::default()).await;
    let client = node.client();
    let is_short = async || client.propose(Bytes::from_static(b"one")).await == Err(ClientError::NoMemory);
    let fill = async { while !is_short().await {} };
    timeout(PATIENCE, fill).await.expect("memory is short in time");
    client.propose(Bytes::from_static(RIDDLE)).await.expect_err("it is never answered");
    assert_failed_at_riddle(node).await;
}
