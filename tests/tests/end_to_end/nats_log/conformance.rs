//! The suite of all event logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::conformance::{Backend, Log, SMALL_BYTES_MAX};
use hoop_sinks::log::nats::{Options, Reader, Writer};
use hoop_tests::testbed::{Nats, Need};

use super::bed;
use crate::client::block_on;
use crate::harness::{Test, nats};

/// Logs on the shared server, each test with streams of its own.
struct OnNats {
    server: Arc<Nats>,
    options: Options,
}

impl OnNats {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = nats()?;
        let cluster = format!("suite-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // The suite is about promises, and the machine may be busy.
        let options = Options {
            ack_timeout: Duration::from_secs(10),
            append_timeout: Duration::from_secs(30),
            ..bed::options(&server.url(), &cluster)
        };
        Ok(Self { server, options })
    }

    async fn open_class(&self, class: &str, options: Options) -> Log {
        let class = Class::new(class).expect("is a class");
        let writer = Writer::open(class.clone(), options.clone()).await;
        let reader = Reader::open(class, options).await;
        Log {
            writer: Arc::new(writer.expect("can be opened")),
            reader: Arc::new(reader.expect("can be opened")),
        }
    }
}

#[async_trait]
impl Backend for OnNats {
    async fn open(&self) -> Log {
        self.open_class("standard", self.options.clone()).await
    }

    async fn open_small(&self) -> Log {
        let options = Options {
            bytes_max: SMALL_BYTES_MAX as u64,
            ..self.options.clone()
        };
        self.open_class("small", options).await
    }

    /// Records go by age alone, so for a moment they live short.
    async fn make_room(&self, log: &Log, shard: Shard) {
        let admin = bed::admin(&self.server.url()).await.expect("is there");
        let name = format!("audit_{}_small", self.options.cluster);
        let stream = admin.get_stream(&name).await.expect("is there");
        let kept = stream.cached_info().config.clone();
        let mut short = kept.clone();
        short.max_age = Duration::from_millis(100);
        short.duplicate_window = Duration::from_millis(100);
        let end = log.reader.bounds(shard).await.expect("can be asked").next;
        admin.update_stream(short).await.expect("can be changed");
        while log.reader.bounds(shard).await.expect("can be asked").first < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.update_stream(kept).await.expect("can be changed");
    }
}

pub(crate) fn tests() -> Vec<Test> {
    let suite = hoop_sinks::log_conformance!(list of OnNats);
    let test = |(name, body): (&str, hoop_sinks::log::conformance::Test<OnNats>)| {
        let name = format!("{}::{name}", module_path!()).leak();
        Test::new(name, &[Need::Nats], move || {
            let backend = OnNats::new()?;
            block_on(async {
                body(&backend).await;
                Ok(())
            })
        })
    };
    suite.into_iter().map(test).collect()
}
