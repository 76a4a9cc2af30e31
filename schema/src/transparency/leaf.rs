//! What a leaf of the transparency log says: one line of JSON, whose exact bytes are hashed.
//!
//! A leaf holds nothing that two recorders could see differently, such as the time at which it was made, so the same
//! fact has the same bytes whoever logs it. Fields are only ever added, at the end; kinds that are not known are carried
//! and counted, never refused.

use serde::{Deserialize, Serialize};

use crate::evidence::Footer;
use crate::ids::{EventHash, SourceId};
use crate::time::Timestamp;

/// One leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Leaf {
    /// A session file was committed.
    File(FileLeaf),
    /// A session file is about to be deleted, because its term is over.
    Delete(DeleteLeaf),
    /// A legal hold was set or released.
    Hold(ActLeaf),
    /// A day was sealed.
    Seal(ActLeaf),
    /// From here on, this key signs the log as well.
    Key {
        /// The verifier key, as signed notes write it.
        vkey: String,
    },
    /// The content of a session was erased.
    Erasure(ActLeaf),
    /// A kind that this build does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A session file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLeaf {
    /// Name of the object.
    pub object: String,
    /// SHA-256 of the object, hexadecimal.
    pub sha256: EventHash,
    /// The log whose records it holds.
    pub source: SourceId,
    /// First position covered.
    pub pos_from: u64,
    /// Position after the last one covered.
    pub pos_to: u64,
    /// Number of rows.
    pub rows: u64,
    /// Merkle root over the hashes of its events.
    pub events_root: EventHash,
    /// Number of holes in producers' sequences that are declared and open at `pos_to`.
    pub gaps: u64,
}

/// A deletion at the end of a term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteLeaf {
    /// Name of the object that records the deletion.
    pub object: String,
    /// SHA-256 of that object.
    pub sha256: EventHash,
    /// The file that is deleted.
    pub file: String,
    /// SHA-256 of that file.
    pub file_sha256: String,
    /// The term in seconds.
    pub term_s: u64,
    /// From when on it could be deleted.
    pub due: Timestamp,
}

/// An object that records what somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActLeaf {
    /// Name of the object.
    pub object: String,
    /// SHA-256 of the object.
    pub sha256: EventHash,
}

impl Leaf {
    /// The leaf of a session file with this name, hash and footer.
    pub fn file(object: &str, sha256: EventHash, footer: &Footer) -> Self {
        let declared = footer.producers.iter().flat_map(|p| &p.holes);
        Self::File(FileLeaf {
            object: object.to_owned(),
            sha256,
            source: footer.source,
            pos_from: footer.pos_from,
            pos_to: footer.pos_to,
            rows: footer.rows,
            events_root: footer.events_root,
            gaps: declared.filter(|hole| hole.declared).count() as u64,
        })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a leaf; `None` when it is not one line of JSON of this form.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Name of the object that the leaf is about; none for a key.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::File(leaf) => Some(&leaf.object),
            Self::Delete(leaf) => Some(&leaf.object),
            Self::Hold(leaf) | Self::Seal(leaf) | Self::Erasure(leaf) => Some(&leaf.object),
            Self::Key { .. } | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_has_the_same_bytes_for_ever() {
        let leaf = Leaf::Hold(ActLeaf {
            object: "holds/v1/case-7/0000000000.json".into(),
            sha256: EventHash::of(b"hold"),
        });
        let text = String::from_utf8(leaf.bytes()).unwrap();
        let sha256 = EventHash::of(b"hold");
        assert_eq!(
            text,
            format!(
                r#"{{"kind":"hold","object":"holds/v1/case-7/0000000000.json","sha256":"{sha256}"}}"#
            )
        );
        assert_eq!(Leaf::parse(text.as_bytes()), Some(leaf));
    }

    #[test]
    fn a_leaf_of_a_later_version_is_carried() {
        let later = br#"{"kind":"planet","object":"x"}"#;
        assert_eq!(Leaf::parse(later), Some(Leaf::Unknown));
        let more = br#"{"kind":"key","vkey":"a+b+c","reason":"yearly"}"#;
        assert!(matches!(Leaf::parse(more), Some(Leaf::Key { .. })));
        assert_eq!(Leaf::parse(b"nonsense"), None);
    }
}
