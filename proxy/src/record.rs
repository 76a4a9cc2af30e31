//! From requests to events: what the gateway writes onto the log.
//!
//! One [`Journal`] per process. The path of a request through it:
//!
//! ```text
//! Journal::connection(peer)            once per accepted connection; dropping it ends the connection's sessions
//!   Journal::open(connection, …)       -> Exchange: joins or begins the session; nothing is written yet
//!     Exchange::intent(…).await        durable when it returns; on an error the request must be refused
//!     Exchange::answer(head)           -> AnswerRecorder: captures the masked body, then writes one outcome
//!     Exchange::stream(head, channel)  -> StreamRecorder: writes stream.data while it runs, then the outcome
//! ```
//!
//! # Promises
//! - **Durable before effect.** [`Exchange::intent`] returns `Ok` only when the log has acknowledged the intent and
//!   every chunk of its body (or when the rule said `best_effort`).
//! - **One outcome per intent.** Dropping any of the three handles writes the outcome, so a client that hangs up, or
//!   a task that is cancelled, cannot make one disappear. Events on their way belong to tasks of their own.
//! - **Every loss is a visible gap.** Each event is numbered, hashed and handed to the log under one lock per (class,
//!   shard), so the order in the log is the order of sequences. An event that is refused or does not fit into memory
//!   keeps its number, and a `gap` event names its number, strand and hash as soon as the log takes events again.
//! - **Bounded.** Events under way share one budget of bytes ([`Limits::bytes_in_flight_max`]); sessions, remembered
//!   losses and captured bodies have limits of their own. What does not fit is said, never trimmed silently.
//! - **No content in the clear where it is to be encrypted.** The key is kept before the first event that uses it, and
//!   without a key there is no content ([`ContentEncryption`]).
//!
//! Bodies arrive masked; this module never sees a secret. It leaves policy, masking and HTTP to the gateway.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hoop_schema::kinds::integrity::PolicyChanged;
use hoop_schema::kinds::request::RequestAttributes;
use hoop_schema::kinds::session::AccessEnded;
use hoop_schema::{Class, ProducerId, Timestamp};
use hoop_sinks::log::{AppendError, EventWriter};
use prometheus_client::registry::Registry;

mod answer;
mod budget;
mod delivery;
mod exchange;
mod gaps;
mod heartbeat;
mod lane;
mod lanes;
mod metrics;
mod secrecy;
mod sessions;
mod stream;

pub use answer::{AnswerHead, AnswerRecorder, End};
pub use exchange::{Exchange, MaskedBody, NewIntent, Placement};
pub use secrecy::{ContentEncryption, NoKey};
pub use sessions::Connection;
pub use stream::{Flow, Place, StreamRecorder};

use lanes::Lanes;
use sessions::Sessions;

/// The clock that events take their times from. Order is kept by sequence, so it may run backwards.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(|| Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()))
}

/// Who writes, and how much of this may be under way.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Kubernetes cluster, 1 to [`CLUSTER_BYTES_MAX`] bytes.
    pub cluster: String,
    /// Name of this gateway, stable over restarts and different from every other gateway's.
    pub producer_id: ProducerId,
    /// The class that takes heartbeats and notices of the gateway itself. One of the logs must be of this class.
    pub standard: Class,
    /// Which content is encrypted; `None` for none.
    pub encryption: Option<ContentEncryption>,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// Of this gateway, with the usual bounds.
    pub fn new(
        cluster: String,
        producer_id: ProducerId,
        encryption: Option<ContentEncryption>,
    ) -> Self {
        Self {
            cluster,
            producer_id,
            standard: Class::standard(),
            encryption,
            limits: Limits::default(),
        }
    }
}

/// The longest cluster name, in bytes: that of a DNS name.
pub const CLUSTER_BYTES_MAX: usize = 253;

/// Bounds of the journal.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most of a response body that is recorded, in bytes. Default [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// The most that captured bodies and events without an answer from the log may take together, in bytes.
    /// Default [`BYTES_IN_FLIGHT_MAX`].
    pub bytes_in_flight_max: usize,
    /// Sessions kept open; beyond it the one that has been idle for longest ends early. Default [`SESSIONS_MAX`].
    pub sessions_max: usize,
    /// Losses remembered per shard until a gap has told of them; beyond it requests are refused before they are
    /// numbered. Default [`LOSSES_MAX`].
    pub losses_max: usize,
    /// How long an intent waits for the log. Default [`INTENT_WAIT_MAX`].
    pub intent_wait_max: Duration,
}

/// 1 MiB: what the API server takes as one object at most is 3 MiB, and nearly all answers are far below 1 MiB.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// 64 MiB: some 30,000 requests of 2 KiB while the log is slow, and little beside the gateway's own memory.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// 100,000: a day of a large company's kubectl invocations within their 15 idle minutes, at less than 50 MB.
pub const SESSIONS_MAX: usize = 100_000;

/// 16,384 losses of some 100 bytes each per shard.
pub const LOSSES_MAX: usize = 16_384;

/// 10 s: kubectl gives up after 30, and people well before.
pub const INTENT_WAIT_MAX: Duration = Duration::from_secs(10);

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            bytes_in_flight_max: BYTES_IN_FLIGHT_MAX,
            sessions_max: SESSIONS_MAX,
            losses_max: LOSSES_MAX,
            intent_wait_max: INTENT_WAIT_MAX,
        }
    }
}

/// Why a journal cannot start. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster has no name, or one that is too long.
    #[error("the cluster's name has {0} bytes; give it 1 to {CLUSTER_BYTES_MAX}")]
    ClusterName(usize),
    /// Two logs hold the same class.
    #[error("class {0} has two logs; give each class one")]
    TwoLogs(Class),
    /// A class that is needed has no log.
    #[error("class {0} has no log; add it to the classes of the log")]
    NoLog(Class),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    NoRandomness(#[source] rand::rngs::SysError),
}

/// Why a request was not recorded. It must be refused: 503 and `Cause::LogUnavailable`, but for `TooLong` and
/// `NoLog`, which say so.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The log did not acknowledge the intent in time, or refused it.
    #[error("the log does not take events at the moment")]
    Unavailable(#[source] Option<Arc<AppendError>>),
    /// There is no key to encrypt the request's content with. What is recorded of it has none.
    #[error("the content of the request cannot be encrypted")]
    NoKey(#[source] NoKey),
    /// The memory for events under way is full.
    #[error("too many events wait for the log")]
    Overloaded,
    /// The request's attributes alone do not fit into an event: 431.
    #[error("the request's attributes are too long to be recorded ({0} bytes or more)")]
    TooLong(usize),
    /// The rule names a class that has no log: a mistake in the configuration, found when policy is loaded.
    #[error("class {0} has no log; add it to the classes of the log")]
    NoLog(Class),
}

/// Writes the events of one gateway. See the module.
#[derive(Debug)]
pub struct Journal {
    lanes: Arc<Lanes>,
    sessions: Arc<Sessions>,
    connections: AtomicU64,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Journal {
    /// Starts writing under a new epoch, and the tasks that send heartbeats and end idle sessions. Must be called
    /// within a Tokio runtime; events are delivered by tasks on it. `logs` has one log per class.
    ///
    /// # Errors
    /// When the configuration does not fit together.
    pub fn start(
        config: Config,
        logs: Vec<Arc<dyn EventWriter>>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let limits = config.limits.clone();
        let lanes = Lanes::build(config, logs, clock, metrics::Metrics::register(registry))?;
        let sessions = Sessions::new(Arc::clone(&lanes), limits.sessions_max);
        let tasks = vec![
            lanes.spawn(heartbeat::run(Arc::downgrade(&lanes))),
            lanes.spawn(sessions::sweep(Arc::downgrade(&sessions))),
        ];
        Ok(Arc::new(Self {
            lanes,
            sessions,
            connections: AtomicU64::new(0),
            tasks,
        }))
    }

    /// Numbers an accepted connection. When the last clone of the handle is dropped, the sessions that hang on it end
    /// as soon as no request of theirs is open.
    pub fn connection(&self, source_ip: IpAddr) -> Connection {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Connection::new(Arc::clone(&self.sessions), number, source_ip)
    }

    /// Opens the record of one request: joins its session, or begins one. Nothing is written before
    /// [`Exchange::intent`]. `kubectl_session` is the `Kubectl-Session` header; it counts only for a caller who is
    /// identified, and only up to [`hoop_schema::session::KUBECTL_SESSION_BYTES_MAX`].
    pub fn open(
        &self,
        connection: &Connection,
        request: Arc<RequestAttributes>,
        kubectl_session: Option<&str>,
    ) -> Exchange {
        let ticket = self.sessions.open(connection, &request, kubectl_session);
        Exchange::new(Arc::clone(&self.lanes), ticket, request)
    }

    /// Whether there is a log for this class: every class that policy names must have one.
    pub fn has_class(&self, class: &Class) -> bool {
        self.lanes.log_of(class).is_some()
    }

    /// Records that another policy is in force, or was refused.
    pub fn policy_changed(&self, change: PolicyChanged) {
        self.lanes.notice(&change.into());
    }

    /// Records that somebody's access was ended.
    pub fn access_ended(&self, ended: AccessEnded) {
        self.lanes.notice(&ended.into());
    }

    /// The epoch of this start.
    pub fn producer_epoch(&self) -> u64 {
        self.lanes.producer_epoch()
    }

    /// Whether an intent written now is expected to become durable: the gateway's readiness.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), RecordError> {
        self.lanes.ready().await
    }

    /// Ends all sessions and waits, up to `limit`, until the log has answered for every event; then closes the logs.
    /// Call it when no connection is served any more. Returns whether everything was acknowledged.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        for task in &self.tasks {
            task.abort();
        }
        let deadline = tokio::time::Instant::now() + limit;
        self.sessions.end_all();
        let quiet = tokio::time::timeout_at(deadline, self.lanes.settle()).await;
        self.lanes.end_own_sessions();
        let settled = tokio::time::timeout_at(deadline, self.lanes.settle()).await;
        let closed = tokio::time::timeout_at(deadline, self.lanes.close()).await;
        quiet.is_ok() && settled.is_ok() && closed.is_ok()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
