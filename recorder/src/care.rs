//! What a recorder does beside recording: makes missing indexes again, and deletes what is past its term.

use std::sync::Arc;

use hoop_schema::evidence::SessionFileName;
use hoop_sinks::log::EventReader;
use hoop_sinks::store::{Metadata, StoreError};
use tokio::time::interval;

use crate::index::rebuild;
use crate::resume::{recent_day, session_files};
use crate::shard::Shared;

/// Runs until it is stopped. Nothing here may hold up recording, so failures are reported and tried again later.
pub(crate) async fn run(shared: Arc<Shared>, readers: Vec<Arc<dyn EventReader>>) {
    for reader in &readers {
        if let Err(e) = rebuild_indexes(&shared, &**reader).await {
            tracing::warn!(class = %reader.class(), error = %e, "cannot look for missing indexes of sessions");
        }
    }
    let mut ticks = interval(shared.config.retention_interval);
    loop {
        ticks.tick().await;
        for reader in &readers {
            if let Err(e) = crate::retention::expire(&shared, &**reader).await {
                tracing::warn!(class = %reader.class(), error = %e, "cannot delete what is past its term; trying again later");
            }
        }
    }
}

/// Makes the missing indexes of recent files again.
async fn rebuild_indexes(shared: &Shared, reader: &dyn EventReader) -> Result<(), StoreError> {
    let store = &*shared.store;
    let after = recent_day(reader.class(), shared.clock.now());
    for name in session_files(store, reader.class(), Some(&after)).await? {
        let index_key = name.index_key();
        if !store.list(&index_key, None).await?.is_empty() {
            continue;
        }
        rebuild_index(shared, &name, &index_key).await?;
    }
    Ok(())
}

async fn rebuild_index(
    shared: &Shared,
    name: &SessionFileName,
    index_key: &str,
) -> Result<(), StoreError> {
    let permit = shared.encoding.acquire().await;
    let file = shared.store.get(&name.to_string(), 0..u64::MAX).await?;
    let rebuilt = tokio::task::spawn_blocking(move || rebuild(file)).await;
    drop(permit);
    match rebuilt {
        Ok(Ok(index)) => {
            shared
                .store
                .create(index_key, index.into(), &Metadata::new())
                .await?;
            tracing::info!(key = index_key, "made a missing index of sessions again");
        }
        Ok(Err(e)) => tracing::error!(key = %name, error = %e, "a session file is damaged"),
        Err(e) => tracing::error!(key = %name, error = %e, "making an index of sessions broke off"),
    }
    Ok(())
}
