//! Events that are made beside the log: a recorder's gaps and notices, and what is said about evidence, such as legal
//! holds. Their ids are cut from hashes of their places, so whoever makes one again makes the same one.

use crate::bytes::encode;
use crate::chain::Strand;
use crate::event::{Envelope, FORMAT_VERSION, Kind};
use crate::ids::{Class, EventHash, EventId, ProducerId, SessionId, Shard};
use crate::session::Basis;
use crate::time::Timestamp;

/// One strand of a producer: its own events in one class and shard, or its notices beside them.
#[derive(Debug, Clone)]
pub struct OwnEvents {
    cluster: String,
    producer_id: ProducerId,
    epoch: u64,
    class: Class,
    shard: Shard,
    session_id: SessionId,
    strand: Strand,
}

impl OwnEvents {
    /// Begins the strand of a producer that started in the microsecond `epoch`.
    pub fn new(
        cluster: &str,
        producer_id: &ProducerId,
        epoch: u64,
        class: &Class,
        shard: Shard,
    ) -> Self {
        let basis = Basis::Producer {
            producer_id: producer_id.clone(),
            producer_epoch: epoch,
            class: class.clone(),
            shard,
        };
        Self {
            cluster: cluster.to_owned(),
            producer_id: producer_id.clone(),
            epoch,
            class: class.clone(),
            shard,
            session_id: basis.session_id(0),
            strand: Strand::default(),
        }
    }

    /// Whether no event was made yet.
    pub fn is_empty(&self) -> bool {
        self.strand.count() == 0
    }

    /// Makes the strand's next event. Its id is cut from a hash of its place, so the same place has the same id.
    ///
    /// # Panics
    /// When the event is longer than an event may be; what is said here is bounded by who says it.
    pub fn make(&mut self, now: Timestamp, kind: &Kind) -> Vec<u8> {
        let (session_seq, prev_hash) = self.strand.next();
        let place = format!(
            "{}/{}/{}/{}/{session_seq}/{:?}",
            self.producer_id, self.epoch, self.class, self.shard, prev_hash
        );
        let envelope = Envelope {
            v: FORMAT_VERSION,
            event_id: event_id(now, place.as_bytes()),
            ts: now,
            cluster: self.cluster.clone(),
            producer_id: self.producer_id.clone(),
            producer_epoch: self.epoch,
            // A recorder writes one strand per class and shard, so both count alike.
            producer_seq: session_seq,
            class: self.class.clone(),
            shard: self.shard,
            session_id: self.session_id,
            session_seq,
            prev_hash,
        };
        let event = encode(&envelope, kind)
            .expect("events made beside the log are bounded and have a JSON form");
        self.strand.push(event.hash);
        event.bytes
    }
}

/// A UUIDv7 of this time whose other bits are cut from the hash of a text: nothing here has randomness.
pub fn event_id(now: Timestamp, of: &[u8]) -> EventId {
    let hash = EventHash::of(of);
    let random: [u8; 10] = hash.as_bytes()[..10]
        .try_into()
        .expect("ten of thirty-two bytes");
    EventId::new(u64::try_from(now.as_millis()).unwrap_or_default(), &random)
}
