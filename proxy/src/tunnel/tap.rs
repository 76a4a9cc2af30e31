//! What is recorded of a stream: fed with copies of the bytes of both sides before they are forwarded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hoop_schema::kinds::request::{Durability, Level, Masked};
use hoop_schema::kinds::stream::{Channel, ConnectionState};

use super::Direction;
use super::channels::{DecodeError, Decoder, Item};
use crate::mask::{MaskKey, Scanner, TextRules};
use crate::policy::Verdict;
use crate::record::{Flow, Place, StreamRecorder};

/// Decodes a stream and records it.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Nothing for what is not decoded.
    decoder: Option<Decoder>,
    /// Whether a stream that cannot be decoded goes on.
    lenient: bool,
    /// Whether one that cannot be recorded in full is closed.
    strict: bool,
    recorder: StreamRecorder,
    masking: Option<Masking>,
    connections: BTreeMap<u32, Forwarded>,
    is_over: bool,
}

/// The masking rules that hold for the record of a stream.
#[derive(Debug)]
struct Masking {
    rules: Arc<TextRules>,
    key: Arc<MaskKey>,
    channels: HashMap<ChannelKey, MaskedChannel>,
    /// In channels that are over.
    masked: u64,
}

/// A channel, and its connection where it has one.
type ChannelKey = (Channel, Option<u32>);

/// A channel whose record is masked.
#[derive(Debug)]
struct MaskedChannel {
    scanner: Scanner,
    /// How much of it was recorded, in bytes.
    offset: u64,
}

/// A forwarded connection that is open.
#[derive(Debug, Default)]
struct Forwarded {
    port: u16,
    bytes_in: u64,
    bytes_out: u64,
    closed_in: bool,
    closed_out: bool,
}

/// Why a stream must be closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untapped {
    #[error("the stream could not be decoded, so it could not be recorded: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("the stream could not be recorded in full")]
    Unrecorded,
}

impl Tap {
    pub(crate) fn new(
        decoder: Option<Decoder>,
        verdict: &Verdict,
        key: &Arc<MaskKey>,
        recorder: StreamRecorder,
    ) -> Self {
        let rules = verdict.masking.as_ref().and_then(|m| m.record().text());
        let masking = rules.map(|rules| Masking {
            rules: Arc::clone(rules),
            key: Arc::clone(key),
            channels: HashMap::new(),
            masked: 0,
        });
        Self {
            decoder,
            lenient: verdict.level == Level::Metadata,
            strict: verdict.durability != Durability::BestEffort,
            recorder,
            masking,
            connections: BTreeMap::new(),
            is_over: false,
        }
    }

    /// Takes the next bytes of one side.
    pub(super) fn push(&mut self, from: Direction, bytes: &[u8]) -> Result<(), Untapped> {
        let length = bytes.len() as u64;
        match from {
            Direction::FromClient => self.recorder.passed(length, 0),
            Direction::FromServer => self.recorder.passed(0, length),
        }
        self.decode(|decoder, emit| decoder.push(from, bytes, emit))
    }

    /// One side is at its end.
    pub(super) fn finish(&mut self, from: Direction) -> Result<(), Untapped> {
        self.decode(|decoder, emit| decoder.finish(from, emit))
    }

    /// What ends a command for the client, if that can be said at this moment; see [`Decoder::parting`].
    pub(super) fn parting(&self, status: &[u8]) -> Option<Vec<u8>> {
        self.decoder.as_ref()?.parting(status)
    }

    /// Whether the command's status was seen: whoever closes now, it is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Waits until there is memory for the record of more.
    pub(super) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        self.recorder.room()
    }

    /// The recorder, once the stream is over: every forwarded connection that is still open ends with it.
    pub(super) fn into_recorder(mut self) -> (StreamRecorder, Masked) {
        let open = self.masking.as_ref().map(|m| m.channels.keys().copied());
        for (channel, connection) in open.map(Vec::from_iter).unwrap_or_default() {
            self.end_of_channel(channel, connection);
        }
        for (number, open) in std::mem::take(&mut self.connections) {
            let bytes = (open.bytes_in, open.bytes_out);
            self.recorder
                .connection(number, open.port, ConnectionState::Closed, bytes);
        }
        let masked = Masked {
            count: self.masking.map_or(0, |masking| masking.masked),
            paths: Vec::new(),
        };
        (self.recorder, masked)
    }

    pub(super) fn recorder(&mut self) -> &mut StreamRecorder {
        &mut self.recorder
    }

    fn decode(
        &mut self,
        feed: impl FnOnce(&mut Decoder, &mut dyn FnMut(Item<'_>)) -> Result<(), DecodeError>,
    ) -> Result<(), Untapped> {
        let Some(mut decoder) = self.decoder.take() else {
            return Ok(());
        };
        let mut flow = Flow::Recorded;
        let result = feed(&mut decoder, &mut |item| {
            if self.record(&item) == Flow::Lossy {
                flow = Flow::Lossy;
            }
        });
        match result {
            // Not even the numbers of connections can be told any more.
            Err(_) if self.lenient => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(()) => self.decoder = Some(decoder),
        }
        if flow == Flow::Lossy && self.strict {
            return Err(Untapped::Unrecorded);
        }
        Ok(())
    }

    fn record(&mut self, item: &Item<'_>) -> Flow {
        match *item {
            Item::Data {
                channel,
                connection,
                offset,
                bytes,
            } => {
                if let Some(open) = connection.and_then(|c| self.connections.get_mut(&c)) {
                    match channel {
                        Channel::PortIn => open.bytes_in += bytes.len() as u64,
                        Channel::PortOut => open.bytes_out += bytes.len() as u64,
                        _ => {}
                    }
                }
                let place = Place {
                    channel,
                    connection,
                    offset,
                };
                self.record_data(place, bytes)
            }
            Item::Resize { width, height } => self.recorder.resize(width, height),
            Item::Status(ref status) => {
                self.is_over = true;
                if let Some(code) = status.exit_code {
                    self.recorder.exited(code);
                }
                Flow::Recorded
            }
            Item::PortOpened {
                connection, port, ..
            } => {
                let open = Forwarded {
                    port,
                    ..Forwarded::default()
                };
                self.connections.insert(connection, open);
                self.recorder
                    .connection(connection, port, ConnectionState::Opened, (0, 0))
            }
            Item::Closed {
                channel,
                connection,
            } => {
                self.end_of_channel(channel, connection);
                connection.map_or(Flow::Recorded, |number| self.close(channel, number))
            }
            Item::End { .. } => Flow::Recorded,
        }
    }

    /// Records a piece of a channel. What may be the beginning of a secret waits for more: only the record does.
    fn record_data(&mut self, place: Place, bytes: &[u8]) -> Flow {
        let Some(masking) = &mut self.masking else {
            return self.recorder.push_at(place, bytes);
        };
        let key = (place.channel, place.connection);
        let channel = masking
            .channels
            .entry(key)
            .or_insert_with(|| MaskedChannel {
                scanner: Scanner::new(Arc::clone(&masking.rules), Arc::clone(&masking.key)),
                offset: 0,
            });
        let mut masked = Vec::with_capacity(bytes.len());
        channel.scanner.push(bytes, &mut masked);
        let offset = channel.offset;
        channel.offset += masked.len() as u64;
        self.recorder.push_at(Place { offset, ..place }, &masked)
    }

    /// Records what waits of a channel that is over.
    fn end_of_channel(&mut self, channel: Channel, connection: Option<u32>) {
        let Some(masking) = &mut self.masking else {
            return;
        };
        let Some(over) = masking.channels.get_mut(&(channel, connection)) else {
            return;
        };
        // Its sender may say more all the same.
        let next = Scanner::new(Arc::clone(&masking.rules), Arc::clone(&masking.key));
        let mut scanner = std::mem::replace(&mut over.scanner, next);
        let mut rest = Vec::new();
        scanner.finish(&mut rest);
        masking.masked += scanner.masked();
        let place = Place {
            channel,
            connection,
            offset: over.offset,
        };
        over.offset += rest.len() as u64;
        self.recorder.push_at(place, &rest);
    }

    /// One side of a forwarded connection is over; with the other it is closed.
    fn close(&mut self, channel: Channel, connection: u32) -> Flow {
        let Some(open) = self.connections.get_mut(&connection) else {
            return Flow::Recorded;
        };
        match channel {
            Channel::PortIn => open.closed_in = true,
            Channel::PortOut => open.closed_out = true,
            _ => {}
        }
        if !(open.closed_in && open.closed_out) {
            return Flow::Recorded;
        }
        let (port, bytes) = (open.port, (open.bytes_in, open.bytes_out));
        self.connections.remove(&connection);
        if let Some(masking) = &mut self.masking {
            masking
                .channels
                .retain(|(_, of), _| *of != Some(connection));
        }
        self.recorder
            .connection(connection, port, ConnectionState::Closed, bytes)
    }
}
