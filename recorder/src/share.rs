//! Which shards are a recorder's own, when several share the work.
//!
//! Nothing depends on it for safety: whoever records what, the conditional put lets each position into one file only.
//! A share just keeps recorders from doing the same work twice.

use std::fmt;
use std::str::FromStr;

use hoop_schema::Shard;

/// One of several equal shares: of every class, each so-many-th shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 1.
    number: u32,
    of: u32,
}

/// A text that names no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no share: write N/M, such as 2/3 for the second of three")]
pub struct InvalidShare;

impl Share {
    /// Everything: of a recorder that shares with nobody, or with others that do the same work.
    pub const ALL: Self = Self { number: 1, of: 1 };

    /// The share with this number, from 1, of so many.
    ///
    /// # Errors
    /// When there is no such share.
    pub fn new(number: u32, of: u32) -> Result<Self, InvalidShare> {
        if number == 0 || number > of {
            return Err(InvalidShare);
        }
        Ok(Self { number, of })
    }

    /// Whether a shard belongs to it. Every shard belongs to exactly one share.
    pub fn owns(self, shard: Shard) -> bool {
        shard.0 % self.of == self.number - 1
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let (number, of) = text.split_once('/').ok_or(InvalidShare)?;
        let number = number.parse().map_err(|_| InvalidShare)?;
        Self::new(number, of.parse().map_err(|_| InvalidShare)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_belongs_to_one_share() {
        for of in 1..=5 {
            for shard in (0..16).map(Shard) {
                let owners = (1..=of).filter(|n| Share::new(*n, of).unwrap().owns(shard));
                assert_eq!(owners.count(), 1, "{shard} of {of}");
            }
        }
        assert!((0..16).all(|shard| Share::ALL.owns(Shard(shard))));
    }

    #[test]
    fn what_names_no_share_is_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/3/5", "-1/3"] {
            assert_eq!(text.parse::<Share>(), Err(InvalidShare), "{text}");
        }
        assert_eq!("2/3".parse::<Share>().unwrap().to_string(), "2/3");
    }
}
