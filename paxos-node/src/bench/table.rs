//! A report as lines of text.

use std::fmt::Write;

use super::report::{Emulated, Place, Report, Row};

/// A table that is printed line by line, so its columns have the widths that are likely to be needed.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    place_width: usize,
}

impl Table {
    /// A table with room for the names of these places.
    #[must_use]
    pub fn new<'a>(places: impl IntoIterator<Item = &'a Place>) -> Table {
        let widths = places.into_iter().map(|place| place.label().chars().count());
        Table { place_width: widths.max().unwrap_or(0).max(5) }
    }

    /// The line of titles.
    #[must_use]
    pub fn titles(self) -> String {
        self.line(&Row::TITLES)
    }

    /// The line of a row.
    #[must_use]
    pub fn row(self, row: &Row) -> String {
        let moved = if row.leader_has_changed() { "  the leader has changed" } else { "" };
        self.line(&row.cells()) + moved
    }

    /// The line that tells how exact an emulated network was.
    #[must_use]
    pub fn emulated(emulated: &Emulated) -> String {
        format!("{}: emulated packets: {}", emulated.place, emulated.accuracy)
    }

    fn line<T: AsRef<str>>(self, cells: &[T; 15]) -> String {
        const WIDTHS: [usize; 13] = [7, 11, 10, 9, 9, 9, 9, 7, 8, 10, 9, 7, 7];
        let mut line =
            format!("{:<place$}  {:<15}", cells[0].as_ref(), cells[1].as_ref(), place = self.place_width);
        for (cell, width) in cells[2..].iter().zip(WIDTHS) {
            let _ = write!(line, "{:>width$}", cell.as_ref()); // Writing to a string can't fail.
        }
        line
    }
}

impl Report {
    /// What the rows were measured on, in lines.
    #[must_use]
    pub fn conditions(&self) -> String {
        let machine = &self.machine;
        let mut lines = format!("{}, {} cores, {}\n", machine.processor, machine.cores, machine.system);
        // Writing to a string can't fail.
        if let Some(microseconds) = machine.sync_microseconds {
            let _ = writeln!(
                lines,
                "4 KiB at the end of a file, with fdatasync: {microseconds:.0} µs in the median"
            );
        }
        if let Some(packets) = &machine.quic_packets {
            let _ = writeln!(lines, "QUIC packets: {packets}");
        }
        if let Some(nodes) = self.nodes {
            let threads = self.threads;
            let _ =
                writeln!(lines, "{nodes} nodes in this process, current-thread runtimes, threads {threads}");
        }
        lines
    }

    /// The conditions and all rows, as text.
    #[must_use]
    pub fn table(&self) -> String {
        let table = Table::new(self.rows.iter().map(|row| &row.place));
        let rows: String = self.rows.iter().map(|row| table.row(row) + "\n").collect();
        let emulated: String =
            self.emulated.iter().map(|emulated| Table::emulated(emulated) + "\n").collect();
        format!("{}\n{}\n{rows}{emulated}", self.conditions(), table.titles())
    }
}
