//! From a batch to a committed session file, or to giving way to a rival's.

use std::time::Duration;

use hoop_schema::evidence::{PreviousFile, SessionFileName};
use hoop_sinks::log::Position;
use hoop_sinks::store::{Created, Metadata, StoreError};
use tokio::time::{Instant, timeout};

use super::ShardTask;
use crate::back_off::BackOff;
use crate::batch::{Batch, Encoded};
use crate::commit::{Commit, HeadAnswer, PutAnswer, Step};
use crate::resume::read;

/// How long one put may take before its answer counts as lost.
const PUT_TIMEOUT: Duration = Duration::from_secs(120);

/// Tries to put an index of sessions; what fails is made again later.
const INDEX_TRIES: u32 = 3;

impl ShardTask {
    /// Commits a batch, or gives way to a rival's file. Tries for as long as it takes: the log keeps everything.
    pub(super) async fn commit(&mut self, batch: Batch) {
        let name = batch.name().clone();
        let Some(encoded) = self.encode(batch).await else {
            return self.give_way(&name.to_string(), &name).await;
        };
        let file = PreviousFile {
            key: name.to_string(),
            sha256: encoded.sha256,
        };
        let mut commit = Commit::new(encoded.sha256);
        let mut pause = BackOff::default();
        let metadata = Metadata::from([
            ("pos-to", encoded.footer.pos_to.to_string()),
            ("sha256", encoded.sha256.to_string()),
            ("rows", encoded.footer.rows.to_string()),
        ]);
        loop {
            let before = commit.step();
            match before {
                Step::Put => {
                    commit.put_answered(self.put(&file.key, &encoded, &metadata, &mut pause).await)
                }
                Step::Head => commit.head_answered(self.head(&file.key, &mut pause).await),
                Step::Committed => return self.committed(file, encoded, &name.index_key()).await,
                Step::Lost => return self.give_way(&file.key, &name).await,
            }
        }
    }

    /// Encodes a batch on a thread of its own. `None` only when that thread died.
    async fn encode(&self, batch: Batch) -> Option<Encoded> {
        let permit = self.shared.encoding.acquire().await.ok()?;
        let (previous, now) = (self.core.previous().cloned(), self.shared.clock.now());
        let encoded = tokio::task::spawn_blocking(move || batch.encode(previous, now)).await;
        drop(permit);
        match encoded {
            Ok(Ok(encoded)) => Some(encoded),
            Ok(Err(e)) => {
                tracing::error!(class = %self.class, shard = %self.shard, error = %e, "cannot encode a session file");
                None
            }
            Err(e) => {
                tracing::error!(class = %self.class, shard = %self.shard, error = %e, "encoding a session file broke off");
                None
            }
        }
    }

    async fn put(
        &self,
        key: &str,
        encoded: &Encoded,
        metadata: &Metadata,
        pause: &mut BackOff,
    ) -> PutAnswer {
        let started = Instant::now();
        let put = self
            .shared
            .store
            .create(key, encoded.file.clone(), metadata);
        let answer = timeout(PUT_TIMEOUT, put).await;
        self.shared
            .metrics
            .put_seconds
            .observe(started.elapsed().as_secs_f64());
        let (answer, error): (_, &(dyn std::error::Error + Send + Sync)) = match &answer {
            Ok(Ok(Created::Created)) => return PutAnswer::Created,
            Ok(Ok(Created::Exists)) => return PutAnswer::Exists,
            Ok(Err(e @ (StoreError::Refused { .. } | StoreError::Unfit { .. }))) => {
                (PutAnswer::Refused, e)
            }
            Ok(Err(e)) => (PutAnswer::Unknown, e),
            Err(e) => (PutAnswer::Unknown, e),
        };
        if answer == PutAnswer::Unknown {
            self.shared
                .metrics
                .unclear_puts
                .get_or_create(&self.labels)
                .inc();
        }
        self.shared
            .metrics
            .stalled
            .get_or_create(&self.labels)
            .set(1);
        pause
            .wait(
                "cannot commit a session file",
                error,
                &self.class,
                self.shard,
            )
            .await;
        answer
    }

    async fn head(&self, key: &str, pause: &mut BackOff) -> HeadAnswer {
        match self.shared.store.head(key).await {
            Ok(Some(head)) => HeadAnswer::Object(head.sha256),
            Ok(None) => HeadAnswer::None,
            Err(e) => {
                pause
                    .wait(
                        "cannot tell whether a session file is committed",
                        &e,
                        &self.class,
                        self.shard,
                    )
                    .await;
                HeadAnswer::Unknown
            }
        }
    }

    async fn committed(&mut self, file: PreviousFile, encoded: Encoded, index_key: &str) {
        let footer = &encoded.footer;
        tracing::info!(class = %self.class, shard = %self.shard, rows = footer.rows, bytes = encoded.file.len(), "session file committed");
        self.core.committed(file);
        self.reader
            .committed(self.shard, Position(footer.pos_to))
            .await;
        let metrics = &self.shared.metrics;
        metrics.stalled.get_or_create(&self.labels).set(0);
        metrics.files.get_or_create(&self.labels).inc();
        metrics.rows.get_or_create(&self.labels).inc_by(footer.rows);
        metrics
            .file_bytes
            .get_or_create(&self.labels)
            .inc_by(encoded.file.len() as u64);
        self.put_index(index_key, &encoded).await;
    }

    async fn put_index(&self, key: &str, encoded: &Encoded) {
        let mut pause = BackOff::default();
        for _ in 0..INDEX_TRIES {
            match self
                .shared
                .store
                .create(key, encoded.index.clone(), &Metadata::new())
                .await
            {
                Ok(_) => return,
                Err(e) => {
                    pause
                        .wait(
                            "cannot write an index of sessions",
                            &e,
                            &self.class,
                            self.shard,
                        )
                        .await
                }
            }
        }
        tracing::warn!(class = %self.class, shard = %self.shard, "an index of sessions is missing until it is made again");
    }

    /// Goes on after the file that is in the place of ours, or, when there is none, from the last commit.
    async fn give_way(&mut self, key: &str, name: &SessionFileName) {
        self.shared
            .metrics
            .lost_files
            .get_or_create(&self.labels)
            .inc();
        tracing::warn!(class = %self.class, shard = %self.shard, key, "another recorder committed this file; going on after it");
        let mut pause = BackOff::default();
        loop {
            match read(&*self.shared.store, name).await {
                Ok((footer, file)) => {
                    self.reader
                        .committed(self.shard, Position(footer.pos_to))
                        .await;
                    return self.core.lost(footer, file, &self.shared.config);
                }
                Err(e) => {
                    self.shared
                        .metrics
                        .stalled
                        .get_or_create(&self.labels)
                        .set(1);
                    pause
                        .wait(
                            "cannot read the file to go on after",
                            &e,
                            &self.class,
                            self.shard,
                        )
                        .await;
                }
            }
        }
    }
}
