//! Whose clock was far from the log's. A note and no fault: order is that of sequences, and days are the log's.

use std::collections::BTreeMap;

use hoop_schema::Timestamp;

use super::Report;
use crate::when;

/// Ahead of the log's clock by more than this, a clock is wrong: nothing makes an event early.
const AHEAD_MICROS: i64 = 60_000_000;

/// Behind by more than this, a clock is wrong or events waited in a spool.
const BEHIND_MICROS: i64 = 15 * 60_000_000;

/// The most producers that are told apart; a fleet has some dozens.
const PRODUCERS_MAX: usize = 10_000;

/// By producer, how far it was behind and ahead of the log, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Clocks(BTreeMap<String, (i64, i64)>);

impl Clocks {
    /// Takes an event's own time and the time at which the log took it.
    pub(crate) fn see(&mut self, producer_id: &str, ts: Timestamp, log_ts: Timestamp) {
        let ahead = ts.as_micros().saturating_sub(log_ts.as_micros());
        if (-BEHIND_MICROS..=AHEAD_MICROS).contains(&ahead) {
            return;
        }
        if let Some((least, most)) = self.0.get_mut(producer_id) {
            (*least, *most) = ((*least).min(ahead), (*most).max(ahead));
        } else if self.0.len() < PRODUCERS_MAX {
            self.0.insert(producer_id.to_owned(), (ahead, ahead));
        }
    }

    /// Adds what was seen to the notes.
    pub(crate) fn finish(&self, report: &mut Report) {
        for (producer, (least, most)) in &self.0 {
            let long = |micros: i64| when::duration(micros.unsigned_abs());
            if *most > AHEAD_MICROS {
                report.notes.push(format!(
                    "the clock of {producer} was ahead of the log's, by up to {}: its times are wrong, their order is not",
                    long(*most)
                ));
            }
            if *least < -BEHIND_MICROS {
                report.notes.push(format!(
                    "the clock of {producer} was behind the log's, by up to {}, or its events waited in a spool",
                    long(*least)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_off_is_noted_each_way_once() {
        let mut clocks = Clocks::default();
        let at = |minutes: i64| Timestamp::from_micros(minutes * 60_000_000);
        clocks.see("right", at(100), at(101));
        for minutes in [100, 160, 130] {
            clocks.see("fast", at(minutes), at(100));
        }
        clocks.see("slow", at(40), at(100));
        let mut report = Report::new();
        clocks.finish(&mut report);
        assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
        assert!(
            report.notes[0].contains("fast was ahead"),
            "{:?}",
            report.notes
        );
        assert!(report.notes[0].contains("1h"), "{:?}", report.notes);
        assert!(
            report.notes[1].contains("slow was behind"),
            "{:?}",
            report.notes
        );
    }
}
