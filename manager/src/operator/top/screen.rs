//! The terminal while frames replace each other on it.

use rustix::termios::tcgetwinsize;

use crate::operator::{OperatorError, print};

/// Another screen than the one the shell is on, with the cursor hidden (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line, and the rest of the screen.
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";

/// A terminal's other screen; when this is dropped the terminal is as it was.
pub(super) struct Screen(());

impl Screen {
    /// Changes to it.
    pub(super) fn enter() -> Result<Self, OperatorError> {
        let screen = Self(());
        print(ENTER)?;
        Ok(screen)
    }

    /// Shows a text from its beginning, as much of it as there is room for.
    pub(super) fn show(&self, text: &str) -> Result<(), OperatorError> {
        // A terminal that nobody has told its size says 0.
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()));
        print(&frame(text, rows, columns))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print(LEAVE);
    }
}

fn frame(text: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<String> = text
        .lines()
        .take(rows.max(1))
        .map(|line| line.chars().take(columns.max(1)).collect::<String>() + REST_OF_LINE)
        .collect();
    format!("{HOME}{}{REST}", lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_to_the_terminal() {
        assert_eq!(frame("abc\nde\nf\n", 2, 2), "\x1b[Hab\x1b[K\r\nde\x1b[K\x1b[J");
    }
}
