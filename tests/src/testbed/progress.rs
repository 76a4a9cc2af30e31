//! Progress of long work: a bar on a terminal, a line a minute elsewhere. The only place here that writes to the
//! screen.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// How often a bar is drawn anew, so that its clock moves.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// One piece of long work.
pub(crate) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    said: Instant,
    done: u64,
    total: u64,
}

impl Progress {
    /// Begins; `total` is the number of steps, 0 when nobody knows.
    pub(crate) fn begin(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        if bar.is_none() {
            say(what);
        }
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            bar,
            begun: now,
            said: now,
            done: 0,
            total,
        }
    }

    /// One step further.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Time passes; to be called at least every few seconds.
    pub(crate) fn tick(&mut self) {
        if self.bar.is_none() && self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let minutes = self.begun.elapsed().as_secs() / 60;
            match self.total {
                0 => say(&format!("{}: {minutes} min", self.what)),
                total => say(&format!(
                    "{}: {} of {total} parts, {minutes} min",
                    self.what, self.done
                )),
            }
        }
    }

    /// The work is over.
    pub(crate) fn end(self) {
        let seconds = self.begun.elapsed().as_secs();
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        say(&format!("{}: done in {seconds} s", self.what));
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let (bar, template) = match total {
        0 => (
            ProgressBar::new_spinner(),
            "{spinner} {msg} [{elapsed_precise}]",
        ),
        total => (
            ProgressBar::new(total),
            "{spinner} {msg} {wide_bar} {pos}/{len} [{elapsed_precise}]",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a literal");
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(DRAW_EVERY);
    bar
}

/// Says something to whoever watches the tests.
#[expect(
    clippy::print_stderr,
    reason = "people watch the test bed being built here"
)]
pub(crate) fn say(text: &str) {
    eprintln!("test bed: {text}");
}
