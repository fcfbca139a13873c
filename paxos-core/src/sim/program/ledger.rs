//! A ledger of runs: a table in Markdown, to which each run adds a row.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::sim::suite::Findings;

/// What a new ledger begins with.
const HEAD: &str = "# Runs\n\n| events | seeds | violations | seeds that broke a rule |\n|---|---|---|---|\n";

/// Adds a row to the ledger at this path, which is made if it is missing.
pub(super) fn append(path: &Path, first_seed: u64, findings: &Findings) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let head = if file.metadata()?.len() == 0 { HEAD } else { "" };
    file.write_all(format!("{head}{}", row(first_seed, findings)).as_bytes())
}

fn row(first_seed: u64, findings: &Findings) -> String {
    let Findings { events, seeds, violations, .. } = findings;
    let broken: Vec<String> = violations.keys().map(u64::to_string).collect();
    format!(
        "| {} | {} from {first_seed} on | {} | {} |\n",
        grouped(*events),
        grouped(*seeds),
        broken.len(),
        broken.join(", ")
    )
}

/// A number with a space before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Rule, Violation};

    #[test]
    fn a_row_tells_what_was_run_and_which_seeds_broke_a_rule() {
        let mut findings = Findings { events: 1_234_567, seeds: 89, ..Findings::default() };
        assert_eq!(row(7, &findings), "| 1 234 567 | 89 from 7 on | 0 |  |\n");
        let violation = Violation { rule: Rule::P2c, what: String::from("it is not") };
        findings.violations.insert(12, violation.clone());
        findings.violations.insert(40, violation);
        assert_eq!(row(7, &findings), "| 1 234 567 | 89 from 7 on | 2 | 12, 40 |\n");
        assert_eq!([0, 999, 1_000, 123_456].map(grouped), ["0", "999", "1 000", "123 456"]);
    }
}
