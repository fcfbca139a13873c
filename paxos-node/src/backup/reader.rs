//! Reads a backup, and checks all of it.

use std::io::{self, BufReader, Read};

use bytes::Buf;
use paxos_core::Slot;
use paxos_core::session::SessionLimits;
use ring::digest::{Context, SHA256};

use super::{
    BLOCK_HEAD_BYTES, BackupError, DATA, Description, END, END_BYTES, FORMAT_VERSION, MAGIC, MAX_BLOCK_BYTES,
    MAX_DESCRIPTION_BYTES, SUM_BYTES, Sha256, Verified,
};
use crate::error::NodeError;
use crate::kv::Store;
use crate::runtime::replicated::Replicated;

/// How much is read from the file at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Reads the state in a backup, as a stream of bytes. It is whole only if [`finish`](BackupReader::finish)
/// says so.
pub struct BackupReader<R> {
    source: BufReader<R>,
    description: Description,
    /// Where the next block begins.
    offset: u64,
    state_bytes: u64,
    digest: Context,
    /// The rest of the present block.
    buffered: Vec<u8>,
    read_bytes: usize,
    end: Option<Sha256>,
    problem: Option<BackupError>,
}

impl<R: Read> BackupReader<R> {
    /// Reads the description.
    ///
    /// # Errors
    ///
    /// [`BackupError`] if it is damaged, or the file is no backup.
    pub fn new(source: R) -> Result<BackupReader<R>, BackupError> {
        let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
        let mut head = Vec::new();
        read_on(&mut source, &mut head, 16, 0, "its beginning")?;
        if !head.starts_with(MAGIC) {
            return Err(BackupError::NoBackup);
        }
        let mut rest = &head[MAGIC.len()..];
        let (version, length) = (rest.get_u32_le(), rest.get_u32_le() as usize);
        if version != FORMAT_VERSION {
            return Err(BackupError::Version { version });
        }
        let damaged = |offset, problem| BackupError::Damaged { offset, problem };
        if length > MAX_DESCRIPTION_BYTES {
            return Err(damaged(12, "the length of its description is impossible"));
        }
        read_on(&mut source, &mut head, 16 + length + SUM_BYTES, 0, "its description")?;
        let (checked, mut sum) = head.split_at(16 + length);
        if crc32c::crc32c(checked) != sum.get_u32_le() {
            return Err(damaged(0, "the checksum of its description does not match"));
        }
        let description = serde_json::from_slice(&checked[16..])
            .map_err(|_| damaged(16, "its description is not one of this version"))?;
        let mut digest = Context::new(&SHA256);
        digest.update(&head);
        Ok(BackupReader {
            source,
            description,
            offset: head.len() as u64,
            state_bytes: 0,
            digest,
            buffered: Vec::new(),
            read_bytes: 0,
            end: None,
            problem: None,
        })
    }

    /// What the backup is of.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// How far the file was read, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads what is left, and returns the name of the backup and the length of the state.
    ///
    /// # Errors
    ///
    /// [`BackupError`] if any of it is damaged or missing, or if anything follows.
    pub fn finish(mut self) -> Result<(Sha256, u64), BackupError> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        loop {
            if let Some(sha256) = self.end {
                return Ok((sha256, self.state_bytes));
            }
            self.read_block()?;
        }
    }

    /// Reads the next block into the buffer.
    fn read_block(&mut self) -> Result<(), BackupError> {
        let offset = self.offset;
        let damaged = |problem| BackupError::Damaged { offset, problem };
        let mut block = std::mem::take(&mut self.buffered);
        block.clear();
        read_on(&mut self.source, &mut block, BLOCK_HEAD_BYTES, offset, "its data")?;
        let length = (&block[1..]).get_u32_le() as usize;
        if !matches!(block[0], DATA | END) || length > MAX_BLOCK_BYTES {
            return Err(damaged("no block begins there"));
        }
        read_on(&mut self.source, &mut block, BLOCK_HEAD_BYTES + length + SUM_BYTES, offset, "its data")?;
        let (checked, mut sum) = block.split_at(BLOCK_HEAD_BYTES + length);
        let expected = crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), checked);
        if expected != sum.get_u32_le() {
            return Err(damaged("the checksum of the block there does not match"));
        }
        self.offset += block.len() as u64;
        if block[0] == END {
            let contents = &block[BLOCK_HEAD_BYTES..BLOCK_HEAD_BYTES + length];
            self.end = Some(self.read_end(contents, offset)?);
            return Ok(());
        }
        self.digest.update(&block);
        self.state_bytes += length as u64;
        block.truncate(BLOCK_HEAD_BYTES + length);
        (self.buffered, self.read_bytes) = (block, BLOCK_HEAD_BYTES);
        Ok(())
    }

    /// Checks the end block, and that nothing follows.
    fn read_end(&mut self, mut contents: &[u8], offset: u64) -> Result<Sha256, BackupError> {
        let damaged = |offset, problem| BackupError::Damaged { offset, problem };
        if contents.len() != END_BYTES {
            return Err(damaged(offset, "its end is not one of this version"));
        }
        let digest = self.digest.clone().finish();
        if contents.get_u64_le() != self.state_bytes || contents != digest.as_ref() {
            return Err(damaged(offset, "its end belongs to another backup"));
        }
        if self.source.read(&mut [0])? > 0 {
            return Err(damaged(self.offset, "something follows its end"));
        }
        Ok(Sha256(contents.try_into().expect("they are 32 bytes")))
    }
}

impl<R: Read> Read for BackupReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read_bytes == self.buffered.len() && self.end.is_none() {
            if let Err(problem) = self.read_block() {
                let text = problem.to_string();
                self.problem = Some(problem);
                return Err(io::Error::other(text));
            }
        }
        let rest = self.buffered.get(self.read_bytes..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read_bytes += length;
        Ok(length)
    }
}

/// Reads until `bytes` has this length; the file's part that it is begins at `begin`.
fn read_on(
    source: &mut impl Read,
    bytes: &mut Vec<u8>,
    length: usize,
    begin: u64,
    part: &'static str,
) -> Result<(), BackupError> {
    source.take((length - bytes.len()) as u64).read_to_end(bytes)?;
    if bytes.len() < length {
        return Err(BackupError::Cut { offset: begin + bytes.len() as u64, part });
    }
    Ok(())
}

/// Reads all of a backup of the store, and builds its state. That takes as much memory as a node with it.
///
/// # Errors
///
/// [`BackupError`] with the place of the first mistake.
pub fn verify(source: impl Read) -> Result<Verified, BackupError> {
    load(source).map(|(verified, _)| verified)
}

/// The same, with the state.
pub(super) fn load(source: impl Read) -> Result<(Verified, Replicated<Store>), BackupError> {
    let mut reader = BackupReader::new(source)?;
    let description = reader.description().clone();
    let mut replicated = Replicated::new(Store::default(), SessionLimits::default());
    let restored = replicated.restore(Slot(description.slot), &mut reader);
    let offset = reader.offset();
    // Damage of the file explains whatever is wrong with the state.
    let (sha256, state_bytes) = reader.finish()?;
    let wrong = |problem: String| BackupError::State { offset, problem };
    restored.map_err(|error| match error {
        NodeError::Restore { error, .. } => wrong(error.to_string()),
        other => wrong(other.to_string()),
    })?;
    let (keys, revision) = (replicated.state.len() as u64, replicated.state.revision());
    let described = crate::state_machine::StateMachine::describe(&replicated.state);
    if described != description.facts || replicated.time.0 != description.time_millis {
        return Err(wrong(String::from("it is not the one that its description tells of")));
    }
    Ok((Verified { description, sha256, state_bytes, keys, revision }, replicated))
}
