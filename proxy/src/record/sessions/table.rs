//! The open sessions, as a pure data structure: time comes in, ended sessions come out.
//!
//! Bounds: [`Table::new`] takes the most sessions that are kept open. Beyond it, the one that has been idle for
//! longest ends early; sessions with open requests never do, so the table can be longer by those, of which the
//! gateway's limit of open requests is the bound.
//!
//! A basis that comes back must not get an id again that it had in this epoch, since the second strand would collide
//! with the first. The last [`ENDED_MAX`] ended sessions are known exactly, so a successor can name its predecessor.
//! Of older ones only the highest part per bucket of ids is kept: whoever falls into that bucket begins one part
//! higher, without a predecessor. An id is never given twice, in a fixed amount of memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hoop_schema::SessionId;
use hoop_schema::kinds::session::SessionEndCause;
use hoop_schema::session::{Basis, SESSION_IDLE_MICROS, SESSION_OPEN_MICROS};
use parking_lot::Mutex;

use super::{KeySlot, Session, Strands};

/// Ended sessions that are remembered exactly: 65,536, some 4 MB.
const ENDED_MAX: usize = 1 << 16;

/// Buckets that remember the parts of older ones: 1 MiB once they are needed.
const BUCKETS: usize = 1 << 18;

/// Half-open queues are cleaned when they hold this many stale entries more than sessions.
const STALE_MIN: usize = 64;

const IDLE_MAX: Duration = Duration::from_micros(SESSION_IDLE_MICROS as u64);
const OPEN_MAX: Duration = Duration::from_micros(SESSION_OPEN_MICROS as u64);

/// The open sessions. All times are since the start of the journal and do not go back.
#[derive(Debug)]
pub(super) struct Table {
    open: HashMap<SessionId, Entry>,
    /// Rolled over while requests were open, by their own id: number of those requests.
    draining: HashMap<SessionId, u32>,
    /// Sessions in the order in which they became idle. Entries that are no longer true are skipped.
    idle: VecDeque<Idle>,
    ended: EndedBases,
    sessions_max: usize,
}

/// A session that has left the table; its last events are the caller's to write.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) session: Arc<Session>,
    pub(super) cause: SessionEndCause,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    requests: u32,
    began: Duration,
    idle_since: Duration,
    /// Why it ends when its last request closes.
    leaving: Option<SessionEndCause>,
}

#[derive(Debug)]
struct Idle {
    since: Duration,
    base: SessionId,
    part: u32,
}

/// Which parts were given to bases whose sessions have ended.
#[derive(Debug, Default)]
struct EndedBases {
    parts: HashMap<SessionId, u32>,
    order: VecDeque<SessionId>,
    /// Lowest part that is certainly new, per bucket.
    floors: Vec<u32>,
}

impl Table {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self {
            open: HashMap::new(),
            draining: HashMap::new(),
            idle: VecDeque::new(),
            ended: EndedBases::default(),
            sessions_max: sessions_max.max(1),
        }
    }

    /// Joins the open session of the basis, or begins one: the session, whether it is new, and what had to end.
    pub(super) fn open(
        &mut self,
        basis: &Basis,
        now: Duration,
    ) -> (Arc<Session>, bool, Vec<Ended>) {
        let base = basis.session_id(0);
        let mut ended = Vec::new();
        if let Some(entry) = self.open.get_mut(&base) {
            let idle = entry.requests == 0 && now.saturating_sub(entry.idle_since) >= IDLE_MAX;
            let old = now.saturating_sub(entry.began) >= OPEN_MAX;
            if !idle && !old {
                entry.requests += 1;
                return (Arc::clone(&entry.session), false, ended);
            }
            let cause = if idle {
                SessionEndCause::Idle
            } else {
                SessionEndCause::Rollover
            };
            ended.extend(self.leave(base, cause));
        }
        if self.open.len() >= self.sessions_max {
            ended.extend(self.evict());
        }
        let (part, predecessor) = self.ended.next_part(&base);
        let session = Arc::new(Session {
            id: if part == 0 {
                base
            } else {
                basis.session_id(part)
            },
            base,
            part,
            predecessor: predecessor.map(|part| basis.session_id(part)),
            basis: basis.kind(),
            strands: Mutex::new(Strands::default()),
            key: KeySlot::default(),
        });
        let entry = Entry {
            session: Arc::clone(&session),
            requests: 1,
            began: now,
            idle_since: now,
            leaving: None,
        };
        self.open.insert(base, entry);
        (session, true, ended)
    }

    /// One request of the session is over.
    pub(super) fn close(&mut self, session: &Session, now: Duration) -> Option<SessionEndCause> {
        if let Some(entry) = self.open.get_mut(&session.base)
            && entry.session.part == session.part
        {
            entry.requests -= 1;
            if entry.requests > 0 {
                return None;
            }
            if let Some(cause) = entry.leaving {
                self.remove(&session.base);
                return Some(cause);
            }
            entry.idle_since = now;
            self.idle.push_back(Idle {
                since: now,
                base: session.base,
                part: session.part,
            });
            self.forget_stale();
            return None;
        }
        let requests = self.draining.get_mut(&session.id)?;
        *requests -= 1;
        if *requests > 0 {
            return None;
        }
        self.draining.remove(&session.id);
        Some(SessionEndCause::Rollover)
    }

    /// Ends what has been idle for 15 minutes.
    pub(super) fn sweep(&mut self, now: Duration) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(first) = self.idle.front()
            && now.saturating_sub(first.since) >= IDLE_MAX
        {
            if self.is_true(first) {
                let base = first.base;
                ended.extend(self.leave(base, SessionEndCause::Idle));
            }
            self.idle.pop_front();
        }
        ended
    }

    /// A connection has closed: its sessions end, at once or when their last request closes.
    pub(super) fn disconnect<'a>(
        &mut self,
        bases: impl IntoIterator<Item = &'a SessionId>,
    ) -> Vec<Ended> {
        bases
            .into_iter()
            .filter_map(|base| self.end_or_mark(*base, SessionEndCause::Disconnected))
            .collect()
    }

    /// The gateway stops: every session ends, at once or when its last request closes.
    pub(super) fn end_all(&mut self) -> Vec<Ended> {
        let bases: Vec<SessionId> = self.open.keys().copied().collect();
        bases
            .into_iter()
            .filter_map(|base| self.end_or_mark(base, SessionEndCause::Shutdown))
            .collect()
    }

    /// Number of open sessions.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.draining.len()
    }

    /// Whether the basis with this id has an open session.
    pub(super) fn contains(&self, base: &SessionId) -> bool {
        self.open.contains_key(base)
    }

    fn end_or_mark(&mut self, base: SessionId, cause: SessionEndCause) -> Option<Ended> {
        let entry = self.open.get_mut(&base)?;
        if entry.requests > 0 {
            entry.leaving = Some(cause);
            return None;
        }
        self.remove(&base).map(|session| Ended { session, cause })
    }

    /// Takes a session out whose basis may come back. With open requests it is ended when they are over.
    fn leave(&mut self, base: SessionId, cause: SessionEndCause) -> Option<Ended> {
        let entry = self.open.remove(&base)?;
        self.ended.insert(base, entry.session.part);
        if entry.requests > 0 {
            self.draining.insert(entry.session.id, entry.requests);
            return None;
        }
        Some(Ended {
            session: entry.session,
            cause,
        })
    }

    fn remove(&mut self, base: &SessionId) -> Option<Arc<Session>> {
        let session = self.open.remove(base)?.session;
        self.ended.insert(*base, session.part);
        Some(session)
    }

    /// Ends the session that has been idle for longest.
    fn evict(&mut self) -> Option<Ended> {
        while let Some(first) = self.idle.pop_front() {
            if self.is_true(&first) {
                return self.leave(first.base, SessionEndCause::Idle);
            }
        }
        None
    }

    fn is_true(&self, idle: &Idle) -> bool {
        self.open.get(&idle.base).is_some_and(|entry| {
            entry.requests == 0 && entry.session.part == idle.part && entry.idle_since == idle.since
        })
    }

    fn forget_stale(&mut self) {
        if self.idle.len() > 2 * self.open.len() + STALE_MIN {
            let idle = std::mem::take(&mut self.idle);
            self.idle = idle.into_iter().filter(|idle| self.is_true(idle)).collect();
        }
    }
}

impl EndedBases {
    fn insert(&mut self, base: SessionId, part: u32) {
        self.parts.insert(base, part);
        self.order.push_back(base);
        while self.order.len() > ENDED_MAX {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let Some(part) = self.parts.remove(&oldest) else {
                continue;
            };
            if self.floors.is_empty() {
                self.floors = vec![0; BUCKETS];
            }
            let floor = &mut self.floors[bucket(&oldest)];
            *floor = (*floor).max(part.saturating_add(1));
        }
    }

    /// The part that the next session of the basis gets, and the part that it continues, where that is known.
    fn next_part(&mut self, base: &SessionId) -> (u32, Option<u32>) {
        match self.parts.remove(base) {
            Some(part) => (part.saturating_add(1), Some(part)),
            None => (self.floors.get(bucket(base)).copied().unwrap_or(0), None),
        }
    }
}

fn bucket(base: &SessionId) -> usize {
    base.shard(BUCKETS as u32).0 as usize
}

#[cfg(test)]
mod tests;
