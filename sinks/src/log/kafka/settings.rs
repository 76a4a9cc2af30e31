//! What a topic must be like to hold this log, what is wrong with one, and the commands that mend it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::options::Options;

/// What the topic of a class must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    brokers: String,
    topic: String,
    shards: u32,
    replicas: u32,
    in_sync_replicas_min: u32,
    retention_ms: u64,
    retention_bytes: Option<u64>,
    segment_bytes: Option<u64>,
    message_bytes_max: usize,
}

/// What a topic is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Brokers that hold a copy, by partition.
    pub(crate) replicas: Vec<Vec<i32>>,
    /// Brokers that there are.
    pub(crate) brokers: Vec<i32>,
    /// Its settings by name, defaults included; nothing where they cannot be asked for.
    pub(crate) config: Option<BTreeMap<String, String>>,
}

/// Something about a topic that would lose events or confuse them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A setting has another value than it must.
    Setting {
        /// Its name.
        name: &'static str,
        /// What it is; nothing when the topic does not have it.
        found: Option<String>,
        /// What it must be, or reach.
        wanted: String,
        /// What comes of it.
        why: &'static str,
    },
    /// It has another number of partitions than the log has shards.
    Shards {
        /// Partitions.
        found: usize,
        /// Shards.
        wanted: u32,
    },
    /// Some partitions have too few copies.
    Replicas {
        /// The fewest copies.
        found: usize,
        /// What was asked for.
        wanted: u32,
    },
}

enum Rule {
    Is(String),
    AtLeast(u64),
    /// At least, or -1 for no limit.
    AtLeastOrUnlimited(Option<u64>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting {
                name,
                found,
                wanted,
                why,
            } => {
                let found = found.as_deref().unwrap_or("not set");
                write!(f, "{name} is {found}, not {wanted} ({why})")
            }
            Self::Shards { found, wanted } => write!(
                f,
                "it has {found} partitions, not {wanted} (partitions are never added to a topic, which would split \
                 sessions)"
            ),
            Self::Replicas { found, wanted } => {
                write!(f, "it has {found} replicas, not {wanted}")
            }
        }
    }
}

impl Wanted {
    pub(crate) fn new(options: &Options, topic: &str) -> Self {
        Self {
            brokers: options.brokers.join(","),
            topic: topic.to_owned(),
            shards: options.shards.get(),
            replicas: options.replicas.get(),
            in_sync_replicas_min: options.in_sync_replicas_min.get(),
            retention_ms: u64::try_from(options.retention.as_millis()).unwrap_or(u64::MAX),
            retention_bytes: options.retention_bytes,
            segment_bytes: options.segment_bytes,
            message_bytes_max: options.message_bytes_max(),
        }
    }

    /// The settings that a new topic gets.
    pub(crate) fn config(&self) -> Vec<(&'static str, String)> {
        let rules = self.rules();
        let mut config: Vec<_> = rules
            .into_iter()
            .map(|(name, rule, _)| (name, rule.value()))
            .collect();
        if let Some(bytes) = self.segment_bytes {
            config.push(("segment.bytes", bytes.to_string()));
        }
        config
    }

    fn rules(&self) -> [(&'static str, Rule, &'static str); 7] {
        [
            (
                "cleanup.policy",
                Rule::Is("delete".to_owned()),
                "compaction drops events",
            ),
            (
                "message.timestamp.type",
                Rule::Is("LogAppendTime".to_owned()),
                "evidence is filed by the log's clock",
            ),
            (
                "min.insync.replicas",
                Rule::AtLeast(self.in_sync_replicas_min.into()),
                "one broker less would lose acknowledged events",
            ),
            (
                "unclean.leader.election.enable",
                Rule::Is("false".to_owned()),
                "it loses acknowledged events",
            ),
            (
                "max.message.bytes",
                Rule::AtLeast(self.message_bytes_max as u64),
                "the largest events would be refused",
            ),
            (
                "retention.ms",
                Rule::AtLeastOrUnlimited(Some(self.retention_ms)),
                "events go before they are recorded",
            ),
            (
                "retention.bytes",
                Rule::AtLeastOrUnlimited(self.retention_bytes),
                "events go before they are recorded",
            ),
        ]
    }

    /// What is wrong with a topic.
    pub(crate) fn problems(&self, found: &Found) -> Vec<Problem> {
        let mut problems = Vec::new();
        if found.replicas.len() != self.shards as usize {
            problems.push(Problem::Shards {
                found: found.replicas.len(),
                wanted: self.shards,
            });
        }
        let fewest = found.replicas.iter().map(Vec::len).min().unwrap_or(0);
        if fewest < self.replicas as usize {
            problems.push(Problem::Replicas {
                found: fewest,
                wanted: self.replicas,
            });
        }
        let Some(config) = &found.config else {
            return problems;
        };
        for (name, rule, why) in self.rules() {
            let value = config.get(name).map(String::as_str);
            if !value.is_some_and(|value| rule.allows(value)) {
                problems.push(Problem::Setting {
                    name,
                    found: value.map(str::to_owned),
                    wanted: rule.value(),
                    why,
                });
            }
        }
        problems
    }

    /// The command that creates the topic.
    pub(crate) fn create_command(&self) -> String {
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions {} --replication-factor {}",
            self.brokers, self.topic, self.shards, self.replicas
        );
        for (name, value) in self.config() {
            write!(command, " --config {name}={value}").expect("a string takes everything");
        }
        command
    }

    /// The command that lets everybody who may use the topic read its settings.
    pub(crate) fn allow_command(&self) -> String {
        format!(
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:NAME --operation DescribeConfigs \
             --topic {}",
            self.brokers, self.topic
        )
    }

    /// The commands that mend the problems, in order.
    pub(crate) fn mend_commands(&self, problems: &[Problem], found: &Found) -> Vec<String> {
        let mut commands = Vec::new();
        let mut settings = Vec::new();
        for problem in problems {
            match problem {
                Problem::Setting { name, wanted, .. } => settings.push(format!("{name}={wanted}")),
                Problem::Shards { found, .. } => {
                    commands.push(self.shards_advice(*found));
                }
                Problem::Replicas { .. } => commands.push(self.replicas_command(found)),
            }
        }
        if !settings.is_empty() {
            commands.push(format!(
                "kafka-configs.sh --bootstrap-server {} --entity-type topics --entity-name {} --alter --add-config {}",
                self.brokers,
                self.topic,
                settings.join(",")
            ));
        }
        commands
    }

    fn shards_advice(&self, found: usize) -> String {
        format!(
            "kafka-topics.sh --bootstrap-server {} --delete --topic {}   # only when it is recorded to its end; else \
             set `shards` to {found}",
            self.brokers, self.topic
        )
    }

    /// Spreads the copies over the brokers, those that have one first.
    fn replicas_command(&self, found: &Found) -> String {
        if found.brokers.len() < self.replicas as usize {
            return format!(
                "# there are {} brokers, too few for {} replicas: start more, or lower `replicas`",
                found.brokers.len(),
                self.replicas
            );
        }
        let mut partitions = Vec::new();
        for (partition, holders) in found.replicas.iter().enumerate() {
            let others = found.brokers.iter().cycle().skip(partition);
            let others = others.take(found.brokers.len());
            let mut copies = holders.clone();
            for broker in others {
                if copies.len() < self.replicas as usize && !copies.contains(broker) {
                    copies.push(*broker);
                }
            }
            partitions.push(format!(
                r#"{{"topic":"{}","partition":{partition},"replicas":{copies:?}}}"#,
                self.topic
            ));
        }
        format!(
            "echo '{{\"version\":1,\"partitions\":[{}]}}' > replicas.json && kafka-reassign-partitions.sh \
             --bootstrap-server {} --reassignment-json-file replicas.json --execute",
            partitions.join(","),
            self.brokers
        )
    }
}

impl Rule {
    fn value(&self) -> String {
        match self {
            Self::Is(value) => value.clone(),
            Self::AtLeast(number) | Self::AtLeastOrUnlimited(Some(number)) => number.to_string(),
            Self::AtLeastOrUnlimited(None) => "-1".to_owned(),
        }
    }

    fn allows(&self, value: &str) -> bool {
        let reaches = |least: u64| value.parse::<u64>().is_ok_and(|value| value >= least);
        match self {
            Self::Is(wanted) => value == wanted,
            Self::AtLeast(least) => reaches(*least),
            Self::AtLeastOrUnlimited(least) => value == "-1" || least.is_some_and(reaches),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn wanted() -> Wanted {
        let mut options = Options::new(vec!["b1:9092".to_owned(), "b2:9092".to_owned()], "prod");
        options.shards = NonZeroU32::new(2).unwrap();
        Wanted::new(&options, "audit.prod.standard")
    }

    fn right() -> Found {
        let config = wanted().config();
        Found {
            replicas: vec![vec![1, 2, 3], vec![2, 3, 1]],
            brokers: vec![1, 2, 3, 4],
            config: Some(
                config
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            ),
        }
    }

    fn with(name: &str, value: &str) -> Found {
        let mut found = right();
        let config = found.config.as_mut().unwrap();
        config.insert(name.to_owned(), value.to_owned());
        found
    }

    #[test]
    fn a_topic_as_it_would_be_created_has_no_problem() {
        assert_eq!(wanted().problems(&right()), []);
    }

    #[test]
    fn more_of_everything_and_no_limit_are_right_too() {
        for (name, value) in [
            ("min.insync.replicas", "3"),
            ("max.message.bytes", "10485760"),
            ("retention.ms", "-1"),
            ("retention.ms", "604800001"),
        ] {
            assert_eq!(wanted().problems(&with(name, value)), [], "{name}");
        }
    }

    #[test]
    fn each_wrong_setting_is_named_and_mended_by_one_command() {
        let wanted = wanted();
        for (name, value, mended) in [
            ("cleanup.policy", "compact", "delete"),
            ("cleanup.policy", "compact,delete", "delete"),
            ("message.timestamp.type", "CreateTime", "LogAppendTime"),
            ("min.insync.replicas", "1", "2"),
            ("unclean.leader.election.enable", "true", "false"),
            ("max.message.bytes", "1000", "1048588"),
            ("retention.ms", "3600000", "604800000"),
            ("retention.bytes", "1073741824", "-1"),
        ] {
            let found = with(name, value);
            let problems = wanted.problems(&found);
            assert_eq!(problems.len(), 1, "{name}");
            assert!(problems[0].to_string().contains(value), "{}", problems[0]);
            let command = format!(
                "kafka-configs.sh --bootstrap-server b1:9092,b2:9092 --entity-type topics --entity-name \
                 audit.prod.standard --alter --add-config {name}={mended}"
            );
            assert_eq!(wanted.mend_commands(&problems, &found), [command]);
        }
    }

    #[test]
    fn too_few_copies_are_spread_over_the_brokers() {
        let mut found = right();
        found.replicas = vec![vec![1], vec![2]];
        let problems = wanted().problems(&found);
        let commands = wanted().mend_commands(&problems, &found);
        assert_eq!(
            commands,
            [
                r#"echo '{"version":1,"partitions":[{"topic":"audit.prod.standard","partition":0,"replicas":[1, 2, 3]},{"topic":"audit.prod.standard","partition":1,"replicas":[2, 3, 4]}]}' > replicas.json && kafka-reassign-partitions.sh --bootstrap-server b1:9092,b2:9092 --reassignment-json-file replicas.json --execute"#
            ]
        );
        found.brokers = vec![1, 2];
        assert!(wanted().mend_commands(&problems, &found)[0].contains("too few"));
    }

    #[test]
    fn another_number_of_partitions_is_not_mended_by_adding_some() {
        let mut found = right();
        found.replicas.pop();
        let problems = wanted().problems(&found);
        let commands = wanted().mend_commands(&problems, &found);
        assert!(commands[0].contains("set `shards` to 1"), "{commands:?}");
        assert!(!commands[0].contains("--alter"));
    }

    #[test]
    fn the_command_that_creates_a_topic_says_all_of_it() {
        assert_eq!(
            wanted().create_command(),
            "kafka-topics.sh --bootstrap-server b1:9092,b2:9092 --create --topic audit.prod.standard --partitions 2 \
             --replication-factor 3 --config cleanup.policy=delete --config message.timestamp.type=LogAppendTime \
             --config min.insync.replicas=2 --config unclean.leader.election.enable=false \
             --config max.message.bytes=1048588 --config retention.ms=604800000 --config retention.bytes=-1"
        );
    }
}
