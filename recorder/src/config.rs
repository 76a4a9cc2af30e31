//! What a recorder can be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::{Class, ProducerId};
use hoop_sinks::store::LockMode;

use crate::share::Share;

use crate::transparency::Signing;

/// Bytes of events after which a session file is written: large enough for good compression and few files, small
/// enough that three times as much fits into a small machine.
pub const FLUSH_BYTES: usize = 128 * 1024 * 1024;

/// How long the first record of a file waits: what a reader of files alone is behind at most.
pub const FLUSH_AGE: Duration = Duration::from_secs(5 * 60);

/// How long it waits while there are only heartbeats, so that an idle gateway does not make a file every five minutes.
pub const FLUSH_IDLE_AGE: Duration = Duration::from_secs(3600);

/// How long a hole in a sequence is held open for a resend, on the clock of the log. Gateways resend within seconds.
pub const HOLE_OPEN_TIME: Duration = Duration::from_secs(120);

/// For how many positions of the log a hole is held open at most: what a busy shard takes in a few minutes.
pub const HOLE_OPEN_POSITIONS: u64 = 1_000_000;

/// How long a stopping recorder tries to commit what it holds. The log keeps what it could not.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(20);

/// How often files whose term is over are looked for. Terms are days, so an hour more does not matter.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// How long another recorder's shard may wait to be recorded before it is taken over: three files later than it should.
pub const TAKEOVER_AFTER: Duration = Duration::from_secs(15 * 60);

/// How long a day has to be over before it is sealed: long enough for clocks that disagree and for a recorder that was
/// away for a while, short enough that the morning's questions meet few large objects.
pub const SEAL_AFTER: Duration = Duration::from_secs(3 * 3600);

/// How long the small files of a sealed day stay, so that whoever was reading them is done.
pub const SEAL_GRACE: Duration = Duration::from_secs(24 * 3600);

/// How often days to seal, and small files to delete, are looked for.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(1800);

/// How one recorder works.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Kubernetes cluster, for the events that the recorder makes.
    pub cluster: String,
    /// Name of this recorder, for the same. Two recorders never share one.
    pub recorder_id: ProducerId,
    /// Which shards are its own. Those of others it records only while nobody does.
    pub share: Share,
    /// How long another recorder's shard may wait to be recorded before it is taken over.
    pub takeover_after: Duration,
    /// When a file is written.
    pub flush: FlushLimits,
    /// How long holes in sequences are held open.
    pub holes: HoleLimits,
    /// Term of each class, counted from the end of the day on which the log took a file's events. A class without a
    /// term is kept for ever.
    pub terms: BTreeMap<Class, Duration>,
    /// How new objects of a class are locked until its term is over. The store must lock, if there is one; a class
    /// without a term is not locked.
    pub locks: BTreeMap<Class, LockMode>,
    /// How often files whose term is over are looked for.
    pub retention_interval: Duration,
    /// How finished days are sealed.
    pub seal: SealConfig,
    /// How long a stopping recorder tries to commit what it holds.
    pub shutdown_wait: Duration,
    /// What the transparency log is signed with; without it, none is written.
    pub signing: Option<Arc<Signing>>,
}

/// When a session file is written; whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushLimits {
    /// Bytes of buffered events.
    pub bytes: usize,
    /// Age of the first record.
    pub age: Duration,
    /// Age of the first record while there are only heartbeats.
    pub idle_age: Duration,
}

/// How finished days are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealConfig {
    /// Whether they are at all.
    pub enabled: bool,
    /// How long a day has to be over.
    pub after: Duration,
    /// How long its small files stay after that.
    pub grace: Duration,
    /// How often work is looked for.
    pub interval: Duration,
}

/// How long a hole in a sequence is held open; whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoleLimits {
    /// Time, by the clock of the log.
    pub time: Duration,
    /// Positions of the log.
    pub positions: u64,
}

impl Config {
    /// The defaults, for a cluster and a recorder of these names.
    pub fn new(cluster: &str, recorder_id: ProducerId) -> Self {
        Self {
            cluster: cluster.to_owned(),
            recorder_id,
            share: Share::ALL,
            takeover_after: TAKEOVER_AFTER,
            flush: FlushLimits {
                bytes: FLUSH_BYTES,
                age: FLUSH_AGE,
                idle_age: FLUSH_IDLE_AGE,
            },
            holes: HoleLimits {
                time: HOLE_OPEN_TIME,
                positions: HOLE_OPEN_POSITIONS,
            },
            terms: BTreeMap::new(),
            locks: BTreeMap::new(),
            retention_interval: RETENTION_INTERVAL,
            seal: SealConfig::default(),
            shutdown_wait: SHUTDOWN_WAIT,
            signing: None,
        }
    }
}

impl Default for SealConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            after: SEAL_AFTER,
            grace: SEAL_GRACE,
            interval: SEAL_INTERVAL,
        }
    }
}
