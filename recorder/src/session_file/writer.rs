//! From buffered rows to the bytes of a session file.
//!
//! Memory: the rows' own bytes, a few hundred bytes a row of columns, and what is compressed already. Each column is
//! written on its own, in pieces of [`PIECE_ROWS`] rows, so no column is ever held twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray, make_view};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use hoop_schema::EventHash;
use hoop_schema::chain::MerkleTree;
use hoop_schema::evidence::{FOOTER_KEY, SIGNATURE_KEY};
use hoop_schema::row::{COLUMNS, ColumnType};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::columns::{Arrays, Columns, InMemory, arrow_schema, place};

/// zstd level. Half of what is left of an event is random digits of ids and hashes, among which higher levels look for
/// short matches in vain: on realistic rows level 3 takes half as much time again and 7 % more bytes.
const ZSTD_LEVEL: i32 = 1;

/// Rows of a row group at most: so many that a full session file of common events is one group, with one dictionary and
/// one compressor for each column.
pub(crate) const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Bytes of a page of `event_json` before compression. A session of a few hundred rows is one or two of them.
const EVENT_PAGE_BYTES: usize = 1024 * 1024;

/// Rows of a page of any other column at most, for the same reader.
const PAGE_ROWS: usize = 8 * 1024;

/// Rows handed to a column writer at once.
const PIECE_ROWS: usize = 1024;

/// Events handed to their column writer at once: so few that they are still in a processor's cache when they are
/// copied after they were hashed.
const EVENT_PIECE_ROWS: usize = 128;

/// Columns that are asked for by exact value.
const BLOOM_COLUMNS: &[&str] = &["session_id", "event_id", "audit_id"];

/// Wrong answers of a bloom filter: one in twenty row groups is read in vain. One in a hundred would take twice the
/// bytes, a hundredth of the file.
const BLOOM_WRONG: f64 = 0.05;

/// How often a text has to occur on average for a dictionary to pay.
const REPEATS_MIN: usize = 2;

/// What wrote a file, for its footers.
pub(crate) const WRITER: &str = concat!("hoop-recorder ", env!("CARGO_PKG_VERSION"));

/// A session file under way: rows come group by group, then its footer.
pub(crate) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
    groups: ArrowRowGroupWriterFactory,
    group: usize,
    tree: MerkleTree,
}

impl Writer {
    /// Begins a file with room for this many bytes. How columns are encoded follows from the first `rows` of them.
    ///
    /// # Errors
    /// When the Parquet writer fails.
    pub(crate) fn new(columns: &Columns, rows: usize, room: usize) -> Result<Self, ParquetError> {
        let schema = arrow_schema(COLUMNS, InMemory::ForWriting);
        let file = open_file(&schema, session_file_properties(columns, rows), room)?;
        let groups = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema));
        Ok(Self {
            file,
            schema,
            groups,
            group: 0,
            tree: MerkleTree::default(),
        })
    }

    /// Writes `rows` as one row group.
    ///
    /// # Errors
    /// When the Parquet writer fails, which no content of events makes it do.
    pub(crate) fn row_group(
        &mut self,
        arrays: &[Arrays<'_>],
        bytes: &[Bytes],
        rows: &[u32],
        hash: impl Fn(u32) -> EventHash,
    ) -> Result<(), ParquetError> {
        let event_json = place("event_json");
        let writers = self.groups.create_column_writers(self.group)?;
        debug_assert_eq!(writers.len(), COLUMNS.len(), "every column has one leaf");
        let mut group = self.file.next_row_group()?;
        for (column, mut writer) in writers.into_iter().enumerate() {
            if column == event_json {
                for piece in rows.chunks(EVENT_PIECE_ROWS) {
                    let array = events(bytes, piece, &hash, &mut self.tree)?;
                    write_array(&mut writer, &self.schema, column, &array)?;
                }
            } else {
                for piece in rows.chunks(PIECE_ROWS) {
                    let array = arrays[column].take(piece);
                    write_array(&mut writer, &self.schema, column, &array)?;
                }
            }
            writer.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.group += 1;
        Ok(())
    }

    /// The Merkle root over the events so far, in the order of the rows.
    pub(crate) fn events_root(&self) -> EventHash {
        self.tree.root()
    }

    /// Ends the file. `footer` is the JSON text of its footer, `signature` the note that signs it.
    ///
    /// # Errors
    /// When the Parquet writer fails.
    pub(crate) fn finish(
        mut self,
        footer: String,
        signature: Option<String>,
    ) -> Result<Vec<u8>, ParquetError> {
        let signature = signature.map(|note| (SIGNATURE_KEY, note));
        for (key, value) in [(FOOTER_KEY, footer)].into_iter().chain(signature) {
            self.file
                .append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.file.into_inner()
    }
}

/// The arrays of every column, for any number of row groups.
pub(crate) fn arrays(columns: &Columns) -> Vec<Arrays<'_>> {
    (0..COLUMNS.len())
        .map(|column| columns.arrays(column))
        .collect()
}

/// Writes the rows in `order`.
///
/// # Errors
/// When the Parquet writer fails, which no content of events makes it do.
pub(crate) fn write(
    columns: &Columns,
    bytes: &[Bytes],
    order: &[u32],
) -> Result<Writer, ParquetError> {
    // Room for what does not compress at all. What is not written to costs no memory, while a file that grows is copied
    // again and again.
    let room = bytes.iter().map(Bytes::len).sum();
    let mut writer = Writer::new(columns, order.len(), room)?;
    let arrays = arrays(columns);
    for rows in order.chunks(ROW_GROUP_ROWS) {
        // Hashed while the event is at hand, since it is copied next.
        writer.row_group(&arrays, bytes, rows, |row| {
            EventHash::of(&bytes[row as usize])
        })?;
    }
    Ok(writer)
}

/// Opens a Parquet file in memory, with room for this many bytes.
pub(crate) fn open_file(
    schema: &SchemaRef,
    properties: WriterProperties,
    room: usize,
) -> Result<SerializedFileWriter<Vec<u8>>, ParquetError> {
    let descriptor = ArrowSchemaConverter::new()
        .with_coerce_types(true)
        .convert(schema)?;
    SerializedFileWriter::new(
        Vec::with_capacity(room),
        descriptor.root_schema_ptr(),
        Arc::new(properties),
    )
}

/// Hands an array to the writer of its column.
pub(crate) fn write_array(
    writer: &mut ArrowColumnWriter,
    schema: &SchemaRef,
    column: usize,
    array: &ArrayRef,
) -> Result<(), ParquetError> {
    for leaf in compute_leaves(schema.field(column), array)? {
        writer.write(&leaf)?;
    }
    Ok(())
}

/// The exact bytes of some rows as a column, each event where it is, and its hash into the tree while it is at hand.
fn events(
    bytes: &[Bytes],
    rows: &[u32],
    hash: &impl Fn(u32) -> EventHash,
    tree: &mut MerkleTree,
) -> Result<ArrayRef, ParquetError> {
    let (mut views, mut buffers) = (Vec::new(), Vec::new());
    for row in rows {
        let event = &bytes[*row as usize];
        tree.push(hash(*row));
        let buffer = u32::try_from(buffers.len()).expect("a piece has few rows");
        views.push(make_view(event, buffer, 0));
        buffers.push(Buffer::from(event.clone()));
    }
    // Checks that they are UTF-8, which they are, since every row was read as an event.
    let array = StringViewArray::try_new(views.into(), buffers, None)?;
    Ok(Arc::new(array))
}

/// What session files and their indexes share.
pub(crate) fn properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("1 is a level of zstd");
    WriterProperties::builder()
        .set_created_by(WRITER.to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_coerce_types(true)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
}

/// How the columns of a session file are encoded:
///
/// - numbers and times as packed differences, since rows are in the order of a session, in which nearly all of them
///   grow by little;
/// - ids as what they do not share with the one before: ids that begin with a time share it, and the events of one
///   request share its `audit_id`;
/// - texts by dictionary where they repeat, else as they are.
fn session_file_properties(columns: &Columns, rows: usize) -> WriterProperties {
    let sorting = |name| SortingColumn {
        column_idx: i32::try_from(place(name)).expect("there are dozens of columns"),
        descending: false,
        nulls_first: false,
    };
    let mut builder =
        properties().set_sorting_columns(Some(vec![sorting("session_id"), sorting("session_seq")]));
    for (number, column) in COLUMNS.iter().enumerate() {
        let path = ColumnPath::from(column.name);
        if BLOOM_COLUMNS.contains(&column.name) {
            // Said for each column: said for all, either would give every column a filter.
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_WRONG)
                .set_column_bloom_filter_max_ndv(path.clone(), ROW_GROUP_ROWS as u64);
        }
        let encoding = match column.column_type {
            ColumnType::TextList => continue,
            ColumnType::Text(true) if columns.distinct(number) * REPEATS_MIN <= rows => continue,
            ColumnType::Timestamp | ColumnType::Int64 | ColumnType::Int32 => {
                Encoding::DELTA_BINARY_PACKED
            }
            ColumnType::Text(false) if column.name != "event_json" => Encoding::DELTA_BYTE_ARRAY,
            ColumnType::Text(_) => Encoding::PLAIN,
        };
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, encoding);
    }
    let events = ColumnPath::from("event_json");
    builder
        .set_column_data_page_size_limit(events.clone(), EVENT_PAGE_BYTES)
        // The least and greatest event text say nothing; they would be copied into every page and footer.
        .set_column_statistics_enabled(events, EnabledStatistics::None)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_schema::Timestamp;
    use hoop_schema::row::Row;
    use parquet::file::metadata::ParquetMetaDataReader;

    /// Events of every kind of format version 1.
    const SAMPLES: &str = include_str!("../../../schema/samples/v1.jsonl");

    fn written() -> Bytes {
        let (mut columns, mut bytes) = (Columns::default(), Vec::new());
        for line in SAMPLES.lines() {
            let row = Row::read(line.as_bytes()).unwrap();
            columns.push(&row, Some(7), Timestamp::from_micros(7));
            bytes.push(Bytes::from_static(line.as_bytes()));
        }
        let order: Vec<u32> = (0..u32::try_from(bytes.len()).unwrap()).collect();
        let rows = write(&columns, &bytes, &order).unwrap();
        rows.finish("{}".to_owned(), None).unwrap().into()
    }

    #[test]
    fn only_ids_have_bloom_filters() {
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&written())
            .unwrap();
        let group = metadata.row_group(0);
        let filtered: Vec<&str> = COLUMNS
            .iter()
            .zip(group.columns())
            .filter(|(_, chunk)| chunk.bloom_filter_offset().is_some())
            .map(|(column, _)| column.name)
            .collect();
        assert_eq!(filtered, BLOOM_COLUMNS);
    }

    #[test]
    fn the_root_is_that_of_the_events_in_the_order_of_the_rows() {
        let lines = ["{\"a\":1}", "{\"a\":2}"].map(|l| Bytes::from_static(l.as_bytes()));
        let mut tree = MerkleTree::default();
        let hash = |row: u32| EventHash::of(&lines[row as usize]);
        events(&lines, &[1, 0], &hash, &mut tree).unwrap();
        let mut expected = MerkleTree::default();
        expected.push(EventHash::of(&lines[1]));
        expected.push(EventHash::of(&lines[0]));
        assert_eq!(tree.root(), expected.root());
    }
}
