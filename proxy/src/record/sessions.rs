//! Which session a request joins, and when sessions end.
//!
//! A session is open from its first request until it has been idle for 15 minutes, has been open for 24 hours, its
//! connection has closed, or the gateway stops. It never ends while one of its requests is open, so its
//! `session.end` is the last event of each of its strands. What comes back after that is a new session, the next
//! *part* of the same basis, and names its predecessor.
//!
//! Memory: a session takes its entry here and one strand per class it writes to; who works in it is known to each
//! request anyway and is not kept. See [`table`] for the bounds.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hoop_schema::SessionId;
use hoop_schema::bytes::encode_fields;
use hoop_schema::chain::Strand;
use hoop_schema::kinds::request::{AuthMethod, RequestAttributes};
use hoop_schema::kinds::session::{SessionBasis, SessionEnd, StrandState};
use hoop_schema::session::{Basis, KUBECTL_SESSION_BYTES_MAX};
use parking_lot::Mutex;
use tokio::time::Instant;

mod table;

use super::lanes::{Lanes, LogIndex};
use super::secrecy::KeySlot;
use table::{Ended, Table};

/// How often idle sessions are looked for. A session may end that much later than its 15 minutes.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// From this many sessions of one connection on, those that have ended are forgotten now and then.
const BASES_MIN: usize = 64;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The id of the basis's first part, by which the session is found.
    base: SessionId,
    part: u32,
    pub(super) predecessor: Option<SessionId>,
    pub(super) basis: SessionBasis,
    pub(super) strands: Mutex<Strands>,
    /// What its content is encrypted with, if it is.
    pub(super) key: KeySlot,
}

/// The strands of a session, one per class that has events of it.
#[derive(Debug, Default)]
pub(super) struct Strands(Vec<(LogIndex, Strand)>);

/// All open sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    lanes: Arc<Lanes>,
    cluster: String,
    producer_id: hoop_schema::ProducerId,
    table: Mutex<Table>,
    began: Instant,
}

/// One accepted connection. Clones are the same connection; the last one that is dropped ends it.
#[derive(Debug, Clone)]
pub struct Connection(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    sessions: Arc<Sessions>,
    number: u64,
    source_ip: IpAddr,
    /// Base ids of the sessions that hang on this connection.
    bases: Mutex<HashSet<SessionId>>,
}

/// One open request's hold on its session.
#[derive(Debug)]
pub(super) struct Ticket {
    sessions: Arc<Sessions>,
    pub(super) session: Arc<Session>,
}

impl Session {
    /// The ids that it is known by: its own, the first one of its basis, and that of its predecessor.
    pub(super) fn names(&self) -> [Option<SessionId>; 3] {
        [Some(self.id), Some(self.base), self.predecessor]
    }
}

impl Strands {
    /// The strand in this log; begins it when it is new.
    pub(super) fn of(&mut self, log: LogIndex) -> &mut Strand {
        let at = match self.0.iter().position(|(l, _)| *l == log) {
            Some(at) => at,
            None => {
                // Most sessions have one strand; the usual growth to four would waste 150 bytes each.
                self.0.reserve_exact(1);
                self.0.push((log, Strand::default()));
                self.0.len() - 1
            }
        };
        &mut self.0[at].1
    }
}

impl Connection {
    pub(super) fn new(sessions: Arc<Sessions>, number: u64, source_ip: IpAddr) -> Self {
        Self(Arc::new(ConnectionState {
            sessions,
            number,
            source_ip,
            bases: Mutex::default(),
        }))
    }

    /// Number of the connection in this epoch, from 1.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Address of the peer.
    pub fn source_ip(&self) -> IpAddr {
        self.0.source_ip
    }
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        let bases = std::mem::take(self.bases.get_mut());
        let ended = self.sessions.table.lock().disconnect(&bases);
        self.sessions.end(ended);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = self.sessions.now();
        let cause = self.sessions.table.lock().close(&self.session, now);
        if let Some(cause) = cause {
            let session = Arc::clone(&self.session);
            self.sessions.end(vec![Ended { session, cause }]);
        }
    }
}

impl Sessions {
    pub(super) fn new(lanes: Arc<Lanes>, sessions_max: usize) -> Arc<Self> {
        let (cluster, producer_id) = lanes.identity();
        Arc::new(Self {
            lanes,
            cluster,
            producer_id,
            table: Mutex::new(Table::new(sessions_max)),
            began: Instant::now(),
        })
    }

    /// Joins the request's session, or begins it.
    pub(super) fn open(
        self: &Arc<Self>,
        connection: &Connection,
        request: &RequestAttributes,
        kubectl_session: Option<&str>,
    ) -> Ticket {
        let basis = self.basis(connection, request, kubectl_session);
        let now = self.now();
        let (session, new, ended) = self.table.lock().open(&basis, now);
        if new {
            self.count();
        }
        if new && session.basis == SessionBasis::Connection {
            let mut bases = connection.0.bases.lock();
            if bases.len() == bases.capacity() && bases.len() >= BASES_MIN {
                // Before it grows: a connection that changes its user all the time keeps only what is open.
                let table = self.table.lock();
                bases.retain(|base| table.contains(base));
            }
            bases.insert(session.base);
        }
        self.end(ended);
        Ticket {
            sessions: Arc::clone(self),
            session,
        }
    }

    fn basis(
        &self,
        connection: &Connection,
        request: &RequestAttributes,
        kubectl_session: Option<&str>,
    ) -> Basis {
        let username = request
            .user
            .as_ref()
            .map_or("", |user| user.username.as_str());
        let identified = request.auth_method != AuthMethod::None && !username.is_empty();
        let header = kubectl_session
            .filter(|h| identified && !h.is_empty() && h.len() <= KUBECTL_SESSION_BYTES_MAX);
        match header {
            Some(header) => Basis::KubectlSession {
                cluster: self.cluster.clone(),
                auth_method: request.auth_method,
                username: username.to_owned(),
                header: header.to_owned(),
            },
            None => Basis::Connection {
                producer_id: self.producer_id.clone(),
                producer_epoch: self.lanes.producer_epoch(),
                connection: connection.0.number,
                username: username.to_owned(),
            },
        }
    }

    /// Ends every session: at once where no request is open, else when its last one closes.
    pub(super) fn end_all(&self) {
        let ended = self.table.lock().end_all();
        self.end(ended);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Writes the last event of every strand of sessions that have left the table.
    fn end(&self, ended: Vec<Ended>) {
        if ended.is_empty() {
            return;
        }
        for Ended { session, cause } in ended {
            let strands: Vec<_> = session.strands.lock().0.clone();
            let states = strands
                .iter()
                .filter_map(|(log, strand)| {
                    Some(StrandState {
                        class: self.lanes.class_of(*log).clone(),
                        count: strand.count(),
                        head: strand.head()?,
                    })
                })
                .collect();
            let end = SessionEnd {
                cause,
                strands: states,
            };
            match encode_fields(&end.into()) {
                Ok(fields) => strands
                    .iter()
                    .for_each(|(log, _)| self.lanes.write_end(&session, *log, &fields)),
                Err(error) => tracing::error!(%error, "session end could not be encoded"),
            }
        }
        self.count();
    }

    fn count(&self) {
        let open = i64::try_from(self.table.lock().len()).unwrap_or(i64::MAX);
        self.lanes.metrics().sessions_open.set(open);
    }
}

/// Ends idle and old sessions, for as long as there are any to look after.
pub(super) async fn sweep(sessions: Weak<Sessions>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let now = sessions.now();
        let ended = sessions.table.lock().sweep(now);
        sessions.end(ended);
    }
}
