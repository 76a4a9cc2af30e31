//! The only place that prints. What a line is made of, and when it has colour, is the replayer's.

use std::io;

use hoop_replayer::output::text::{Style, Text};
use hoop_replayer::output::{ColorChoice, Format, Output, OutputEnvironment, Progress};

use crate::exit::ExitCode;

/// What a printed line was made of; reads better at the call.
pub use hoop_replayer::output::text::{Style as Look, Text as Line};

/// Standard output for people.
pub struct Printer {
    output: Output,
    /// Whether colour is on: commands that are run for their output are told so.
    color: bool,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printer")
    }
}

impl Printer {
    /// As the environment asks for: `NO_COLOR` and `COLUMNS`.
    pub fn new(no_color: Option<String>, columns: Option<String>) -> Self {
        let color = io::IsTerminal::is_terminal(&io::stdout())
            && no_color.as_deref().is_none_or(str::is_empty);
        let environment = OutputEnvironment { no_color, columns };
        Self {
            output: Output::new(Format::Table, ColorChoice::Auto, &environment),
            color,
        }
    }

    /// Progress over so many bytes of evidence, on standard error.
    pub fn progress(&self, bytes: u64) -> Progress {
        Progress::new(&self.output, bytes)
    }

    /// A JSON document on one line, its bytes as they are.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn json(&mut self, document: &impl serde::Serialize) -> io::Result<()> {
        self.output.json(document)?;
        self.output.flush()
    }

    /// Columns that a line may have.
    pub fn width(&self) -> usize {
        self.output.width()
    }

    /// Whether colour is on.
    pub fn color(&self) -> bool {
        self.color
    }

    /// One line, as long as it is, seen at once.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn line(&mut self, line: &Text) -> io::Result<()> {
        self.output.long_line(line)?;
        self.output.flush()
    }

    /// One line, clipped to the width.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn clipped(&mut self, line: &Text) -> io::Result<()> {
        self.output.line(line)?;
        self.output.flush()
    }

    /// A line, broken between words where it is too long; what follows is indented as it is.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn wrapped(&mut self, line: &Text) -> io::Result<()> {
        self.output.paragraph(line)?;
        self.output.flush()
    }

    /// A plain line, broken between words where it is too long.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn paragraph(&mut self, text: &str) -> io::Result<()> {
        self.output.paragraph(&Text::plain(text))?;
        self.output.flush()
    }

    /// A line of nothing.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn blank(&mut self) -> io::Result<()> {
        self.output.blank()
    }

    /// A heading, with a blank line before it.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        self.blank()?;
        self.line(&Text::styled(Style::Bold, text))
    }

    /// What another program of ours printed, colours and all, indented by two.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn own_output(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            self.output.own_text("  ")?;
            self.output.own_text(line)?;
            self.output.own_text("\n")?;
        }
        self.output.flush()
    }
}

/// A message about the run itself, on standard error.
#[expect(clippy::print_stderr, reason = "this is the output module")]
pub fn notice(message: &str) {
    for line in message.lines() {
        eprintln!("hoop: {line}");
    }
}

/// A program was interrupted twice: nothing more is waited for.
pub fn exit_at_once() -> ! {
    notice("interrupted again: stopped at once; what was acknowledged is on the disk");
    std::process::exit(ExitCode::Interrupted as i32)
}
