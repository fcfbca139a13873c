//! Users: who clients may be, and what each of them may do.
//!
//! The users are those of a file in the format of Redis's ACL files, of which a part is understood; the
//! [guide](crate::guide::access) shows it. What is not understood is refused with its line, never ignored: a
//! rule that is skipped would let somebody do what they may not.
//!
//! A user who is not in the file does not exist. That goes for `default`, too, which is what a client is
//! before it logs in: in Redis it may do everything unless the file says otherwise.
//!
//! Passwords are kept as SHA-256, as in Redis. So nothing slow is computed where clients are served, and
//! whoever reads the file can try many passwords a second: use long random ones.

mod file;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use subtle::{Choice, ConstantTimeEq};

pub use self::file::UsersError;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub use self::file::fuzz;
use super::commands::{Access, COMMANDS, Command};
use super::errors;
use crate::kv::Reply;
use crate::lock::lock;

/// The user that a client is before it logs in.
pub(super) const DEFAULT_USER: &str = "default";
/// The longest password, in bytes. Comparing one takes no longer than some microseconds.
const MAX_PASSWORD_BYTES: usize = 1024;
/// How many passwords a user may have: each is compared at every login.
const MAX_PASSWORDS: usize = 64;

/// All users of a file.
#[derive(Clone, Debug, Default)]
pub struct Users {
    by_name: BTreeMap<String, Arc<User>>,
}

/// Users that can be replaced while clients are served. Clones share them.
#[derive(Clone, Debug)]
pub struct SharedUsers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    users: Mutex<Arc<Users>>,
    /// Grows with each replacement.
    version: AtomicU64,
}

/// One user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) name: String,
    is_on: bool,
    needs_no_password: bool,
    passwords: BTreeSet<PasswordHash>,
    /// Which commands may be run: for each row of the table, a bit for each of its subcommands, or one bit.
    commands: Vec<u64>,
    /// The rules that made that of it, in words.
    command_rules: Vec<String>,
    keys: Vec<KeyPattern>,
}

/// Keys that a user may read, write, or both.
#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyPattern {
    /// The key, or how it begins.
    prefix: String,
    is_prefix: bool,
    access: Access,
}

/// The SHA-256 of a password.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PasswordHash([u8; 32]);

/// A user that a client is, and by which password it has proved that.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: Arc<User>,
    /// `None` if the user needs none.
    password: Option<PasswordHash>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    fn of(password: &[u8]) -> PasswordHash {
        let digest = ring::digest::digest(&ring::digest::SHA256, password);
        PasswordHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// As in a file of Redis: 64 hexadecimal digits.
    fn from_hex(text: &str) -> Option<PasswordHash> {
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let pairs = digits.filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs.chunks_exact(2)) {
            *byte = u8::try_from(pair[0] << 4 | pair[1]).expect("two digits make a byte");
        }
        Some(PasswordHash(bytes))
    }

    fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let halves = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves.map(|half| char::from(DIGITS[usize::from(half)])).collect()
    }
}

impl From<Users> for SharedUsers {
    fn from(users: Users) -> SharedUsers {
        SharedUsers(Arc::new(Shared { users: Mutex::new(Arc::new(users)), version: AtomicU64::new(0) }))
    }
}

impl SharedUsers {
    /// Replaces all users. A client whose user is gone, switched off or has the client's password no more is
    /// logged out before its next command; all others have the new rights from then on.
    pub fn replace(&self, users: Users) {
        *lock(&self.0.users) = Arc::new(users);
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Whether there are no users now: then nobody can do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current().is_empty()
    }

    /// Grows with each replacement. Read it before the users.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> Arc<Users> {
        Arc::clone(&lock(&self.0.users))
    }
}

impl Users {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none: then nobody can do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All of them, in the order of their names.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &User> {
        self.by_name.values().map(|user| &**user)
    }

    pub(super) fn named(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(std::str::from_utf8(name).ok()?)
    }

    /// Who a client is before it logs in: `default`, if that needs no password.
    pub(super) fn anonymous(&self) -> Option<Login> {
        let user = self.named(DEFAULT_USER.as_bytes()).filter(|user| user.is_on && user.needs_no_password)?;
        Some(Login { user: Arc::clone(user), password: None })
    }

    /// Logs a client in, if the password is that of the user.
    pub(super) fn log_in(&self, name: &[u8], password: &[u8]) -> Option<Login> {
        // What follows takes the same time whether or not there is such a user.
        let hash = (password.len() <= MAX_PASSWORD_BYTES).then(|| PasswordHash::of(password))?;
        let nobody = BTreeSet::from([PasswordHash([0; 32])]);
        let user = self.named(name);
        let passwords = user.map_or(&nobody, |user| &user.passwords);
        let mut is_one = Choice::from(0);
        for known in passwords {
            is_one |= known.0.ct_eq(&hash.0);
        }
        let user = Arc::clone(user.filter(|user| user.is_on)?);
        if user.needs_no_password {
            return Some(Login { user, password: None });
        }
        bool::from(is_one).then_some(Login { user, password: Some(hash) })
    }

    /// The login of a client under these users, which have replaced those that it has logged in with; `None`
    /// if it is logged out.
    pub(super) fn renew(&self, login: &Login) -> Option<Login> {
        let user = self.named(login.user.name.as_bytes()).filter(|user| user.is_on)?;
        let is_proved = |password| user.passwords.contains(&password);
        (user.needs_no_password || login.password.is_some_and(is_proved))
            .then(|| Login { user: Arc::clone(user), password: login.password })
    }
}

impl User {
    /// A user who may do nothing.
    fn new(name: &str) -> User {
        User {
            name: name.to_owned(),
            is_on: false,
            needs_no_password: false,
            passwords: BTreeSet::new(),
            commands: vec![0; COMMANDS.len()],
            command_rules: vec![String::from("-@all")],
            keys: Vec::new(),
        }
    }

    /// Whether the user may run a command with these arguments, whose number has been checked.
    ///
    /// # Errors
    ///
    /// The answer if not.
    pub(super) fn check(&self, command: &Command, arguments: &[Bytes]) -> Result<(), Reply> {
        let units = command.units_of(arguments);
        if self.commands[command.index()] & units != units {
            return Err(errors::no_permission_to_run(&command.full_name(arguments)));
        }
        if command.is_for_all_keys(arguments) && !self.may_use_all_keys() {
            return Err(errors::no_permission_for_channel());
        }
        let access = command.access(arguments);
        if command.keys_among(arguments).all(|key| self.may_use(key, access)) {
            Ok(())
        } else {
            Err(errors::no_permission_for_key())
        }
    }

    /// Whether the user may read and write all keys.
    pub(super) fn may_use_all_keys(&self) -> bool {
        let is_all = |pattern: &KeyPattern| {
            pattern.is_prefix && pattern.prefix.is_empty() && pattern.access == Access::ReadWrite
        };
        self.keys.iter().any(is_all)
    }

    fn may_use(&self, key: &[u8], access: Access) -> bool {
        self.keys.iter().any(|pattern| pattern.access.includes(access) && pattern.matches(key))
    }

    /// The words that tell whether the user may log in.
    pub(super) fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        flags.extend(self.needs_no_password.then_some("nopass"));
        flags
    }

    /// The hashes of the passwords, as text.
    pub(super) fn password_hashes(&self) -> Vec<String> {
        self.passwords.iter().map(|hash| hash.to_hex()).collect()
    }

    /// The rules about commands, in words.
    pub(super) fn commands_in_words(&self) -> String {
        self.command_rules.join(" ")
    }

    /// The rules about keys, in words.
    pub(super) fn keys_in_words(&self) -> String {
        self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The user as a line of a file.
    pub(super) fn in_words(&self) -> String {
        let mut words = vec![String::from("user"), self.name.clone()];
        words.extend(self.flags().into_iter().map(str::to_owned));
        words.extend(self.password_hashes().into_iter().map(|hash| format!("#{hash}")));
        words.extend([self.keys_in_words()].into_iter().filter(|keys| !keys.is_empty()));
        words.push(self.commands_in_words());
        words.join(" ")
    }
}

impl KeyPattern {
    fn matches(&self, key: &[u8]) -> bool {
        if self.is_prefix { key.starts_with(self.prefix.as_bytes()) } else { key == self.prefix.as_bytes() }
    }
}

impl std::fmt::Display for KeyPattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let access = match self.access {
            Access::ReadWrite => "~",
            Access::Read => "%R~",
            Access::Write => "%W~",
        };
        let end = if self.is_prefix { "*" } else { "" };
        write!(formatter, "{access}{}{end}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
