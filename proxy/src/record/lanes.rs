//! All lanes of a journal, and writing into them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoop_schema::bytes::{EVENT_BYTES_MAX, EncodedFields, encode_fields};
use hoop_schema::chain::Strand;
use hoop_schema::kinds::request::RequestAttributes;
use hoop_schema::kinds::session::{SessionEndCause, SessionStart};
use hoop_schema::{
    Class, Envelope, EventHash, EventId, FORMAT_VERSION, Kind, SessionId, Shard, Timestamp,
};
use hoop_sinks::log::EventWriter;
use rand::SeedableRng;
use rand::rngs::{SmallRng, SysRng};

use super::budget::{Budget, Share};
use super::delivery::{Delivery, Patience, send};
use super::lane::{Fate, Lane, Numbered};
use super::metrics::{DropReason, Metrics};
use super::secrecy::ContentEncryption;
use super::sessions::Session;
use super::{CLUSTER_BYTES_MAX, Clock, Config, Limits, RecordError, StartError};

/// The most that an envelope and the kind's name take, in bytes: names of at most 253, 128 and 32 characters, of
/// which the first may need six bytes each, and 500 bytes of everything else.
const ENVELOPE_BYTES_MAX: usize = 6 * CLUSTER_BYTES_MAX + 128 + 32 + 500;

/// The longest fields that fit into an event beside any envelope.
pub(super) const FIELDS_BYTES_MAX: usize = EVENT_BYTES_MAX - ENVELOPE_BYTES_MAX;

/// How often a stopping journal looks whether everything has its answer.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);

/// The lanes of every class, and what they share.
pub(super) struct Lanes {
    logs: Vec<Log>,
    lanes: Vec<Arc<Lane>>,
    standard: Class,
    epoch: u64,
    clock: Clock,
    limits: Limits,
    encryption: Option<ContentEncryption>,
    budget: Arc<Budget>,
    metrics: Metrics,
    under_way: Arc<AtomicUsize>,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Log {
    writer: Arc<dyn EventWriter>,
    first_lane: usize,
}

/// Which of the journal's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogIndex(u16);

/// Counts one event without an answer, until dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("epoch", &self.epoch)
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl Lanes {
    pub(super) fn build(
        config: Config,
        writers: Vec<Arc<dyn EventWriter>>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Arc<Self>, StartError> {
        let length = config.cluster.len();
        if length == 0 || length > CLUSTER_BYTES_MAX {
            return Err(StartError::ClusterName(length));
        }
        let mut classes = HashSet::new();
        if let Some(twice) = writers.iter().find(|w| !classes.insert(w.class().clone())) {
            return Err(StartError::TwoLogs(twice.class().clone()));
        }
        if !classes.contains(&config.standard) {
            return Err(StartError::NoLog(config.standard));
        }
        let epoch = u64::try_from(clock().as_micros()).unwrap_or(0);
        let mut seed = SmallRng::try_from_rng(&mut SysRng).map_err(StartError::NoRandomness)?;
        let (mut logs, mut lanes) = (Vec::new(), Vec::new());
        for writer in writers {
            let first_lane = lanes.len();
            for shard in (0..writer.shards()).map(Shard) {
                let envelope = Envelope {
                    v: FORMAT_VERSION,
                    event_id: EventId::new(0, &[0; 10]),
                    ts: Timestamp::default(),
                    cluster: config.cluster.clone(),
                    producer_id: config.producer_id.clone(),
                    producer_epoch: epoch,
                    producer_seq: 0,
                    class: writer.class().clone(),
                    shard,
                    session_id: SessionId::from_bytes([0; 16]),
                    session_seq: 0,
                    prev_hash: None::<EventHash>,
                };
                let random = SmallRng::from_rng(&mut seed);
                lanes.push(Arc::new(Lane::new(
                    Arc::clone(&writer),
                    shard,
                    envelope,
                    random,
                )));
            }
            logs.push(Log { writer, first_lane });
        }
        Ok(Arc::new(Self {
            logs,
            lanes,
            standard: config.standard,
            epoch,
            clock,
            budget: Budget::new(
                config.limits.bytes_in_flight_max,
                metrics.bytes_in_flight.clone(),
            ),
            limits: config.limits,
            encryption: config.encryption,
            metrics,
            under_way: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        }))
    }

    pub(super) fn log_of(&self, class: &Class) -> Option<LogIndex> {
        let index = self
            .logs
            .iter()
            .position(|log| log.writer.class() == class)?;
        u16::try_from(index).ok().map(LogIndex)
    }

    pub(super) fn class_of(&self, log: LogIndex) -> &Class {
        self.logs[usize::from(log.0)].writer.class()
    }

    pub(super) fn all(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    pub(super) fn standard(&self) -> &Class {
        &self.standard
    }

    pub(super) fn producer_epoch(&self) -> u64 {
        self.epoch
    }

    /// The configuration's part of a lane's template.
    pub(super) fn identity(&self) -> (String, hoop_schema::ProducerId) {
        self.lanes[0].lock().identity()
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn encryption(&self) -> Option<&ContentEncryption> {
        self.encryption.as_ref()
    }

    /// Whether content that goes to this log is encrypted.
    pub(super) fn encrypts(&self, log: LogIndex) -> bool {
        let class = self.class_of(log);
        self.encryption
            .as_ref()
            .is_some_and(|encryption| encryption.classes.contains(class))
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(super) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    pub(super) fn under_way(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    fn lane(&self, log: LogIndex, session: SessionId) -> &Arc<Lane> {
        let log = &self.logs[usize::from(log.0)];
        &self.lanes[log.first_lane + session.shard(log.writer.shards()).0 as usize]
    }

    /// Writes one event of a session, after the `session.start` of its strand if that is new. `request` says who
    /// works in the session.
    ///
    /// # Errors
    /// When somebody waits and there is no room: nothing has a number then. [`RecordError::TooLong`] always.
    pub(super) fn write(
        self: &Arc<Self>,
        session: &Session,
        request: &RequestAttributes,
        log: LogIndex,
        fields: &EncodedFields,
        patience: Patience,
        share: Share,
    ) -> Result<Delivery, RecordError> {
        if fields.len() > FIELDS_BYTES_MAX {
            self.metrics.drop_event(DropReason::TooLong);
            return Err(RecordError::TooLong(fields.len()));
        }
        let held = self.budget.try_take(fields.len(), share);
        if held.is_none() && patience.is_short() {
            self.metrics.drop_event(DropReason::Unnumbered);
            return Err(RecordError::Overloaded);
        }
        let fate = match (&held, patience) {
            (None, _) => Fate::Drop,
            (Some(_), Patience::Short) => Fate::Append,
            (Some(_), Patience::Spool) => Fate::Spool,
            (Some(_), Patience::Long | Patience::Endless) => Fate::Linger,
        };
        let lane = self.lane(log, session.id);
        let (start, event) = {
            let mut state = lane.lock();
            if patience.is_short() && state.losses() >= self.limits.losses_max {
                self.metrics.drop_event(DropReason::Unnumbered);
                return Err(RecordError::Unavailable(None));
            }
            let mut strands = session.strands.lock();
            let strand = strands.of(log);
            let mut start = None;
            if strand.count() == 0 {
                let fields = start_fields(session, request)?;
                start = Some(self.number(lane, &mut state, (session.id, strand), &fields, fate)?);
            }
            (
                start,
                self.number(lane, &mut state, (session.id, strand), fields, fate)?,
            )
        };
        if let Some(start) = start {
            let held = held
                .is_some()
                .then(|| self.budget.take(start.outgoing.bytes.len()));
            send(self, lane, start, held, Patience::Long);
        }
        Ok(send(self, lane, event, held, patience))
    }

    fn number(
        &self,
        lane: &Lane,
        state: &mut super::lane::State,
        strand: (SessionId, &mut Strand),
        fields: &EncodedFields,
        fate: Fate,
    ) -> Result<Numbered, RecordError> {
        lane.number(state, self.now(), strand, fields, fate)
            .map_err(|_| {
                self.metrics.drop_event(DropReason::TooLong);
                RecordError::TooLong(fields.len())
            })
    }

    /// Writes the last event of one strand of a session. The caller knows that nothing else is written to it.
    pub(super) fn write_end(
        self: &Arc<Self>,
        session: &Session,
        log: LogIndex,
        fields: &EncodedFields,
    ) {
        let held = self.budget.try_take(fields.len(), Share::Whole);
        let fate = if held.is_some() {
            Fate::Linger
        } else {
            Fate::Drop
        };
        let lane = self.lane(log, session.id);
        let event = {
            let mut state = lane.lock();
            let mut strands = session.strands.lock();
            self.number(
                lane,
                &mut state,
                (session.id, strands.of(log)),
                fields,
                fate,
            )
        };
        if let Ok(event) = event {
            send(self, lane, event, held, Patience::Long);
        }
    }

    /// Writes an event of the producer itself onto the first lane of the standard class.
    pub(super) fn notice(self: &Arc<Self>, kind: &Kind) {
        let lane = self.lanes.iter().find(|lane| lane.class == self.standard);
        let (Some(lane), Ok(fields)) = (lane, encode_fields(kind)) else {
            tracing::error!(kind = kind.name(), "notice could not be encoded");
            return;
        };
        self.write_own(lane, &fields);
    }

    pub(super) fn write_own(self: &Arc<Self>, lane: &Arc<Lane>, fields: &EncodedFields) {
        if fields.len() > FIELDS_BYTES_MAX {
            self.metrics.drop_event(DropReason::TooLong);
            tracing::error!(kind = fields.name(), "notice is too long for an event");
            return;
        }
        let written = lane.number_own(&mut lane.lock(), self.now(), fields);
        match written {
            Ok((start, event)) => self.send_own(lane, start.into_iter().chain([event])),
            Err(error) => tracing::error!(%error, "notice could not be encoded"),
        }
    }

    /// Ends the producer's session of one lane.
    pub(super) fn end_own(self: &Arc<Self>, lane: &Arc<Lane>, cause: SessionEndCause) {
        let written = lane.end_own(&mut lane.lock(), self.now(), cause);
        match written {
            Ok(events) => self.send_own(lane, events),
            Err(error) => tracing::error!(%error, "session end could not be encoded"),
        }
    }

    pub(super) fn end_own_sessions(self: &Arc<Self>) {
        for lane in &self.lanes {
            self.end_own(lane, SessionEndCause::Shutdown);
        }
    }

    /// Sees numbered events of the producer itself to their end.
    pub(super) fn send_own(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        events: impl IntoIterator<Item = Numbered>,
    ) {
        for event in events {
            let held = self.budget.take(event.outgoing.bytes.len());
            send(self, lane, event, Some(held), Patience::Long);
        }
    }

    pub(super) async fn ready(&self) -> Result<(), RecordError> {
        if self.budget.is_full() {
            return Err(RecordError::Overloaded);
        }
        if self
            .lanes
            .iter()
            .any(|lane| lane.lock().losses() >= self.limits.losses_max)
        {
            return Err(RecordError::Unavailable(None));
        }
        for log in &self.logs {
            log.writer
                .ready()
                .await
                .map_err(|e| RecordError::Unavailable(Some(Arc::new(e))))?;
        }
        Ok(())
    }

    /// Waits until every event has its answer and every loss was told of.
    pub(super) async fn settle(&self) {
        while self.under_way.load(Ordering::Relaxed) > 0
            || self.lanes.iter().any(|l| l.lock().is_reporting())
        {
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    pub(super) async fn close(&self) {
        for log in &self.logs {
            log.writer.close().await;
        }
    }
}

fn start_fields(
    session: &Session,
    request: &RequestAttributes,
) -> Result<EncodedFields, RecordError> {
    let start = SessionStart {
        user: request.user.clone(),
        auth_method: request.auth_method,
        basis: session.basis,
        predecessor: session.predecessor,
        login: request.login.clone(),
        source_ip: request.source_ip.clone(),
        user_agent: request.user_agent.clone(),
        command: request.command.clone(),
    };
    let fields = encode_fields(&start.into()).map_err(|_| RecordError::TooLong(EVENT_BYTES_MAX))?;
    if fields.len() > FIELDS_BYTES_MAX {
        Err(RecordError::TooLong(fields.len()))
    } else {
        Ok(fields)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
