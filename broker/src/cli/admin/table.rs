//! Tables for people.

use std::fmt;

/// Rows under a head. Columns are as wide as what is in them; the last one is not padded.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row. What others wrote may hold control characters, which a terminal would obey: they are shown escaped.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Says on standard error what an answer lacks.
pub(super) fn note_rest(next: Option<&str>, missing: &[String]) {
    if !missing.is_empty() {
        eprintln!("bongsu: without what {} has: no answer came in time", missing.join(", "));
    }
    if let Some(next) = next {
        eprintln!("bongsu: there is more: --after {next}");
    }
}

/// A number of bytes, in the unit that people read best.
pub(super) fn bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n_bytes < 1024 {
        return format!("{n_bytes} B");
    }
    let (mut value, mut unit) = (n_bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["NODE", "STATE"]);
        table.row(["a-long-name".to_owned(), "ok".to_owned()]);
        table.row(["b".to_owned(), "no\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "NODE         STATE\na-long-name  ok\nb            no\\u{1b}[2J\n");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (n_bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(n_bytes), expected);
        }
    }
}
