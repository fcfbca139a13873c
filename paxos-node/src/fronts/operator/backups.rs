//! Backups that operators fetch.
//!
//! A backup begins with a picture of the node's state, which a thread writes to a file without a name beside
//! the log, as fast as the disk takes it. From there it is read in bounded pieces, however slowly: so neither
//! the memory that a picture takes nor anything else of the node depends on how fast the operator is. The
//! file vanishes with the process, with the end of the backup, and if nobody asks for a piece of it for a
//! while. One backup at a time is served.
//!
//! The driver knows nothing of all that: the picture is taken and written on threads that may wait.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::messages::Answer;
use crate::backup::{BackupMember, Description};
use crate::client::{Client, ClientError, Picture};
use crate::lock::lock;
use crate::state_machine::{SnapshotWriter, StateMachine};
use crate::status::Status;

/// A piece has at most this many bytes.
pub const BACKUP_PIECE_BYTES: usize = 256 << 10;
/// A node forgets a backup after this time without a request for a piece of it.
pub const BACKUP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A backup of which nobody has asked for a piece for this long gives way to another one.
const IN_USE: Duration = Duration::from_secs(10);
/// How long a request for a piece waits until it is written.
const PIECE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether a backup is idle.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// While it is written, the volume is looked at each time that the file has grown this much.
const LOOK_BYTES: u64 = 4 << 20;
/// So much of the volume is left to the log: an eighth of it, or this if that is less.
#[cfg(feature = "file")]
const MAX_RESERVE_BYTES: u64 = 1 << 30;

/// The backup that a node serves.
#[derive(Debug)]
pub(super) struct Backups {
    directory: PathBuf,
    served: Mutex<Option<Served>>,
}

#[derive(Debug)]
struct Served {
    id: u64,
    used_at: Instant,
    file: Arc<File>,
    written: watch::Receiver<Written>,
}

/// How far the picture is written.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Written {
    Through(u64),
    All(u64),
    Failed(String),
}

impl Backups {
    /// Files are made in this directory; in that for temporary files if it is empty.
    pub(super) fn new(directory: PathBuf) -> Arc<Backups> {
        let directory = if directory.as_os_str().is_empty() { std::env::temp_dir() } else { directory };
        Arc::new(Backups { directory, served: Mutex::default() })
    }

    /// Begins a backup of the state as of now, or with `may_be_stale` of the one that this node has.
    pub(super) async fn begin<S: StateMachine>(
        self: &Arc<Self>,
        client: &Client<S>,
        cluster: &str,
        may_be_stale: bool,
    ) -> Answer {
        if lock(&self.served).as_ref().is_some_and(|served| served.used_at.elapsed() < IN_USE) {
            return Answer::NotYet { reason: String::from("the node serves another backup") };
        }
        if !may_be_stale && let Err(error) = client.read().await.map(drop) {
            return not_read(error);
        }
        let (taken_from, directory) = (client.clone(), self.directory.clone());
        let begun = tokio::task::spawn_blocking(move || {
            let picture = taken_from.picture().map_err(|error| error.to_string())?;
            check_space(&directory)?;
            let file = tempfile::tempfile_in(&directory).map_err(|error| error.to_string())?;
            Ok::<_, String>((picture, file))
        });
        let (picture, file) = match begun.await {
            Ok(Ok(begun)) => begun,
            Ok(Err(reason)) => {
                return Answer::Refused { reason: format!("no backup can be begun: {reason}") };
            }
            Err(error) => return Answer::Refused { reason: format!("no backup can be begun: {error}") },
        };
        let description = describe(&client.status().borrow(), cluster, &picture);
        let id = fastrand::u64(1..);
        match self.serve(id, picture.write, file) {
            Ok(()) => Answer::BackupBegun { backup: id, description: Box::new(description) },
            Err(error) => Answer::Refused { reason: format!("no thread for the backup: {error}") },
        }
    }

    /// Has the picture written, and serves it from now on.
    fn serve(self: &Arc<Self>, id: u64, write: SnapshotWriter, file: File) -> io::Result<()> {
        let (progress, written) = watch::channel(Written::Through(0));
        let file = Arc::new(file);
        let target = Spool {
            target: BufWriter::with_capacity(1 << 20, Arc::clone(&file)),
            directory: self.directory.clone(),
            bytes: 0,
            looked_at_bytes: 0,
            progress,
        };
        std::thread::Builder::new().name(String::from("paxos-backup")).spawn(move || target.run(write))?;
        *lock(&self.served) = Some(Served { id, used_at: Instant::now(), file, written });
        tokio::spawn(forget_idle(Arc::downgrade(self), id));
        Ok(())
    }

    /// The piece of a backup at an offset, if it is written in time.
    pub(super) async fn read(&self, id: u64, offset: u64) -> Answer {
        let Some((file, mut written)) = self.used(id) else {
            return Answer::Refused { reason: String::from("the node does not serve this backup any more") };
        };
        let needed = offset.saturating_add(BACKUP_PIECE_BYTES as u64);
        let is_there = |written: &Written| !matches!(written, Written::Through(bytes) if *bytes < needed);
        // If it is not, what is written until then will do. A thread that has panicked has closed the
        // channel.
        let _ = timeout(PIECE_TIMEOUT, written.wait_for(is_there)).await;
        // In this order: the last state is there before the channel is closed.
        let is_over = written.has_changed().is_err();
        let state = written.borrow().clone();
        let (through, total_bytes) = match state {
            Written::Through(_) if is_over => {
                return Answer::Refused { reason: String::from("the backup has failed on the node") };
            }
            Written::Through(bytes) => (bytes, None),
            Written::All(bytes) => (bytes, Some(bytes)),
            Written::Failed(reason) => return Answer::Refused { reason },
        };
        let length = through.saturating_sub(offset).min(BACKUP_PIECE_BYTES as u64);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(length).expect("a piece at most")];
            file.read_exact_at(&mut piece, offset).map(|()| STANDARD.encode(piece))
        });
        let answer = match read.await {
            Ok(Ok(data)) => Answer::BackupPiece { offset, data, total_bytes },
            Ok(Err(error)) => Answer::Refused { reason: format!("the backup can't be read: {error}") },
            Err(error) => Answer::Refused { reason: format!("the backup can't be read: {error}") },
        };
        let _ = self.used(id); // It may have taken long.
        answer
    }

    pub(super) fn end(&self, id: u64) -> Answer {
        self.forget(id);
        Answer::BackupEnded
    }

    fn forget(&self, id: u64) {
        let mut served = lock(&self.served);
        if served.as_ref().is_some_and(|served| served.id == id) {
            *served = None;
        }
    }

    /// The backup with this id, of which a piece is asked for now.
    fn used(&self, id: u64) -> Option<(Arc<File>, watch::Receiver<Written>)> {
        let mut served = lock(&self.served);
        let found = served.as_mut().filter(|served| served.id == id)?;
        found.used_at = Instant::now();
        Some((Arc::clone(&found.file), found.written.clone()))
    }

    fn is_idle(&self, id: u64) -> bool {
        let served = lock(&self.served);
        served.as_ref().is_none_or(|served| served.id != id || served.used_at.elapsed() > BACKUP_IDLE_TIMEOUT)
    }
}

/// Forgets a backup of which nobody asks for pieces any more.
async fn forget_idle(backups: Weak<Backups>, id: u64) {
    loop {
        sleep(IDLE_INTERVAL).await;
        let Some(backups) = backups.upgrade() else { return };
        if backups.is_idle(id) {
            return backups.forget(id);
        }
    }
}

/// The thread that writes a picture to its file.
struct Spool {
    target: BufWriter<Arc<File>>,
    directory: PathBuf,
    bytes: u64,
    looked_at_bytes: u64,
    progress: watch::Sender<Written>,
}

impl Spool {
    fn run(mut self, write: SnapshotWriter) {
        let written = write(&mut self).and_then(|()| self.target.flush());
        let result = match written {
            Ok(()) => Written::All(self.bytes),
            Err(error) => {
                tracing::warn!(%error, "a backup was given up");
                Written::Failed(format!("the backup was given up: {error}"))
            }
        };
        self.progress.send_replace(result);
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.looked_at_bytes >= LOOK_BYTES {
            self.looked_at_bytes = self.bytes;
            if self.progress.is_closed() {
                return Err(io::Error::other("nobody asks for it any more"));
            }
            check_space(&self.directory).map_err(io::Error::other)?;
            self.target.flush()?;
            self.progress.send_replace(Written::Through(self.bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// Whether the volume has more space than is to be left to the log.
#[cfg(feature = "file")]
fn check_space(directory: &Path) -> Result<(), String> {
    use paxos_storage::file::{free_bytes, volume_bytes};
    let reserve = volume_bytes(directory).map_err(|error| error.to_string())? / 8;
    let reserve = reserve.min(MAX_RESERVE_BYTES);
    let free = free_bytes(directory).map_err(|error| error.to_string())?;
    if free > reserve {
        return Ok(());
    }
    Err(format!(
        "a backup passes through a file in {}, where {} MiB are free and {} MiB are kept for the log; make room, or \
         take it from another node",
        directory.display(),
        free >> 20,
        reserve >> 20
    ))
}

#[cfg(not(feature = "file"))]
#[expect(clippy::unnecessary_wraps, reason = "there is no log on a disk")]
fn check_space(_: &Path) -> Result<(), String> {
    Ok(())
}

fn describe(status: &Status, cluster: &str, picture: &Picture) -> Description {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let membership = status.membership.as_ref();
    let members = membership.iter().flat_map(|membership| membership.details());
    let member = |member: &paxos_core::Member| BackupMember {
        id: member.id.0,
        role: member.role.to_string(),
        address: member.address.clone(),
    };
    Description {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: cluster.to_owned(),
        cluster_id: status.founding.map(|id| id.to_string()).unwrap_or_default(),
        node: status.node.0,
        slot: picture.slot.0,
        time_millis: picture.time.0,
        taken_at_millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        epoch: status.epoch().0,
        members: members.map(member).collect(),
        removed: membership.iter().flat_map(|membership| membership.removed()).map(|node| node.0).collect(),
        facts: picture.facts.clone(),
    }
}

fn not_read(error: ClientError) -> Answer {
    Answer::NotYet { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_by(
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> (Arc<Backups>, u64) {
        let backups = Backups::new(PathBuf::new());
        let file = tempfile::tempfile().expect("there is room");
        backups.serve(7, Box::new(write), file).expect("there is a thread");
        (backups, 7)
    }

    async fn all_of(backups: &Backups, id: u64) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            match backups.read(id, read.len() as u64).await {
                Answer::BackupPiece { offset, data, total_bytes } => {
                    assert_eq!(offset, read.len() as u64);
                    let piece = STANDARD.decode(data).expect("it is base64");
                    assert!(piece.len() <= BACKUP_PIECE_BYTES);
                    read.extend(piece);
                    if total_bytes == Some(read.len() as u64) {
                        return read;
                    }
                }
                other => panic!("no piece but {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_picture_is_read_in_pieces_while_it_is_written_and_then_forgotten() {
        let state: Vec<u8> = (0..9_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let expected = state.clone();
        let (backups, id) =
            written_by(move |target| state.chunks(100_000).try_for_each(|piece| target.write_all(piece)));
        assert!(all_of(&backups, id).await == expected, "it is the picture");
        assert_eq!(backups.end(id), Answer::BackupEnded);
        assert!(matches!(backups.read(id, 0).await, Answer::Refused { .. }));
    }

    #[tokio::test]
    async fn a_picture_that_can_not_be_written_is_told_as_that() {
        let (backups, id) = written_by(|_| Err(io::Error::other("no ink")));
        let answer = backups.read(id, 0).await;
        assert!(matches!(&answer, Answer::Refused { reason } if reason.contains("no ink")), "{answer:?}");
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_told_as_a_failure() {
        let (backups, id) = written_by(|_| panic!("no more ink"));
        let answer = backups.read(id, 0).await;
        assert!(matches!(&answer, Answer::Refused { reason } if reason.contains("failed")), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_that_nobody_reads_is_forgotten() {
        let (backups, id) = written_by(|target| target.write_all(b"state"));
        sleep(BACKUP_IDLE_TIMEOUT / 2).await;
        assert!(matches!(backups.read(id, 0).await, Answer::BackupPiece { .. }));
        sleep(BACKUP_IDLE_TIMEOUT / 2 + IDLE_INTERVAL).await;
        assert!(matches!(backups.read(id, 0).await, Answer::BackupPiece { .. }), "it was in use");
        sleep(BACKUP_IDLE_TIMEOUT + 2 * IDLE_INTERVAL).await;
        assert!(matches!(backups.read(id, 0).await, Answer::Refused { .. }), "its file is gone");
    }
}
