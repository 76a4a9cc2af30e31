//! The event logs against their suite.

use std::sync::Arc;

use async_trait::async_trait;
use hoop_schema::{Class, SourceId};
use hoop_sinks::log::conformance::{Backend, Log, SHARDS, SMALL_BYTES_MAX};
use hoop_sinks::log::embedded::{EmbeddedLog, Options};
use hoop_sinks::log::memory::MemoryLog;
use hoop_sinks::log::{EventReader, EventWriter};
use tempfile::TempDir;

use crate::log_files::fast_dir;

fn both_ends<T: EventWriter + EventReader + 'static>(log: T) -> Log {
    let log = Arc::new(log);
    Log {
        writer: Arc::clone(&log) as Arc<dyn EventWriter>,
        reader: log,
    }
}

struct Memory {
    log: MemoryLog,
}

impl Memory {
    fn new() -> Self {
        let source = SourceId::from_bytes([1; 4]);
        Self {
            log: MemoryLog::new(Class::standard(), source, SHARDS, 64 << 20),
        }
    }
}

#[async_trait]
impl Backend for Memory {
    async fn open(&self) -> Log {
        both_ends(self.log.reopen())
    }

    async fn open_small(&self) -> Log {
        let source = SourceId::from_bytes([2; 4]);
        both_ends(MemoryLog::new(
            Class::standard(),
            source,
            SHARDS,
            SMALL_BYTES_MAX,
        ))
    }
}

struct Embedded {
    dir: TempDir,
}

impl Embedded {
    fn new() -> Self {
        Self { dir: fast_dir() }
    }

    fn open(&self, class: &str, options: Options) -> Log {
        let class = Class::new(class).expect("is a class");
        both_ends(EmbeddedLog::open(self.dir.path(), class, options).expect("can be opened"))
    }

    fn options() -> Options {
        Options {
            shards: SHARDS.try_into().expect("is not zero"),
            segment_bytes: 256 << 10,
            ..Options::default()
        }
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn open(&self) -> Log {
        Self::open(self, "standard", Self::options())
    }

    async fn open_small(&self) -> Log {
        let options = Options {
            size_max: SMALL_BYTES_MAX as u64,
            ..Self::options()
        };
        Self::open(self, "small", options)
    }
}

mod memory {
    hoop_sinks::log_conformance!(super::Memory::new());
}

mod embedded {
    hoop_sinks::log_conformance!(super::Embedded::new());
}
