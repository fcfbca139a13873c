//! The normal form of a script's text: texts with the same one do the same.
//!
//! Comments, white space and semicolons are left out, strings are put between one kind of quotes, names of
//! commands are put into lower case, and variables are numbered in the order in which they come. What a text
//! does is not understood: an equal script in other words has another form.

/// Words that keep their meaning.
const FIXED: &[&str] = &[
    "and",
    "break",
    "do",
    "else",
    "elseif",
    "end",
    "false",
    "for",
    "function",
    "if",
    "in",
    "local",
    "nil",
    "not",
    "or",
    "repeat",
    "return",
    "then",
    "true",
    "until",
    "while",
    "KEYS",
    "ARGV",
    "redis",
    "call",
    "pcall",
    "error_reply",
    "status_reply",
    "ipairs",
    "pairs",
    "tonumber",
    "tostring",
    "unpack",
    "math",
    "floor",
    "min",
    "max",
    "table",
    "insert",
    "string",
];
/// Names of commands, which are the same in any case.
const COMMANDS: &[&str] = &[
    "get", "set", "del", "unlink", "exists", "incr", "incrby", "decr", "expire", "pexpire", "ttl", "pttl",
    "px", "ex",
];

/// The normal form; `None` if the text is none of Lua that is read here.
pub(super) fn form(text: &str) -> Option<String> {
    let (mut form, mut variables) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("--[[") => rest.find("]]")? + 2,
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            ';' => 1,
            _ if first.is_whitespace() => first.len_utf8(),
            '\'' | '"' => {
                let contents = rest[1..].split(first).next().filter(|contents| !contents.contains('\\'))?;
                // The end may be missing.
                rest[1 + contents.len()..].starts_with(first).then_some(())?;
                let lower = contents.to_ascii_lowercase();
                let is_command = COMMANDS.contains(&&lower[..]);
                push(&mut form, &format!("\"{}\"", if is_command { &lower } else { contents }));
                contents.len() + 2
            }
            _ if is_word(first) => {
                let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
                let word = &rest[..length];
                if first.is_ascii_digit() || FIXED.contains(&word) {
                    push(&mut form, word);
                } else {
                    let known = variables.iter().position(|variable| *variable == word);
                    let number = known.unwrap_or(variables.len());
                    if known.is_none() {
                        variables.push(word);
                    }
                    push(&mut form, &format!("${number}"));
                }
                length
            }
            _ if first.is_ascii_punctuation() => {
                let is_pair = ["==", "~=", "<=", ">=", ".."].iter().any(|pair| rest.starts_with(pair));
                let length = if is_pair { 2 } else { 1 };
                push(&mut form, &rest[..length]);
                length
            }
            _ => return None,
        };
        rest = &rest[length..];
    }
    Some(form)
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn push(form: &mut String, token: &str) {
    if !form.is_empty() {
        form.push(' ');
    }
    form.push_str(token);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_looks_have_one_form() {
        let plain = form("local a = redis.call('get', KEYS[1]) return a").expect("it can be read");
        for text in [
            "local token=redis.call(\"GET\",KEYS[1]);return token",
            "--[[ two\nlines ]]local x = redis . call ( 'Get' , KEYS [ 1 ] ) -- end\n return x -- of it",
        ] {
            assert_eq!(form(text).as_ref(), Some(&plain), "{text}");
        }
    }

    #[test]
    fn texts_that_do_different_things_have_different_forms() {
        let texts = [
            "return redis.call('get', KEYS[1])",
            "return redis.call('get', KEYS[2])",
            "return redis.call('get', ARGV[1])",
            "return redis.call('del', KEYS[1])",
            "return redis.call('get', 'KEYS[1]')",
            "local a, b = 1, 2 return a",
            "local a, b = 1, 2 return b",
            "return 'a b'",
            "return 'a  b'",
            "return 'A b'",
            "return 1 == 2",
            "return 1 ~= 2",
        ];
        let forms: std::collections::BTreeSet<_> = texts.iter().map(|text| form(text)).collect();
        assert_eq!(forms.len(), texts.len());
        for text in ["return 'open", "return 'esc\\'aped'", "--[[ open", "return ü"] {
            assert_eq!(form(text), None, "{text}");
        }
    }
}
