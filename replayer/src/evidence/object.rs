//! One object of the store as a Parquet reader sees it: ranges, counted.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hoop_sinks::store::EvidenceStore;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// What was read from the store.
#[derive(Debug, Default)]
pub struct ReadStats {
    bytes: AtomicU64,
    requests: AtomicU64,
    objects: AtomicU64,
}

impl ReadStats {
    /// Bytes that came from the store.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ranges that were asked for.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Objects that were opened.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }
}

/// One object of a store.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    store: Arc<dyn EvidenceStore>,
    key: Arc<str>,
    bytes: u64,
    footer_guess: usize,
    stats: Arc<ReadStats>,
}

impl ObjectReader {
    /// Opens the object `key` of `bytes` bytes, of which the last `footer_guess` are likely to hold its footer.
    pub fn open(
        store: Arc<dyn EvidenceStore>,
        key: String,
        bytes: u64,
        footer_guess: usize,
        stats: Arc<ReadStats>,
    ) -> Self {
        stats.objects.fetch_add(1, Ordering::Relaxed);
        Self {
            store,
            key: key.into(),
            bytes,
            footer_guess,
            stats,
        }
    }

    /// Length of the object.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether the object is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes in `range`, all of them.
    ///
    /// # Errors
    /// When the store does not answer, or the object is shorter than the listing said.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let bytes = self
            .store
            .get(&self.key, range.clone())
            .await
            .map_err(|e| ParquetError::External(Box::new(e)))?;
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        self.stats
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 != range.end.saturating_sub(range.start) {
            return Err(ParquetError::EOF(format!(
                "it ends at byte {} of {}",
                range.start + bytes.len() as u64,
                range.end
            )));
        }
        Ok(bytes)
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.read(range).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let (bytes, guess) = (self.bytes, self.footer_guess);
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(guess))
                .load_and_finish(self, bytes)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}
