//! Finds one session among all files.
//!
//! Files are asked by their indexes, several at a time. A log keeps a session in one shard, which follows from the
//! session's id and the number of shards; so when enough of an id is given, the files of that shard are asked first, and
//! mostly they alone. How many shards a log has is not written in its files. It is taken from their names, and believed
//! only when it is so for many other sessions; a log for which it is not certain is asked in all of its files, and so are
//! all logs when nothing was found: the sessions of gateways and recorders themselves lie in any shard.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use hoop_schema::{Class, SessionId, SourceId};

use crate::evidence::{Catalog, Error, Evidence, StoredFile};
use crate::exit::Failure;
use crate::output::Progress;
use crate::sessions::{Found, View};

/// Digits of an id that say its shard: those of its first eight bytes.
const SHARD_DIGITS: usize = 16;

/// So many sessions lying where they should, and none elsewhere, make a number of shards certain: by chance, each of them
/// does so at most every other time.
const SURE_AFTER: u64 = 20;

/// The log that a file was recorded from.
type Log = (Class, SourceId);

/// What is known of the number of shards of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shards {
    count: u32,
    certain: bool,
    at_home: u64,
    astray: u64,
}

/// A search under way.
struct Search<'a> {
    view: &'a View,
    prefix: &'a str,
    shards: BTreeMap<Log, Shards>,
    /// What was found, with the file's place in the catalog.
    found: BTreeMap<SessionId, Vec<(usize, Part)>>,
    damaged: Vec<(usize, Error)>,
}

type Part = (StoredFile, u64, u64);

impl View {
    /// The one session whose id begins with `prefix`, and the files that hold parts of it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn find(&self, prefix: &str, progress: &mut Progress) -> Result<Found, Failure> {
        let prefix = prefix.trim().to_lowercase();
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::usage(format!(
                "{prefix:?} is no session id: give its first hexadecimal digits, as `hoop-replay list` shows them"
            )));
        }
        let mut search = Search {
            view: self,
            prefix: &prefix,
            shards: shards_of(&self.catalog, &self.evidence),
            found: BTreeMap::new(),
            damaged: Vec::new(),
        };
        let (first, rest) = search.where_to_look();
        search.look_into(first, progress).await?;
        let rest = search.still_to_look_into(rest);
        search.look_into(rest, progress).await?;
        search.end()
    }
}

impl Search<'_> {
    /// Which files to look into first, and which others there are, by their places in the catalog.
    fn where_to_look(&self) -> (Vec<usize>, Vec<usize>) {
        let all = 0..self.view.catalog.files.len();
        let Some(head) = head(self.prefix) else {
            return (all.collect(), Vec::new());
        };
        all.partition(|place| {
            let file = &self.view.catalog.files[*place];
            let shards = self.shards[&log_of(file)].count;
            head % u64::from(shards) == u64::from(file.name.shard.0)
        })
    }

    /// Those of the other files that may hold more of what was found, or something where nothing was.
    fn still_to_look_into(&self, rest: Vec<usize>) -> Vec<usize> {
        let mut rest = rest;
        if !self.found.is_empty() {
            rest.retain(|place| {
                let file = &self.view.catalog.files[*place];
                !self.shards[&log_of(file)].is_sure()
            });
        }
        rest
    }

    async fn look_into(
        &mut self,
        places: Vec<usize>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let Self { view, prefix, .. } = *self;
        let wanted = |id: &str| id.starts_with(prefix);
        let bytes = |file: &StoredFile| file.index_bytes.unwrap_or(file.bytes);
        let files = &view.catalog.files;
        progress.expect(places.iter().map(|place| bytes(&files[*place])).sum());
        let in_question: BTreeMap<Log, u32> = match head(prefix) {
            Some(_) => {
                let in_question = self.shards.iter().filter(|(_, shards)| shards.matter());
                let count = |(log, shards): (&Log, &Shards)| (log.clone(), shards.count);
                in_question.map(count).collect()
            }
            None => BTreeMap::new(),
        };
        let ask = |place: usize| {
            let file = &files[place];
            let count = in_question.get(&log_of(file)).copied();
            async move { (place, view.evidence.sessions_of(file, wanted, count).await) }
        };
        let mut answers = stream::iter(places)
            .map(ask)
            .buffered(view.evidence.reach.requests_at_once());
        while let Some((place, answer)) = answers.next().await {
            let file = &files[place];
            progress.advance(bytes(file), &file.name.to_string());
            match answer {
                Ok(part) => {
                    if let Some(shards) = self.shards.get_mut(&log_of(file)) {
                        shards.at_home += part.at_home;
                        shards.astray += part.astray;
                    }
                    for rows in part.sessions {
                        let part = (file.clone(), rows.first_row, rows.row_count);
                        let parts = self.found.entry(rows.session_id).or_default();
                        parts.push((place, part));
                    }
                }
                Err(e @ Error::Damaged { .. }) => self.damaged.push((place, e)),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// What was found, in the files and in the tails.
    fn end(mut self) -> Result<Found, Failure> {
        for (session, _) in self.view.tail_sessions() {
            if session.to_string().starts_with(self.prefix) {
                self.found.entry(session).or_default();
            }
        }
        self.damaged.sort_by_key(|(place, _)| *place);
        let mut damaged: Vec<Error> = self.damaged.into_iter().map(|(_, e)| e).collect();
        let prefix = self.prefix;
        let mut found = self.found.into_iter();
        match (found.next(), found.next()) {
            (Some((session_id, mut parts)), None) => {
                parts.sort_by_key(|(place, _)| *place);
                Ok(Found {
                    session_id,
                    parts: parts.into_iter().map(|(_, part)| part).collect(),
                    damaged,
                })
            }
            (Some((first, _)), Some((second, _))) => Err(Failure::usage(format!(
                "{} sessions begin with {prefix}, such as {first} and {second}: give more digits",
                2 + found.count()
            ))),
            (None, _) => match damaged.pop() {
                Some(e) => Err(e.into()),
                None => Err(Failure::not_found(format!(
                    "no session begins with {prefix}: see `hoop-replay list --all` for those there are"
                ))),
            },
        }
    }
}

impl Shards {
    /// Whether other sessions have to say whether their number is right: it costs a column of each index.
    fn matter(&self) -> bool {
        self.count > 1 && !self.certain
    }

    fn is_sure(self) -> bool {
        self.certain || self.astray == 0 && self.at_home >= SURE_AFTER
    }
}

/// The number that a session's shard is the remainder of, if so much of its id is given.
fn head(prefix: &str) -> Option<u64> {
    u64::from_str_radix(prefix.get(..SHARD_DIGITS)?, 16).ok()
}

fn log_of(file: &StoredFile) -> Log {
    (file.name.class.clone(), file.name.source)
}

/// How many shards each log has: as it says itself where it is at hand, else one more than the last that has a file.
fn shards_of(catalog: &Catalog, evidence: &Evidence) -> BTreeMap<Log, Shards> {
    let mut shards: BTreeMap<Log, Shards> = BTreeMap::new();
    for file in &catalog.files {
        let known = shards.entry(log_of(file)).or_insert(Shards {
            count: 1,
            certain: false,
            at_home: 0,
            astray: 0,
        });
        known.count = known.count.max(file.name.shard.0.saturating_add(1));
    }
    for log in &evidence.logs {
        if let Some(known) = shards.get_mut(&(log.class().clone(), log.source())) {
            known.count = log.shards().max(1);
            known.certain = true;
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_follows_from_the_first_sixteen_digits() {
        for number in [0u64, 1, 7, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mut id = [0xee; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let session = SessionId::from_bytes(id);
            let text = session.to_string();
            for shards in [1, 3, 8, 256] {
                let home = head(&text).unwrap() % u64::from(shards);
                assert_eq!(home, u64::from(session.shard(shards).0));
                assert_eq!(head(&text[..16]), head(&text));
            }
            assert_eq!(head(&text[..15]), None);
        }
    }

    #[test]
    fn a_number_of_shards_is_believed_when_many_sessions_speak_for_it_and_none_against() {
        let shards = Shards {
            count: 8,
            certain: false,
            at_home: SURE_AFTER,
            astray: 0,
        };
        assert!(shards.is_sure());
        let against = Shards {
            astray: 1,
            ..shards
        };
        assert!(!against.is_sure());
        let few = Shards {
            at_home: SURE_AFTER - 1,
            ..shards
        };
        assert!(!few.is_sure());
        let said = Shards {
            certain: true,
            ..few
        };
        assert!(said.is_sure());
    }
}
