//! `hoop-replay verify`.

use clap::Args;

use super::{FilterArgs, Run};
use crate::exit::{ExitCode, Failure};
use crate::output::{Format, Progress};
use crate::verify::{self, Scope, report};

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Only this session, or the first digits of its id: its files are read, all others only hashed and linked
    #[arg(long)]
    pub session: Option<String>,
    /// Only files from this time on: RFC 3339, a date, `today`, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only files up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

pub(super) async fn run(run: &mut Run, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let times = FilterArgs {
        since: args.since.clone(),
        until: args.until.clone(),
        ..FilterArgs::default()
    };
    let filter = times.filter(&run.clock)?;
    let view = run.view(&filter).await?;
    let session = match &args.session {
        Some(session) => Some(view.find(session).await?.session_id),
        None => None,
    };
    let scope = Scope {
        session,
        days_limited: filter.since.is_some() || filter.until.is_some(),
    };
    let total = view.catalog.files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let proof = verify::verify(&view, scope, &mut progress).await?;
    drop(progress);
    match run.output.format() {
        Format::Table => {
            for line in report::lines(&proof) {
                run.output.paragraph(&line)?;
            }
        }
        Format::Json | Format::Jsonl => run.output.json(&proof)?,
    }
    Ok(proof.exit_code())
}
