//! Identifiers. Each is a type of its own, so that nobody can swap a session and an event.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Name of one event: a UUIDv7, so that ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

/// Name of one session: 16 bytes, written as 32 lower-case hexadecimal digits. See [`crate::session`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// SHA-256 of an event's exact bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventHash([u8; 32]);

/// Name of whoever writes events: one gateway or one recorder, stable over its restarts.
/// 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(Arc<str>);

/// Name of a retention class. 1 to 32 characters of `a-z 0-9 -`, since it becomes a folder, a topic and a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(Arc<str>);

/// Name of one log for ever: 4 random bytes, fixed when the log of a class is created, written as 8 hexadecimal
/// digits. A log that is created anew under an old name gets another one, so its positions cannot be confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId([u8; 4]);

/// Name of a key that content is encrypted with: 16 random bytes, written as 32 lower-case hexadecimal digits. See
/// [`crate::encryption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

/// One shard of a class's log, counted from 0.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Shard(pub u32);

/// A text that cannot be the identifier it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidName {
    text: String,
    expected: &'static str,
}

impl EventId {
    /// A UUIDv7 (RFC 9562) of a time in Unix milliseconds and ten random bytes.
    pub fn new(millis: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid())
    }
}

impl SessionId {
    /// From the 16 bytes of a derivation.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The shard that keeps this session, out of `shards` (at least 1): its first eight bytes, big-endian,
    /// modulo the number of shards. Ids are uniform, being cut from a hash.
    pub fn shard(&self, shards: u32) -> Shard {
        let head = u64::from_be_bytes(self.0[..8].try_into().expect("eight of sixteen bytes"));
        Shard(u32::try_from(head % u64::from(shards.max(1))).expect("less than a u32"))
    }
}

impl EventHash {
    /// The hash of an event's exact bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From a digest computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl KeyId {
    /// From sixteen random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl SourceId {
    /// From four random bytes.
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl ProducerId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When the text is empty, longer than 128 characters or has a character outside `A-Z a-z 0-9 . _ -`.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 128 || !text.bytes().all(fits) {
            return Err(InvalidName {
                text: text.to_owned(),
                expected: "a producer id (1 to 128 characters of A-Z a-z 0-9 . _ -)",
            });
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Class {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When the text is empty, longer than 32 characters or has a character outside `a-z 0-9 -`.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
            return Err(InvalidName {
                text: text.to_owned(),
                expected: "a retention class (1 to 32 characters of a-z 0-9 -)",
            });
        }
        Ok(Self(text.into()))
    }

    /// The class that a rule gets when it names none.
    pub fn standard() -> Self {
        Self("standard".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lower-case hexadecimal of `bytes`, without an allocation.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    f.pad(std::str::from_utf8(&text[..bytes.len() * 2]).expect("hexadecimal digits are ASCII"))
}

/// What each byte says as a lower-case hexadecimal digit; 255 where it is none.
const HEX: [u8; 256] = {
    let (mut values, mut value) = ([255; 256], 0);
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Every event has several ids, so this looks digits up, and asks only at the end whether all were some.
fn parse_hex<const N: usize>(text: &str, expected: &'static str) -> Result<[u8; N], InvalidName> {
    let invalid = || InvalidName {
        text: text.chars().take(100).collect(),
        expected,
    };
    if text.len() != N * 2 {
        return Err(invalid());
    }
    let (mut bytes, mut odd) = ([0; N], 0);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
        *byte = high << 4 | low & 15;
        odd |= high | low;
    }
    if odd > 15 {
        return Err(invalid());
    }
    Ok(bytes)
}

macro_rules! hex_id {
    ($name:ident, $expected:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                parse_hex(text, $expected).map(Self)
            }
        }
    };
}

macro_rules! text_serde {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

hex_id!(SessionId, "a session id (32 hexadecimal digits)");
hex_id!(EventHash, "a SHA-256 (64 hexadecimal digits)");
hex_id!(SourceId, "a source id (8 hexadecimal digits)");
hex_id!(KeyId, "a key id (32 hexadecimal digits)");

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl FromStr for EventId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // Only the hyphenated form: other spellings of the same id would break equality of the exact text.
        let parsed = if text.len() == 36 {
            Uuid::try_parse(text).ok()
        } else {
            None
        };
        parsed.map(Self).ok_or_else(|| InvalidName {
            text: text.chars().take(100).collect(),
            expected: "a UUID",
        })
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ProducerId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Class {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for Shard {
    /// Three digits, as in `shard=007`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

text_serde!(
    EventId,
    "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
);
text_serde!(SessionId, "^[0-9a-f]{32}$");
text_serde!(EventHash, "^[0-9a-f]{64}$");
text_serde!(SourceId, "^[0-9a-f]{8}$");
text_serde!(KeyId, "^[0-9a-f]{32}$");
text_serde!(ProducerId, "^[A-Za-z0-9._-]{1,128}$");
text_serde!(Class, "^[a-z0-9-]{1,32}$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_escape_a_path_are_refused() {
        for text in ["", "..", "a/b", "A", "ä", &"x".repeat(33)] {
            assert!(Class::new(text).is_err(), "{text:?}");
        }
        for text in ["", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(ProducerId::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn event_ids_sort_by_time() {
        assert!(EventId::new(1, &[255; 10]) < EventId::new(2, &[0; 10]));
        assert_eq!(
            EventId::new(0, &[0; 10]).to_string(),
            "00000000-0000-7000-8000-000000000000"
        );
    }

    #[test]
    fn only_the_written_form_of_an_id_is_read() {
        assert!("0102".parse::<SessionId>().is_err());
        assert!("AB".repeat(16).parse::<SessionId>().is_err(), "upper case");
        assert!(
            "00000000000070008000000000000000"
                .parse::<EventId>()
                .is_err(),
            "no hyphens"
        );
        assert!(
            "é".repeat(16).parse::<SessionId>().is_err(),
            "two bytes a character"
        );
    }

    proptest! {
        #[test]
        fn ids_round_trip_through_text(session: [u8; 16], hash: [u8; 32], millis in 0u64..1 << 48, random: [u8; 10]) {
            let session = SessionId::from_bytes(session);
            prop_assert_eq!(session.to_string().parse::<SessionId>().unwrap(), session);
            let hash = EventHash::from_bytes(hash);
            prop_assert_eq!(hash.to_string().parse::<EventHash>().unwrap(), hash);
            let event = EventId::new(millis, &random);
            prop_assert_eq!(event.to_string().parse::<EventId>().unwrap(), event);
        }

        #[test]
        fn every_session_has_a_shard(session: [u8; 16], shards in 1u32..1000) {
            prop_assert!(SessionId::from_bytes(session).shard(shards).0 < shards);
        }
    }
}
