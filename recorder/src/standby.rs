//! Waiting beside a shard that is another recorder's, and seeing when nobody records it.
//!
//! The name of the file that would hold the first record without one is known: only the record's day and position are
//! in it. So a look costs one read of the log and, while that recorder works, one look at each file it commits; nothing
//! is listed, and nothing else has to be asked who is alive.

use std::sync::Arc;
use std::time::Duration;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::row::Row;
use hoop_schema::{Class, Shard};
use hoop_sinks::log::{EventReader, LogRecord, Position, ReadError};
use hoop_sinks::store::StoreError;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::back_off::BackOff;
use crate::resume::read;
use crate::rival::Rivals;
use crate::session_file::footer::FooterError;
use crate::shard::FlushRequest;
use crate::shared::Shared;

/// Looks within the time after which a shard counts as neglected.
const LOOKS: u32 = 4;

/// The longest rest between two looks.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

/// Bytes of events that are looked at: an hour of heartbeats, or the beginning of what somebody did.
const READ_BYTES: usize = 512 * 1024;

/// Returns once nobody has recorded the shard for longer than [`crate::Config::takeover_after`].
pub(crate) async fn until_neglected(
    shared: &Arc<Shared>,
    reader: &Arc<dyn EventReader>,
    shard: Shard,
    requests: &mut mpsc::Receiver<FlushRequest>,
) {
    let every = (shared.config.takeover_after / LOOKS).min(LOOK_EVERY_MAX);
    let mut standby = Standby {
        shared,
        reader: &**reader,
        class: reader.class(),
        shard,
        recorded: find(shared, &**reader, shard).await,
    };
    loop {
        if standby.is_neglected().await {
            tracing::warn!(class = %standby.class, %shard, position = %standby.recorded, "nobody records this shard; taking it over");
            return;
        }
        tokio::select! {
            () = sleep(every) => {}
            // What is another's to commit holds up nobody here.
            Some(request) = requests.recv() => request.send(()).unwrap_or_default(),
        }
    }
}

/// Where the newest file ends, however long the store takes to answer.
async fn find(shared: &Shared, reader: &dyn EventReader, shard: Shard) -> Position {
    let class = reader.class();
    let mut pause = BackOff::default();
    let rivals = Rivals {
        shared,
        reader,
        shard,
    };
    loop {
        match rivals.newest().await {
            Ok(newest) => return Position(newest.file.map_or(0, |(footer, _)| footer.pos_to)),
            Err(error) => {
                let what = "cannot find out how far another recorder is";
                pause.wait(what, &error, class, shard).await;
            }
        }
    }
}

struct Standby<'a> {
    shared: &'a Shared,
    reader: &'a dyn EventReader,
    class: &'a Class,
    shard: Shard,
    /// Where the newest file that is known ends.
    recorded: Position,
}

impl Standby<'_> {
    /// Follows the files up to the last one, and says whether what comes after it has waited for too long.
    async fn is_neglected(&mut self) -> bool {
        loop {
            let read = self
                .reader
                .read(self.shard, self.recorded, READ_BYTES, Duration::ZERO);
            let records = match read.await {
                Ok(records) => records,
                // Lost already, and not recorded as lost yet.
                Err(ReadError::Expired { .. }) => return true,
                // While the log does not answer, nobody can record.
                Err(ReadError::Damaged { .. } | ReadError::Unavailable(_)) => return false,
            };
            let Some(first) = records.first() else {
                return false;
            };
            match self.file_after(first).await {
                Ok(Some(end)) => self.recorded = end,
                Ok(None) => return self.have_waited(&records),
                Err(error) => {
                    tracing::debug!(class = %self.class, shard = %self.shard, %error, "cannot look after another recorder");
                    return false;
                }
            }
        }
    }

    /// Where the file ends that begins with this record, if somebody has committed it.
    async fn file_after(&self, first: &LogRecord) -> Result<Option<Position>, FooterError> {
        let name = SessionFileName {
            class: self.class.clone(),
            day: first.log_ts.day(),
            shard: self.shard,
            source: self.reader.source(),
            pos_from: self.recorded.0,
        };
        match read(&*self.shared.store, &name).await {
            Ok((footer, _)) => Ok(Some(Position(footer.pos_to))),
            Err(FooterError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether these records should have been in a file long ago. Heartbeats may wait for longer.
    fn have_waited(&self, records: &[LogRecord]) -> bool {
        let (now, config) = (self.shared.clock.now(), &self.shared.config);
        let is_heartbeat = |record: &LogRecord| {
            Row::read(&record.bytes).is_ok_and(|row| &*row.kind == "heartbeat")
        };
        let waited = |record: &LogRecord, at_most: Duration| {
            let at_most = i64::try_from(at_most.as_micros()).unwrap_or(i64::MAX);
            now.as_micros().saturating_sub(record.log_ts.as_micros()) > at_most
        };
        let idle = config.flush.idle_age.saturating_add(config.takeover_after);
        records.first().is_some_and(|first| waited(first, idle))
            || records
                .iter()
                .find(|record| !is_heartbeat(record))
                .is_some_and(|busy| waited(busy, config.takeover_after))
    }
}
