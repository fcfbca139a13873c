//! Words of a request, compared in any case.

/// A buffer for a command's name; each name is shorter, so a longer word is none.
pub(super) const CUT_NAME_BYTES: usize = 16;

/// A word in lower case, in the memory of the caller. A word that is cut is no command's name.
pub(super) fn lower_case<'a>(word: &[u8], lower: &'a mut [u8; CUT_NAME_BYTES]) -> &'a [u8] {
    let length = word.len().min(lower.len());
    lower[..length].copy_from_slice(&word[..length]);
    lower[..length].make_ascii_lowercase();
    &lower[..length]
}

/// Whether a word is this one, in any case.
pub(super) fn is(word: &[u8], text: &str) -> bool {
    word.eq_ignore_ascii_case(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_cut_at_the_length_of_the_buffer() {
        let lower = |word: &[u8]| lower_case(word, &mut [0; CUT_NAME_BYTES]).to_vec();
        assert_eq!(lower(b"GetDel"), b"getdel");
        assert_eq!(lower(b""), b"");
        assert_eq!(lower(b"FlushDbAndWhatIsBehindIt"), b"flushdbandwhatis");
    }
}
