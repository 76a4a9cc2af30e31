//! Encrypting content, in classes whose content can be erased.
//!
//! A session gets one key for all of its encrypted content at this gateway, made with the first request whose content is
//! recorded into such a class. The key is kept, wrapped, in the key store before anything that it encrypts is written: so
//! a request pays for the store once in a session, and what is on the log can be read by whoever may. Requests of one
//! session that come at the same time wait for the same put.
//!
//! Where no key can be kept, nothing is written in the clear instead: bodies are recorded as omitted, and the request is
//! refused as when the log takes no events, unless its rule says `best_effort`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hoop_schema::body::{Body, CHUNK_BYTES_MAX, CHUNK_PLAIN_BYTES_MAX, Part, Piece};
use hoop_schema::body::{TextEncoding, cut, cut_plain};
use hoop_schema::encryption::{ContentKey, Encryption, Place};
use hoop_schema::kinds::request::BodyOf;
use hoop_schema::{Class, SessionId};
use hoop_sinks::keys::{KeyError, KeyMaker};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::lanes::Lanes;
use super::sessions::Session;
use super::stream;

/// The longest that one key is being made. A store that takes longer has failed, so that those who come after try again.
const MAKING_MAX: Duration = Duration::from_secs(30);

/// For so long a failure holds for others who want the same key: a store that is down is not asked by every request.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// The longest that a request waits for a key whose rule does without its record.
const BEST_EFFORT_WAIT_MAX: Duration = Duration::from_secs(1);

/// Which content is encrypted, and how its keys are made.
#[derive(Debug, Clone)]
pub struct ContentEncryption {
    /// The classes whose content is encrypted.
    pub classes: Vec<Class>,
    /// Makes the keys.
    pub keys: KeyMaker,
}

/// Why there is no key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoKey {
    /// It could not be made or kept.
    #[error("no key for the content of the session could be kept")]
    Failed(#[source] Arc<KeyError>),
    /// The key store does not answer in time.
    #[error("the key store did not answer in time")]
    TooLate,
}

/// A session's key, and what it has encrypted so far.
#[derive(Debug)]
pub(super) struct SessionKey {
    key: ContentKey,
    next: AtomicU64,
}

/// The place of a session's key. Most sessions need none, and then it takes no more than this.
#[derive(Debug, Default)]
pub(super) struct KeySlot(OnceLock<Box<Making>>);

#[derive(Debug, Default)]
struct Making {
    key: OnceCell<Arc<SessionKey>>,
    failed: Mutex<Option<(Instant, NoKey)>>,
}

/// How the content of one request is written.
#[derive(Debug, Clone, Default)]
pub(super) enum Secrecy {
    /// As it is.
    #[default]
    Open,
    /// Encrypted.
    Key(Arc<SessionKey>),
    /// Not at all: there is no key.
    Lost,
}

impl SessionKey {
    fn encrypt(&self, audit_id: &str, place: Place, content: &[u8]) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.key.encrypt(number, audit_id, place, content)
    }
}

/// The key of a session; made by the first who wants it.
///
/// # Errors
/// When there is none within `wait_max`; the next request tries again.
pub(super) async fn key_of(
    lanes: &Arc<Lanes>,
    session: &Arc<Session>,
    wait_max: Duration,
) -> Result<Arc<SessionKey>, NoKey> {
    let making = session.key.0.get_or_init(Box::default);
    if let Some(key) = making.key.get() {
        return Ok(Arc::clone(key));
    }
    // A task of its own: whoever hangs up leaves the key to those who come after, and not one more in the store.
    let (lanes, session) = (Arc::clone(lanes), Arc::clone(session));
    let runtime = lanes.runtime().clone();
    let task = runtime.spawn(async move {
        let making = session.key.0.get_or_init(Box::default);
        let made = making
            .key
            .get_or_try_init(|| making.make(&lanes, session.id));
        made.await.cloned()
    });
    match tokio::time::timeout(wait_max, task).await {
        Ok(Ok(made)) => made,
        // The task ends early only with the runtime.
        Ok(Err(_)) | Err(_) => Err(NoKey::TooLate),
    }
}

impl Making {
    async fn make(&self, lanes: &Lanes, session_id: SessionId) -> Result<Arc<SessionKey>, NoKey> {
        if let Some((at, why)) = &*self.failed.lock()
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(why.clone());
        }
        let Some(encryption) = lanes.encryption() else {
            return Err(NoKey::TooLate);
        };
        let made = tokio::time::timeout(MAKING_MAX, encryption.keys.make(session_id)).await;
        let why = match made {
            Ok(Ok(key)) => {
                lanes.metrics().keys_made.inc();
                let next = AtomicU64::new(0);
                return Ok(Arc::new(SessionKey { key, next }));
            }
            Ok(Err(error)) => NoKey::Failed(Arc::new(error)),
            Err(_) => NoKey::TooLate,
        };
        lanes.metrics().keys_failed.inc();
        tracing::error!(
            error = &why as &dyn std::error::Error,
            "no key for the content of a session could be kept; its requests are refused until one can"
        );
        *self.failed.lock() = Some((Instant::now(), why.clone()));
        Err(why)
    }
}

/// How long somebody waits for a key.
pub(super) fn wait_max(best_effort: bool, intent_wait_max: Duration) -> Duration {
    match best_effort {
        true => intent_wait_max.min(BEST_EFFORT_WAIT_MAX),
        false => intent_wait_max,
    }
}

impl Secrecy {
    /// What events say of encrypted content.
    pub(super) fn encryption(&self) -> Option<Encryption> {
        match self {
            Self::Key(key) => Some(key.key.encryption()),
            Self::Open | Self::Lost => None,
        }
    }

    /// A body for its event, and the pieces that do not fit or belong `apart`.
    pub(super) fn body(
        &self,
        (audit_id, of): (&str, BodyOf),
        recorded: &[u8],
        total: u64,
        media_type: Option<String>,
        apart: bool,
    ) -> (Body, Vec<Piece>) {
        match self {
            Self::Open if apart => Body::record_apart(recorded, total, media_type),
            Self::Open => Body::record(recorded, total, media_type),
            Self::Lost => (Body::omitted(total, media_type), Vec::new()),
            Self::Key(key) => Body::record_encrypted(
                recorded,
                total,
                media_type,
                apart,
                key.key.encryption(),
                |part, piece| {
                    let place = match part {
                        Part::Whole => Place::Body(of),
                        Part::Piece { index, offset } => Place::Chunk { of, index, offset },
                    };
                    key.encrypt(audit_id, place, piece)
                },
            ),
        }
    }

    /// Pieces of a stream that begin at `place`, as they are written.
    pub(super) fn stream(&self, audit_id: &str, place: stream::Place, bytes: &[u8]) -> Vec<Piece> {
        let key = match self {
            Self::Open => return cut(bytes, CHUNK_BYTES_MAX),
            Self::Lost => return Vec::new(),
            Self::Key(key) => key,
        };
        cut_plain(bytes, CHUNK_PLAIN_BYTES_MAX)
            .map(|(offset, piece)| Piece {
                offset,
                encoding: TextEncoding::Encrypted,
                content: key.encrypt(
                    audit_id,
                    Place::Stream {
                        channel: place.channel,
                        connection: place.connection,
                        offset: place.offset + offset,
                    },
                    piece,
                ),
            })
            .collect()
    }
}
