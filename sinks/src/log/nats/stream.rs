//! The stream of a class: its name, its subjects, its settings, and who it is.
//!
//! Metadata, written when a stream is created: `hoop-source`, four random bytes in hexadecimal, which is the name of
//! the log for ever (the time of creation is not: servers have changed it in recovery), and `hoop-shards`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use async_nats::Client;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode, context::ContextBuilder};
use hoop_schema::{Class, Shard, SourceId};
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::OpenError;
use super::options::{OVERHEAD_BYTES_MAX, Options};

pub(crate) const SOURCE_KEY: &str = "hoop-source";
pub(crate) const SHARDS_KEY: &str = "hoop-shards";

/// The oldest server that may hold a log: before, an id that was seen and not stored could block its event after a
/// change of leader, and there were no batches of direct gets.
const SERVER_MIN: (i64, i64, i64) = (2, 11, 0);

/// How an unlimited count is written.
const UNLIMITED: i64 = -1;

/// Names of one class's log on NATS.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) stream: Arc<str>,
    /// `audit.<cluster>.<class>`.
    prefix: String,
}

impl Names {
    pub(crate) fn new(cluster: &str, class: &Class) -> Self {
        Self {
            stream: format!("audit_{cluster}_{class}").into(),
            prefix: format!("audit.{cluster}.{class}"),
        }
    }

    /// All subjects of the stream.
    pub(crate) fn subjects(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// All subjects of a shard.
    pub(crate) fn of_shard(&self, shard: Shard) -> String {
        format!("{}.{shard}.>", self.prefix)
    }

    /// The subject of an event.
    pub(crate) fn of_event(&self, shard: u32, kind: &str) -> String {
        format!("{}.{}.{kind}", self.prefix, Shard(shard))
    }
}

/// The API of JetStream, on a connection.
pub(crate) fn context(client: Client, options: &Options) -> Context {
    ContextBuilder::new()
        .timeout(options.request_timeout)
        .build(client)
}

/// Finds the stream, or creates it, checks that no setting would lose events, and tells which log it is.
pub(crate) async fn open(
    client: &Client,
    names: &Names,
    options: &Options,
) -> Result<SourceId, OpenError> {
    check_server(client, options)?;
    let context = context(client.clone(), options);
    let failed = |what, source: crate::log::Source| OpenError::Request {
        what,
        stream: names.stream.to_string(),
        source,
    };
    let mut info = match context.get_stream(&*names.stream).await {
        Ok(stream) => Some(stream.cached_info().clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(said) if said.code() == 404 => None,
            _ => return Err(failed("find", error.into())),
        },
    };
    if info.is_none() && !options.create_stream {
        return Err(OpenError::Missing {
            stream: names.stream.to_string(),
        });
    }
    if info.is_none() {
        info = match context
            .create_stream(wanted(names, options, new_source()))
            .await
        {
            Ok(stream) => {
                tracing::info!(
                    stream = &*names.stream,
                    "created the stream of an event log"
                );
                Some(stream.cached_info().clone())
            }
            // Somebody else has created it in between, as another source.
            Err(error) if is_taken(&error.kind()) => None,
            Err(error) => return Err(failed("create", error.into())),
        };
    }
    let info = match info {
        Some(info) => info,
        None => match context.get_stream(&*names.stream).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) => return Err(failed("find", error.into())),
        },
    };
    let source = check(&info.config, names, options)?;
    if info.config.num_replicas == 1 {
        tracing::warn!(
            stream = &*names.stream,
            "the stream has one replica: set `sync_interval: always` on its server, or power cuts lose acknowledged events"
        );
    }
    Ok(source)
}

/// Finds a stream that is there, and tells which log it is and how many shards it has.
pub(crate) async fn find(
    client: &Client,
    names: &Names,
    options: &Options,
) -> Result<(SourceId, NonZeroU32), OpenError> {
    check_version(client)?;
    let stream = names.stream.to_string();
    let found = context(client.clone(), options)
        .get_stream(&*names.stream)
        .await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return Err(match error.kind() {
                GetStreamErrorKind::JetStream(said) if said.code() == 404 => {
                    OpenError::Missing { stream }
                }
                _ => OpenError::Request {
                    what: "find",
                    stream,
                    source: error.into(),
                },
            });
        }
    };
    let config = &found.cached_info().config;
    let shards = config.metadata.get(SHARDS_KEY);
    let shards = shards.and_then(|text| text.parse().ok());
    match (source_of(config), shards) {
        (Some(source), Some(shards)) => Ok((source, shards)),
        _ => Err(OpenError::Request {
            what: "read",
            stream,
            source: "its metadata does not say which log it is, so it is none of ours".into(),
        }),
    }
}

/// The source that a stream names, if it names one.
pub(crate) fn source_of(config: &Config) -> Option<SourceId> {
    config.metadata.get(SOURCE_KEY)?.parse().ok()
}

fn is_taken(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

fn check_version(client: &Client) -> Result<(), OpenError> {
    let (major, minor, patch) = SERVER_MIN;
    if client.is_server_compatible(major, minor, patch) {
        return Ok(());
    }
    let server = client.server_info();
    let what = format!(
        "it is version {}; upgrade it to {major}.{minor}.{patch} or later",
        server.version
    );
    Err(OpenError::Server {
        server: server.server_name.clone(),
        what,
    })
}

fn check_server(client: &Client, options: &Options) -> Result<(), OpenError> {
    check_version(client)?;
    let server = client.server_info();
    let unfit = |what| OpenError::Server {
        server: server.server_name.clone(),
        what,
    };
    let needed = options.record_bytes_max + OVERHEAD_BYTES_MAX;
    if server.max_payload < needed {
        let what = format!(
            "it takes messages of {} bytes, and events have up to {needed} with their headers; set `max_payload: {needed}` in its configuration, and reload it",
            server.max_payload
        );
        return Err(unfit(what));
    }
    Ok(())
}

/// What a new stream is like.
pub(crate) fn wanted(names: &Names, options: &Options, source: SourceId) -> Config {
    let metadata = [
        (SOURCE_KEY, source.to_string()),
        (SHARDS_KEY, options.shards.to_string()),
    ];
    Config {
        name: names.stream.to_string(),
        description: Some("audit events of hoop".to_owned()),
        subjects: vec![names.subjects()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: options.replicas.get() as usize,
        max_age: options.age_max,
        max_bytes: i64::try_from(options.bytes_max).unwrap_or(i64::MAX),
        max_messages: UNLIMITED,
        max_messages_per_subject: UNLIMITED,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: options.duplicate_window,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        metadata: metadata
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect::<HashMap<_, _>>(),
        ..Config::default()
    }
}

/// Checks a stream that is there, and tells its source.
pub(crate) fn check(
    config: &Config,
    names: &Names,
    options: &Options,
) -> Result<SourceId, OpenError> {
    let stream = || names.stream.to_string();
    let mut differences = Differences::default();
    unmendable(config, names, &mut differences);
    mendable(config, options, &mut differences);
    let shards = config.metadata.get(SHARDS_KEY).map(|text| text.parse());
    let source = source_of(config);
    if let (Some(Ok(found)), wanted) = (&shards, options.shards.get())
        && *found != wanted
    {
        return Err(OpenError::Shards {
            stream: stream(),
            found: *found,
            wanted,
        });
    }
    let (Some(Ok(_)), Some(source)) = (shards, source) else {
        differences
            .wrong
            .push("its metadata does not say which log it is".to_owned());
        differences
            .flags
            .push(format!("--metadata={SOURCE_KEY}={}", new_source()));
        differences
            .flags
            .push(format!("--metadata={SHARDS_KEY}={}", options.shards));
        return Err(differences.error(names));
    };
    if differences.wrong.is_empty() {
        Ok(source)
    } else {
        Err(differences.error(names))
    }
}

/// What is wrong with a stream, and what would mend it.
#[derive(Debug, Default)]
struct Differences {
    wrong: Vec<String>,
    flags: Vec<String>,
    /// Whether something is wrong that the server does not let anybody change.
    for_ever: bool,
}

impl Differences {
    fn mend(&mut self, is_wrong: bool, what: String, flag: String) {
        if is_wrong {
            self.wrong.push(what);
            self.flags.push(flag);
        }
    }

    fn never(&mut self, is_wrong: bool, what: String) {
        if is_wrong {
            self.wrong.push(what);
            self.for_ever = true;
        }
    }

    fn error(self, names: &Names) -> OpenError {
        let stream = &names.stream;
        let mend = if self.for_ever {
            format!(
                "keep what it holds and remove it, and it is created anew: nats stream backup {stream} {stream}.backup && nats stream rm {stream}"
            )
        } else {
            format!(
                "mend it: nats stream edit {stream} {}",
                self.flags.join(" ")
            )
        };
        OpenError::Settings {
            stream: stream.to_string(),
            wrong: self.wrong,
            mend,
        }
    }
}

fn unmendable(config: &Config, names: &Names, differences: &mut Differences) {
    differences.never(
        config.storage != StorageType::File,
        "it is kept in memory".to_owned(),
    );
    differences.never(
        config.retention != RetentionPolicy::Limits,
        format!(
            "its retention is {:?} and not limits, so readers would remove what they have read",
            config.retention
        )
        .to_lowercase(),
    );
    differences.never(
        config.persist_mode == Some(PersistenceMode::Async),
        "its persist mode is async, so it acknowledges what it has not stored".to_owned(),
    );
    differences.never(config.sealed, "it is sealed".to_owned());
    differences.never(
        config.mirror.is_some() || config.sources.as_ref().is_some_and(|s| !s.is_empty()),
        "it is a copy of other streams".to_owned(),
    );
    differences.never(
        config.allow_message_ttl,
        "messages may limit their own life (allow_msg_ttl)".to_owned(),
    );
    let subjects = names.subjects();
    differences.mend(
        config.subjects != [subjects.as_str()],
        format!("its subjects are {}", config.subjects.join(", ")),
        format!("--subjects={subjects}"),
    );
    differences.mend(
        config.subject_transform.is_some(),
        "it renames subjects".to_owned(),
        "--no-transform".to_owned(),
    );
}

fn mendable(config: &Config, options: &Options, differences: &mut Differences) {
    let wanted = options.replicas.get() as usize;
    differences.mend(
        config.num_replicas < wanted,
        format!("it has {} replicas and not {wanted}", config.num_replicas),
        format!("--replicas={wanted}"),
    );
    differences.mend(
        config.discard != DiscardPolicy::New,
        "when full it drops old records instead of refusing new ones".to_owned(),
        "--discard=new".to_owned(),
    );
    differences.mend(
        config.discard_new_per_subject,
        "it limits each subject on its own".to_owned(),
        "--no-discard-per-subject".to_owned(),
    );
    differences.mend(
        !config.deny_delete,
        "records can be deleted".to_owned(),
        "--deny-delete".to_owned(),
    );
    differences.mend(
        !config.deny_purge,
        "it can be purged".to_owned(),
        "--deny-purge".to_owned(),
    );
    differences.mend(
        config.allow_rollup,
        "a message can replace others (roll-up)".to_owned(),
        "--no-allow-rollup".to_owned(),
    );
    differences.mend(
        !config.allow_direct,
        "it does not allow direct gets".to_owned(),
        "--allow-direct".to_owned(),
    );
    differences.mend(
        config.no_ack,
        "it does not acknowledge".to_owned(),
        "--ack".to_owned(),
    );
    limits(config, options, differences);
}

fn limits(config: &Config, options: &Options, differences: &mut Differences) {
    let seconds = options.age_max.as_secs();
    differences.mend(
        !config.max_age.is_zero() && config.max_age < options.age_max,
        format!(
            "it keeps records for {} s and not {seconds}",
            config.max_age.as_secs()
        ),
        format!("--max-age={seconds}s"),
    );
    let bytes = i64::try_from(options.bytes_max).unwrap_or(i64::MAX);
    differences.mend(
        config.max_bytes > 0 && config.max_bytes < bytes,
        format!("it holds {} bytes and not {bytes}", config.max_bytes),
        // The command takes larger numbers with a unit only.
        format!("--max-bytes={}MiB", options.bytes_max.div_ceil(1 << 20)),
    );
    differences.mend(
        config.max_messages > 0,
        format!("it holds at most {} messages", config.max_messages),
        "--max-msgs=-1".to_owned(),
    );
    differences.mend(
        config.max_messages_per_subject > 0,
        format!(
            "it holds at most {} messages per subject",
            config.max_messages_per_subject
        ),
        "--max-msgs-per-subject=-1".to_owned(),
    );
    let needed = i32::try_from(options.record_bytes_max + OVERHEAD_BYTES_MAX).unwrap_or(i32::MAX);
    differences.mend(
        config.max_message_size > 0 && config.max_message_size < needed,
        format!(
            "it takes messages of {} bytes and not {needed}",
            config.max_message_size
        ),
        format!("--max-msg-size={needed}"),
    );
    let seconds = options.duplicate_window.as_secs();
    differences.mend(
        config.duplicate_window < options.duplicate_window,
        format!(
            "it remembers ids for {} s and not {seconds}",
            config.duplicate_window.as_secs()
        ),
        format!("--dupe-window={seconds}s"),
    );
}

fn new_source() -> SourceId {
    let mut bytes = [0; 4];
    // It cannot fail for so few bytes; four zeros would still be refused as a second creation.
    getrandom(&mut bytes, GetRandomFlags::empty()).ok();
    SourceId::from_bytes(bytes)
}

#[cfg(test)]
mod tests;
