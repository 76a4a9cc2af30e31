//! From buffered rows to the bytes of a session file.
//!
//! Memory: the rows' own bytes, a few hundred bytes a row of columns, and what is compressed already. Each column is
//! written on its own, in pieces of [`PIECE_ROWS`] rows, so no column is ever held twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use hoop_schema::EventHash;
use hoop_schema::chain::MerkleTree;
use hoop_schema::evidence::FOOTER_KEY;
use hoop_schema::row::{COLUMNS, ColumnType};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::columns::{Arrays, Columns, arrow_schema, place};

/// zstd level: 9 saves 8 % of bytes and costs four times the work; 1 is no faster on such rows.
const ZSTD_LEVEL: i32 = 3;

/// Rows of a row group at most: so few that its dictionaries stay small for a reader of one session, so many that a
/// full session file has only a handful of groups.
const ROW_GROUP_ROWS: usize = 32 * 1024;

/// Bytes of a page of `event_json` before compression. A session of a hundred rows is one or two of them; half of it
/// costs some 5 % of the file's size.
const EVENT_PAGE_BYTES: usize = 256 * 1024;

/// Rows of a page of any other column at most, for the same reader.
const PAGE_ROWS: usize = 8 * 1024;

/// Rows handed to a column writer at once.
const PIECE_ROWS: usize = 1024;

/// Columns that are asked for by exact value.
const BLOOM_COLUMNS: &[&str] = &["session_id", "event_id", "audit_id"];

/// Wrong answers of a bloom filter: one in a hundred lookups reads a row group in vain.
const BLOOM_WRONG: f64 = 0.01;

/// What wrote a file, for its footers.
pub(crate) const WRITER: &str = concat!("hoop-recorder ", env!("CARGO_PKG_VERSION"));

/// The Merkle root over the events in the order of the rows.
pub(crate) fn events_root(order: &[u32], bytes: &[Bytes]) -> EventHash {
    let mut tree = MerkleTree::default();
    for row in order {
        tree.push(EventHash::of(&bytes[*row as usize]));
    }
    tree.root()
}

/// Writes the rows in `order`. `footer` is the JSON text of the file's footer.
///
/// # Errors
/// When the Parquet writer fails, which no content of events makes it do.
pub(crate) fn write(
    columns: &Columns,
    bytes: &[Bytes],
    order: &[u32],
    footer: String,
) -> Result<Vec<u8>, ParquetError> {
    let schema = arrow_schema(COLUMNS, true);
    let mut file = open_file(&schema, session_file_properties())?;
    let groups = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema));
    let arrays: Vec<Arrays<'_>> = (0..COLUMNS.len())
        .map(|column| columns.arrays(column))
        .collect();
    let event_json = place("event_json");
    for (number, rows) in order.chunks(ROW_GROUP_ROWS).enumerate() {
        let writers = groups.create_column_writers(number)?;
        let mut group = file.next_row_group()?;
        let mut leaf = 0;
        for (column, mut writer) in writers.into_iter().enumerate() {
            for piece in rows.chunks(PIECE_ROWS) {
                let array = if column == event_json {
                    events(bytes, piece)?
                } else {
                    arrays[column].take(piece)
                };
                write_array(&mut writer, &schema, column, &array)?;
            }
            writer.close()?.append_to_row_group(&mut group)?;
            leaf += 1;
        }
        debug_assert_eq!(leaf, COLUMNS.len(), "every column has one leaf");
        group.close()?;
    }
    file.append_key_value_metadata(KeyValue::new(FOOTER_KEY.to_owned(), footer));
    file.into_inner()
}

/// Opens a Parquet file in memory.
pub(crate) fn open_file(
    schema: &SchemaRef,
    properties: WriterProperties,
) -> Result<SerializedFileWriter<Vec<u8>>, ParquetError> {
    let descriptor = ArrowSchemaConverter::new()
        .with_coerce_types(true)
        .convert(schema)?;
    SerializedFileWriter::new(
        Vec::new(),
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

/// The exact bytes of some rows as a column.
fn events(bytes: &[Bytes], rows: &[u32]) -> Result<ArrayRef, ParquetError> {
    let texts: Result<Vec<&str>, _> = rows
        .iter()
        .map(|row| std::str::from_utf8(&bytes[*row as usize]))
        .collect();
    let texts = texts.map_err(|e| ParquetError::External(Box::new(e)))?;
    Ok(Arc::new(StringArray::from(texts)))
}

/// What session files and their indexes share.
pub(crate) fn properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("3 is a level of zstd");
    WriterProperties::builder()
        .set_created_by(WRITER.to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_coerce_types(true)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
}

fn session_file_properties() -> WriterProperties {
    let sorting = |name| SortingColumn {
        column_idx: i32::try_from(place(name)).expect("there are dozens of columns"),
        descending: false,
        nulls_first: false,
    };
    let mut builder = properties()
        .set_sorting_columns(Some(vec![sorting("session_id"), sorting("session_seq")]))
        .set_bloom_filter_fpp(BLOOM_WRONG);
    for column in COLUMNS {
        let path = ColumnPath::from(column.name);
        if BLOOM_COLUMNS.contains(&column.name) {
            builder = builder.set_column_bloom_filter_enabled(path.clone(), true);
            builder = builder.set_column_bloom_filter_fpp(path.clone(), BLOOM_WRONG);
        }
        if column.column_type != ColumnType::Text(true) {
            builder = builder.set_column_dictionary_enabled(
                list_item(column.column_type, path),
                column.column_type == ColumnType::TextList,
            );
        }
    }
    let events = ColumnPath::from("event_json");
    builder
        .set_column_data_page_size_limit(events.clone(), EVENT_PAGE_BYTES)
        // The least and greatest event text say nothing; they would be copied into every page and footer.
        .set_column_statistics_enabled(events, EnabledStatistics::None)
        .build()
}

/// The leaf of a column: lists have their strings two levels down.
fn list_item(column_type: ColumnType, path: ColumnPath) -> ColumnPath {
    match column_type {
        ColumnType::TextList => {
            let mut parts = path.parts().to_vec();
            parts.extend(["list".to_owned(), "element".to_owned()]);
            ColumnPath::new(parts)
        }
        _ => path,
    }
}
