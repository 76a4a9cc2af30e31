//! What a session file says of itself, read from its end.

use hoop_schema::EventHash;
use hoop_schema::evidence::{FOOTER_KEY, Footer, SIGNATURE_KEY};
use hoop_schema::transparency::note::Note;
use hoop_schema::transparency::statement::statement;
use hoop_sinks::store::{EvidenceStore, StoreError};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// Bytes read from the end of a file first: most footers fit.
const TAIL_BYTES: u64 = 128 * 1024;

/// The longest Parquet footer that is read, in bytes; a full session file has less than one hundredth of it.
const FOOTER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The format version of session files that is written, and the latest that is read.
pub(crate) const FILE_VERSION: u32 = 1;

/// Length of the footer's length, and the magic number at the very end.
const TRAILER_BYTES: usize = 8;

/// Why the footer of a session file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// The store does not answer, or has no such object.
    #[error("the session file cannot be read")]
    Store(#[source] StoreError),
    /// The object is damaged, or not a session file that this version knows.
    #[error("{key} is not a session file that can be continued: {why}")]
    Damaged {
        /// Name of the object.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A footer, and what was signed of it.
#[derive(Debug)]
pub(crate) struct SignedFooter {
    pub(crate) footer: Footer,
    /// The text of the footer.
    text: String,
    /// The note that signs it, not checked.
    signature: Option<String>,
}

impl SignedFooter {
    /// The note that signs the footer as that of the object of this name, its signatures not checked; none where there is
    /// none, or only one of something else.
    pub(crate) fn signature(&self, object: &str) -> Option<Note> {
        let note: Note = self.signature.as_deref()?.parse().ok()?;
        (note.text == statement(object, &self.text)).then_some(note)
    }
}

/// Reads the footer of a session file, and the hash of the whole object.
///
/// # Errors
/// When the store does not answer, or the object is not a session file.
pub async fn read_footer(
    store: &dyn EvidenceStore,
    key: &str,
) -> Result<(Footer, EventHash), FooterError> {
    let (signed, sha256) = read_signed_footer(store, key).await?;
    Ok((signed.footer, sha256))
}

/// The same, with what was signed of the footer.
///
/// # Errors
/// As [`read_footer`].
pub(crate) async fn read_signed_footer(
    store: &dyn EvidenceStore,
    key: &str,
) -> Result<(SignedFooter, EventHash), FooterError> {
    let damaged = |why: String| FooterError::Damaged {
        key: key.to_owned(),
        why,
    };
    let missing = || {
        FooterError::Store(StoreError::NotFound {
            key: key.to_owned(),
        })
    };
    let head = store
        .head(key)
        .await
        .map_err(FooterError::Store)?
        .ok_or_else(missing)?;
    let mut from = head.bytes.saturating_sub(TAIL_BYTES);
    let mut tail = store
        .get(key, from..head.bytes)
        .await
        .map_err(FooterError::Store)?;
    let wanted = footer_bytes(&tail).map_err(&damaged)? + TRAILER_BYTES as u64;
    if wanted > tail.len() as u64 {
        from = head
            .bytes
            .checked_sub(wanted)
            .ok_or_else(|| damaged("it is cut short".to_owned()))?;
        tail = store
            .get(key, from..head.bytes)
            .await
            .map_err(FooterError::Store)?;
    }
    let footer = parse_signed_footer(&tail).map_err(damaged)?;
    Ok((footer, head.sha256))
}

/// Reads the footer from the end of a session file, or from the whole of it.
///
/// # Errors
/// In words, when the bytes do not end in the footer of a session file.
pub fn parse_footer(tail: &[u8]) -> Result<Footer, String> {
    parse_signed_footer(tail).map(|signed| signed.footer)
}

fn parse_signed_footer(tail: &[u8]) -> Result<SignedFooter, String> {
    let length = usize::try_from(footer_bytes(tail)?).map_err(|e| e.to_string())?;
    let end = tail.len() - TRAILER_BYTES;
    let start = end
        .checked_sub(length)
        .ok_or("its footer is longer than the file")?;
    let metadata =
        ParquetMetaDataReader::decode_metadata(&tail[start..end]).map_err(|e| e.to_string())?;
    footer_of(&metadata)
}

/// The footer among a Parquet file's metadata.
pub(crate) fn footer_of(metadata: &ParquetMetaData) -> Result<SignedFooter, String> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let value = |key: &str| {
        let mut pairs = pairs.into_iter().flatten();
        pairs.find(|pair| pair.key == key)?.value.as_deref()
    };
    let text = value(FOOTER_KEY).ok_or("it is a Parquet file without our footer")?;
    let footer: Footer =
        serde_json::from_str(text).map_err(|e| format!("its footer cannot be read: {e}"))?;
    if footer.v > FILE_VERSION {
        return Err(format!(
            "it has format version {}, and this build knows {FILE_VERSION}",
            footer.v
        ));
    }
    if footer.pos_to <= footer.pos_from {
        return Err("it covers no position".to_owned());
    }
    Ok(SignedFooter {
        footer,
        text: text.to_owned(),
        signature: value(SIGNATURE_KEY).map(str::to_owned),
    })
}

/// Length of the Parquet metadata that the trailer names.
fn footer_bytes(tail: &[u8]) -> Result<u64, String> {
    let trailer = tail
        .last_chunk::<TRAILER_BYTES>()
        .ok_or("it is shorter than any Parquet file")?;
    let [a, b, c, d, magic @ ..] = trailer;
    if magic != b"PAR1" {
        return Err("it does not end as a Parquet file".to_owned());
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > FOOTER_BYTES_MAX {
        return Err(format!("its footer claims {length} bytes"));
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
