//! The recorder that a configuration asks for.

use std::sync::Arc;

use hoop_recorder::{FlushLimits, HoleLimits, Recorder};
use hoop_schema::ProducerId;
use hoop_sinks::log::EventReader;
use hoop_sinks::store::{self, Access};
use prometheus_client::registry::Registry;

use super::StartError;
use crate::config::Config;
use crate::data_dir::DataDir;

pub(super) async fn build_recorder(
    config: &Config,
    data: &DataDir,
    producer_id: &ProducerId,
    readers: Vec<Arc<dyn EventReader>>,
    registry: &mut Registry,
) -> Result<Recorder, StartError> {
    let signing = crate::key::signing(config, data)?;
    let bucket = config.evidence_bucket();
    let store = store::open(&config.evidence_place(), Access::Write, &bucket).await?;
    // A recorder and a gateway are two producers, so their names differ; 128 characters are the most.
    let mut name = producer_id.as_str().to_owned();
    name.truncate(119);
    let recorder_id = ProducerId::new(&format!("{name}.recorder")).expect("a name with a suffix");
    let defaults = hoop_recorder::Config::new(&config.cluster, recorder_id);
    let recorder = hoop_recorder::Config {
        share: config.recorder.share,
        takeover_after: config.recorder.takeover_after,
        flush: FlushLimits {
            bytes: config.recorder.flush_bytes,
            age: config.recorder.flush_age,
            ..defaults.flush
        },
        holes: HoleLimits {
            time: config.recorder.hole_open_time,
            ..defaults.holes
        },
        signing: Some(Arc::new(signing)),
        seal: config.recorder.seal,
        terms: config.terms(),
        locks: config
            .retention
            .iter()
            .filter_map(|(class, kept)| Some((class.clone(), kept.mode?)))
            .collect(),
        ..defaults
    };
    Ok(Recorder::new(recorder, readers, store, registry)?)
}
