//! One object of the store as a Parquet reader sees it: ranges, counted, and kept in the local cache where there is one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hoop_sinks::store::{EvidenceStore, StoreError};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::Evidence;
use super::cache::{Cache, Identity};
use super::reach::Reach;

/// What was read from the store.
#[derive(Debug, Default)]
pub struct ReadStats {
    bytes: AtomicU64,
    requests: AtomicU64,
    objects: AtomicU64,
    listings: AtomicU64,
    cached: AtomicU64,
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

    /// Listings that were asked for; a bucket answers one with a request for each thousand objects.
    pub fn listings(&self) -> u64 {
        self.listings.load(Ordering::Relaxed)
    }

    /// Bytes that came from the local cache.
    pub fn cached(&self) -> u64 {
        self.cached.load(Ordering::Relaxed)
    }

    pub(super) fn listed(&self) {
        self.listings.fetch_add(1, Ordering::Relaxed);
    }
}

/// One object of a store.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    store: Arc<dyn EvidenceStore>,
    key: Arc<str>,
    bytes: u64,
    tail_bytes: u64,
    reach: Reach,
    stats: Arc<ReadStats>,
    /// Where its ranges are kept on this machine, and as what.
    cache: Option<(Arc<Cache>, Arc<Identity>)>,
    /// The end of the object, from this byte on, once it was read.
    tail: Option<(u64, Bytes)>,
}

impl ObjectReader {
    /// Opens the object `key` of `bytes` bytes, of which the last `tail_bytes` are likely to hold what tells where
    /// everything is. Nothing is read yet.
    pub fn open(
        store: Arc<dyn EvidenceStore>,
        evidence: &Evidence,
        key: String,
        bytes: u64,
        tail_bytes: u64,
    ) -> Self {
        evidence.stats.objects.fetch_add(1, Ordering::Relaxed);
        Self {
            store,
            key: key.into(),
            bytes,
            tail_bytes: tail_bytes.min(bytes),
            reach: evidence.reach,
            stats: Arc::clone(&evidence.stats),
            cache: None,
            tail: None,
        }
    }

    /// The same with what is read kept in the cache, if there is one. `version` is what the listing tells versions of
    /// the object apart by.
    pub fn cached(mut self, evidence: &Evidence, version: &str) -> Self {
        self.cache = evidence.cache.as_ref().map(|cache| {
            let identity = Identity::new(&self.store.place(), &self.key, self.bytes, version);
            (Arc::clone(cache), Arc::new(identity))
        });
        self
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
        if let Some(bytes) = self.of_tail(&range) {
            return Ok(bytes);
        }
        if let Some((cache, identity)) = &self.cache
            && let Some(bytes) = cache.get(identity, &range).await
        {
            self.stats
                .cached
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return Ok(bytes);
        }
        let parts = stream::iter(self.reach.parts(range.clone()))
            .map(|part| self.fetch(part))
            .buffered(self.reach.requests_at_once());
        let mut parts: Vec<Bytes> = parts.try_collect().await?;
        let bytes = if parts.len() == 1 {
            parts.remove(0)
        } else {
            parts.concat().into()
        };
        if let Some((cache, identity)) = &self.cache {
            cache.put(identity, &range, &bytes).await;
        }
        Ok(bytes)
    }

    /// What of the end of the object is known already.
    fn of_tail(&self, range: &Range<u64>) -> Option<Bytes> {
        let (begin, tail) = self.tail.as_ref()?;
        let place = |at: u64| usize::try_from(at.checked_sub(*begin)?).ok();
        let (from, to) = (place(range.start)?, place(range.end)?);
        (from <= to && to <= tail.len()).then(|| tail.slice(from..to))
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
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

    /// Reads ranges, those with a small gap between them together.
    async fn read_all(&self, wanted: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let unknown: Vec<Range<u64>> = wanted
            .iter()
            .filter(|range| self.of_tail(range).is_none())
            .cloned()
            .collect();
        let together = self.reach.together(&unknown);
        let read = stream::iter(together.clone())
            .map(|range| self.read(range))
            .buffered(self.reach.requests_at_once());
        let read: Vec<Bytes> = read.try_collect().await?;
        let one = |range: &Range<u64>| {
            if let Some(bytes) = self.of_tail(range) {
                return Some(bytes);
            }
            let number = together.partition_point(|whole| whole.end < range.end);
            let (whole, bytes) = (together.get(number)?, read.get(number)?);
            let place = |at: u64| usize::try_from(at.checked_sub(whole.start)?).ok();
            let (from, to) = (place(range.start)?, place(range.end)?);
            (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
        };
        wanted
            .iter()
            .map(|range| match range.is_empty() {
                true => Ok(Bytes::new()),
                false => one(range).ok_or_else(|| {
                    ParquetError::EOF(format!("bytes {range:?} are not among those read"))
                }),
            })
            .collect()
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let bytes = self.read(range.clone()).await?;
            // What tells where everything is lies there, and is asked for piece by piece.
            if range.end == self.bytes && self.tail.is_none() {
                self.tail = Some((range.start, bytes.clone()));
            }
            Ok(bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        self.read_all(ranges).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let (bytes, tail) = (self.bytes, self.tail_bytes);
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(usize::try_from(tail).ok())
                .load_and_finish(self, bytes)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}

/// Whether an error of the Parquet library is that the store did not answer: then nothing is known about the bytes. An
/// object that left between listing and reading is not among these.
pub(super) fn store_failure(error: ParquetError) -> std::result::Result<StoreError, ParquetError> {
    let ParquetError::External(source) = error else {
        return Err(error);
    };
    match source.downcast::<StoreError>() {
        Ok(failure) if !matches!(*failure, StoreError::NotFound { .. }) => Ok(*failure),
        Ok(gone) => Err(ParquetError::External(gone)),
        Err(source) => Err(ParquetError::External(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_sinks::store::CreateOptions;
    use hoop_sinks::store::memory::Memory;
    use proptest::prelude::*;

    /// As long as two parts of a range, and more.
    const BYTES: u64 = 17 * 1024 * 1024;

    fn content() -> Bytes {
        (0..BYTES / 8)
            .flat_map(u64::to_le_bytes)
            .collect::<Vec<_>>()
            .into()
    }

    async fn store() -> Arc<Memory> {
        let store = Memory::new();
        let options = CreateOptions::default();
        store.create("a", content(), &options).await.unwrap();
        Arc::new(store)
    }

    fn reader(store: Arc<Memory>, reach: Reach, tail: u64) -> (ObjectReader, Arc<ReadStats>) {
        let evidence = Evidence {
            reach,
            ..Evidence::new(Some(store.clone()), Vec::new())
        };
        let reader = ObjectReader::open(store, &evidence, "a".into(), BYTES, tail);
        (reader, evidence.stats)
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        // Short ones near each other, and any.
        prop_oneof![
            (0..BYTES, 0u64..5_000).prop_map(|(at, length)| at..(at + length).min(BYTES)),
            (0..BYTES, 0..BYTES).prop_map(|(a, b)| a.min(b)..a.max(b)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_is_asked_for_together_is_what_is_there(
            ranges in prop::collection::vec(range(), 1..6),
            far: bool,
            tail_first: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let reach = if far { Reach::Far } else { Reach::Near };
                let (mut reader, _) = reader(store().await, reach, 0);
                if tail_first {
                    reader.get_bytes(BYTES - 1_000_000..BYTES).await.unwrap();
                }
                let all = content();
                let read = reader.get_byte_ranges(ranges.clone()).await.unwrap();
                for (range, bytes) in ranges.into_iter().zip(read) {
                    assert_eq!(bytes, all.slice(range.start as usize..range.end as usize));
                }
            });
        }
    }

    #[tokio::test]
    async fn what_was_read_of_the_end_is_not_asked_for_again() {
        let (mut reader, stats) = reader(store().await, Reach::Far, 0);
        reader.get_bytes(BYTES - 100..BYTES).await.unwrap();
        reader.get_bytes(BYTES - 50..BYTES - 20).await.unwrap();
        reader
            .get_byte_ranges(vec![BYTES - 100..BYTES - 90, BYTES - 1..BYTES])
            .await
            .unwrap();
        assert_eq!((stats.requests(), stats.bytes()), (1, 100));
        reader
            .get_byte_ranges(vec![0..10, 500..600, BYTES - 10..BYTES])
            .await
            .unwrap();
        assert_eq!((stats.requests(), stats.bytes()), (2, 700));
    }

    #[tokio::test]
    async fn what_ends_too_early_or_does_not_answer_is_told_apart() {
        let store = store().await;
        let (mut reader, _) = reader(Arc::clone(&store), Reach::Far, 0);
        reader.bytes = BYTES + 10;
        let short = reader.get_bytes(BYTES - 10..BYTES + 10).await.unwrap_err();
        assert!(store_failure(short).is_err());
        let away = StoreError::Refused {
            operation: "get",
            key: "a".into(),
            source: "away".into(),
        };
        assert!(store_failure(ParquetError::External(Box::new(away))).is_ok());
        store.delete("a").await.unwrap();
        let gone = reader.get_bytes(0..1).await.unwrap_err();
        assert!(store_failure(gone).is_err());
    }
}
