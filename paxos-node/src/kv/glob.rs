//! Patterns of keys, as Redis has them: `*`, `?`, `[a-c]`, `[^a]` and `\` before what is meant literally.

/// Whether the whole text matches. Takes time in proportion to the product of both lengths at worst.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest_pattern, mut rest_text) = (pattern, text);
    // Where to go on after the last star if what follows it does not match here.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest_pattern {
            retry = Some((after, rest_text));
            rest_pattern = after;
        } else if let Some((first, after)) = rest_text.split_first()
            && let Some(pattern_after) = match_one(rest_pattern, *first)
        {
            (rest_pattern, rest_text) = (pattern_after, after);
        } else if rest_pattern.is_empty() && rest_text.is_empty() {
            return true;
        } else if let Some((after_star, [_, shorter @ ..])) = retry {
            retry = Some((after_star, shorter));
            (rest_pattern, rest_text) = (after_star, shorter);
        } else {
            return false;
        }
    }
}

/// What remains of the pattern if its first element, which is no star, matches the byte.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', after @ ..] => Some(after),
        [b'[', after @ ..] => {
            let (is_negated, set) = match after {
                [b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            let (is_in, after) = match_set(set, byte);
            (is_in != is_negated).then_some(after)
        }
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte).then_some(after),
        [] => None,
    }
}

/// Whether the byte is in the set, and what follows the bracket that closes it (or the end, if none does).
fn match_set(mut set: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        set = match set {
            [] => return (is_in, set),
            [b']', after @ ..] => return (is_in, after),
            [b'\\', literal, after @ ..] => {
                is_in |= *literal == byte;
                after
            }
            [low, b'-', high, after @ ..] if *high != b']' => {
                is_in |= (*low.min(high)..=*low.max(high)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                is_in |= *literal == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*b*b*", "abab", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
