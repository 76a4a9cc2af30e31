//! A store whose answers go wrong in the ways that a real one's do and that no real one can be made to show.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    CreateOptions, Created, EvidenceStore, ObjectHead, ObjectInfo, Protection, StoreError,
};

/// What happens to one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutFault {
    /// Nothing is written, and the answer says so.
    Refused,
    /// Nothing is written, and the answer does not say.
    LostBefore,
    /// It is written, and the answer does not say.
    LostAfter,
    /// It is written later, by [`Faulty::land`]; the answer does not say.
    LandsLater,
    /// The caller never gets an answer, and nothing is written.
    HangsBefore,
    /// The caller never gets an answer, and it is written.
    HangsAfter,
    /// All goes well: lets a put pass before the next fault.
    None,
}

/// A store that passes everything on to another one, except for the faults it was told.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn EvidenceStore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<PutFault>,
    under_way: Vec<(String, Bytes, CreateOptions)>,
    hang_deletes: Option<u64>,
    away: bool,
    puts: u64,
    bytes_read: u64,
}

impl Faulty {
    /// Wraps a store; without faults at first.
    pub fn new(inner: Arc<dyn EvidenceStore>) -> Self {
        Self {
            inner,
            state: Mutex::default(),
        }
    }

    /// The next puts meet these faults, one each.
    pub fn fail_puts(&self, faults: impl IntoIterator<Item = PutFault>) {
        self.state.lock().faults.extend(faults);
    }

    /// After this many deletes more, every further one never answers, and deletes nothing.
    pub fn hang_deletes_after(&self, deletes: Option<u64>) {
        self.state.lock().hang_deletes = deletes;
    }

    /// Whether the whole store refuses everything.
    pub fn set_away(&self, away: bool) {
        self.state.lock().away = away;
    }

    /// Lets the puts arrive that were to land later, in their order.
    ///
    /// # Errors
    /// When the store below fails.
    pub async fn land(&self) -> Result<Vec<Created>, StoreError> {
        let under_way = std::mem::take(&mut self.state.lock().under_way);
        let mut answers = Vec::new();
        for (key, bytes, options) in under_way {
            answers.push(self.inner.create(&key, bytes, &options).await?);
        }
        Ok(answers)
    }

    /// Number of puts that were asked for.
    pub fn puts(&self) -> u64 {
        self.state.lock().puts
    }

    /// Number of bytes that were read from objects.
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    fn check(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        if self.state.lock().away {
            return Err(refused(operation, key));
        }
        Ok(())
    }
}

#[async_trait]
impl EvidenceStore for Faulty {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<Created, StoreError> {
        let fault = {
            let mut state = self.state.lock();
            state.puts += 1;
            state.faults.pop_front().unwrap_or(PutFault::None)
        };
        self.check("create", key)?;
        match fault {
            PutFault::None => self.inner.create(key, bytes, options).await,
            PutFault::Refused => Err(refused("create", key)),
            PutFault::LostBefore => Err(unknown("create", key)),
            PutFault::LostAfter => {
                self.inner.create(key, bytes, options).await?;
                Err(unknown("create", key))
            }
            PutFault::LandsLater => {
                let put = (key.to_owned(), bytes, options.clone());
                self.state.lock().under_way.push(put);
                Err(unknown("create", key))
            }
            PutFault::HangsBefore => std::future::pending().await,
            PutFault::HangsAfter => {
                self.inner.create(key, bytes, options).await?;
                std::future::pending().await
            }
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StoreError> {
        self.check("head", key)?;
        self.inner.head(key).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.check("get", key)?;
        let bytes = self.inner.get(key, range).await?;
        self.state.lock().bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        self.check("list", prefix)?;
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check("delete", key)?;
        let hangs = match &mut self.state.lock().hang_deletes {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        self.inner.delete(key).await
    }

    async fn locks(&self) -> Result<bool, StoreError> {
        self.inner.locks().await
    }

    async fn may_delete(&self) -> Result<bool, StoreError> {
        self.inner.may_delete().await
    }

    async fn protection(&self, key: &str) -> Result<Protection, StoreError> {
        self.check("protection", key)?;
        self.inner.protection(key).await
    }

    async fn hold(&self, key: &str, held: bool) -> Result<(), StoreError> {
        self.check("hold", key)?;
        self.inner.hold(key, held).await
    }

    async fn probe(&self) -> Result<Vec<String>, StoreError> {
        self.inner.probe().await
    }
}

fn refused(operation: &'static str, key: &str) -> StoreError {
    let source = "the store was told to refuse this".into();
    StoreError::Refused {
        operation,
        key: key.to_owned(),
        source,
    }
}

fn unknown(operation: &'static str, key: &str) -> StoreError {
    let source = "the answer was lost".into();
    StoreError::Unknown {
        operation,
        key: key.to_owned(),
        source,
    }
}
