//! Opens the event logs that the configuration names: one of each class, and the ends of it that a process needs.

use std::sync::Arc;

use hoop_schema::Class;
use hoop_sinks::log::embedded::{
    EmbeddedLog, Metrics as EmbeddedMetrics, OpenError as EmbeddedError, Options,
};
use hoop_sinks::log::spool::{Metrics as SpoolMetrics, SpooledWriter};
use hoop_sinks::log::{EventReader, EventWriter, kafka, nats};
use prometheus_client::registry::Registry;

use crate::config::{CLASSES, Config, LogBackend, LogConfig};
use crate::data_dir::DataDir;

/// Which ends of a log a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// To append: a gateway.
    pub write: bool,
    /// To read: a recorder.
    pub read: bool,
}

/// The logs of all classes.
#[derive(Debug, Default)]
pub struct Logs {
    /// The appending ends.
    pub writers: Vec<Arc<dyn EventWriter>>,
    /// The reading ends.
    pub readers: Vec<Arc<dyn EventReader>>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log in the data directory, or its spool.
    #[error("the log of class {class} cannot be opened")]
    Embedded {
        /// Which.
        class: Class,
        /// Why.
        #[source]
        source: EmbeddedError,
    },
    /// A log on NATS.
    #[error("the log of class {class} cannot be opened on NATS")]
    Nats {
        /// Which.
        class: Class,
        /// Why.
        #[source]
        source: nats::OpenError,
    },
    /// A log on Kafka.
    #[error("the log of class {class} cannot be opened on Kafka")]
    Kafka {
        /// Which.
        class: Class,
        /// Why.
        #[source]
        source: kafka::OpenError,
    },
}

/// The retention classes, each a log of its own.
pub fn classes() -> impl Iterator<Item = Class> {
    CLASSES
        .iter()
        .map(|name| Class::new(name).expect("a class of ours"))
}

impl Logs {
    /// Opens them.
    ///
    /// # Errors
    /// The first log that cannot be used.
    pub async fn open(
        config: &Config,
        data: &DataDir,
        ends: Ends,
        registry: &mut Registry,
    ) -> Result<Self, LogError> {
        match &config.log.backend {
            LogBackend::Embedded => Self::embedded(&config.log, data, registry).await,
            LogBackend::Nats(options) => {
                let metrics = nats::Metrics::register(registry);
                let mut logs = Self::default();
                for class in classes() {
                    let failed = |source| LogError::Nats {
                        class: class.clone(),
                        source,
                    };
                    let options = (**options).clone();
                    if ends.write {
                        let options = options.clone();
                        let opened =
                            nats::Writer::open_measured(class.clone(), options, &metrics).await;
                        logs.writers.push(Arc::new(opened.map_err(failed)?));
                    }
                    if ends.read {
                        let opened = nats::Reader::open(class.clone(), options).await;
                        logs.readers.push(Arc::new(opened.map_err(failed)?));
                    }
                }
                logs.spooled(&config.log, data, registry).await
            }
            LogBackend::Kafka(options) => {
                let metrics = kafka::Metrics::register(registry);
                let mut logs = Self::default();
                for class in classes() {
                    let failed = |source| LogError::Kafka {
                        class: class.clone(),
                        source,
                    };
                    let options = (**options).clone();
                    if ends.write {
                        let options = options.clone();
                        let opened =
                            kafka::KafkaWriter::open_measured(class.clone(), options, &metrics)
                                .await;
                        logs.writers.push(Arc::new(opened.map_err(failed)?));
                    }
                    if ends.read {
                        let opened = kafka::KafkaReader::open(class.clone(), options).await;
                        logs.readers.push(Arc::new(opened.map_err(failed)?));
                    }
                }
                logs.spooled(&config.log, data, registry).await
            }
        }
    }

    /// In the data directory, where a log has both ends in one.
    async fn embedded(
        config: &LogConfig,
        data: &DataDir,
        registry: &mut Registry,
    ) -> Result<Self, LogError> {
        let metrics = EmbeddedMetrics::register(registry);
        let mut logs = Self::default();
        for class in classes() {
            let options = Options {
                size_max: config.size_max,
                age_max: config.age_max,
                ..Options::default()
            };
            let log = open_in(data.log(), class, options, metrics.clone()).await?;
            logs.writers.push(Arc::clone(&log) as _);
            logs.readers.push(log);
        }
        Ok(logs)
    }

    /// Puts a spool before each writer, if there is to be one.
    async fn spooled(
        mut self,
        config: &LogConfig,
        data: &DataDir,
        registry: &mut Registry,
    ) -> Result<Self, LogError> {
        if !config.spool || self.writers.is_empty() {
            return Ok(self);
        }
        let (embedded, spool) = (
            EmbeddedMetrics::register(registry),
            SpoolMetrics::register(registry),
        );
        for writer in &mut self.writers {
            let options = Options {
                size_max: config.size_max,
                // Nobody reads a spool but whoever ships it.
                age_max: std::time::Duration::ZERO,
                ..Options::default()
            };
            let class = writer.class().clone();
            let log = open_in(data.spool(), class, options, embedded.clone()).await?;
            *writer = Arc::new(SpooledWriter::new(log, Arc::clone(writer), &spool));
        }
        Ok(self)
    }
}

async fn open_in(
    folder: std::path::PathBuf,
    class: Class,
    options: Options,
    metrics: EmbeddedMetrics,
) -> Result<Arc<EmbeddedLog>, LogError> {
    let name = class.clone();
    let opened = tokio::task::spawn_blocking(move || {
        EmbeddedLog::open_measured(&folder, name, options, &metrics)
    });
    let opened = opened.await.expect("opening a log does not panic");
    opened
        .map(Arc::new)
        .map_err(|source| LogError::Embedded { class, source })
}
