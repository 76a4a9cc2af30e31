//! `hoop-replay show`.

use clap::Args;
use hoop_schema::bytes::decode;
use hoop_sinks::store::erasures::KnownErasure;

use super::Run;
use crate::contents::erased_on;
use crate::exit::{ExitCode, Failure};
use crate::filter::Filter;
use crate::output::text::{Style, Text};
use crate::output::{self, Format};
use crate::show::{self, Options};
use crate::timeline::Timeline;

/// Lines of one body that are shown unless asked otherwise: half a screen.
const BODY_LINES_DEFAULT: usize = 24;

/// Arguments of `show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The session, or the first digits of its id
    pub session: String,
    /// Also show bodies, streams, and what writes changed
    #[arg(long)]
    pub bodies: bool,
    /// Lines of one body or stream that are shown
    #[arg(long, default_value_t = BODY_LINES_DEFAULT)]
    pub lines: usize,
    /// Only look into files from this time on: RFC 3339, a date, `today`, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only look into files up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

pub(super) async fn run(run: &mut Run, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let times = super::FilterArgs {
        since: args.since.clone(),
        until: args.until.clone(),
        ..super::FilterArgs::default()
    };
    let filter: Filter = times.filter(&run.clock)?;
    let view = run.view(&filter).await?;
    let mut found = run.find(&view, &args.session).await?;
    let entries = view.entries(&mut found).await?;
    match run.output.format() {
        Format::Table => {
            let timeline = Timeline::new(&entries, run.clock.now).ok_or_else(|| Failure {
                code: ExitCode::Damaged,
                error: anyhow::anyhow!("none of the session's events can be read"),
            })?;
            let options = Options {
                bodies: args.bodies,
                body_lines_max: args.lines,
                width: run.output.width(),
            };
            for line in show::lines(&timeline, &run.clock, options) {
                run.output.line(&line)?;
            }
            if let Some(contents) = &view.contents
                && let Some(KnownErasure { erased, at }) =
                    contents.erasure_of_read(found.session_id).await?
            {
                let mut text = format!("its content was {}", erased_on(at, &erased.reason));
                text.push_str(&format!(" ({})", erased.by));
                run.output.paragraph(&Text::styled(Style::Warn, text))?;
            }
        }
        // The events themselves, in the order of the timeline: whoever computes wants all of it.
        Format::Jsonl | Format::Json => {
            let mut events: Vec<_> = entries
                .iter()
                .filter_map(|e| Some((decode(e.shown()).ok()?.envelope, e.shown())))
                .collect();
            events.sort_by(|(a, _), (b, _)| {
                let key = |e: &hoop_schema::Envelope| (e.ts, e.session_seq, e.event_id);
                key(a).cmp(&key(b))
            });
            if run.output.format() == Format::Jsonl {
                for (_, bytes) in events {
                    run.output.bytes(bytes)?;
                }
            } else {
                let raw: Vec<&serde_json::value::RawValue> = events
                    .iter()
                    .filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok())
                    .collect();
                run.output.json(&raw)?;
            }
        }
    }
    for damage in &found.damaged {
        output::notice(&format!("{damage}; the session may have more in it"));
    }
    let is_whole = super::content_is_whole(&view).await;
    Ok(if found.damaged.is_empty() && is_whole {
        ExitCode::Success
    } else {
        ExitCode::Damaged
    })
}
