//! Reads the log of a pipeline, beside the process that writes it: what was recorded, whatever became of it since.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::embedded::EmbeddedReader;
use hoop_sinks::log::{EventReader, Position};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// The exact bytes of records, by class, shard and position.
pub(crate) type Records = BTreeMap<(String, u32, u64), String>;

/// The records of every class and shard of a log, by class, shard and position.
pub(crate) async fn records(log: &Path) -> Result<Records> {
    let mut records = BTreeMap::new();
    for entry in std::fs::read_dir(log)? {
        let name = entry?.file_name();
        let Some(class) = name.to_str().and_then(|name| name.parse::<Class>().ok()) else {
            continue;
        };
        let reader = EmbeddedReader::open(log, &class)?;
        for shard in (0..reader.shards()).map(Shard) {
            let mut from = reader.bounds(shard).await?.first;
            loop {
                let batch = reader.read(shard, from, READ_BYTES, Duration::ZERO).await?;
                let Some(last) = batch.last() else { break };
                from = Position(last.position.0 + 1);
                for record in batch {
                    let text = String::from_utf8(record.bytes.to_vec())?;
                    records.insert((class.to_string(), shard.0, record.position.0), text);
                }
            }
        }
    }
    Ok(records)
}
