//! `hoop-replay play`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::Run;
use crate::content;
use crate::exit::{ExitCode, Failure};
use crate::output::keys::{Key, Keys};
use crate::output::{self, Output};
use crate::terminal::safe::Filter;
use crate::terminal::{Moment, Recording, What, asciicast};
use crate::timeline::Timeline;

/// How far the keys jump.
const JUMP: Duration = Duration::from_secs(10);

/// The fastest and the slowest that the keys make it.
const SPEED_RANGE: std::ops::RangeInclusive<f64> = 0.125..=64.0;

/// Ends what a recorded program may have left behind: attributes, the other screen, a hidden cursor, line drawing.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h\x1b[r\x1b(B\r\n";

/// Arguments of `play`.
#[derive(Debug, Clone, Args)]
pub struct PlayArgs {
    /// The session, or the first digits of its id
    pub session: String,
    /// Which of its commands, counted from 1; needed where it has several
    #[arg(long, value_name = "NUMBER")]
    pub command: Option<usize>,
    /// Times as fast as it was
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Never wait longer than this for the next moment; `0s` for as long as it was
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub idle_max: Duration,
    /// Begin here, with the screen as it was then, such as `1m30s`
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub from: Duration,
    /// Write an asciicast (version 2) to this file instead, `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub asciicast: Option<PathBuf>,
    /// With --asciicast: also what was typed, which may be passwords
    #[arg(long, requires = "asciicast")]
    pub input: bool,
    /// Pass on every byte, also those that make a terminal answer or reach outside of its window
    #[arg(long)]
    pub raw: bool,
    /// Only look into files from this time on: RFC 3339, a date, `today`, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only look into files up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

pub(super) async fn run(run: &mut Run, args: &PlayArgs) -> Result<ExitCode, Failure> {
    if !SPEED_RANGE.contains(&args.speed) {
        return Err(Failure::usage("--speed must be between 0.125 and 64"));
    }
    let times = super::FilterArgs {
        since: args.since.clone(),
        until: args.until.clone(),
        ..super::FilterArgs::default()
    };
    let view = run.view(&times.filter(&run.clock)?).await?;
    let mut found = run.find(&view, &args.session).await?;
    let entries = view.entries(&mut found).await?;
    let timeline = Timeline::new(&entries, run.clock.now);
    let is_whole = super::content_is_whole(&view).await;
    let requests = timeline.iter().flat_map(|timeline| &timeline.requests);
    let recordings: Vec<_> = requests.clone().filter_map(Recording::of).collect();
    if recordings.is_empty()
        && let Some(why) = requests
            .flat_map(|r| &r.stream)
            .find_map(content::unreadable)
    {
        let mut failure = Failure::not_found(format!("what the commands showed cannot be: {why}"));
        if !is_whole {
            failure.code = ExitCode::Damaged;
        }
        return Err(failure);
    }
    let mut recording = choose(recordings, args.command)?;
    let length = recording.duration();
    if !args.idle_max.is_zero() {
        recording = recording.without_idling(args.idle_max);
    }
    for damage in &found.damaged {
        output::notice(&format!("{damage}; the session may have more in it"));
    }
    match &args.asciicast {
        Some(path) => write(&mut run.output, &recording, path, args.input)?,
        None => {
            // Whether anybody watches, so that time matters.
            let watched = std::io::stdout().is_terminal();
            play(&mut run.output, &recording, args, watched)?;
            say_end(&recording, length);
        }
    }
    Ok(if found.damaged.is_empty() && is_whole {
        ExitCode::Success
    } else {
        ExitCode::Damaged
    })
}

/// The command that was asked for.
fn choose(mut recordings: Vec<Recording>, wanted: Option<usize>) -> Result<Recording, Failure> {
    let list = |recordings: &[Recording]| {
        let line = |(i, recording): (usize, &Recording)| {
            let seconds = recording.duration().as_secs();
            format!(
                "\n  --command {}: {} ({seconds} s)",
                i + 1,
                recording.title()
            )
        };
        recordings.iter().enumerate().map(line).collect::<String>()
    };
    match (recordings.len(), wanted) {
        (0, _) => Err(Failure::not_found(
            "the session has no exec or attach whose output was recorded: its rule must say `record: RequestResponse`",
        )),
        (1, None) => Ok(recordings.remove(0)),
        (_, None) => Err(Failure::usage(format!(
            "the session has several commands; choose one:{}",
            list(&recordings)
        ))),
        (count, Some(number)) if (1..=count).contains(&number) => Ok(recordings.remove(number - 1)),
        (_, Some(number)) => Err(Failure::usage(format!(
            "there is no command {number}; there are:{}",
            list(&recordings)
        ))),
    }
}

fn write(
    output: &mut Output,
    recording: &Recording,
    path: &std::path::Path,
    input: bool,
) -> Result<(), Failure> {
    let lines = asciicast::lines(recording, input);
    if path.as_os_str() == "-" {
        for line in lines {
            output.bytes(line.as_bytes())?;
        }
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    std::fs::write(path, text).map_err(|error| Failure {
        code: ExitCode::Io,
        error: anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    })?;
    output::notice(&format!(
        "wrote {} moments to {}",
        lines.len() - 1,
        path.display()
    ));
    Ok(())
}

/// Plays it, in its time where somebody watches.
fn play(
    output: &mut Output,
    recording: &Recording,
    args: &PlayArgs,
    watched: bool,
) -> Result<(), Failure> {
    let mut filter = Filter::default();
    let mut show = |output: &mut Output, moment: &Moment| -> std::io::Result<()> {
        match &moment.what {
            What::Output(bytes) if args.raw => output.own_bytes(bytes),
            What::Output(bytes) => {
                let mut safe = Vec::with_capacity(bytes.len());
                filter.push(bytes, &mut safe);
                output.own_bytes(&safe)
            }
            What::Missing(bytes) => {
                output.own_bytes(format!("[{bytes} bytes are missing]").as_bytes())
            }
            What::Input(_) | What::Resize(..) => Ok(()),
        }
    };
    let keys = watched.then(Keys::listen).flatten();
    if watched {
        let (width, height) = recording.size;
        let hint = match &keys {
            Some(_) => "space pauses, . steps, + and - change the speed, > jumps 10 s, q ends",
            None => "interrupt to end",
        };
        let title = recording.title();
        output::notice(&format!("{title} ({width} columns, {height} rows); {hint}"));
    }
    let mut pace = Pace::new(args.from, args.speed);
    for moment in &recording.moments {
        if watched && pace.wait(moment.at, keys.as_ref()) == Go::End {
            break;
        }
        show(output, moment)?;
        if watched {
            output.flush()?;
        }
    }
    if watched {
        output.own_bytes(LEAVE)?;
    }
    output.flush()?;
    drop(keys);
    Ok(())
}

fn say_end(recording: &Recording, length: Duration) {
    let length = humantime::format_duration(Duration::from_secs(length.as_secs()));
    match recording.exit_code {
        Some(code) => output::notice(&format!("exit code {code}, {length}")),
        None => output::notice(&format!("no exit code is recorded, {length}")),
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    End,
}

/// How recorded time passes in ours.
struct Pace {
    /// Where the recording is now.
    at: Duration,
    since: Instant,
    speed: f64,
    paused: bool,
}

impl Pace {
    fn new(from: Duration, speed: f64) -> Self {
        Self {
            at: from,
            since: Instant::now(),
            speed,
            paused: false,
        }
    }

    /// Waits until the recording is at `until`; keys change how.
    fn wait(&mut self, until: Duration, keys: Option<&Keys>) -> Go {
        loop {
            self.pass();
            let left = until.saturating_sub(self.at).div_f64(self.speed);
            if left.is_zero() && !self.paused {
                return Go::On;
            }
            let Some(keys) = keys else {
                std::thread::sleep(left);
                continue;
            };
            let left = if self.paused { Duration::MAX } else { left };
            let key = keys.next(left);
            self.pass();
            match key {
                Some(Key::Quit) => return Go::End,
                Some(Key::Pause) => self.paused = !self.paused,
                Some(Key::Step) => {
                    self.paused = true;
                    self.at = self.at.max(until);
                    return Go::On;
                }
                Some(Key::Faster) => self.speed = (self.speed * 2.0).min(*SPEED_RANGE.end()),
                Some(Key::Slower) => self.speed = (self.speed / 2.0).max(*SPEED_RANGE.start()),
                Some(Key::Jump) => self.at += JUMP,
                None => {}
            }
        }
    }

    /// Brings the clock up to date.
    fn pass(&mut self) {
        if !self.paused {
            self.at += self.since.elapsed().mul_f64(self.speed);
        }
        self.since = Instant::now();
    }
}
