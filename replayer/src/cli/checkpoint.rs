//! `hoop-replay checkpoint`.

use std::collections::BTreeMap;

use clap::Args;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::note::{NOTE_BYTES_MAX, Note};
use hoop_schema::transparency::{LogPlace, TLOG_PREFIX};
use hoop_schema::{Class, Shard};
use serde_json::json;

use super::Run;
use crate::evidence::Error;
use crate::exit::{ExitCode, Failure};
use crate::output::Format;

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, Args)]
pub struct CheckpointArgs {
    /// Only logs of this class
    #[arg(long)]
    pub class: Option<Class>,
    /// Only logs of this shard
    #[arg(long)]
    pub shard: Option<u32>,
}

pub(super) async fn run(run: &mut Run, args: &CheckpointArgs) -> Result<ExitCode, Failure> {
    let Some(store) = run.evidence.store.clone() else {
        return Err(Failure::not_found("there is no evidence, only a log"));
    };
    let mut newest: BTreeMap<LogPlace, String> = BTreeMap::new();
    for object in store.list(TLOG_PREFIX, None).await.map_err(Error::Store)? {
        // In order of keys, so the last one of each log is its newest.
        if let Some((place, rest)) = LogPlace::parse(&object.key)
            && rest.starts_with("checkpoints/")
        {
            newest.insert(place, object.key);
        }
    }
    let mut checkpoints = Vec::new();
    for (place, key) in newest {
        let other_class = args
            .class
            .as_ref()
            .is_some_and(|class| *class != place.class);
        if other_class || args.shard.is_some_and(|shard| Shard(shard) != place.shard) {
            continue;
        }
        let bytes = store
            .get(&key, 0..NOTE_BYTES_MAX as u64)
            .await
            .map_err(Error::Store)?;
        let note = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse::<Note>().ok());
        let read = note.and_then(|note| Some((Checkpoint::parse(&note.text)?, note)));
        checkpoints.push(read.ok_or_else(|| Failure {
            code: ExitCode::Damaged,
            error: anyhow::Error::msg(format!(
                "{key} is no signed checkpoint; run `hoop-replay verify`"
            )),
        })?);
    }
    if checkpoints.is_empty() {
        return Err(Failure::not_found(
            "there is no checkpoint: the recorder writes one with the first session file, if it has a key",
        ));
    }
    let value = |(checkpoint, note): &(Checkpoint, Note)| json!({"origin": checkpoint.origin, "leaves": checkpoint.size, "note": note.to_string()});
    match run.output.format() {
        Format::Table => {
            let notes: Vec<String> = checkpoints
                .iter()
                .map(|(_, note)| note.to_string())
                .collect();
            run.output.own_text(&notes.join("\n"))?;
        }
        Format::Json => run
            .output
            .json(&checkpoints.iter().map(value).collect::<Vec<_>>())?,
        Format::Jsonl => {
            for checkpoint in &checkpoints {
                run.output.json(&value(checkpoint))?;
            }
        }
    }
    Ok(ExitCode::Success)
}
