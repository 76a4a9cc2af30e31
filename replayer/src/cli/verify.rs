//! `hoop-replay verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use hoop_schema::transparency::note::{KeyUse, Note, Verifier};

use super::{FilterArgs, Run};
use crate::exit::{ExitCode, Failure};
use crate::output::{Format, Progress};
use crate::verify::{self, Scope, Trust, report};

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
    /// Whom to believe.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Whom to believe.
#[derive(Debug, Clone, Default, Args)]
pub struct TrustArgs {
    /// Key of the transparency log: a verifier key, or a file of them, one a line; may be given more than once
    /// [default: evidence.vkey of a data directory]
    #[arg(long, value_name = "FILE|VKEY")]
    pub key: Vec<String>,
    /// Key of a witness, whose cosignatures are checked and shown: written like --key
    #[arg(long, value_name = "FILE|VKEY")]
    pub witness: Vec<String>,
    /// File of checkpoints that were kept elsewhere (hoop-replay checkpoint): the logs must have them in their past
    #[arg(long, value_name = "FILE")]
    pub since_checkpoint: Vec<PathBuf>,
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
        Some(session) => Some(run.find(&view, session).await?.session_id),
        None => None,
    };
    let scope = Scope {
        session,
        days_limited: filter.since.is_some() || filter.until.is_some(),
    };
    let mut trust = args.trust.read(run.data.as_deref())?;
    trust.now = run.clock.now;
    let total = view.catalog.files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let mut proof = verify::verify(&view, scope, &trust, &mut progress).await?;
    drop(progress);
    if args.trust.key.is_empty() && !trust.keys.is_empty() {
        proof.notes.push("the key is the one in the data directory itself: keep a copy of it elsewhere, and give it with --key".into());
    }
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

/// Name of the file in a data directory that has the key of its transparency log.
const DATA_KEY: &str = "evidence.vkey";

impl TrustArgs {
    fn read(&self, data: Option<&Path>) -> Result<Trust, Failure> {
        let mut keys = Vec::new();
        for key in &self.key {
            keys.extend(verifiers(key, KeyUse::Notes)?);
        }
        let beside = data.map(|data| data.join(DATA_KEY));
        if self.key.is_empty()
            && let Some(file) = beside.filter(|file| file.is_file())
        {
            keys = verifiers(&file.to_string_lossy(), KeyUse::Notes)?;
        }
        let mut witnesses = Vec::new();
        for key in &self.witness {
            witnesses.extend(verifiers(key, KeyUse::Cosignatures)?);
        }
        let mut kept = Vec::new();
        for file in &self.since_checkpoint {
            let text = text_of(file)?;
            let notes = Note::parse_all(&text).map_err(|e| {
                Failure::usage(format!("--since-checkpoint {}: {e}", file.display()))
            })?;
            kept.extend(notes);
        }
        Ok(Trust {
            keys,
            witnesses,
            kept,
            ..Trust::default()
        })
    }
}

/// The keys that an argument gives: one itself, or all in a file.
fn verifiers(argument: &str, usage: KeyUse) -> Result<Vec<Verifier>, Failure> {
    let text = match argument.parse::<Verifier>() {
        Ok(_) => argument.to_owned(),
        Err(e) if argument.contains('+') && !Path::new(argument).exists() => {
            return Err(Failure::usage(format!("{argument}: {e}")));
        }
        Err(_) => text_of(Path::new(argument))?,
    };
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines
        .map(str::parse::<Verifier>)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::usage(format!("{argument}: {e}")))?;
    if keys.is_empty() {
        return Err(Failure::usage(format!("{argument}: there is no key in it")));
    }
    if keys.iter().any(|key| key.usage() != usage) {
        let what = match usage {
            KeyUse::Notes => "a key of a witness; give it with --witness",
            KeyUse::Cosignatures => "a key of a log; give it with --key",
        };
        return Err(Failure::usage(format!("{argument}: {what}")));
    }
    Ok(keys)
}

fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))
}
