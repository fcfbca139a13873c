//! Decimal numbers, for `INCRBYFLOAT`: exact, so that 0.1 and 0.2 are 0.3, on all nodes.
//!
//! A number has 17 digits behind the point, as many as Redis writes, and less than 10^21 in front of it.
//! Digits beyond the 17th are rounded, halves away from zero. Deliberately absent: infinity, numbers that are
//! none, and hexadecimal.

use std::fmt;

/// How many digits stand behind the point.
const FRACTION_DIGITS: u32 = 17;
const UNITS_PER_ONE: i128 = 10_i128.pow(FRACTION_DIGITS);
/// Numbers are smaller than this.
const LIMIT: i128 = 10_i128.pow(21 + FRACTION_DIGITS);
/// The longest text that is read as a number.
const MAX_TEXT_BYTES: usize = 255;
/// An exponent beyond this leaves nothing of a number, or makes it too large, whatever its digits.
const MAX_EXPONENT: i32 = 1_000;

/// A decimal number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decimal(i128);

/// Why a text is no [`Decimal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotDecimal {
    /// It is not a number.
    Malformed,
    /// It is 10^21 or more, or -10^21 or less.
    TooLarge,
}

impl Decimal {
    pub(crate) const TOO_LARGE: &'static str = "ERR value is out of range: decimal numbers here are exact, and have \
         at most 21 digits in front of the point";

    /// Zero.
    pub const ZERO: Decimal = Decimal(0);

    /// The number that is this many times 10^-17; `None` if it is too large.
    #[must_use]
    pub fn of_units(units: i128) -> Option<Decimal> {
        (-LIMIT < units && units < LIMIT).then_some(Decimal(units))
    }

    /// How many times 10^-17 it is.
    #[must_use]
    pub fn units(self) -> i128 {
        self.0
    }

    /// The sum; `None` if it is too large.
    #[must_use]
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        self.0.checked_add(other.0).and_then(Decimal::of_units)
    }

    /// Reads a number: digits with a sign, a point and an exponent, if they are wanted.
    pub(crate) fn parse(text: &[u8]) -> Result<Decimal, NotDecimal> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(NotDecimal::Malformed);
        }
        let (is_negative, text) = split_sign(text);
        let (digits, exponent) = match text.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
        let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
        let all = || whole.iter().chain(fraction);
        if all().count() == 0 || !all().all(u8::is_ascii_digit) {
            return Err(NotDecimal::Malformed);
        }
        // Where the last digit that counts stands: so many digits of all are kept.
        let places = i32::try_from(whole.len()).map_err(|_| NotDecimal::Malformed)? + exponent;
        let kept = places + FRACTION_DIGITS.cast_signed();
        let digit = |place: i32| {
            let byte = usize::try_from(place).ok().and_then(|place| all().nth(place));
            byte.map_or(0, |byte| i128::from(byte - b'0'))
        };
        let mut units = 0_i128;
        for place in 0..kept {
            units = units.checked_mul(10).ok_or(NotDecimal::TooLarge)?.saturating_add(digit(place));
            // Only zeros follow, if any digit does.
            if units == 0 && place > i32::try_from(MAX_TEXT_BYTES).unwrap_or(i32::MAX) {
                return Ok(Decimal::ZERO);
            }
        }
        if digit(kept) >= 5 {
            units += 1;
        }
        let signed = if is_negative { -units } else { units };
        Decimal::of_units(signed).ok_or(NotDecimal::TooLarge)
    }
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Reads an exponent; one that is far too large counts as less large.
fn parse_exponent(text: &[u8]) -> Result<i32, NotDecimal> {
    let (is_negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotDecimal::Malformed);
    }
    let exponent = digits
        .iter()
        .fold(0, |exponent: i32, digit| (exponent * 10 + i32::from(digit - b'0')).min(MAX_EXPONENT));
    Ok(if is_negative { -exponent } else { exponent })
}

impl fmt::Display for Decimal {
    /// Without an exponent, and without zeros at the end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0.abs() / UNITS_PER_ONE, self.0.abs() % UNITS_PER_ONE);
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(formatter, "{sign}{whole}");
        }
        let digits = format!("{fraction:017}");
        write!(formatter, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, NotDecimal> {
        Decimal::parse(text.as_bytes()).map(|number| number.to_string())
    }

    #[test]
    fn numbers_are_read_in_every_form_and_written_in_one() {
        for (text, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("+3", "3"),
            ("3.0e3", "3000"),
            ("5.0E-1", "0.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-10.50", "-10.5"),
            ("007", "7"),
            ("0.1", "0.1"),
            ("1e20", "100000000000000000000"),
            ("999999999999999999999.99999999999999999", "999999999999999999999.99999999999999999"),
            ("0.000000000000000004", "0"),
            ("0.000000000000000005", "0.00000000000000001"),
            ("-0.000000000000000005", "-0.00000000000000001"),
            ("1e-999999999999", "0"),
            ("0e999999999999", "0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(written), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in ["", "-", ".", "e5", "1e", "1e+", "1.2.3", " 1", "1 ", "0x10", "nan", "inf", "1,5"] {
            assert_eq!(read(text), Err(NotDecimal::Malformed), "{text}");
        }
        assert_eq!(read(&"1".repeat(256)), Err(NotDecimal::Malformed));
        for text in ["1e21", "-1e21", "1e999999999999", "999999999999999999999.999999999999999995"] {
            assert_eq!(read(text), Err(NotDecimal::TooLarge), "{text}");
        }
    }

    #[test]
    fn tenths_add_up() {
        let number = |text: &str| Decimal::parse(text.as_bytes()).expect("it is a number");
        assert_eq!(number("0.1").checked_add(number("0.2")), Some(number("0.3")));
        assert_eq!(number("9e20").checked_add(number("9e20")), None);
    }

    proptest! {
        #[test]
        fn a_number_that_was_written_is_read_again(units in any::<i64>(), shift in 0..20_u32) {
            let units = i128::from(units) * 10_i128.pow(shift);
            if let Some(number) = Decimal::of_units(units) {
                prop_assert_eq!(Decimal::parse(number.to_string().as_bytes()), Ok(number));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, digits in "[0-9.eE+-]{0,40}") {
            let _ = Decimal::parse(&text);
            let _ = Decimal::parse(digits.as_bytes());
        }
    }
}
