//! What became of holds that were set or released, for people and for `-o json`.

use hoop_schema::kinds::recorder::RecorderHold;
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::holds::Change;
use serde::Serialize;

use super::target;
use super::work::Work;
use crate::cli::Run;
use crate::evidence::StoredFile;
use crate::exit::{ExitCode, Failure};
use crate::output::text::{Style, Text};
use crate::output::{self, Format};
use crate::when;

/// Failures that are shown to people; `-o json` has all.
const FAILURES_SHOWN: usize = 5;

/// What became of one hold, for `-o json`.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    #[serde(flatten)]
    hold: RecorderHold,
    /// Whether an event was written now; else it was so already.
    written: bool,
    /// Sessions concerned.
    sessions: usize,
    /// Session files concerned.
    files: usize,
    /// Their length in bytes.
    bytes: u64,
    /// Whether the store itself locks objects.
    store_locks: bool,
    /// Objects locked or unlocked now: the files and their indexes.
    objects: usize,
    /// Session files concerned that other holds still keep.
    pub(super) files_kept_by_others: usize,
    /// Objects that the store did not lock or unlock, and why.
    failed: Vec<String>,
}

impl Done {
    pub(super) fn of(
        work: &Work,
        hold: RecorderHold,
        change: Change,
        files: &[StoredFile],
        objects: usize,
        failed: Vec<String>,
    ) -> Self {
        Self {
            sessions: work.holdings.sessions_of(&hold),
            hold,
            written: change == Change::Written,
            files: files.len(),
            bytes: files.iter().map(|f| f.bytes).sum(),
            store_locks: work.store_locks,
            objects,
            files_kept_by_others: 0,
            failed,
        }
    }
}

pub(super) fn report(
    run: &mut Run,
    store: &dyn EvidenceStore,
    all: &[Done],
    added: bool,
) -> Result<ExitCode, Failure> {
    match run.output.format() {
        Format::Json => run.output.json(&all)?,
        Format::Jsonl => {
            for done in all {
                run.output.json(done)?;
            }
        }
        Format::Table => {
            for done in all {
                tell(run, done, added)?;
            }
            if !all.iter().any(|done| done.store_locks) {
                let place = store.place();
                let what = if added {
                    format!(
                        "{place} cannot lock objects: recorders keep what is held, and whoever may write there can still delete it"
                    )
                } else {
                    format!("{place} cannot lock objects, so there is nothing to unlock")
                };
                run.output.paragraph(&Text::styled(Style::Warn, what))?;
            }
        }
    }
    let failed: Vec<&String> = all.iter().flat_map(|done| &done.failed).collect();
    if failed.is_empty() {
        return Ok(ExitCode::Success);
    }
    for failure in failed.iter().take(FAILURES_SHOWN) {
        output::notice(failure);
    }
    output::notice(&format!(
        "{} could not be {}: with the rights that `hoop store policy retention` writes, run the same command again",
        when::counted(failed.len() as u64, "object"),
        if added { "locked" } else { "unlocked" }
    ));
    Ok(ExitCode::Io)
}

fn tell(run: &mut Run, done: &Done, added: bool) -> Result<(), Failure> {
    let state = match (added, done.written) {
        (true, true) => "is in force",
        (true, false) => "was in force already",
        (false, true) => "is released",
        (false, false) => "was released already",
    };
    let mut line = Text::plain("hold ")
        .with(Style::Name, &done.hold.hold_id)
        .with(Style::Plain, " ")
        .with(if added { Style::Good } else { Style::Warn }, state);
    line.push(Style::Plain, format!(": {}", target(&done.hold)));
    run.output.paragraph(&line)?;
    let files = when::counted(done.files as u64, "session file");
    let sessions = when::counted(done.sessions as u64, "session");
    let bytes = when::bytes(done.bytes);
    let mut text = match added {
        true => format!("  keeps {files} ({bytes}) with {sessions}, and what is still to come"),
        false => format!("  {files} ({bytes}) with {sessions}"),
    };
    if !added && done.files_kept_by_others > 0 {
        text.push_str(&format!(
            ", of which other holds keep {}",
            when::count(done.files_kept_by_others as u64)
        ));
    }
    if done.store_locks {
        let verb = if added { "locked" } else { "unlocked" };
        text.push_str(&format!(
            "; {} {verb}",
            when::counted(done.objects as u64, "object")
        ));
    }
    Ok(run.output.paragraph(&Text::styled(Style::Dim, text))?)
}
