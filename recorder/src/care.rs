//! What a recorder does beside recording: makes missing indexes again, and deletes what is past its term.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoop_schema::evidence::{EVENTS_PREFIX, SESSIONS_PREFIX, SessionFileName};
use hoop_sinks::log::EventReader;
use hoop_sinks::store::{Metadata, StoreError};
use tokio::time::interval;

use crate::index::rebuild;
use crate::resume::{recent_day, session_files};
use crate::shared::Shared;

/// Runs until it is stopped. Nothing here may hold up recording, so failures are reported and tried again later.
pub(crate) async fn run(shared: Arc<Shared>, readers: Vec<Arc<dyn EventReader>>) {
    let mut ticks = interval(shared.config.retention_interval);
    loop {
        ticks.tick().await;
        for reader in &readers {
            if let Err(e) = rebuild_indexes(&shared, &**reader).await {
                tracing::warn!(class = %reader.class(), error = %e, "cannot look for missing indexes of sessions; trying again later");
            }
            if let Err(e) = crate::retention::expire(&shared, &**reader).await {
                tracing::warn!(class = %reader.class(), error = %e, "cannot delete what is past its term; trying again later");
            }
        }
    }
}

/// Makes the missing indexes of recent files again. One that is being written just now is made twice at worst, to the
/// same bytes.
async fn rebuild_indexes(shared: &Shared, reader: &dyn EventReader) -> Result<(), StoreError> {
    let (store, class, now) = (&*shared.store, reader.class(), shared.clock.now());
    let after = recent_day(EVENTS_PREFIX, class, now);
    // Files first: an index that is listed later than its file was is never taken for missing.
    let files = session_files(store, class, Some(&after)).await?;
    let after = recent_day(SESSIONS_PREFIX, class, now);
    let prefix = format!("{SESSIONS_PREFIX}class={class}/");
    let listed = store.list(&prefix, Some(&after)).await?;
    let present: BTreeSet<String> = listed.into_iter().map(|object| object.key).collect();
    for name in files {
        let index_key = name.index_key();
        if !present.contains(&index_key) {
            rebuild_index(shared, &name, &index_key).await?;
        }
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
