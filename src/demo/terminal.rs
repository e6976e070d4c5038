//! Where the picture goes: redrawn in place on a terminal, plain lines anywhere else.
//!
//! The terminal's other screen is used, as editors do, so that a change of its size cannot leave rubbish and what
//! stood there before comes back at the end.

use std::io::{IsTerminal, Write, stdout};

use super::screen::Line;

/// What a terminal that does not say is taken for.
const USUAL: (usize, usize) = (80, 24);

pub struct Terminal {
    live: bool,
    color: bool,
    open: bool,
    gone: bool,
}

impl Terminal {
    pub fn new() -> Terminal {
        let word = |name| std::env::var(name).unwrap_or_default();
        let live = stdout().is_terminal() && !["", "dumb"].contains(&word("TERM").as_str());
        // no-color.org: any value but an empty one.
        Terminal { live, color: live && word("NO_COLOR").is_empty(), open: false, gone: false }
    }

    /// Whether pictures are shown.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Whether nobody reads us any more: a pipe that was closed, a terminal that was taken away.
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(stdout()) {
            Ok(size) if self.live && size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL,
        }
    }

    pub fn draw(&mut self, lines: &[Line]) {
        let mut out = String::new();
        if !self.open {
            // The other screen, no cursor, no wrapping.
            out.push_str("\x1b[?1049h\x1b[?25l\x1b[?7l");
            self.open = true;
        }
        out.push_str("\x1b[H");
        for (position, line) in lines.iter().enumerate() {
            if position > 0 {
                out.push_str("\r\n");
            }
            line.write(&mut out, self.color);
            out.push_str("\x1b[K");
        }
        out.push_str("\x1b[J");
        self.print(&out);
    }

    /// Prints lines that stay, on the screen the demo was started from.
    pub fn say(&mut self, lines: &[Line]) {
        self.close();
        let mut out = String::new();
        for line in lines {
            line.write(&mut out, self.color);
            out.push('\n');
        }
        self.print(&out);
    }

    fn print(&mut self, text: &str) {
        let mut out = stdout().lock();
        self.gone |= out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.print("\x1b[?7h\x1b[?25h\x1b[?1049l");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}
