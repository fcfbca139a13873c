//! The log for `openraft` that its author has made for a server of his own: `raft-log`, which syncs on a
//! thread beside.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, Membership, OptionalSend};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::codeq::{Decode, Encode};
use raft_log::{Callback, Config, RaftLog};
use tokio::sync::oneshot;

use super::open_raft::{Command, Types, lock};

/// How long it waits for more before it syncs. Its default of a millisecond is what one client would wait for
/// most; with none at all it would not even take what has queued.
const BATCH_WAIT: Duration = Duration::from_micros(20);

/// A log in files of one directory.
#[derive(Clone)]
pub struct DiskLog(Arc<Mutex<RaftLog<LogTypes>>>);

/// Term and node of a leader.
type Leader = (u64, u64);

/// What `raft-log` keeps.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = (Leader, u64);
    type LogPayload = Payload;
    type Vote = (Leader, bool);
    type Callback = Flushed;
    type UserData = ();

    fn log_index(id: &(Leader, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &Payload) -> u64 {
        match &payload.0 {
            EntryPayload::Normal(command) => command.0.len() as u64,
            _ => 0,
        }
    }
}

/// Who waits for a sync.
pub enum Flushed {
    /// An append.
    Append(IOFlushed<Types>),
    /// A vote.
    Vote(oneshot::Sender<io::Result<()>>),
}

impl Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        match self {
            Flushed::Append(flushed) => flushed.io_completed(result),
            Flushed::Vote(waits) => drop(waits.send(result)), // It may have stopped.
        }
    }
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub struct Payload(EntryPayload<Command, u64, ()>);

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

impl Encode for Payload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        match &self.0 {
            EntryPayload::Blank => BLANK.encode(&mut writer),
            EntryPayload::Normal(Command(bytes)) => {
                let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                let head = NORMAL.encode(&mut writer)? + length.encode(&mut writer)?;
                writer.write_all(bytes)?;
                Ok(head + bytes.len())
            }
            EntryPayload::Membership(membership) => {
                let voters: Vec<u64> = membership.voter_ids().collect();
                let mut written =
                    MEMBERSHIP.encode(&mut writer)? + (voters.len() as u64).encode(&mut writer)?;
                for voter in voters {
                    written += voter.encode(&mut writer)?;
                }
                Ok(written)
            }
        }
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Payload> {
        Ok(Payload(match u8::decode(&mut reader)? {
            BLANK => EntryPayload::Blank,
            NORMAL => {
                let mut bytes = vec![0; u32::decode(&mut reader)? as usize];
                reader.read_exact(&mut bytes)?;
                EntryPayload::Normal(Command(Bytes::from(bytes)))
            }
            _ => {
                let count = u64::decode(&mut reader)?;
                let voters = (0..count).map(|_| u64::decode(&mut reader)).collect::<io::Result<_>>()?;
                EntryPayload::Membership(Membership::new_with_defaults(vec![voters], []))
            }
        }))
    }
}

impl DiskLog {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// If it can't be made in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> DiskLog {
        std::fs::create_dir_all(directory).expect("there is room for a directory");
        let mut config = Config::new(directory.display());
        config.wal.flush_batch_wait = Some(BATCH_WAIT);
        let log = RaftLog::open(Arc::new(config)).expect("a new directory takes a log");
        DiskLog(Arc::new(Mutex::new(log)))
    }
}

impl RaftLogReader<Types> for DiskLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<EntryOf<Types>>> {
        let from = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let log = lock(&self.0);
        let entry = |read: io::Result<(_, Payload)>| {
            read.map(|(id, payload)| EntryOf::<Types>::new(log_id(&id), payload.0))
        };
        log.read(from, to).map(entry).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        let log = lock(&self.0);
        let vote = log.log_state().vote();
        Ok(vote.map(|&((term, node_id), committed)| VoteOf::<Types> {
            leader_id: LeaderId { term, node_id },
            committed,
        }))
    }
}

impl RaftLogStorage<Types> for DiskLog {
    type LogReader = DiskLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = lock(&self.0);
        let purged = log.log_state().purged().map(log_id);
        let last = log.log_state().last().map(log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> DiskLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        let (waits, flushed) = oneshot::channel();
        {
            let mut log = lock(&self.0);
            log.save_vote(((vote.leader_id.term, vote.leader_id.node_id), vote.committed))?;
            log.flush(true, Some(Flushed::Vote(waits)))?;
        }
        flushed.await.map_err(io::Error::other)?
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = lock(&self.0);
        log.append(entries.into_iter().map(|entry| (record(&entry.log_id), Payload(entry.payload))))?;
        log.flush(true, Some(Flushed::Append(callback)))
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        lock(&self.0).truncate(last.map_or(0, |last| last.index() + 1)).map(drop)
    }

    async fn purge(&mut self, last: LogIdOf<Types>) -> io::Result<()> {
        lock(&self.0).purge(record(&last)).map(drop)
    }
}

fn record(id: &LogIdOf<Types>) -> (Leader, u64) {
    ((id.leader_id.term, id.leader_id.node_id), id.index())
}

fn log_id(&((term, node_id), index): &(Leader, u64)) -> LogIdOf<Types> {
    LogIdOf::<Types>::new(LeaderId { term, node_id }, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back() {
        let membership = Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
        let command = Command(Bytes::from_static(b"command"));
        for payload in
            [EntryPayload::Blank, EntryPayload::Normal(command), EntryPayload::Membership(membership)]
        {
            let mut bytes = Vec::new();
            let written = Payload(payload.clone()).encode(&mut bytes).expect("memory takes it");
            assert_eq!(written, bytes.len());
            assert_eq!(Payload::decode(&bytes[..]).expect("it was written so").0, payload);
        }
    }
}
