//! From a batch to a committed session file, or to giving way to a rival's.

use std::time::Duration;

use hoop_schema::evidence::{Footer, PreviousFile, SessionFileName};
use hoop_sinks::log::Position;
use hoop_sinks::store::{CreateOptions, Metadata, StoreError};
use tokio::time::{Instant, timeout};

use super::ShardTask;
use crate::back_off::BackOff;
use crate::batch::{Batch, Encoded};
use crate::commit::{Commit, HeadAnswer, PutAnswer, Step};
use crate::resume::{counts, read_signed};
use crate::rival::{Newest, RivalError, Rivals};
use crate::seal::fence::{self, Fence};
use crate::session_file::footer::FooterError;

/// How long one put may take before its answer counts as lost.
const PUT_TIMEOUT: Duration = Duration::from_secs(120);

/// Tries to put an index of sessions; what fails is made again later.
const INDEX_TRIES: u32 = 3;

impl ShardTask {
    /// Commits a batch, or gives way to a rival's file; returns whether it is committed. Tries for as long as it takes: the
    /// log keeps everything.
    ///
    /// The seal of the file's day is asked for before the put and after it, since a name fences off rivals only while
    /// its file is there; see [`crate::seal::fence`].
    pub(super) async fn commit(&mut self, batch: Batch) -> bool {
        let mut name = batch.name().clone();
        let mut pause = BackOff::default();
        let Some(encoded) = self.encode(batch).await else {
            // What it held is read again.
            while !self.go_on_after(&name, name.pos_from, &mut pause).await {}
            return false;
        };
        let mut options = self.options(&name, &encoded).await;
        let mut is_put = false;
        loop {
            match self.fence(&name).await {
                Fence::Open if is_put => break,
                Fence::Open => is_put = self.put_until_clear(&name, &encoded, &mut options).await,
                Fence::Holds(sha256) if sha256 == encoded.sha256 => break,
                Fence::Late(day) => {
                    tracing::warn!(class = %self.class, shard = %self.shard, key = %name, day, "this day is sealed already; committing what came late under the day after");
                    name.day = day;
                    options = self.options(&name, &encoded).await;
                    is_put = false;
                    continue;
                }
                Fence::Holds(_) | Fence::Passed => is_put = false,
            }
            if !is_put && self.go_on_after(&name, name.pos_from + 1, &mut pause).await {
                return false;
            }
        }
        let file = PreviousFile {
            key: name.to_string(),
            sha256: encoded.sha256,
        };
        self.committed(file, encoded, &name.index_key(), options)
            .await;
        true
    }

    /// How a file is put: with its facts, the lock of its class, and the holds that cover it.
    async fn options(&self, name: &SessionFileName, encoded: &Encoded) -> CreateOptions {
        let metadata = Metadata::from([
            ("pos-to", encoded.footer.pos_to.to_string()),
            ("sha256", encoded.sha256.to_string()),
            ("rows", encoded.footer.rows.to_string()),
        ]);
        let (shared, index) = (&self.shared, &encoded.index);
        crate::keep::options(shared, (&name.class, &name.day), index, metadata).await
    }

    /// Whether a rival went on past this file under a later day, however long the store takes to answer.
    ///
    /// A name fences off only those who would give their file the same one. Somebody who came when the log had dropped
    /// these records already begins at the same position, but on the day of what is left. So once a file's day is over,
    /// whoever wakes up with it looks first.
    async fn is_passed(&self, name: &SessionFileName) -> bool {
        if self.shared.clock.now().day() <= name.day {
            return false;
        }
        let (prefix, key) = (SessionFileName::class_prefix(&name.class), name.to_string());
        let passes = |other: SessionFileName| {
            (other.shard, other.source) == (name.shard, name.source)
                && other.day > name.day
                && other.pos_from >= name.pos_from
        };
        let mut pause = BackOff::default();
        loop {
            match self.shared.store.list(&prefix, Some(&key)).await {
                Ok(listed) => {
                    let mut files = listed.iter().filter_map(|object| object.key.parse().ok());
                    return files.any(passes);
                }
                Err(e) => {
                    self.shared
                        .metrics
                        .stalled
                        .get_or_create(&self.labels)
                        .set(1);
                    let what = "cannot tell whether another recorder went on past a session file";
                    pause.wait(what, &e, &self.class, self.shard).await;
                }
            }
        }
    }

    /// Puts a file until it is clear what lies at its name. Returns whether it is this one.
    async fn put_until_clear(
        &self,
        name: &SessionFileName,
        encoded: &Encoded,
        options: &mut CreateOptions,
    ) -> bool {
        let key = name.to_string();
        let mut commit = Commit::new(encoded.sha256);
        let mut pause = BackOff::default();
        loop {
            match commit.step() {
                Step::Put if self.is_passed(name).await => return false,
                Step::Put => {
                    let answer = self.put(&key, encoded, options, &mut pause).await;
                    if answer == PutAnswer::Refused && options.held {
                        // Perhaps this identity may not hold. That must not keep evidence from being there: whoever
                        // looks after the store holds it later.
                        options.held = false;
                        tracing::warn!(key, "putting a session file without its legal hold");
                    }
                    commit.put_answered(answer);
                }
                Step::Head => commit.head_answered(self.head(&key, &mut pause).await),
                Step::Committed => return true,
                Step::Lost => return false,
            }
        }
    }

    /// Where a file stands to the seal of its day, however long the store takes to answer.
    async fn fence(&self, name: &SessionFileName) -> Fence {
        let mut pause = BackOff::default();
        loop {
            match fence::look(&*self.shared.store, name).await {
                Ok(fence) => return fence,
                Err(e) => {
                    self.shared
                        .metrics
                        .stalled
                        .get_or_create(&self.labels)
                        .set(1);
                    let what = "cannot tell whether the day of a session file is sealed";
                    pause.wait(what, &e, &self.class, self.shard).await;
                }
            }
        }
    }

    /// Encodes a batch on a thread of its own. `None` only when that thread died.
    async fn encode(&self, batch: Batch) -> Option<Encoded> {
        let permit = self.shared.encoding.acquire().await.ok()?;
        let (previous, now) = (self.core.previous().cloned(), self.shared.clock.now());
        let signing = self.shared.config.signing.clone();
        let encode = move || batch.encode(previous, now, signing.as_deref());
        let encoded = tokio::task::spawn_blocking(encode).await;
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
        options: &CreateOptions,
        pause: &mut BackOff,
    ) -> PutAnswer {
        let started = Instant::now();
        let put = self.shared.store.create(key, encoded.file.clone(), options);
        let answer = timeout(PUT_TIMEOUT, put).await;
        self.shared
            .metrics
            .put_seconds
            .observe(started.elapsed().as_secs_f64());
        let (answer, error): (_, &(dyn std::error::Error + Send + Sync)) = match &answer {
            Ok(answered) => match (answered.into(), answered) {
                (answer, Ok(_)) => return answer,
                (answer, Err(e)) => (answer, e),
            },
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

    async fn committed(
        &mut self,
        file: PreviousFile,
        encoded: Encoded,
        index_key: &str,
        options: CreateOptions,
    ) {
        let footer = &encoded.footer;
        tracing::info!(class = %self.class, shard = %self.shard, rows = footer.rows, bytes = encoded.file.len(), "session file committed");
        if self.shared.config.signing.is_some() {
            self.shared.proofs.committed(&file.key, file.sha256);
        }
        self.core.committed(file);
        self.compare_clocks();
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
        let options = CreateOptions {
            metadata: Metadata::new(),
            ..options
        };
        self.put_index(index_key, &encoded, &options).await;
    }

    async fn put_index(&self, key: &str, encoded: &Encoded, options: &CreateOptions) {
        let mut pause = BackOff::default();
        for _ in 0..INDEX_TRIES {
            match self
                .shared
                .store
                .create(key, encoded.index.clone(), options)
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

    /// Goes on after the file that is in the place of ours, or, when there is none, after the newest one, which reaches
    /// `pos_to` at least. Returns whether there is one: what lies there may not be what the log holds, and is then waited
    /// for to be moved away; or it is gone by now.
    async fn go_on_after(
        &mut self,
        name: &SessionFileName,
        pos_to: u64,
        pause: &mut BackOff,
    ) -> bool {
        let (what, error): (_, Box<dyn std::error::Error + Send + Sync>) =
            match self.rivals_file(name).await {
                Ok(Newest {
                    file: Some((footer, file)),
                    ..
                }) if footer.pos_to >= pos_to => {
                    self.follow(name, footer, file).await;
                    return true;
                }
                Ok(Newest { mut refused, .. }) => match refused.pop() {
                    Some(refused) => ("a session file cannot be committed", refused.into()),
                    None => ("there is no file to go on after", "it is gone".into()),
                },
                Err(e) => ("cannot read the file to go on after", e.into()),
            };
        self.shared
            .metrics
            .stalled
            .get_or_create(&self.labels)
            .set(1);
        pause.wait(what, &*error, &self.class, self.shard).await;
        false
    }

    async fn follow(&mut self, name: &SessionFileName, footer: Footer, file: PreviousFile) {
        self.gave_way += 1;
        self.shared
            .metrics
            .lost_files
            .get_or_create(&self.labels)
            .inc();
        tracing::warn!(class = %self.class, shard = %self.shard, key = %name, "another recorder committed this file; going on after it");
        self.reader
            .committed(self.shard, Position(footer.pos_to))
            .await;
        self.core.lost(footer, file, &self.shared.config);
    }

    /// The file at this name, if it is evidence, or else the newest one.
    async fn rivals_file(&self, name: &SessionFileName) -> Result<Newest, RivalError> {
        let store = &*self.shared.store;
        let rivals = Rivals {
            shared: &self.shared,
            reader: &*self.reader,
            shard: self.shard,
        };
        if counts(store, name).await? {
            match read_signed(store, name).await {
                Ok((signed, file)) if rivals.is_signed(&signed, &file.key) => {
                    return Ok(Newest {
                        file: Some((signed.footer, file)),
                        refused: Vec::new(),
                    });
                }
                Ok(_) | Err(FooterError::Store(StoreError::NotFound { .. })) => {}
                Err(e) => return Err(e.into()),
            }
        }
        rivals.newest().await
    }
}
