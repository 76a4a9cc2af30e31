//! The topic of one class: found or created, checked, and told by its id; and what can be asked about it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop_schema::{Class, Shard, SourceId};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::task::spawn_blocking;

use super::client::{self, Context, Shared};
use super::error::OpenError;
use super::options::Options;
use super::settings::{Found, Wanted};
use crate::log::{Bounds, Position};

/// How long one question may take. Longer than it takes to connect to the second broker when the first is gone.
const ASK_WITHIN: Duration = Duration::from_secs(15);

/// How long it may take until all brokers know of a new topic.
const CREATED_WITHIN: Duration = Duration::from_secs(30);

/// How long a topic that was there already may be other than it must. Another process may have created it just now, and
/// each broker learns of a topic and of its settings in its own time: one that has not learned of them answers with
/// none.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// How often that is looked at.
const SETTLED_ASKED_EVERY: Duration = Duration::from_millis(200);

/// How long librdkafka may take to say the id of a topic of which it has just learned.
const ID_WITHIN: Duration = Duration::from_secs(2);

/// How often that is looked at.
const ID_ASKED_EVERY: Duration = Duration::from_millis(50);

/// How long librdkafka may take to ask for its first token.
const TOKEN_WITHIN: Duration = Duration::from_millis(300);

/// Lines of librdkafka's log that are read after a question, at most.
const LINES_MAX: u32 = 1000;

/// A topic that is as it must be.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) source: SourceId,
    pub(crate) shared: Shared,
    pub(crate) asker: Arc<Asker>,
}

/// One partition, as the brokers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) leader: Option<i32>,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

/// What the brokers say about the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) brokers: Vec<i32>,
    pub(crate) partitions: Vec<Partition>,
}

/// A client that asks about the topic. All its methods block.
pub(crate) struct Asker {
    consumer: BaseConsumer<Context>,
    topic: Arc<str>,
    shared: Shared,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Topic {
    /// Finds or creates the topic of a class, and checks it.
    pub(crate) async fn open(options: &Options, class: &Class) -> Result<Self, OpenError> {
        options.check(class)?;
        let name: Arc<str> = options.topic(class).into();
        let shared = Shared::new(options, &name);
        let asker = Asker::new(options, &name, &shared)?;
        let asker = Arc::new(asker);
        let wanted = Wanted::new(options, &name);
        let reached = |what, source| OpenError::Unreachable {
            what,
            brokers: options.brokers.join(","),
            said: shared.said(),
            source: Box::new(source),
        };
        let mut described = asker
            .describe_later()
            .await?
            .map_err(|e| reached("find the topic", e))?;
        let mut settled_within = SETTLED_WITHIN;
        if described.is_none() {
            if !options.create_topic || options.security.tokens().is_some() {
                return Err(OpenError::Missing {
                    topic: name.to_string(),
                    command: wanted.create_command(),
                });
            }
            create(options, &name, &wanted).await?;
            settled_within = CREATED_WITHIN;
        }
        let begun = Instant::now();
        let (found, problems) = loop {
            let is_last = begun.elapsed() >= settled_within;
            if is_last || described.as_ref().is_some_and(Described::is_complete) {
                let found = Found {
                    replicas: described.iter().flat_map(Described::replicas).collect(),
                    brokers: described.map_or_else(Vec::new, |described| described.brokers),
                    config: config_of(options, &name, &wanted).await?,
                };
                let problems = wanted.problems(&found);
                if problems.is_empty() || is_last {
                    break (found, problems);
                }
            }
            tokio::time::sleep(SETTLED_ASKED_EVERY).await;
            described = asker
                .describe_later()
                .await?
                .map_err(|e| reached("find the new topic", e))?;
        };
        if !problems.is_empty() {
            return Err(OpenError::Settings {
                topic: name.to_string(),
                commands: wanted.mend_commands(&problems, &found),
                problems,
            });
        }
        let Some(id) = shared.ids.id() else {
            return Err(OpenError::NoId {
                topic: name.to_string(),
            });
        };
        Ok(Self {
            source: id.source(),
            name,
            shared,
            asker,
        })
    }
}

impl Topic {
    /// Finds a topic that is there, and tells how many shards it has.
    pub(crate) async fn find(
        options: &Options,
        class: &Class,
    ) -> Result<(Self, NonZeroU32), OpenError> {
        options.check(class)?;
        let name: Arc<str> = options.topic(class).into();
        let shared = Shared::new(options, &name);
        let asker = Arc::new(Asker::new(options, &name, &shared)?);
        let described = asker.describe_later().await?;
        let described = described.map_err(|source| OpenError::Unreachable {
            what: "find the topic",
            brokers: options.brokers.join(","),
            said: shared.said(),
            source: Box::new(source),
        })?;
        let shards = described.and_then(|described| {
            NonZeroU32::new(u32::try_from(described.partitions.len()).unwrap_or(u32::MAX))
        });
        let Some(shards) = shards else {
            return Err(OpenError::Missing {
                topic: name.to_string(),
                command: Wanted::new(options, &name).create_command(),
            });
        };
        let Some(id) = shared.ids.id() else {
            return Err(OpenError::NoId {
                topic: name.to_string(),
            });
        };
        let topic = Self {
            source: id.source(),
            name,
            shared,
            asker,
        };
        Ok((topic, shards))
    }
}

#[cfg(test)]
impl Topic {
    /// A topic that nobody looked at.
    pub(crate) fn unchecked(options: &Options, class: &Class) -> Result<Self, OpenError> {
        let name: Arc<str> = options.topic(class).into();
        let shared = Shared::new(options, &name);
        let asker = Arc::new(Asker::new(options, &name, &shared)?);
        Ok(Self {
            name,
            source: SourceId::from_bytes([0; 4]),
            shared,
            asker,
        })
    }
}

impl Described {
    /// Whether every partition has a leader.
    fn is_complete(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.iter().all(|p| p.leader.is_some())
    }

    /// The brokers that hold a copy, by partition.
    fn replicas(&self) -> impl Iterator<Item = Vec<i32>> {
        self.partitions
            .iter()
            .map(|partition| partition.replicas.clone())
    }
}

impl Asker {
    fn new(options: &Options, topic: &Arc<str>, shared: &Shared) -> Result<Self, OpenError> {
        let config = client::asking(options);
        let consumer = config
            .create_with_context(Context::new(shared))
            .map_err(OpenError::Client)?;
        Ok(Self {
            consumer,
            topic: Arc::clone(topic),
            shared: shared.clone(),
        })
    }

    async fn describe_later(
        self: &Arc<Self>,
    ) -> Result<Result<Option<Described>, KafkaError>, OpenError> {
        let asker = Arc::clone(self);
        Ok(spawn_blocking(move || asker.describe()).await?)
    }

    /// What the topic is like; nothing when it does not exist. Afterwards its id is known, if it has one.
    pub(crate) fn describe(&self) -> Result<Option<Described>, KafkaError> {
        // A token is wanted before anything else can be said.
        if self.shared.has_tokens() && self.shared.ids.id().is_none() {
            drop(self.consumer.poll(TOKEN_WITHIN));
        }
        self.listen();
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), ASK_WITHIN);
        self.listen();
        let metadata = metadata?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == &*self.topic);
        let Some(topic) = topic else { return Ok(None) };
        if let Some(error) = topic.error() {
            return match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    Ok(None)
                }
                // Its partitions say which of them has no leader.
                RDKafkaErrorCode::LeaderNotAvailable => Ok(Some(Described::default())),
                code => Err(KafkaError::MetadataFetch(code)),
            };
        }
        let begun = Instant::now();
        while self.shared.ids.id().is_none() && begun.elapsed() < ID_WITHIN {
            drop(self.consumer.poll(ID_ASKED_EVERY));
        }
        let mut partitions: Vec<_> = topic.partitions().iter().collect();
        partitions.sort_by_key(|partition| partition.id());
        let partition = |p: &&rdkafka::metadata::MetadataPartition| Partition {
            leader: (p.leader() >= 0).then(|| p.leader()),
            replicas: p.replicas().to_vec(),
            in_sync: p.isr().to_vec(),
        };
        Ok(Some(Described {
            brokers: metadata
                .brokers()
                .iter()
                .map(|broker| broker.id())
                .collect(),
            partitions: partitions.iter().map(partition).collect(),
        }))
    }

    /// What a shard holds.
    pub(crate) fn bounds(&self, shard: Shard) -> Result<Bounds, KafkaError> {
        self.listen();
        let partition = i32::try_from(shard.0).unwrap_or(i32::MAX);
        let (low, high) = self
            .consumer
            .fetch_watermarks(&self.topic, partition, ASK_WITHIN)?;
        self.listen();
        let position = |offset: i64| Position(u64::try_from(offset).unwrap_or(0));
        Ok(Bounds {
            first: position(low),
            next: position(high.max(low)),
        })
    }

    /// Reads all that librdkafka has to say. A poll takes one thing, and says that there was nothing also after one
    /// that it handled itself; so it is over when nothing was heard either.
    fn listen(&self) {
        let context = self.consumer.context();
        for _ in 0..LINES_MAX {
            let heard = context.heard();
            if self.consumer.poll(Duration::ZERO).is_none() && context.heard() == heard {
                break;
            }
        }
    }
}

fn admin(
    options: &Options,
) -> Result<AdminClient<rdkafka::client::DefaultClientContext>, OpenError> {
    let context = rdkafka::client::DefaultClientContext;
    AdminClient::from_config_and_context(&client::administrating(options), context)
        .map_err(OpenError::Client)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ASK_WITHIN))
        .operation_timeout(Some(ASK_WITHIN))
}

async fn create(options: &Options, name: &str, wanted: &Wanted) -> Result<(), OpenError> {
    let config = wanted.config();
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(count(options.replicas.get()));
    let mut topic = NewTopic::new(name, count(options.shards.get()), replication);
    for (name, value) in &config {
        topic = topic.set(name, value);
    }
    let admin = admin(options)?;
    let created = admin.create_topics([&topic], &admin_options()).await;
    let created = created.map_err(|source| OpenError::Unreachable {
        what: "create a topic",
        brokers: options.brokers.join(","),
        said: String::new(),
        source: Box::new(source),
    })?;
    match created.into_iter().next() {
        // Another process may have been faster; what it created is checked like any other.
        Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => {
            tracing::info!(topic = name, "created a topic");
            Ok(())
        }
        Some(Err((_, code))) => Err(OpenError::Create {
            topic: name.to_owned(),
            code,
            command: wanted.create_command(),
        }),
    }
}

/// The settings of the topic; nothing where they cannot be asked for.
async fn config_of(
    options: &Options,
    name: &str,
    wanted: &Wanted,
) -> Result<Option<BTreeMap<String, String>>, OpenError> {
    if options.security.tokens().is_some() {
        tracing::warn!(
            topic = name,
            "the settings of a topic are not checked under OAUTHBEARER"
        );
        return Ok(None);
    }
    let admin = admin(options)?;
    let resource = ResourceSpecifier::Topic(name);
    let answer = admin.describe_configs([&resource], &admin_options()).await;
    let forbidden = |code| OpenError::Forbidden {
        topic: name.to_owned(),
        code,
        command: wanted.allow_command(),
    };
    match answer {
        Ok(resources) => {
            let first = resources
                .into_iter()
                .next()
                .unwrap_or(Err(RDKafkaErrorCode::Unknown));
            let entries = match first {
                Ok(resource) => resource.entries,
                // A broker that has not learned of the topic yet.
                Err(RDKafkaErrorCode::UnknownTopicOrPartition) => Vec::new(),
                Err(code) => return Err(forbidden(code)),
            };
            let named = entries
                .into_iter()
                .map(|entry| (entry.name, entry.value.unwrap_or_default()));
            Ok(Some(named.collect()))
        }
        Err(KafkaError::AdminOp(code)) => Err(forbidden(code)),
        Err(source) => Err(OpenError::Unreachable {
            what: "read the settings of a topic",
            brokers: options.brokers.join(","),
            said: String::new(),
            source: Box::new(source),
        }),
    }
}
