//! Files that `kubectl cp` moved: both of its directions are a tar archive on a channel of exec.
//!
//! Only what was recorded can be told: under a rule that records no streams there is nothing, and where a piece is missing
//! the archive ends.

use std::io::{self, Read};

use hoop_schema::EventHash;
use hoop_schema::kinds::stream::{Channel, StreamData};
use sha2::{Digest, Sha256};

use crate::content;
use crate::timeline::Request;

/// The most files of one copy that are told; a directory of sources has more.
const FILES_MAX: usize = 1000;

/// A file, a link or a directory that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedFile {
    /// Its path in the archive.
    pub path: String,
    /// Its length in bytes, as the archive says.
    pub bytes: u64,
    /// SHA-256 of its content; nothing where that is not in the record in full, and for what is no file.
    pub sha256: Option<EventHash>,
}

/// Which way files went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Out of the pod.
    FromPod,
    /// Into the pod.
    ToPod,
}

/// What a request copied, if it runs tar with an archive on standard input or output.
pub fn files(request: &Request) -> Option<(Way, Vec<CopiedFile>)> {
    let argv = &request.attributes()?.argv;
    let (program, arguments) = argv.split_first()?;
    if program != "tar" {
        return None;
    }
    // `tar cf - PATH` and `tar -xmf - -C DIR`; older clients write the options with and without the hyphen.
    let options = arguments.first()?.trim_start_matches('-');
    let (way, channel) = match options.chars().next()? {
        'c' => (Way::FromPod, Channel::Stdout),
        'x' => (Way::ToPod, Channel::Stdin),
        _ => return None,
    };
    let mut archive = tar::Archive::new(Pieces::of(&request.stream, channel));
    let mut files = Vec::new();
    // Whatever is no archive, or ends too early, is told as far as it goes.
    for entry in archive.entries().ok()?.take(FILES_MAX) {
        let Ok(mut entry) = entry else { break };
        let bytes = entry.size();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type().is_file();
        let sha256 = is_file.then(|| hash(&mut entry, bytes)).flatten();
        files.push(CopiedFile {
            path,
            bytes,
            sha256,
        });
    }
    (!files.is_empty()).then_some((way, files))
}

/// SHA-256 of `bytes` bytes, if they are all there.
fn hash(reader: &mut impl Read, bytes: u64) -> Option<EventHash> {
    let mut hasher = Sha256::new();
    let mut buffer = [0; 8192];
    let mut left = bytes;
    loop {
        match reader.read(&mut buffer).ok()? {
            0 => break,
            length => {
                hasher.update(&buffer[..length]);
                left = left.checked_sub(length as u64)?;
            }
        }
    }
    (left == 0).then(|| EventHash::from_bytes(hasher.finalize().into()))
}

/// The bytes of one channel, up to the first that are missing.
struct Pieces<'a> {
    rest: std::slice::Iter<'a, StreamData>,
    channel: Channel,
    /// Bytes so far.
    offset: u64,
    piece: io::Cursor<Vec<u8>>,
}

impl<'a> Pieces<'a> {
    fn of(stream: &'a [StreamData], channel: Channel) -> Self {
        Self {
            rest: stream.iter(),
            channel,
            offset: 0,
            piece: io::Cursor::default(),
        }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.piece.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let channel = self.channel;
            let Some(data) = self.rest.find(|data| data.channel == channel) else {
                return Ok(0);
            };
            if data.offset != self.offset {
                self.rest = [].iter();
                return Ok(0);
            }
            let bytes = content::piece(data.encoding, &data.content).unwrap_or_default();
            self.offset += bytes.len() as u64;
            self.piece = io::Cursor::new(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use hoop_schema::body::cut;
    use hoop_schema::kinds::request::Intent;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in [("etc/motd", &b"hello\n"[..]), ("bin/blob", &[0xff; 5000])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn request(argv: &[&str], channel: Channel, archive: &[u8]) -> Request {
        let attributes = serde_json::json!({
            "audit_id": "a", "received": "2026-11-22T10:00:00Z", "auth_method": "none", "source_ip": "",
            "http_method": "GET", "request_uri": "", "verb": "exec", "argv": argv,
        });
        let intent = serde_json::json!({
            "request": attributes,
            "decision": {"effect": "allow", "cause": "rule", "message": "", "policy_revision": ""},
            "level": "RequestResponse", "durability": "log", "masked": {"count": 0, "paths": []},
        });
        let intent: Intent = serde_json::from_value(intent).unwrap();
        let stream = cut(archive, 700).into_iter().map(|piece| StreamData {
            audit_id: "a".into(),
            channel,
            connection: None,
            offset: piece.offset,
            at_us: 0,
            encoding: piece.encoding,
            content: piece.content,
            encryption: None,
        });
        Request {
            audit_id: "a".into(),
            intent: Some(intent),
            stream: stream.collect(),
            ..Request::default()
        }
    }

    #[test]
    fn both_directions_of_a_copy_name_their_files() {
        let out = request(&["tar", "cf", "-", "/etc"], Channel::Stdout, &archive());
        let into = request(&["tar", "-xmf", "-", "-C", "/"], Channel::Stdin, &archive());
        for (request, expected) in [(&out, Way::FromPod), (&into, Way::ToPod)] {
            let (way, files) = files(request).unwrap();
            assert_eq!(way, expected);
            assert_eq!((&*files[0].path, files[0].bytes), ("etc/motd", 6));
            assert_eq!(files[0].sha256, Some(EventHash::of(b"hello\n")));
            assert_eq!((&*files[1].path, files[1].bytes), ("bin/blob", 5000));
            assert_eq!(files[1].sha256, Some(EventHash::of(&[0xff; 5000])));
        }
        assert_eq!(files(&request(&["cat"], Channel::Stdout, &archive())), None);
        let other = request(&["tar", "cf", "-", "/etc"], Channel::Stdin, &archive());
        assert_eq!(files(&other), None);
    }

    #[test]
    fn a_file_that_is_not_recorded_in_full_has_no_hash() {
        let mut cut_off = request(&["tar", "cf", "-", "/etc"], Channel::Stdout, &archive());
        cut_off.stream.remove(6);
        let (_, files) = files(&cut_off).unwrap();
        assert_eq!(files[0].sha256, Some(EventHash::of(b"hello\n")));
        assert_eq!((&*files[1].path, files[1].sha256), ("bin/blob", None));
    }
}
