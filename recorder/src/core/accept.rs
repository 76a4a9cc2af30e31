//! What one record of the log is: an event, a copy of one, or no event at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoop_schema::kinds::recorder::RecorderUnparsed;

use super::{
    Action, Bytes, Core, GapCause, GapState, Kind, LogRecord, ProducerId, Row, Seen, Shard, Tail,
    Timestamp, decode,
};

/// Bytes of a record that is no event that are kept: as base64 they still fit into an event.
const RAW_BYTES_MAX: usize = 131_072;

/// Kinds that do not make a file worth writing after five minutes.
const QUIET_KINDS: &[&str] = &["heartbeat"];

impl Core {
    /// Makes a row of the record, or counts it as a copy.
    pub(super) fn accept(&mut self, record: LogRecord, now: Timestamp, actions: &mut Vec<Action>) {
        let bytes = record.bytes.clone();
        let (row, producer) = match self.check(&bytes) {
            Ok(checked) => checked,
            Err(why) => return self.unparsed(&record, &why, now),
        };
        let (epoch, seq, position) = (row.producer_epoch, row.producer_seq, record.position.0);
        let seen = self
            .sequences
            .see(&producer, epoch, seq, position, record.log_ts);
        if seen == Seen::Copy {
            self.counts.copies += 1;
            self.buffer.copies += 1;
            return;
        }
        self.clocks.see(&producer, row.ts, record.log_ts);
        self.buffer.busy |= !QUIET_KINDS.contains(&&*row.kind);
        if &*row.kind == "heartbeat" {
            self.heartbeat(&record.bytes, &producer, record.log_ts, actions);
        }
        self.buffer
            .rows
            .push(&row, record.bytes, Some(position), record.log_ts);
        if seen == Seen::Late {
            self.add_gap(
                now,
                GapState::Closed,
                &producer,
                epoch,
                (seq, seq),
                GapCause::Missing,
            );
        }
    }

    /// Whether the bytes are an event of this class and shard whose numbers fit the columns.
    fn check<'a>(&self, bytes: &'a Bytes) -> Result<(Row<'a>, ProducerId), String> {
        let row = read_row(bytes, self.class.as_str(), self.shard)?;
        let producer = self.sequences.known(&row.producer_id, row.producer_epoch);
        let producer = match producer {
            Some(known) => known,
            None => ProducerId::new(&row.producer_id).map_err(|e| e.to_string())?,
        };
        Ok((row, producer))
    }

    /// Keeps a record that is no event, in its place.
    fn unparsed(&mut self, record: &LogRecord, why: &str, now: Timestamp) {
        self.counts.unparsed += 1;
        self.buffer.busy = true;
        let kept = &record.bytes[..record.bytes.len().min(RAW_BYTES_MAX)];
        let unparsed = RecorderUnparsed {
            error: why.chars().take(1024).collect(),
            bytes: record.bytes.len() as u64,
            raw_base64: STANDARD.encode(kept),
        };
        self.push_own(
            now,
            &unparsed.into(),
            Some(record.position.0),
            record.log_ts,
        );
    }

    /// Compares what a heartbeat says of each shard with what was seen there.
    fn heartbeat(
        &mut self,
        bytes: &[u8],
        producer: &ProducerId,
        at: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        // A heartbeat of a later version may have fields of other types; it stays a row, and says nothing here.
        let Ok(event) = decode(bytes) else { return };
        let Kind::Heartbeat(heartbeat) = event.kind else {
            return;
        };
        let epoch = event.envelope.producer_epoch;
        for last in heartbeat.last {
            if last.class == self.class && last.shard == self.shard {
                self.sequences
                    .tail(producer, epoch, last.seq, self.next, at);
            } else {
                let (class, shard, producer_id) = (last.class, last.shard, producer.clone());
                actions.push(Action::Tail(Tail {
                    class,
                    shard,
                    producer_id,
                    epoch,
                    seq: last.seq,
                    at,
                }));
            }
        }
    }
}

/// The row of a record, or why it is no event of this class and shard whose numbers fit the columns.
pub(crate) fn read_row<'a>(bytes: &'a Bytes, class: &str, shard: Shard) -> Result<Row<'a>, String> {
    let row = Row::read(bytes).map_err(|e| match std::error::Error::source(&e) {
        Some(cause) => format!("{e}: {cause}"),
        None => e.to_string(),
    })?;
    if &*row.class != class || row.shard != shard {
        return Err(format!(
            "the event says class {} and shard {}, but was read from class {class} and shard {shard}",
            &*row.class, row.shard
        ));
    }
    if row.producer_seq == 0 || row.session_seq == 0 {
        return Err("sequences begin at 1".to_owned());
    }
    let numbers = [row.session_seq, row.producer_epoch, row.producer_seq];
    let optional = [
        row.request_bytes,
        row.response_bytes,
        row.duration_us,
        row.masked.as_ref().map(|m| m.count),
    ];
    if numbers
        .into_iter()
        .chain(optional.into_iter().flatten())
        .any(|n| i64::try_from(n).is_err())
    {
        return Err("a number is larger than 9223372036854775807".to_owned());
    }
    Ok(row)
}
