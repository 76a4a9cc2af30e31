//! What a recorder does beside recording: makes missing indexes again, holds what came while a hold was being set, and
//! deletes what is past its term.

use std::collections::BTreeSet;
use std::sync::Arc;

use hoop_schema::evidence::seal::SEALED_PREFIX;
use hoop_schema::evidence::{EVENTS_PREFIX, FileName, SESSIONS_PREFIX, SessionFileName};
use hoop_sinks::log::EventReader;
use hoop_sinks::store::holds::{HoldError, Holds};
use hoop_sinks::store::{EvidenceStore, Metadata, StoreError};
use tokio::time::interval;

use crate::held::Held;
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
            if let Err(e) = hold_recent(&shared, &**reader).await {
                tracing::warn!(class = %reader.class(), error = %e, "cannot hold recent files; trying again later");
            }
            if let Err(e) = crate::retention::expire(&shared, &**reader).await {
                tracing::warn!(class = %reader.class(), error = %e, "cannot delete what is past its term; trying again later");
            }
            if let Err(e) = crate::seal::term::expire(&shared, reader.class()).await {
                let error = crate::back_off::with_causes(&e);
                tracing::warn!(class = %reader.class(), error, "cannot delete sealed objects that are past their term; trying again later");
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
    let file = match shared.store.get(&name.to_string(), 0..u64::MAX).await {
        Ok(file) => file,
        // Its day was sealed, and it left.
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(e) => return Err(e),
    };
    let rebuilt = tokio::task::spawn_blocking(move || rebuild(file)).await;
    drop(permit);
    match rebuilt {
        Ok(Ok(index)) => {
            let index = index.into();
            let options =
                crate::keep::options(shared, (&name.class, &name.day), &index, Metadata::new())
                    .await;
            shared.store.create(index_key, index, &options).await?;
            tracing::info!(key = index_key, "made a missing index of sessions again");
        }
        Ok(Err(e)) => tracing::error!(key = %name, error = %e, "a session file is damaged"),
        Err(e) => tracing::error!(key = %name, error = %e, "making an index of sessions broke off"),
    }
    Ok(())
}

/// Holds recent files that a hold covers: one may have been put while the hold was being set, or before another file
/// said whose its sessions are.
async fn hold_recent(shared: &Shared, reader: &dyn EventReader) -> Result<(), HoldError> {
    if shared.locks.get() != Some(&true) {
        return Ok(());
    }
    let (store, config) = (&*shared.store, &shared.config);
    let mut held = Held::default();
    let holds = Holds::new(store, &config.cluster, &config.recorder_id);
    held.in_force(holds.in_force().await?);
    if held.is_nothing() {
        return Ok(());
    }
    for prefix in [EVENTS_PREFIX, SEALED_PREFIX] {
        let after = recent_day(prefix, reader.class(), shared.clock.now());
        let all = format!("{prefix}class={}/", reader.class());
        let listed = store.list(&all, Some(&after)).await;
        for object in listed.map_err(HoldError::Store)? {
            if let Ok(file) = object.key.parse()
                && held.covers(store, &file).await
            {
                hold(store, &file).await?;
            }
        }
    }
    Ok(())
}

async fn hold(store: &dyn EvidenceStore, file: &FileName) -> Result<(), HoldError> {
    for key in [file.to_string(), file.index_key()] {
        match store.hold(&key, true).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(e) => return Err(HoldError::Store(e)),
        }
    }
    Ok(())
}
