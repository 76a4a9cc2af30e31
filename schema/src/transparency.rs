//! The transparency log: what it is made of, and how it is read, proved and signed.
//!
//! Every class and shard has one append-only Merkle log (RFC 6962) in the form of
//! [C2SP tlog-tiles](https://c2sp.org/tlog-tiles). Its leaves name the session files and what was done to them; a signed
//! checkpoint of it cannot be reconciled with any other past. So whoever may write to the evidence store, but has not
//! the key, can neither change, drop nor re-order what a checkpoint covers without being found out.
//!
//! ```text
//! tlog/<cluster>/<class>/<shard>/leaves/<index:020>             one leaf, signed by its recorder: decides what stands there
//! tlog/<cluster>/<class>/<shard>/tile/entries/<N>[.p/<W>]       entry bundles (tlog-tiles)
//! tlog/<cluster>/<class>/<shard>/tile/<L>/<N>[.p/<W>]           hashes (tlog-tiles)
//! tlog/<cluster>/<class>/<shard>/checkpoints/<size:020>         signed checkpoints, each written once
//! tlog/<cluster>/<class>/<shard>/cosigned/<size:020>-<name>     copies of checkpoints that witnesses signed too
//! ```
//! Everything is created once and never changed, so there is no mutable `checkpoint` as tlog-tiles has it for HTTP:
//! whoever serves a log to other tools copies its newest checkpoint under that name.
//!
//! Origin of a log: `hoop/<cluster>/<class>/<shard>`. Name of its key: `hoop/<cluster>`. In all of these the cluster is
//! written as [`escaped`].
//!
//! - [`tree`]: hashes, roots, proofs. [`tiles`]: the form in which they lie in the store.
//! - [`note`]: signed notes and keys. [`checkpoint`]: the text that is signed. [`leaf`]: what a leaf says.
//! - [`statement`](mod@statement): what a recorder signs of a session file before a log has it.
//!
//! Not here: who writes a log and in which order (`hoop-recorder`), and who checks it (`hoop-replayer`).

pub mod checkpoint;
pub mod leaf;
pub mod note;
pub mod statement;
pub mod tiles;
pub mod tree;

use sha2::{Digest, Sha256};

use crate::ids::{Class, Shard};

/// Prefix of all transparency logs.
pub const TLOG_PREFIX: &str = "tlog/";

/// The longest escaped name; longer ones are hashed. Leaves room within 255 bytes of a file's name.
const ESCAPED_BYTES_MAX: usize = 200;

/// Which log: its names in the store and in checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPlace {
    /// The cluster, [`escaped`].
    cluster: String,
    /// The class.
    pub class: Class,
    /// The shard.
    pub shard: Shard,
}

impl LogPlace {
    /// The log of one shard of one class in a cluster of this name.
    pub fn new(cluster: &str, class: &Class, shard: Shard) -> Self {
        Self {
            cluster: escaped(cluster),
            class: class.clone(),
            shard,
        }
    }

    /// Takes the name of an object apart: which log it belongs to, and its name within that log. `None` for what belongs
    /// to no log.
    pub fn parse(object: &str) -> Option<(Self, &str)> {
        let mut parts = object.strip_prefix(TLOG_PREFIX)?.splitn(4, '/');
        let (cluster, class, shard, rest) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let place = Self {
            cluster: cluster.to_owned(),
            class: class.parse().ok()?,
            shard: Shard(shard.parse().ok()?),
        };
        let prefix = place.prefix();
        (object.strip_prefix(&prefix)? == rest).then_some((place, rest))
    }

    /// Prefix of its objects, with the slash.
    pub fn prefix(&self) -> String {
        let Self {
            cluster,
            class,
            shard,
        } = self;
        format!("{TLOG_PREFIX}{cluster}/{class}/{shard}/")
    }

    /// First line of its checkpoints.
    pub fn origin(&self) -> String {
        let Self {
            cluster,
            class,
            shard,
        } = self;
        format!("hoop/{cluster}/{class}/{shard}")
    }

    /// Name of the object that decides which leaf stands at `index`.
    pub fn leaf_key(&self, index: u64) -> String {
        format!("{}leaves/{index:020}", self.prefix())
    }

    /// Name of the checkpoint of this size.
    pub fn checkpoint_key(&self, size: u64) -> String {
        format!("{}checkpoints/{size:020}", self.prefix())
    }
}

/// Name of the key that signs the logs of this cluster.
pub fn key_name(cluster: &str) -> String {
    format!("hoop/{}", escaped(cluster))
}

/// A name as one segment of an object's name: `A-Z a-z 0-9 . _ -` stand for themselves, every other byte is `=` and two
/// hexadecimal digits, and so is a leading dot. A very long name is `=` and its SHA-256.
pub fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && i > 0);
        if plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("={byte:02x}"));
        }
    }
    if text.len() > ESCAPED_BYTES_MAX || text.is_empty() {
        let hash = Sha256::digest(name.as_bytes());
        text = hash
            .iter()
            .fold("=".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cluster_has_a_place_of_its_own() {
        let class = Class::standard();
        let place = LogPlace::new("prod eu/1", &class, Shard(3));
        assert_eq!(place.prefix(), "tlog/prod=20eu=2f1/standard/003/");
        assert_eq!(place.origin(), "hoop/prod=20eu=2f1/standard/003");
        let key = place.checkpoint_key(7);
        let (parsed, rest) = LogPlace::parse(&key).unwrap();
        assert_eq!(parsed, place);
        assert_eq!(rest, "checkpoints/00000000000000000007");
        for (a, b) in [("a=2f", "a/"), ("..", "=2e."), ("", "x")] {
            assert_ne!(escaped(a), escaped(b));
        }
        assert_eq!(escaped(&"x".repeat(300)).len(), 65);
        assert_eq!(escaped(".."), "=2e.");
    }

    #[test]
    fn other_objects_belong_to_no_log() {
        for key in [
            "tlog/a/standard/3/checkpoints/x",
            "tlog/a/standard/003",
            "tlog/a/Standard/003/x",
            "events/v1/x",
        ] {
            assert!(LogPlace::parse(key).is_none(), "{key}");
        }
    }
}
