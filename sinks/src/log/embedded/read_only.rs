//! Reading a log that another process writes, or none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hoop_schema::{Class, Shard, SourceId};
use tokio::time::Instant;

use super::error::OpenError;
use super::layout::{self, Description};
use super::reader::{ShardReader, View};
use super::{blocking, existing, shard_readers};
use crate::log::{Bounds, EventReader, LogRecord, Position, ReadError};

/// How often a reader looks for what another process has written.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Reads the log of one class while another process, or none, writes it. Takes no lock and changes nothing.
#[derive(Debug)]
pub struct EmbeddedReader {
    description: Description,
    readers: Arc<[ShardReader]>,
}

impl EmbeddedReader {
    /// Opens the log of `class` under `dir` for reading.
    ///
    /// # Errors
    /// When there is none, or its description cannot be read.
    pub fn open(dir: &Path, class: &Class) -> Result<Self, OpenError> {
        let dir = layout::class_dir(dir, class);
        let description = Description::read(&dir, class)?.ok_or_else(|| OpenError::Missing {
            dir: dir.clone(),
            class: class.as_str().to_owned(),
        })?;
        let readers = shard_readers(description.source, description.shards as usize, &dir);
        Ok(Self {
            description,
            readers,
        })
    }
}

#[async_trait]
impl EventReader for EmbeddedReader {
    fn class(&self) -> &Class {
        &self.description.class
    }

    fn shards(&self) -> u32 {
        self.description.shards
    }

    fn source(&self) -> SourceId {
        self.description.source
    }

    async fn bounds(&self, shard: Shard) -> Result<Bounds, ReadError> {
        let index = existing(&self.readers, shard)?;
        let readers = Arc::clone(&self.readers);
        blocking(move || readers[index].bounds(View::Folder)).await
    }

    async fn read(
        &self,
        shard: Shard,
        from: Position,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let index = existing(&self.readers, shard)?;
        let deadline = Instant::now() + wait;
        loop {
            let readers = Arc::clone(&self.readers);
            let records =
                blocking(move || readers[index].read(View::Folder, from.0, bytes_max)).await?;
            let now = Instant::now();
            if !records.is_empty() || now >= deadline {
                return Ok(records);
            }
            tokio::time::sleep(POLL_INTERVAL.min(deadline - now)).await;
        }
    }

    /// Does nothing: retention is the business of the process that writes the log.
    async fn committed(&self, _shard: Shard, _position: Position) {}
}
