//! The API server's side: its audit log as the log backend writes it, one event of `audit.k8s.io/v1` a line.
//!
//! Files may be rotated and compressed with gzip, in any order; a request has a line for each of its stages. A line that
//! is no such event is counted and skipped, as is one longer than [`LINE_BYTES_MAX`](super::feed::LINE_BYTES_MAX).

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hoop_schema::Timestamp;
use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::sighting::{Sent, Side, Sighting, clipped, path, resource};
use super::widen;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// What was read of the API server's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogRead {
    /// Number of files.
    pub files: u64,
    /// Number of lines.
    pub lines: u64,
    /// Number of lines that could not be read, which were skipped.
    pub lines_unreadable: u64,
    /// When the first request in it was received.
    pub first: Option<Timestamp>,
    /// When the last one was received.
    pub last: Option<Timestamp>,
}

/// What is looked at of an event of `audit.k8s.io/v1`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent<'a> {
    #[serde(borrow, rename = "auditID")]
    audit_id: Cow<'a, str>,
    #[serde(borrow, rename = "requestURI", default)]
    request_uri: Cow<'a, str>,
    #[serde(borrow, default)]
    verb: Cow<'a, str>,
    #[serde(borrow, default)]
    user: User<'a>,
    #[serde(borrow, default)]
    impersonated_user: Option<User<'a>>,
    #[serde(borrow, default)]
    object_ref: Option<ObjectRef<'a>>,
    #[serde(default)]
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Timestamp,
}

#[derive(Default, Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ObjectRef<'a> {
    #[serde(borrow, default)]
    resource: Cow<'a, str>,
    #[serde(borrow, default)]
    subresource: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

/// The files that `place` names: itself, or every file in a folder that is no folder.
///
/// # Errors
/// When it is not there or cannot be looked into.
pub fn files(place: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(place)?.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

impl LogRead {
    /// A file whose bytes come piece by piece; `take` gets what its lines say.
    pub fn feed<'a>(
        &'a mut self,
        mut take: impl FnMut(Sighting) -> io::Result<()> + 'a,
    ) -> Feed<impl FnMut(&[u8], bool) -> io::Result<()> + 'a> {
        self.files += 1;
        Feed::new(move |line: &[u8], whole| {
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(());
            }
            self.lines += 1;
            match sighting(line).filter(|_| whole) {
                Some(sighting) => {
                    widen(&mut self.first, &mut self.last, sighting.at);
                    take(sighting)
                }
                None => {
                    self.lines_unreadable += 1;
                    Ok(())
                }
            }
        })
    }

    /// Reads a file to its end and gives what its lines say to `take`, and how many bytes came to `advance`.
    ///
    /// # Errors
    /// When it cannot be read, or `take` fails.
    pub fn read(
        &mut self,
        mut stream: impl Read,
        take: impl FnMut(Sighting) -> io::Result<()>,
        mut advance: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut feed = self.feed(take);
        let mut piece = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return feed.end(),
                Ok(read) => {
                    feed.push(&piece[..read])?;
                    advance(read as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn sighting(line: &[u8]) -> Option<Sighting> {
    let event: AuditEvent<'_> = serde_json::from_slice(line).ok()?;
    let object = event.object_ref.as_ref().filter(|o| !o.resource.is_empty());
    Some(Sighting {
        id: clipped(&event.audit_id),
        side: Side::Log,
        user: clipped(&event.user.username),
        acting: event
            .impersonated_user
            .map_or_else(String::new, |user| clipped(&user.username)),
        verb: clipped(&event.verb),
        what: object.map_or_else(
            || path(&event.request_uri),
            |o| resource(&o.resource, &o.subresource),
        ),
        namespace: object.map_or_else(String::new, |o| clipped(&o.namespace)),
        name: object.map_or_else(String::new, |o| clipped(&o.name)),
        at: event.request_received_timestamp,
        code: event.response_status.map_or(0, |status| status.code),
        sent: Sent::Yes,
    })
}
