//! One session file, opened: its footer, and its rows by pages.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures_util::{FutureExt, TryStreamExt};
use hoop_schema::evidence::{FOOTER_KEY, Footer};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowGroupSelection, RowSelection,
};
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};

use super::object::ObjectReader;
use super::{Error, Evidence, StoredFile};

/// Rows decoded at once: at most 256 events of 192 KiB are in memory.
const BATCH_ROWS: usize = 256;

/// A session file whose footer was read.
#[derive(Debug, Clone)]
pub struct SessionFile {
    /// What the listing says of it.
    pub stored: StoredFile,
    /// What it says of itself.
    pub footer: Footer,
    reader: ObjectReader,
    metadata: Arc<ParquetMetaData>,
}

/// A Parquet object whose metadata was read, with the options that read it the same way whatever wrote it: columns
/// get their types from Parquet alone.
pub(super) async fn open_parquet(
    reader: &mut ObjectReader,
) -> parquet::errors::Result<Arc<ParquetMetaData>> {
    let options = options();
    guarded(reader.get_metadata(Some(&options))).await
}

/// Lets a panic of the Parquet library over damaged bytes become the error that it should be.
async fn guarded<T>(
    work: impl Future<Output = parquet::errors::Result<T>>,
) -> parquet::errors::Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(_) => Err(ParquetError::General(
            "its bytes make no sense to the Parquet reader".into(),
        )),
    }
}

/// Batches of rows.
pub struct Batches(ParquetRecordBatchStream<ObjectReader>);

impl Batches {
    /// The next batch, or `None` after the last.
    ///
    /// # Errors
    /// When the file is damaged here.
    pub async fn try_next(&mut self) -> parquet::errors::Result<Option<RecordBatch>> {
        guarded(self.0.try_next()).await
    }
}

pub(super) fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

impl SessionFile {
    /// Reads the footer of a session file.
    ///
    /// # Errors
    /// When the store does not answer or the file has no readable footer.
    pub async fn open(evidence: &Evidence, stored: &StoredFile) -> Result<Self, Error> {
        let tail = evidence.reach.file_tail(stored.bytes);
        let reader = reader(evidence, stored, tail)?.cached(evidence, &stored.version);
        Self::open_with(stored, reader).await
    }

    /// The same for a file of which all rows are going to be read, which are too many to be kept in a cache.
    ///
    /// # Errors
    /// As there.
    pub async fn open_to_read_through(
        evidence: &Evidence,
        stored: &StoredFile,
    ) -> Result<Self, Error> {
        let tail = evidence.reach.file_to_read_through(stored.bytes);
        Self::open_with(stored, reader(evidence, stored, tail)?).await
    }

    async fn open_with(stored: &StoredFile, mut reader: ObjectReader) -> Result<Self, Error> {
        let damaged = |what: String| Error::damaged(&stored.name, what);
        let metadata = open_parquet(&mut reader)
            .await
            .map_err(|e| Error::unreadable(&stored.name, "its Parquet footer cannot be read", e))?;
        let footer = read_footer(&metadata).map_err(damaged)?;
        Ok(Self {
            stored: stored.clone(),
            footer,
            reader,
            metadata,
        })
    }

    /// Number of rows, as Parquet counts them.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// The object itself.
    pub fn reader(&self) -> &ObjectReader {
        &self.reader
    }

    /// Reads `rows` of the columns `names` (all columns when empty), fetching only the pages that hold them.
    ///
    /// # Errors
    /// When the page index cannot be read. The stream has errors of its own.
    pub async fn stream(&self, names: &[&str], rows: Range<u64>) -> Result<Batches, Error> {
        let stream = stream(&self.reader, &self.metadata, names, rows).await;
        stream.map_err(|e| Error::unreadable(&self.stored.name, "", e))
    }
}

/// The object that a session file is.
///
/// # Errors
/// When there is no store.
pub(crate) fn reader(
    evidence: &Evidence,
    stored: &StoredFile,
    tail_bytes: u64,
) -> Result<ObjectReader, Error> {
    let (name, bytes) = (stored.name.to_string(), stored.bytes);
    match evidence.store.clone() {
        Some(store) => Ok(ObjectReader::open(store, evidence, name, bytes, tail_bytes)),
        None => Err(Error::damaged(
            &stored.name,
            "there is no store to read it from",
        )),
    }
}

/// The footer among the key-value metadata of a Parquet file.
fn read_footer(metadata: &ParquetMetaData) -> Result<Footer, String> {
    let entries = metadata.file_metadata().key_value_metadata();
    let text = entries
        .and_then(|all| all.iter().find(|kv| kv.key == FOOTER_KEY))
        .and_then(|kv| kv.value.as_deref())
        .ok_or_else(|| format!("it has no footer {FOOTER_KEY}, so no recorder wrote it"))?;
    serde_json::from_str(text).map_err(|e| format!("its footer {FOOTER_KEY} cannot be read ({e})"))
}

/// Reads `rows` of the columns `names` (all columns when empty) of a Parquet object.
pub(super) async fn stream(
    reader: &ObjectReader,
    metadata: &Arc<ParquetMetaData>,
    names: &[&str],
    rows: Range<u64>,
) -> parquet::errors::Result<Batches> {
    let schema = metadata.file_metadata().schema_descr();
    let projection = if names.is_empty() {
        ProjectionMask::all()
    } else {
        ProjectionMask::columns(schema, names.iter().copied())
    };
    let selections = selections(metadata, rows);
    let mut metadata = Arc::clone(metadata);
    if selections.iter().any(|s| s.selection().is_some()) {
        let columns = (0..schema.num_columns()).filter(|i| projection.leaf_included(*i));
        let groups = selections.iter().map(RowGroupSelection::row_group_index);
        let mask = ColumnChunkMask::row_groups_and_columns(groups, columns);
        let mut page_index = ParquetMetaDataReader::new_with_metadata((*metadata).clone())
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_offset_index_mask(mask);
        let mut fetch = reader.clone();
        guarded(page_index.load_page_index(&mut fetch)).await?;
        metadata = Arc::new(page_index.finish()?);
    }
    let metadata = ArrowReaderMetadata::try_new(metadata, options())?;
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader.clone(), metadata)
        .with_projection(projection)
        .with_batch_size(BATCH_ROWS)
        .with_row_group_selections(selections)
        .build()?;
    Ok(Batches(stream))
}

/// The row groups that hold `rows`, with the rows inside where a group is not wanted whole.
fn selections(metadata: &ParquetMetaData, rows: Range<u64>) -> Vec<RowGroupSelection> {
    let mut begin = 0u64;
    let mut selected = Vec::new();
    for (i, group) in metadata.row_groups().iter().enumerate() {
        let count = u64::try_from(group.num_rows()).unwrap_or(0);
        let end = begin.saturating_add(count);
        let (from, to) = (rows.start.max(begin), rows.end.min(end));
        if from < to {
            let inside = RowSelection::from_consecutive_ranges(
                std::iter::once(to_usize(from - begin)..to_usize(to - begin)),
                to_usize(count),
            );
            let whole = from == begin && to == end;
            selected.push(RowGroupSelection::new(i, (!whole).then_some(inside)));
        }
        begin = end;
    }
    selected
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
