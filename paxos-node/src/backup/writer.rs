//! Writes a backup.

use std::io::{self, Write};

use ring::digest::{Context, SHA256};

use super::{DATA, Description, END, FORMAT_VERSION, MAGIC, MAX_BLOCK_BYTES, MAX_DESCRIPTION_BYTES, Sha256};

/// Writes a backup to a file, piece by piece. It is none before [`finish`](BackupWriter::finish).
#[must_use = "a backup that is not finished is none"]
pub struct BackupWriter<W> {
    target: W,
    offset: u64,
    state_bytes: u64,
    digest: Context,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup.
    ///
    /// # Errors
    ///
    /// Those of the file; [`io::ErrorKind::InvalidInput`] for a description that is too long.
    #[expect(clippy::missing_panics_doc, reason = "the length of a description is checked first")]
    pub fn new(target: W, description: &Description) -> io::Result<BackupWriter<W>> {
        let description = serde_json::to_vec(description)?;
        if description.len() > MAX_DESCRIPTION_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the description is too long"));
        }
        let length = u32::try_from(description.len()).expect("a MiB at most");
        let mut head = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &length.to_le_bytes()].concat();
        head.extend(description);
        head.extend(crc32c::crc32c(&head).to_le_bytes());
        let mut writer = BackupWriter { target, offset: 0, state_bytes: 0, digest: Context::new(&SHA256) };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Adds a piece of the state.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        for contents in piece.chunks(MAX_BLOCK_BYTES) {
            let block = block(self.offset, DATA, contents);
            self.put(&block)?;
            self.state_bytes += contents.len() as u64;
        }
        Ok(())
    }

    /// Ends the backup; returns the file, which is yet to be synced, and the name of the backup.
    ///
    /// # Errors
    ///
    /// Those of the file.
    #[expect(clippy::missing_panics_doc, reason = "the length of a SHA-256 is fixed")]
    pub fn finish(mut self) -> io::Result<(W, Sha256)> {
        let digest = self.digest.clone().finish();
        let sha256 = Sha256(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"));
        let contents = [&self.state_bytes.to_le_bytes()[..], &sha256.0].concat();
        let block = block(self.offset, END, &contents);
        self.put(&block)?;
        self.target.flush()?;
        Ok((self.target, sha256))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.target.write_all(bytes)?;
        self.digest.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A block that begins at `offset`.
fn block(offset: u64, kind: u8, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).expect("a MiB at most");
    let mut block = [&[kind][..], &length.to_le_bytes(), contents].concat();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), &block);
    block.extend(sum.to_le_bytes());
    block
}
