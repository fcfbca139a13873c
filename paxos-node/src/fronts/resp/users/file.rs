//! Reads a file of users.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{User, Users};

/// The most bytes of a file, and the most users in it.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_USERS: usize = 4096;

/// Why users can't be had from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file can't be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// A line is not understood. The text holds no passwords.
    #[error("line {line}: {problem}")]
    Line {
        /// Which line, from 1 on.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There are too many users.
    #[error("there are more than {MAX_USERS} users")]
    TooMany,
    /// The file is too long.
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLong,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`UsersError`], which does not name the file.
    pub fn load(file: &Path) -> Result<Users, UsersError> {
        let mut text = Vec::new();
        std::fs::File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
        Users::parse(&text)
    }

    /// Takes the contents of a file.
    ///
    /// # Errors
    ///
    /// [`UsersError`] as above, but for reading.
    pub fn parse(text: &[u8]) -> Result<Users, UsersError> {
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(UsersError::TooLong);
        }
        let mut by_name = BTreeMap::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |problem: String| UsersError::Line { line: number + 1, problem };
            let line =
                std::str::from_utf8(line).map_err(|_| wrong(String::from("it is not text in UTF-8")))?;
            let Some(user) = parse_line(line).map_err(wrong)? else { continue };
            if by_name.len() == MAX_USERS {
                return Err(UsersError::TooMany);
            }
            if let Some(twice) = by_name.insert(user.name.clone(), Arc::new(user)) {
                return Err(wrong(format!("user '{}' is given twice", twice.name)));
            }
        }
        Ok(Users { by_name })
    }
}

/// The user of a line; `None` if it is empty or a comment.
fn parse_line(line: &str) -> Result<Option<User>, String> {
    let mut words = line.split_ascii_whitespace();
    let name = match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some("user") => words.next().ok_or("the name of the user is missing")?,
        Some(_) => return Err(String::from("a line must begin with 'user', or with '#' for a comment")),
    };
    if !name.chars().all(|letter| letter.is_ascii_graphic()) {
        return Err(String::from("the name of a user must be of letters, digits and signs of ASCII"));
    }
    let mut user = User::new(name);
    for (place, rule) in words.enumerate() {
        user.apply(rule).map_err(|problem| format!("rule {} of user '{name}': {problem}", place + 1))?;
    }
    Ok(Some(user))
}

/// For the fuzz target: reads the bytes as a file of users. Users that are accepted are the same when they
/// are written down and read again.
///
/// # Panics
///
/// If they are not.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(users) = Users::parse(bytes) else { return };
    let written: String = users.all().map(|user| user.in_words() + "\n").collect();
    // Hashes take more room than passwords.
    if let Ok(again) = Users::parse(written.as_bytes()) {
        assert!(users.all().eq(again.all()), "{written}");
    } else {
        assert!(written.len() as u64 > MAX_FILE_BYTES, "{written}");
    }
}
