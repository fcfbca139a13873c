//! One rule of a user: a word behind the name.

use super::super::categories::{Categories, NAMES};
use super::super::commands::{Access, COMMANDS, Command};
use super::{KeyPattern, MAX_PASSWORD_BYTES, MAX_PASSWORDS, PasswordHash, User};

/// What a pattern of keys may not hold, but for one `*` at its end.
const SPECIAL: [char; 4] = ['*', '?', '[', '\\'];

impl User {
    /// Applies a rule. Rules are applied in the order in which they stand.
    ///
    /// # Errors
    ///
    /// Why the rule is not understood, without any word that may be a password.
    pub(super) fn apply(&mut self, rule: &str) -> Result<(), String> {
        let mut characters = rule.chars();
        let kind = characters.next().ok_or("a rule is empty")?;
        let rest = characters.as_str();
        let word = rule.to_ascii_lowercase();
        match (kind, word.as_str()) {
            (_, "on") => self.is_on = true,
            (_, "off") => self.is_on = false,
            (_, "nopass") => {
                self.needs_no_password = true;
                self.passwords.clear();
            }
            (_, "resetpass") => self.reset_passwords(),
            (_, "reset") => *self = User::new(&self.name),
            (_, "allkeys") => self.allow_keys("*", Access::ReadWrite)?,
            (_, "resetkeys") => self.keys.clear(),
            (_, "allcommands") => self.change_commands("@all", true)?,
            (_, "nocommands") => self.change_commands("@all", false)?,
            // There are no channels here, nothing to restore from a payload, and no selectors: these rules
            // hold, whatever they say.
            (
                _,
                "allchannels"
                | "resetchannels"
                | "sanitize-payload"
                | "skip-sanitize-payload"
                | "clearselectors",
            )
            | ('&', _) => {}
            ('>', _) if rest.len() > MAX_PASSWORD_BYTES => {
                return Err(format!("a password has more than {MAX_PASSWORD_BYTES} bytes"));
            }
            ('>', _) => self.add_password(PasswordHash::of(rest.as_bytes()))?,
            ('#', _) => self.add_password(hash(rest)?)?,
            ('<', _) => self.remove_password(PasswordHash::of(rest.as_bytes()))?,
            ('!', _) => self.remove_password(hash(rest)?)?,
            ('~', _) => self.allow_keys(rest, Access::ReadWrite)?,
            ('%', _) => {
                let (access, pattern) = rest.split_once('~').ok_or_else(|| not_understood(rule))?;
                let access = match access.to_ascii_uppercase().as_str() {
                    "R" => Access::Read,
                    "W" => Access::Write,
                    "RW" | "WR" => Access::ReadWrite,
                    _ => return Err(not_understood(rule)),
                };
                self.allow_keys(pattern, access)?;
            }
            ('+', _) => self.change_commands(rest, true)?,
            ('-', _) => self.change_commands(rest, false)?,
            ('(', _) => return Err(String::from("selectors, which stand in parentheses, are not supported")),
            // It may be a password without its '>'.
            _ => return Err(String::from("it is no rule; a password begins with '>' and its hash with '#'")),
        }
        Ok(())
    }

    fn add_password(&mut self, hash: PasswordHash) -> Result<(), String> {
        self.needs_no_password = false;
        self.passwords.insert(hash);
        if self.passwords.len() > MAX_PASSWORDS {
            return Err(format!("a user has more than {MAX_PASSWORDS} passwords"));
        }
        Ok(())
    }

    fn remove_password(&mut self, hash: PasswordHash) -> Result<(), String> {
        if self.passwords.remove(&hash) {
            Ok(())
        } else {
            Err(String::from("the password to remove is none of the user's"))
        }
    }

    fn reset_passwords(&mut self) {
        self.needs_no_password = false;
        self.passwords.clear();
    }

    fn allow_keys(&mut self, pattern: &str, access: Access) -> Result<(), String> {
        let prefix = pattern.strip_suffix('*');
        let is_prefix = prefix.is_some();
        let prefix = prefix.unwrap_or(pattern);
        if prefix.contains(SPECIAL) {
            return Err(format!(
                "the pattern '{pattern}' is not understood: give a whole key, or how keys begin and then '*'"
            ));
        }
        let pattern = KeyPattern { prefix: prefix.to_owned(), is_prefix, access };
        if !self.keys.contains(&pattern) {
            self.keys.push(pattern);
        }
        Ok(())
    }

    /// Allows or forbids a command, a subcommand or a category.
    fn change_commands(&mut self, name: &str, is_allowed: bool) -> Result<(), String> {
        let lower = name.to_ascii_lowercase();
        if lower == "@all" {
            self.command_rules.clear();
        }
        for (allowed, units) in self.commands.iter_mut().zip(units_named(&lower)?) {
            *allowed = if is_allowed { *allowed | units } else { *allowed & !units };
        }
        let rule = |is_allowed: bool| format!("{}{lower}", if is_allowed { '+' } else { '-' });
        self.command_rules.retain(|known| *known != rule(true) && *known != rule(false));
        self.command_rules.push(rule(is_allowed));
        Ok(())
    }
}

/// The units of all commands that a word names, row by row.
fn units_named(name: &str) -> Result<Vec<u64>, String> {
    if let Some(category) = name.strip_prefix('@') {
        if category == "all" {
            return Ok(COMMANDS.iter().map(Command::all_units).collect());
        }
        let Some(category) = Categories::named(category) else {
            let names = NAMES.iter().map(|(name, _)| format!("@{name}")).collect::<Vec<_>>().join(" ");
            return Err(format!("there is no category '@{category}'; there are @all {names}"));
        };
        return Ok(COMMANDS.iter().map(|command| command.units_in(category)).collect());
    }
    let (command, subcommand) = name.split_once('|').map_or((name, None), |(name, rest)| (name, Some(rest)));
    let units = |row: &Command| match subcommand {
        None => Some(row.all_units()),
        Some(subcommand) => row.unit_named(subcommand.as_bytes()),
    };
    let named = COMMANDS.iter().position(|row| row.name == command);
    let named = named.and_then(|index| Some((index, units(&COMMANDS[index])?)));
    let (index, units) = named.ok_or_else(|| format!("there is no command '{name}' here"))?;
    let mut all = vec![0; COMMANDS.len()];
    all[index] = units;
    Ok(all)
}

fn hash(text: &str) -> Result<PasswordHash, String> {
    PasswordHash::from_hex(text)
        .ok_or_else(|| String::from("the hash of a password must be 64 hexadecimal digits, its SHA-256"))
}

fn not_understood(rule: &str) -> String {
    format!("'{rule}' is not understood")
}
