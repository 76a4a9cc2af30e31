//! Where the API server's audit log is, and how it is read from there.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::{StreamExt, stream};
use hoop_sinks::store::s3::foreign::{ForeignObjects, ForeignPlace, InvalidForeignPlace};
use hoop_sinks::store::{BucketOptions, StoreError};

use crate::exit::{ExitCode, Failure};
use crate::output::{Output, Progress};
use crate::reconcile::log::{self, LogRead};
use crate::reconcile::sighting::Sighting;

/// What of an object is fetched at once.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Pieces under way at a time: at most so many are held.
const PIECES_AT_ONCE: usize = 6;

/// Where an audit log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditPlace {
    /// It comes on standard input.
    Input,
    /// A file, or a folder of files.
    Path(PathBuf),
    /// Objects of a bucket.
    Bucket(ForeignPlace),
}

impl FromStr for AuditPlace {
    type Err = InvalidForeignPlace;

    fn from_str(text: &str) -> Result<Self, InvalidForeignPlace> {
        Ok(match text {
            "-" => Self::Input,
            text if text.contains("://") => Self::Bucket(text.parse()?),
            text => Self::Path(text.into()),
        })
    }
}

/// Reads all of a log, and gives what its lines say to `push`.
///
/// # Errors
/// When it is not there or cannot be read, or `push` fails.
pub(super) async fn read(
    output: &Output,
    place: &AuditPlace,
    options: &BucketOptions,
    read: &mut LogRead,
    push: &mut impl FnMut(Sighting) -> io::Result<()>,
) -> Result<(), Failure> {
    match place {
        AuditPlace::Input => {
            let done = read.read(io::stdin(), push, |_| {});
            done.map_err(|e| failed("standard input", e))
        }
        AuditPlace::Path(path) => files(output, path, read, push),
        AuditPlace::Bucket(place) => objects(output, place, options, read, push).await,
    }
}

fn files(
    output: &Output,
    place: &Path,
    read: &mut LogRead,
    push: &mut impl FnMut(Sighting) -> io::Result<()>,
) -> Result<(), Failure> {
    let files = log::files(place).map_err(|e| failed(&place.display().to_string(), e))?;
    let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |m| m.len());
    let mut progress = Progress::new(output, files.iter().map(size).sum());
    for file in &files {
        let name = file.display().to_string();
        let open = std::fs::File::open(file).map_err(|e| failed(&name, e))?;
        let done = read.read(open, &mut *push, |bytes| progress.advance(bytes, &name));
        done.map_err(|e| failed(&name, e))?;
    }
    Ok(())
}

/// Reads objects one after the other, some pieces ahead; none is ever held whole.
async fn objects(
    output: &Output,
    place: &ForeignPlace,
    options: &BucketOptions,
    read: &mut LogRead,
    push: &mut impl FnMut(Sighting) -> io::Result<()>,
) -> Result<(), Failure> {
    let store = ForeignObjects::open(place, options).await;
    let store = store.map_err(|e| of_store(place, e))?;
    let listed = store.list().await.map_err(|e| of_store(place, e))?;
    if listed.is_empty() {
        return Err(Failure::not_found(format!(
            "there is no object that {place} names; a * at its end means every key that begins so"
        )));
    }
    let mut progress = Progress::new(output, listed.iter().map(|object| object.bytes).sum());
    let pieces = listed.iter().flat_map(|object| {
        let count = object.bytes.div_ceil(PIECE_BYTES);
        (0..count).map(move |number| {
            let end = object.bytes.min((number + 1) * PIECE_BYTES);
            (object, number * PIECE_BYTES..end)
        })
    });
    let get = |(object, range): (&'_ hoop_sinks::store::ObjectInfo, std::ops::Range<u64>)| {
        let (store, key) = (&store, object.key.clone());
        async move { store.get(&key, range).await }
    };
    let mut pieces = stream::iter(pieces).map(get).buffered(PIECES_AT_ONCE);
    for object in &listed {
        let name = format!("{} of {place}", object.key);
        let mut feed = read.feed(&mut *push);
        let mut left = object.bytes;
        while left > 0 {
            let Some(piece) = pieces.next().await else {
                break;
            };
            let piece = piece.map_err(|e| of_store(place, e))?;
            if piece.len() as u64 != left.min(PIECE_BYTES) {
                return Err(failed(&name, io::ErrorKind::UnexpectedEof.into()));
            }
            feed.push(&piece).map_err(|e| failed(&name, e))?;
            progress.advance(piece.len() as u64, &object.key);
            left = left.saturating_sub(PIECE_BYTES);
        }
        feed.end().map_err(|e| failed(&name, e))?;
    }
    Ok(())
}

fn failed(name: &str, error: io::Error) -> Failure {
    Failure {
        code: match error.kind() {
            io::ErrorKind::NotFound => ExitCode::NotFound,
            _ => ExitCode::Io,
        },
        error: anyhow::Error::new(error).context(format!("cannot read the audit log {name}")),
    }
}

fn of_store(place: &ForeignPlace, error: StoreError) -> Failure {
    Failure {
        code: match &error {
            StoreError::NotFound { .. } => ExitCode::NotFound,
            _ => ExitCode::Io,
        },
        error: anyhow::Error::new(error).context(format!("cannot read the audit log {place}")),
    }
}
