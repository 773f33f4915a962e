//! Tables for people, and how long and how much in few characters.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Columns whose width is that of their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row. Characters that could do something to a terminal are shown as escapes.
    pub(super) fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// The text, a line each.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}   ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text of one line without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|one| {
            let escape = one.is_control().then(|| one.escape_default());
            let same = (!one.is_control()).then_some(one);
            escape.into_iter().flatten().chain(same)
        })
        .collect()
}

/// A duration in its two largest units at most: `3d4h`, `5m7s`, `42s`, `0.350s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match () {
        () if days > 0 => format!("{days}d{hours}h"),
        () if hours > 0 => format!("{hours}h{minutes}m"),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () if seconds >= 10 => format!("{seconds}s"),
        () => format!("{:.3}s", time.as_secs_f64()),
    }
}

/// The time since `ms` milliseconds after 1970.
pub(super) fn age(ms: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(ms))
}

/// An amount of bytes with a binary unit.
pub(super) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut divisor = 1u64;
    while unit + 1 < UNITS.len() && amount / divisor >= 1024 {
        divisor *= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{amount}B") } else { format!("{:.1}{name}", amount as f64 / divisor as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONGER"]);
        table.row(["wide cell".to_owned(), "x".to_owned()]);
        table.row(["\u{1b}[31m".to_owned(), String::new()]);
        assert_eq!(table.text(), "A            LONGER\nwide cell    x\n\\u{1b}[31m\n");
    }

    #[test]
    fn durations_and_amounts_are_short() {
        for (ms, text) in
            [(350, "0.350s"), (42_000, "42s"), (307_000, "5m7s"), (7_380_000, "2h3m"), (273_600_000, "3d4h")]
        {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        for (amount, text) in [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (5 << 20, "5.0MiB")] {
            assert_eq!(bytes(amount), text);
        }
    }
}
