//! The only place that prints.
//!
//! Text for people is made of [`text::Text`], which never holds a raw control character: what was recorded may have
//! been chosen by somebody who would like to write on the terminal of whoever investigates. Colour and width are
//! decided once, in [`Output::new`]. A closed pipe ends the output quietly.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

pub mod keys;
pub mod table;
pub mod text;

use text::Text;

/// Width assumed where there is neither a terminal nor `COLUMNS`.
const WIDTH_DEFAULT: usize = 80;

/// Narrower is not laid out for.
const WIDTH_MIN: usize = 40;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the environment says about output; passed in, so that tests can say it.
#[derive(Debug, Clone, Default)]
pub struct OutputEnvironment {
    /// `NO_COLOR`: any value but the empty one turns colour off.
    pub no_color: Option<String>,
    /// `COLUMNS`: the width, where it is a number.
    pub columns: Option<String>,
}

/// Where output goes, and how it looks.
pub struct Output {
    writer: Box<dyn Write + Send>,
    format: Format,
    color: bool,
    width: usize,
    progress: bool,
    stats: bool,
}

impl Output {
    /// Output to the process's standard output.
    pub fn new(format: Format, color: ColorChoice, environment: &OutputEnvironment) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let no_color = environment
            .no_color
            .as_deref()
            .is_some_and(|v| !v.is_empty());
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        let columns = environment.columns.as_deref().and_then(|c| c.parse().ok());
        let measured = || terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
        let width = columns
            .or_else(|| terminal.then(measured).flatten())
            .unwrap_or(WIDTH_DEFAULT);
        Self {
            writer: Box::new(BufWriter::new(stdout)),
            format,
            color: color && format == Format::Table,
            width: width.max(WIDTH_MIN),
            progress: io::stderr().is_terminal(),
            stats: false,
        }
    }

    /// The same, with a line about what was read at the end.
    pub fn with_stats(mut self, stats: bool) -> Self {
        self.stats = stats;
        self
    }

    /// The form of the output.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Columns that a line may have.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether standard error is a terminal, so that a progress bar can be drawn.
    pub fn progress(&self) -> bool {
        self.progress
    }

    /// Whether to say what was read.
    pub fn stats(&self) -> bool {
        self.stats
    }

    /// One line for people, clipped to the width.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn line(&mut self, text: &Text) -> io::Result<()> {
        let clipped = text.clip(self.width);
        self.write_text(&clipped)
    }

    /// One line for people, as long as it is.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn long_line(&mut self, text: &Text) -> io::Result<()> {
        self.write_text(text)
    }

    /// Lines for people, broken between words.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn paragraph(&mut self, text: &Text) -> io::Result<()> {
        for line in text.wrap(self.width) {
            self.write_text(&line)?;
        }
        Ok(())
    }

    /// A line of nothing.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn blank(&mut self) -> io::Result<()> {
        self.writer.write_all(b"\n")
    }

    /// A JSON document: pretty where the format is `json`, on one line elsewhere.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        if self.format == Format::Json {
            serde_json::to_writer_pretty(&mut self.writer, value)?;
        } else {
            serde_json::to_writer(&mut self.writer, value)?;
        }
        self.writer.write_all(b"\n")
    }

    /// Bytes as they are, and a line break.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.writer.write_all(b"\n")
    }

    /// Bytes that end as they end, and that a terminal may have.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn own_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Text that is ours and ends as it ends.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn own_text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn write_text(&mut self, text: &Text) -> io::Result<()> {
        for (style, part) in text.parts() {
            match style.ansi().filter(|_| self.color) {
                Some(ansi) => write!(self.writer, "{ansi}{part}{ansi:#}")?,
                None => self.writer.write_all(part.as_bytes())?,
            }
        }
        self.writer.write_all(b"\n")
    }
}

/// A message about the run itself, on standard error.
#[expect(clippy::print_stderr, reason = "this is the output module")]
pub fn notice(message: &str) {
    eprintln!("hoop-replay: {}", text::escaped(message));
}

/// A bar on a terminal, a line a minute elsewhere; nothing for work that is done within a second.
pub struct Progress {
    bar: indicatif::ProgressBar,
    terminal: bool,
    begun: std::time::Instant,
    said: std::time::Instant,
}

/// Work that is done sooner is not worth a bar.
const PROGRESS_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Between two lines of progress where there is no terminal.
const PROGRESS_LINE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

impl Progress {
    /// Progress over `total` bytes of evidence.
    pub fn new(output: &Output, total: u64) -> Self {
        Self::over(total, output.progress())
    }

    /// Progress that nobody sees.
    pub fn hidden() -> Self {
        Self::over(0, false)
    }

    fn over(total: u64, terminal: bool) -> Self {
        let bar = indicatif::ProgressBar::hidden();
        let style = "{bar:30} {bytes}/{total_bytes} {msg} {eta}";
        if let Ok(style) = indicatif::ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_length(total);
        let now = std::time::Instant::now();
        Self {
            bar,
            terminal,
            begun: now,
            said: now,
        }
    }

    /// There are `bytes` more to do than was known.
    pub fn expect(&mut self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// `bytes` more are done.
    pub fn advance(&mut self, bytes: u64, what: &str) {
        self.bar.inc(bytes);
        self.bar.set_message(text::escaped(what).into_owned());
        if self.terminal && self.bar.is_hidden() && self.begun.elapsed() >= PROGRESS_AFTER {
            self.bar
                .set_draw_target(indicatif::ProgressDrawTarget::stderr());
            self.bar.tick();
        }
        if !self.terminal && self.said.elapsed() >= PROGRESS_LINE_INTERVAL {
            self.said = std::time::Instant::now();
            let (at, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            notice(&format!("{at} of {total} bytes done, at {what}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
