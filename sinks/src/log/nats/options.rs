//! What can be chosen about an event log on NATS JetStream.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::error::OpenError;

/// What a message is beside the bytes of its event: headers and subject. 400 bytes with ordinary names.
pub(crate) const OVERHEAD_BYTES_MAX: usize = 4 << 10;

/// Publishes in the air at once, of one writer. A server refuses beyond 10,000 per stream by default, and several
/// gateways share a stream.
pub(crate) const PUBLISHES_MAX: usize = 2048;

/// Options of the logs of all classes on one NATS system. The stream of a class is `audit_<cluster>_<class>`, its
/// subjects are `audit.<cluster>.<class>.<shard>.<kind>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Servers, `nats://host:port` or `tls://host:port`; every server of a cluster should be named.
    pub urls: Vec<String>,
    /// How to say who we are.
    pub auth: Auth,
    /// Which servers to believe, and what to show them.
    pub tls: Tls,
    /// Name of the Kubernetes cluster, part of stream names and subjects: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub cluster: String,
    /// Number of shards, fixed when a stream is created. Eight by default: eight recorders can share the work.
    pub shards: NonZeroU32,
    /// Copies of every record, 1 to 5. Three by default; with one, an acknowledged event is as safe as the
    /// `sync_interval` of its one server, which then has to be `always`.
    pub replicas: NonZeroU32,
    /// How long records are kept at least. Seven days by default: longer than any outage of the recorder.
    pub age_max: Duration,
    /// The most bytes that a class may hold; beyond, appends are refused. 64 GiB by default; the server refuses to
    /// create a stream that it has no room for.
    pub bytes_max: u64,
    /// Whether a stream that does not exist is created.
    pub create_stream: bool,
    /// The most bytes of one event. 512 KiB by default: events are below 192 KiB, and a server takes 1 MiB.
    pub record_bytes_max: usize,
    /// The most bytes of events that a writer holds, whether in the air or waiting. 64 MiB by default.
    pub queue_bytes_max: usize,
    /// The most bytes that a writer has in the air, that is, sent and not acknowledged. 8 MiB by default: what a fast
    /// network carries in the time that a replicated write takes, and little to send again.
    pub inflight_bytes_max: usize,
    /// How long a shard may wait for an acknowledgement while none comes, or only later ones do, before the event
    /// counts as maybe written. 5 s by default: elections of a leader take up to that.
    pub ack_timeout: Duration,
    /// How long an event is sent again before its append fails; at least twice `ack_timeout`. 15 s by default.
    pub append_timeout: Duration,
    /// How long the server remembers event ids, so that an event sent again is stored once. Ten minutes by default,
    /// far longer than `append_timeout`.
    pub duplicate_window: Duration,
    /// How long it may take to connect, and how long any request but an append may take. 5 s by default.
    pub request_timeout: Duration,
    /// Prefix of the subjects of answers, for accounts that restrict what may be subscribed. `_INBOX` by default.
    pub inbox_prefix: String,
}

/// How to say who we are. Files are read again for every connection, so they may be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// By the client certificate, or not at all.
    #[default]
    None,
    /// A token, in a file.
    Token {
        /// Where it is.
        file: PathBuf,
    },
    /// User and password.
    Password {
        /// Name of the user.
        user: String,
        /// Where the password is.
        file: PathBuf,
    },
    /// An NKey.
    Nkey {
        /// Where its seed (`SU…`) is.
        file: PathBuf,
    },
    /// A user's JWT and the seed of its NKey, as `nsc` writes them.
    Credentials {
        /// The `.creds` file.
        file: PathBuf,
    },
}

/// TLS of the connections. Used when a URL says `tls://`, the server asks for it, or anything is set here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to believe, as PEM; those of the system when there is none.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key, as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// TLS before the server says anything (`handshake_first` on the server).
    pub handshake_first: bool,
}

impl Options {
    /// More shards than this are a mistake.
    const SHARDS_MAX: u32 = 256;
    const REPLICAS_MAX: u32 = 5;

    /// Options for these servers and this cluster, the rest by default.
    pub fn new(urls: Vec<String>, cluster: String) -> Self {
        Self {
            urls,
            auth: Auth::default(),
            tls: Tls::default(),
            cluster,
            shards: NonZeroU32::new(8).expect("eight is not zero"),
            replicas: NonZeroU32::new(3).expect("three is not zero"),
            age_max: Duration::from_secs(7 * 24 * 60 * 60),
            bytes_max: 64 << 30,
            record_bytes_max: 512 << 10,
            queue_bytes_max: 64 << 20,
            inflight_bytes_max: 8 << 20,
            ack_timeout: Duration::from_secs(5),
            append_timeout: Duration::from_secs(15),
            create_stream: true,
            duplicate_window: Duration::from_secs(10 * 60),
            request_timeout: Duration::from_secs(5),
            inbox_prefix: "_INBOX".to_owned(),
        }
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// Which option cannot work, and what it must be.
    pub fn check(&self) -> Result<(), OpenError> {
        let wrong = |name, what| Err(OpenError::Option { name, what });
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        if self.urls.is_empty() {
            return wrong("urls", "must name a server");
        }
        if self.urls.iter().any(|url| url.contains('@')) {
            return wrong(
                "urls",
                "must not hold a user or password; they belong into auth",
            );
        }
        if self.cluster.is_empty() || self.cluster.len() > 64 || !self.cluster.bytes().all(fits) {
            return wrong(
                "cluster",
                "must be 1 to 64 characters of A-Z a-z 0-9 _ -, since it is part of subjects",
            );
        }
        if self.shards.get() > Self::SHARDS_MAX {
            return wrong("shards", "must be at most 256");
        }
        if self.replicas.get() > Self::REPLICAS_MAX {
            return wrong("replicas", "must be at most 5");
        }
        if self.append_timeout < self.ack_timeout * 2 {
            return wrong("append_timeout", "must be at least twice ack_timeout");
        }
        if self.duplicate_window < self.append_timeout * 2 {
            return wrong("duplicate_window", "must be at least twice append_timeout");
        }
        if self.age_max < self.duplicate_window {
            return wrong("age_max", "must be at least duplicate_window");
        }
        if i64::try_from(self.bytes_max).is_err() {
            return wrong("bytes_max", "must be below 8 EiB");
        }
        if self.record_bytes_max > 8 << 20 {
            return wrong("record_bytes_max", "must be at most 8 MiB");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(vec!["nats://localhost".to_owned()], "prod-1".to_owned())
    }

    #[test]
    fn the_defaults_can_work() {
        options().check().unwrap();
    }

    #[test]
    fn a_cluster_that_is_not_one_token_of_a_subject_is_refused() {
        for cluster in ["", "a.b", "a b", "*", ">", "ä", &"x".repeat(65)] {
            let mut options = options();
            options.cluster = cluster.to_owned();
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains("cluster"), "{error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let mut options = options();
        options.urls = vec!["nats://alice:secret@localhost".to_owned()];
        let error = options.check().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn ids_are_remembered_longer_than_events_are_sent_again() {
        let mut options = options();
        options.duplicate_window = options.append_timeout;
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains("duplicate_window"), "{error}");
    }
}
