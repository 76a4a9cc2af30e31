//! Session files: from buffered rows to the bytes of a Parquet object, and back to what it says of itself.
//!
//! Format version 1. Columns are those of `hoop_schema::row::COLUMNS`, in that order: strings as UTF-8, times as
//! microseconds UTC, lists in the standard three-level form. Rows are sorted by (session_id, session_seq), then by
//! producer, epoch, sequence and arrival. zstd level 3; dictionaries where the column says so; offset and column
//! index; bloom filters on `session_id`, `event_id` and `audit_id`; small pages of `event_json`, so that one session
//! is read with a few pages. One JSON text under `hoop.session_file` is the footer
//! ([`hoop_schema::evidence::Footer`]), and one under `hoop.signature` the recorder's signature over it
//! ([`hoop_schema::transparency::statement`]). The same rows always give the same bytes, except for `written`.

pub(crate) mod columns;
pub(crate) mod footer;
pub(crate) mod text;
pub(crate) mod writer;
