//! Peers that catch up here, and this node's own catching up: as much in each turn as there is time for.

use std::collections::VecDeque;

use paxos_core::{Input, Message, NodeId};

use super::Driver;
use crate::error::NodeError;
use crate::state_machine::StateMachine;

/// How many questions for chosen values are answered in a turn: each answer may hold thousands of slots.
const ANSWERED_IN_A_TURN: usize = 4;
/// How many may wait. One that is dropped is asked again.
const MAX_WAITING: usize = 1024;

/// Questions of peers for chosen values that wait for an answer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    waiting: VecDeque<(NodeId, Message)>,
    /// Whether the replica asks for nothing, as this node is behind with applying.
    is_paused: bool,
    /// How often the replica had dropped what a peer was fetching, when that was last logged.
    outpaced: u64,
}

impl Fetches {
    pub(super) fn put(&mut self, from: NodeId, fetch: Message) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((from, fetch));
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<S: StateMachine> Driver<S> {
    /// Answers peers that ask for chosen values.
    pub(super) fn answer_fetches(&mut self) -> Result<(), NodeError> {
        for _ in 0..ANSWERED_IN_A_TURN {
            let Some((from, message)) = self.peers.fetches.waiting.pop_front() else { break };
            self.step(Input::Receive { from, message })?;
        }
        Ok(())
    }

    /// Lets the replica ask for chosen values only while this node keeps up with applying.
    pub(super) fn pause_fetching_if_behind(&mut self) -> Result<(), NodeError> {
        let is_paused = self.is_behind();
        if std::mem::replace(&mut self.peers.fetches.is_paused, is_paused) != is_paused {
            self.step(Input::PauseFetching { is_paused })?;
        }
        Ok(())
    }

    /// Tells of a peer that fetches too slowly to be waited for.
    pub(super) fn tell_outpaced(&mut self) {
        if let Some((peer, times)) = self.replica.outpaced()
            && times > self.peers.fetches.outpaced
        {
            self.peers.fetches.outpaced = times;
            tracing::warn!(
                peer = peer.0,
                "a node that catches up here fetches more slowly than the log grows, and the log kept for it is too long: it has to begin anew; it needs a faster link, or fewer writes meanwhile"
            );
        }
    }
}
