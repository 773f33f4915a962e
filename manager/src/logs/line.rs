//! One line, in the text form of Go's logrus, which is what the rest of containerd's log looks like.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Level;
use tracing::field::{Field, Visit};

/// The longest line, with its newline, in bytes: Linux writes no more than this to a pipe in one piece (`PIPE_BUF`).
pub(super) const MAX_LINE: usize = 4096;

/// What stands at the end of a line that was cut.
const CUT: &str = "...";

/// The fields of an event or a span.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The container that a field `container` names.
    pub(super) container: Option<String>,
    message: String,
    /// The other fields, ready to be appended.
    rest: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &dyn fmt::Display) {
        match field.name() {
            "message" => self.message = value.to_string(),
            "container" => self.container = Some(value.to_string()),
            // Where in its source a record of the `log` crate was made.
            name if name.starts_with("log.") => {}
            name => append(&mut self.rest, name, &value.to_string()),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format_args!("{value:?}"));
    }
}

/// Writes a line. `spans` are the fields of the spans round the event, innermost first.
pub(super) fn render<'a>(
    at: SystemTime,
    level: Level,
    event: &'a Fields,
    container: Option<&str>,
    spans: impl Iterator<Item = &'a Fields>,
) -> String {
    let mut line = String::with_capacity(256);
    append(&mut line, "time", &timestamp(at));
    append(&mut line, "level", name_of(level));
    append(&mut line, "msg", &event.message);
    if let Some(container) = container {
        append(&mut line, "container", container);
    }
    line.push_str(&event.rest);
    for span in spans {
        line.push_str(&span.rest);
    }
    line.remove(0);
    if line.len() >= MAX_LINE {
        let mut end = MAX_LINE - CUT.len() - 1;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(CUT);
    }
    line.push('\n');
    line
}

/// Appends ` name=value`, with the value in quotes where logrus quotes it.
fn append(line: &mut String, name: &str, value: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    let _ = if value.chars().all(is_plain) {
        write!(line, " {name}={value}")
    } else {
        write!(line, " {name}={value:?}")
    };
}

/// A level as logrus calls it.
fn name_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A time as RFC 3339 has it, in UTC with nine digits of fraction.
pub(crate) fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The date that is `days` after 1970-01-01.
///
/// Years are counted from March, so that a leap day is the last of its year, in cycles of 400 years of 146,097 days;
/// 719,468 days lie between 0000-03-01 and 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}
