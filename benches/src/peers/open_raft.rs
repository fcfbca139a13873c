//! `openraft`, which brings its own tasks: only the log, the state machine and the ways between nodes are
//! ours.
//!
//! As in the benchmark of its authors these are the least that works: a map in memory, a state machine that
//! keeps nothing, and calls of the other node's handle; appends are passed on as a stream, which lets them
//! overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};
use std::future::Future;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::{Config, EntryPayload, OptionalSend, Raft};

/// How often a new leader is asked whether it takes commands.
const FIRST_COMMANDS: usize = 2000;
const FIRST_COMMAND_PAUSE: Duration = Duration::from_millis(10);

/// A command.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

impl Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

impl Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, formatter)
    }
}

/// What the state machine answers: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

openraft::declare_raft_types!(
    /// The types that openraft is used with.
    pub Types: D = Command, R = Applied, Node = ()
);

/// The handles of all nodes, by id.
#[derive(Clone, Default)]
pub struct Nodes(Arc<Mutex<BTreeMap<u64, Raft<Types, State>>>>);

impl Nodes {
    /// Starts node `id` with `log` on the runtime that this is called on.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub async fn start(&self, id: u64, log: impl RaftLogStorage<Types>) {
        let config = Config {
            election_timeout_min: 500,
            election_timeout_max: 1000,
            heartbeat_interval: 50,
            purge_batch_size: 1024,
            max_payload_entries: 1024,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("the settings fit together"));
        let raft = Raft::new(id, config, self.clone(), log, State::default()).await;
        lock(&self.0).insert(id, raft.expect("a new log is in order"));
    }

    /// Makes all nodes a cluster, and waits until one leads.
    ///
    /// # Panics
    ///
    /// If none does within 20 seconds, or takes no command in as long.
    pub async fn elect(&self) -> u64 {
        let nodes = lock(&self.0).clone();
        let (_, first) = nodes.first_key_value().expect("there are nodes");
        let members = nodes.keys().copied().collect::<BTreeSet<u64>>();
        first.initialize(members).await.expect("the cluster is new");
        let timeout = Some(Duration::from_secs(20));
        let elected =
            first.wait(timeout).metrics(|metrics| metrics.current_leader.is_some(), "a leader").await;
        let leader = elected.expect("a leader gets elected").current_leader.expect("that was waited for");
        // It takes commands only from when a quorum has heard of it.
        for _ in 0..FIRST_COMMANDS {
            if nodes[&leader].client_write(Command(Bytes::new())).await.is_ok() {
                return leader;
            }
            tokio::time::sleep(FIRST_COMMAND_PAUSE).await;
        }
        panic!("the leader takes no commands")
    }

    /// Has `command` committed by `leader`.
    ///
    /// # Panics
    ///
    /// If it does not lead any more.
    pub async fn commit(leader: &Raft<Types, State>, command: Bytes) {
        leader.client_write(Command(command)).await.expect("the leader stays where nothing fails");
    }

    /// The handle of node `id`.
    ///
    /// # Panics
    ///
    /// If it was not started.
    #[must_use]
    pub fn node(&self, id: u64) -> Raft<Types, State> {
        lock(&self.0)[&id].clone()
    }
}

impl RaftNetworkFactory<Types> for Nodes {
    type Network = Way;

    async fn new_client(&mut self, target: u64, (): &()) -> Way {
        Way { nodes: self.clone(), target }
    }
}

/// The way to another node.
pub struct Way {
    nodes: Nodes,
    target: u64,
}

fn unreachable<E: std::error::Error + 'static>(error: E) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.nodes.node(self.target).append_entries(request).await.map_err(unreachable)
    }

    fn stream_append<S>(
        &mut self,
        input: S,
        _: RPCOption,
    ) -> openraft::base::BoxFuture<
        '_,
        Result<
            openraft::base::BoxStream<'_, Result<StreamAppendResult<Types>, RPCError<Types>>>,
            RPCError<Types>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let results = self.nodes.node(self.target).stream_append(input).map_err(unreachable);
        Box::pin(async move { Ok(results.boxed()) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.nodes.node(self.target).vote(request).await.map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let installed = self.nodes.node(self.target).install_full_snapshot(vote, snapshot).await;
        installed.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }
}

/// A log in memory.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<LogContents>>);

#[derive(Default)]
struct LogContents {
    vote: Option<VoteOf<Types>>,
    entries: BTreeMap<u64, EntryOf<Types>>,
    purged: Option<LogIdOf<Types>>,
}

impl RaftLogReader<Types> for MemoryLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<EntryOf<Types>>> {
        Ok(lock(&self.0).entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(lock(&self.0).vote)
    }
}

impl RaftLogStorage<Types> for MemoryLog {
    type LogReader = MemoryLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = lock(&self.0);
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id());
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> MemoryLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        lock(&self.0).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        lock(&self.0).entries.extend(entries.into_iter().map(|entry| (entry.index(), entry)));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        lock(&self.0).entries.split_off(&last.map_or(0, |last| last.index() + 1));
        Ok(())
    }

    async fn purge(&mut self, last: LogIdOf<Types>) -> io::Result<()> {
        let mut log = lock(&self.0);
        log.purged = Some(last);
        log.entries = log.entries.split_off(&(last.index() + 1));
        Ok(())
    }
}

/// A state machine that remembers only how far it came.
#[derive(Clone, Default)]
pub struct State(Arc<Mutex<SnapshotMetaOf<Types>>>);

impl RaftSnapshotBuilder<Types> for State {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Ok(SnapshotOf::<Types, ()> { meta: lock(&self.0).clone(), snapshot: () })
    }
}

impl RaftStateMachine<Types> for State {
    type SnapshotData = ();
    type SnapshotBuilder = State;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let state = lock(&self.0);
        Ok((state.last_log_id, state.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut last = None;
        while let Some((entry, responder)) = entries.try_next().await? {
            last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                lock(&self.0).last_membership = StoredMembershipOf::<Types>::new(last, membership);
            }
            if let Some(responder) = responder {
                responder.send(Applied);
            }
        }
        if last.is_some() {
            lock(&self.0).last_log_id = last;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> State {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        lock(&self.0).clone_from(meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        self.build_snapshot().await.map(Some)
    }
}

/// Nothing is left half done where a thread could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
