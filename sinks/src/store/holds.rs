//! Legal holds: evidence that must not be deleted, whatever its term.
//!
//! ```text
//! holds/v1/<hold_id>/<n:010>.json      an event of kind `recorder.hold`; n counts from 0, and the last one is in force
//! ```
//! Every change is a create-only put of the next number, so of two people who change one hold at a time one is told to
//! look again. A hold names a session or a user; every session file that has rows of it is kept by the recorder. Where
//! the store locks, whoever sets a hold locks these objects too, and the recorder those that come; the event is
//! written first, so that a hold of which not every object is locked yet is always known. Holds may belong to a case,
//! which has no object of its own.

use hoop_schema::kinds::recorder::RecorderHold;
use hoop_schema::{Kind, ProducerId, SessionId, Timestamp};

use super::history::{self, Latest, ReadError, Writer};
use super::{Created, EvidenceStore, StoreError};

/// Prefix of all holds.
pub const HOLDS_PREFIX: &str = "holds/v1/";

/// Characters of the name of a hold or a case.
const NAME_MAX: usize = 64;

/// Why a hold could not be set, released or read.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The name does not fit.
    #[error("{0:?} cannot name a hold or a case; use 1 to 64 characters of a-z 0-9 -")]
    Name(String),
    /// A hold names either a session or a user.
    #[error("a hold names a session or a user, and only one of them")]
    Target,
    /// The name stands for something else.
    #[error("hold {0} is in force for something else; choose another name, or release it first")]
    Taken(String),
    /// There is no such hold in force.
    #[error("there is no hold {0} in force")]
    NotHeld(String),
    /// Somebody changed it at the same time.
    #[error("somebody else changed hold {0} at the same time; look at it and try again")]
    Rival(String),
    /// What is there cannot be read, so nothing is deleted until somebody looks at it.
    #[error("{0} is not a hold")]
    Damaged(String),
    /// The store does not answer.
    #[error("the evidence store does not answer")]
    Store(#[source] StoreError),
}

/// The last that is known of one hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHold {
    /// What was said last.
    pub hold: RecorderHold,
    /// When, by the clock of whoever said it.
    pub at: Timestamp,
}

/// What became of a wish to set or release a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An event was written.
    Written,
    /// It was so already, so nothing was written.
    AsItWas,
}

/// The holds of one store, changed in the name of one recorder or tool.
#[derive(Debug, Clone, Copy)]
pub struct Holds<'a> {
    store: &'a dyn EvidenceStore,
    writer: Writer<'a>,
}

impl<'a> Holds<'a> {
    /// The holds of this store. `producer_id` names who writes the events.
    pub fn new(
        store: &'a dyn EvidenceStore,
        cluster: &'a str,
        producer_id: &'a ProducerId,
    ) -> Self {
        let writer = Writer {
            cluster,
            producer_id,
        };
        Self { store, writer }
    }

    /// All holds in force.
    ///
    /// # Errors
    /// When the store does not answer, or what is there is not a hold.
    pub async fn in_force(&self) -> Result<Vec<RecorderHold>, HoldError> {
        let known = self.known().await?;
        let holds = known.into_iter().map(|known| known.hold);
        Ok(holds.filter(|hold| hold.held).collect())
    }

    /// All holds that ever were, by name.
    ///
    /// # Errors
    /// When the store does not answer, or what is there is not a hold.
    pub async fn known(&self) -> Result<Vec<KnownHold>, HoldError> {
        let found = history::latest(self.store, HOLDS_PREFIX).await?;
        found.into_iter().map(known).collect()
    }

    /// Sets a hold, from now on. One that is in force already, for the same, is left as it is.
    ///
    /// # Errors
    /// When name or target do not fit, it is in force for something else, somebody changes it at the same time, or the
    /// store does not answer.
    pub async fn set(&self, hold: RecorderHold, now: Timestamp) -> Result<Change, HoldError> {
        if hold.held_session.is_some() == hold.held_user.is_some() {
            return Err(HoldError::Target);
        }
        if let Some(case) = &hold.case {
            check_name(case)?;
        }
        let (last, next) = self.last(&hold.hold_id).await?;
        if let Some(last) = last.filter(|last| last.hold.held) {
            let same = last.hold.held_session == hold.held_session
                && last.hold.held_user == hold.held_user
                && last.hold.case == hold.case;
            return match same {
                true => Ok(Change::AsItWas),
                false => Err(HoldError::Taken(hold.hold_id)),
            };
        }
        self.write(RecorderHold { held: true, ..hold }, next, now)
            .await
    }

    /// Releases a hold, from now on. One that is released already is left as it is.
    ///
    /// # Errors
    /// When there never was one of this name, somebody changes it at the same time, or the store does not answer.
    pub async fn release(
        &self,
        hold_id: &str,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Change, HoldError> {
        let (last, next) = self.last(hold_id).await?;
        let Some(last) = last else {
            return Err(HoldError::NotHeld(hold_id.to_owned()));
        };
        if !last.hold.held {
            return Ok(Change::AsItWas);
        }
        let released = RecorderHold {
            held: false,
            by: by.to_owned(),
            reason: reason.to_owned(),
            ..last.hold
        };
        self.write(released, next, now).await
    }

    /// The last that is known of a hold, and the number that the next change of it has.
    async fn last(&self, hold_id: &str) -> Result<(Option<KnownHold>, u64), HoldError> {
        check_name(hold_id)?;
        let prefix = format!("{HOLDS_PREFIX}{hold_id}/");
        let found = history::latest(self.store, &prefix).await?.pop();
        match found {
            Some(latest) => {
                let next = latest.number + 1;
                Ok((Some(known(latest)?), next))
            }
            None => Ok((None, 0)),
        }
    }

    async fn write(
        &self,
        hold: RecorderHold,
        number: u64,
        now: Timestamp,
    ) -> Result<Change, HoldError> {
        let hold_id = hold.hold_id.clone();
        let folder = format!("{HOLDS_PREFIX}{hold_id}");
        let kind = Kind::RecorderHold(hold);
        match history::append(self.store, &folder, number, self.writer, &kind, now).await {
            Ok(Created::Created) => Ok(Change::Written),
            Ok(Created::Exists) => Err(HoldError::Rival(hold_id)),
            Err(e) => Err(HoldError::Store(e)),
        }
    }
}

/// Whether one of the holds covers this session of this user.
pub fn covers(holds: &[RecorderHold], session: SessionId, user: Option<&str>) -> bool {
    holds.iter().any(|hold| {
        hold.held_session == Some(session)
            || (hold.held_user.is_some() && hold.held_user.as_deref() == user)
    })
}

fn known(latest: Latest) -> Result<KnownHold, HoldError> {
    match latest.kind {
        Kind::RecorderHold(hold) => Ok(KnownHold {
            hold,
            at: latest.at,
        }),
        other => Err(HoldError::Damaged(format!(
            "an event of kind {}",
            other.name()
        ))),
    }
}

/// Checks the name of a hold or a case.
fn check_name(name: &str) -> Result<(), HoldError> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(HoldError::Name(name.chars().take(100).collect()));
    }
    Ok(())
}

impl From<ReadError> for HoldError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(key) => Self::Damaged(key),
            ReadError::Store(e) => Self::Store(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::CreateOptions;
    use crate::store::memory::Memory;

    fn hold(name: &str, user: Option<&str>) -> RecorderHold {
        RecorderHold {
            hold_id: name.into(),
            held: true,
            held_session: None,
            held_user: user.map(str::to_owned),
            case: None,
            by: "carol".into(),
            reason: "court".into(),
        }
    }

    #[tokio::test]
    async fn a_hold_names_a_session_or_a_user_under_a_plain_name() {
        let (store, id) = (Memory::new(), ProducerId::new("legal").unwrap());
        let holds = Holds::new(&store, "sample", &id);
        let now = Timestamp::from_micros(1);
        assert!(holds.set(hold("a", None), now).await.is_err());
        assert!(holds.set(hold("../a", Some("bob")), now).await.is_err());
        let set = holds.set(hold("a", Some("bob")), now).await.unwrap();
        assert_eq!(set, Change::Written);
        assert_eq!(holds.in_force().await.unwrap(), [hold("a", Some("bob"))]);
        let odd = Bytes::from_static(b"{}");
        let options = CreateOptions::default();
        let key = "holds/v1/b/0000000000.json";
        store.create(key, odd, &options).await.unwrap();
        assert!(
            holds.in_force().await.is_err(),
            "nothing is deleted while a hold cannot be read"
        );
    }

    #[tokio::test]
    async fn what_is_asked_for_twice_is_written_once() {
        let (store, id) = (Memory::new(), ProducerId::new("legal").unwrap());
        let holds = Holds::new(&store, "sample", &id);
        let now = Timestamp::from_micros(1);
        for expected in [Change::Written, Change::AsItWas] {
            let set = holds.set(hold("a", Some("bob")), now).await.unwrap();
            assert_eq!(set, expected);
        }
        let other = holds.set(hold("a", Some("eve")), now).await;
        assert!(matches!(other, Err(HoldError::Taken(_))), "{other:?}");
        for expected in [Change::Written, Change::AsItWas] {
            let released = holds.release("a", "carol", "settled", now).await.unwrap();
            assert_eq!(released, expected);
        }
        assert!(holds.in_force().await.unwrap().is_empty());
        assert_eq!(holds.known().await.unwrap()[0].hold.reason, "settled");
        let never = holds.release("b", "carol", "settled", now).await;
        assert!(matches!(never, Err(HoldError::NotHeld(_))), "{never:?}");
        // Released, the name is free for something else.
        let again = holds.set(hold("a", Some("eve")), now).await.unwrap();
        assert_eq!(again, Change::Written);
        assert_eq!(store.list(HOLDS_PREFIX, None).await.unwrap().len(), 3);
    }
}
