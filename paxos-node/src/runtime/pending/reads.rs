//! Reads of this node's clients.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paxos_core::{ReadId, Time};

use super::Reply;
use crate::client::ClientError;

/// Reads that wait until the state is recent enough; reads that came in one turn form a group.
#[derive(Debug)]
pub(crate) struct PendingReads {
    next: ReadId,
    groups: BTreeMap<ReadId, ReadGroup>,
    retry_interval: Duration,
}

#[derive(Debug)]
struct ReadGroup {
    replies: Vec<Reply<Time>>,
    deadline: Instant,
    next_attempt: Instant,
}

impl PendingReads {
    /// `first` must be random: a late answer to a read from before a restart must not be taken for one to a
    /// new read.
    pub(crate) fn new(first: ReadId, retry_interval: Duration) -> PendingReads {
        PendingReads { next: first, groups: BTreeMap::new(), retry_interval }
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn add(&mut self, replies: Vec<Reply<Time>>, now: Instant, deadline: Instant) {
        self.groups.insert(self.next, ReadGroup { replies, deadline, next_attempt: now });
        self.next = ReadId(self.next.0.wrapping_add(1));
    }

    pub(crate) fn retry_all(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.next_attempt = now;
        }
    }

    pub(crate) fn due(&mut self, now: Instant) -> Vec<ReadId> {
        let due = self.groups.iter_mut().filter(|(_, group)| group.next_attempt <= now);
        due.map(|(read, group)| {
            group.next_attempt = now + self.retry_interval;
            *read
        })
        .collect()
    }

    /// The replica could not serve the read: it is tried again after `pause`.
    pub(crate) fn given_back(&mut self, read: ReadId, now: Instant, pause: Duration) {
        if let Some(group) = self.groups.get_mut(&read) {
            group.next_attempt = now + pause;
        }
    }

    /// The read may be answered, by this time of the leader.
    pub(crate) fn on_ready(&mut self, read: ReadId, time: Time) {
        for reply in self.groups.remove(&read).into_iter().flat_map(|group| group.replies) {
            let _ = reply.send(Ok(time));
        }
    }

    /// Answers everything whose deadline has passed. A read that fails has changed nothing.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.groups.retain(|_, group| {
            let expired = group.deadline <= now;
            if expired {
                group.refuse(ClientError::NotApplied);
            }
            !expired
        });
    }

    /// Answers everything, as the node stops.
    pub(crate) fn stop(&mut self) {
        self.refuse_all(ClientError::NotApplied);
    }

    /// Answers everything. A read that fails has changed nothing.
    pub(crate) fn refuse_all(&mut self, error: ClientError) {
        for mut group in std::mem::take(&mut self.groups).into_values() {
            group.refuse(error);
        }
    }
}

impl ReadGroup {
    fn refuse(&mut self, error: ClientError) {
        for reply in self.replies.drain(..) {
            let _ = reply.send(Err(error));
        }
    }
}
