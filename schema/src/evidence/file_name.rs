//! The name of a file that holds events: a session file, or a sealed object, which is one in its form.

use std::fmt;
use std::str::FromStr;

use super::seal::{SealName, SealedFileName};
use super::{NotASessionFile, SessionFileName};
use crate::ids::{Class, Shard, SourceId};

/// The name of a session file or of a sealed object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The class.
    pub class: Class,
    /// UTC day on which the log took the first record, `YYYY-MM-DD`.
    pub day: String,
    /// The shard.
    pub shard: Shard,
    /// The log.
    pub source: SourceId,
    /// First position covered.
    pub pos_from: u64,
    /// Last position covered, which only the name of a sealed object says.
    pub pos_last: Option<u64>,
}

impl FileName {
    /// The name of the file's index of sessions.
    pub fn index_key(&self) -> String {
        match self.taken_apart() {
            Ok(sealed) => sealed.index_key(),
            Err(file) => file.index_key(),
        }
    }

    /// Whether it is a sealed object.
    pub fn is_sealed(&self) -> bool {
        self.pos_last.is_some()
    }

    /// The seal of its class and day, whether there is one or not.
    pub fn seal(&self) -> SealName {
        SealName {
            class: self.class.clone(),
            day: self.day.clone(),
        }
    }

    fn taken_apart(&self) -> Result<SealedFileName, SessionFileName> {
        let (class, day) = (self.class.clone(), self.day.clone());
        let (shard, source, pos_from) = (self.shard, self.source, self.pos_from);
        match self.pos_last {
            Some(pos_last) => Ok(SealedFileName {
                class,
                day,
                shard,
                source,
                pos_from,
                pos_last,
            }),
            None => Err(SessionFileName {
                class,
                day,
                shard,
                source,
                pos_from,
            }),
        }
    }
}

impl From<SessionFileName> for FileName {
    fn from(name: SessionFileName) -> Self {
        Self {
            class: name.class,
            day: name.day,
            shard: name.shard,
            source: name.source,
            pos_from: name.pos_from,
            pos_last: None,
        }
    }
}

impl From<SealedFileName> for FileName {
    fn from(name: SealedFileName) -> Self {
        Self {
            class: name.class,
            day: name.day,
            shard: name.shard,
            source: name.source,
            pos_from: name.pos_from,
            pos_last: Some(name.pos_last),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.taken_apart() {
            Ok(sealed) => sealed.fmt(f),
            Err(file) => file.fmt(f),
        }
    }
}

impl FromStr for FileName {
    type Err = NotASessionFile;

    fn from_str(text: &str) -> Result<Self, NotASessionFile> {
        let sealed = text.parse::<SealedFileName>().map(Self::from);
        sealed.or_else(|_| text.parse::<SessionFileName>().map(Self::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_round_trip_and_nothing_else_is_one() {
        let folder = "class=standard/dt=2026-11-22/shard=003";
        let file = format!("events/v1/{folder}/00ff00ff-00000000000000000042.parquet");
        let sealed = format!(
            "sealed/v1/{folder}/00ff00ff-00000000000000000042-00000000000000000099.parquet"
        );
        for (key, is_sealed) in [(&file, false), (&sealed, true)] {
            let name: FileName = key.parse().unwrap();
            assert_eq!(name.to_string(), *key);
            assert_eq!(name.is_sealed(), is_sealed);
            assert_eq!(name.index_key().parse::<FileName>().unwrap(), name);
        }
        assert!(
            "seals/v1/class=standard/dt=2026-11-22.json"
                .parse::<FileName>()
                .is_err()
        );
    }
}
