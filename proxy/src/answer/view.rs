//! What the client and the record see of a body: the same, or each its own.

use std::sync::Arc;

use bytes::Bytes;
use hoop_schema::kinds::request::{Level, Masked};

use crate::mask::{MaskError, MaskHint, MaskKey, MaskMode, Masker, RuleView, Scanner, TextRules};
use crate::policy::Verdict;
use crate::record::AnswerRecorder;
use crate::request_info::RequestInfo;

/// What the client and the record see of a body.
#[derive(Debug)]
pub(super) enum View {
    /// Both the bytes as they came: nothing in them can be masked.
    AsItCame,
    /// The client the bytes as they came, the record their number: they could not be inspected.
    Unrecorded,
    /// Both the masked form.
    Masked(Filter),
    /// The client the bytes as they came, the record the masked form.
    RecordMasked(Filter),
    /// Each its own masked form.
    Apart(Box<Apart>),
}

/// Two masked forms.
#[derive(Debug)]
pub(super) struct Apart {
    client: Filter,
    record: Filter,
}

/// Masks one body for one view.
#[derive(Debug)]
pub(super) enum Filter {
    /// JSON, by kinds and fields.
    Json(Masker),
    /// Text, by what it looks like.
    Text(Scanner),
}

/// A piece of a body in both views.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) client: Bytes,
    pub(super) record: Record,
}

/// What the record sees of a piece.
#[derive(Debug)]
pub(super) enum Record {
    /// What the client sees.
    Same,
    Other(Vec<u8>),
    /// Only the number of bytes.
    Length,
}

impl View {
    /// Of JSON about objects.
    pub(super) fn of_json(info: &RequestInfo, verdict: &Verdict, key: &Arc<MaskKey>) -> Self {
        let masking = verdict.masking.as_deref();
        let filter = |mode, rules: Option<&Arc<RuleView>>| {
            let masker = Masker::new(MaskHint::of(info), mode, Arc::clone(key));
            let masker = masker.with_rules(rules, info.resource());
            Filter::Json(masker.of_group(info.api_group(), info.resource()))
        };
        let client_rules = masking.and_then(|masking| masking.client());
        let is_one = verdict.mask == verdict.record_mask
            && masking.is_none_or(|masking| masking.is_one_view());
        let is_recorded = verdict.level == Level::RequestResponse;
        let for_client = || filter(verdict.mask, client_rules);
        let for_record = || {
            let rules = masking.map(|masking| masking.record());
            filter(verdict.record_mask, rules)
        };
        if verdict.mask == MaskMode::None && client_rules.is_none() {
            Self::RecordMasked(for_record())
        } else if is_one || !is_recorded {
            Self::Masked(for_client())
        } else {
            Self::Apart(Box::new(Apart {
                client: for_client(),
                record: for_record(),
            }))
        }
    }

    /// Of a log, or of whatever stands at a bare path. `is_encoded`: it is compressed, so cannot be searched. Nothing
    /// when it must not be passed on.
    pub(super) fn of_text(verdict: &Verdict, key: &Arc<MaskKey>, is_encoded: bool) -> Option<Self> {
        let Some(masking) = verdict.masking.as_deref() else {
            return Some(Self::AsItCame);
        };
        let filter =
            |rules: &Arc<TextRules>| Filter::Text(Scanner::new(Arc::clone(rules), Arc::clone(key)));
        let client = masking.client().and_then(|view| view.text());
        let record = masking.record().text();
        let is_one = masking.is_one_view() || verdict.level != Level::RequestResponse;
        Some(match (client, record) {
            (None, None) => Self::AsItCame,
            (Some(_), _) if is_encoded => return None,
            (None, Some(_)) if is_encoded => Self::Unrecorded,
            (Some(client), _) if is_one => Self::Masked(filter(client)),
            (Some(client), None) => Self::Masked(filter(client)),
            (None, Some(record)) => Self::RecordMasked(filter(record)),
            (Some(client), Some(record)) => Self::Apart(Box::new(Apart {
                client: filter(client),
                record: filter(record),
            })),
        })
    }

    /// Whether the client sees something else than what came.
    pub(super) fn rewrites(&self) -> bool {
        matches!(self, Self::Masked(_) | Self::Apart(_))
    }

    /// Whether bytes for the client are held back.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Masked(filter) => filter.held() > 0,
            Self::Apart(apart) => apart.client.held() > 0,
            Self::AsItCame | Self::Unrecorded | Self::RecordMasked(_) => false,
        }
    }

    /// Both views of the next bytes.
    pub(super) fn piece(&mut self, chunk: Bytes) -> Result<Seen, MaskError> {
        match self {
            Self::AsItCame => Ok(Seen::same(chunk)),
            Self::Unrecorded => Ok(Seen {
                client: chunk,
                record: Record::Length,
            }),
            Self::Masked(filter) => Ok(Seen::same(filter.masked_piece(&chunk)?.into())),
            Self::RecordMasked(filter) => {
                if let Ok(recorded) = filter.masked_piece(&chunk) {
                    return Ok(Seen {
                        client: chunk,
                        record: Record::Other(recorded),
                    });
                }
                // The rule lets the client see it in any case; the record takes no more of it.
                *self = Self::Unrecorded;
                Ok(Seen {
                    client: chunk,
                    record: Record::Length,
                })
            }
            Self::Apart(apart) => Ok(Seen {
                client: apart.client.masked_piece(&chunk)?.into(),
                record: Record::Other(apart.record.masked_piece(&chunk)?),
            }),
        }
    }

    /// Both views of what is held back, though it may be the beginning of something that is masked.
    pub(super) fn flush(&mut self) -> Seen {
        match self {
            Self::Masked(filter) => Seen::same(filter.flush().into()),
            // The record can wait.
            Self::Apart(apart) => Seen {
                client: apart.client.flush().into(),
                record: Record::Other(Vec::new()),
            },
            Self::AsItCame | Self::Unrecorded | Self::RecordMasked(_) => Seen::same(Bytes::new()),
        }
    }

    /// Both views of what is still held back at the end.
    pub(super) fn rest(&mut self) -> Result<Seen, MaskError> {
        let mut out = Vec::new();
        match self {
            Self::Masked(filter) => {
                filter.finish(&mut out)?;
                Ok(Seen::same(out.into()))
            }
            Self::RecordMasked(filter) => {
                if filter.finish(&mut out).is_err() {
                    *self = Self::Unrecorded;
                    out.clear();
                }
                Ok(Seen {
                    client: Bytes::new(),
                    record: Record::Other(out),
                })
            }
            Self::Apart(apart) => {
                let mut recorded = Vec::new();
                apart.client.finish(&mut out)?;
                apart.record.finish(&mut recorded)?;
                Ok(Seen {
                    client: out.into(),
                    record: Record::Other(recorded),
                })
            }
            Self::AsItCame | Self::Unrecorded => Ok(Seen::same(Bytes::new())),
        }
    }

    /// Both views of a body that is there in full.
    pub(super) fn whole(&mut self, bytes: Bytes) -> Result<Seen, MaskError> {
        let mut seen = self.piece(bytes)?;
        let rest = self.rest()?;
        if !rest.client.is_empty() {
            seen.client = [seen.client, rest.client].concat().into();
        }
        if let (Record::Other(recorded), Record::Other(rest)) = (&mut seen.record, rest.record) {
            recorded.extend_from_slice(&rest);
        }
        if matches!(self, Self::Unrecorded) {
            seen.record = Record::Length;
        }
        Ok(seen)
    }

    /// What was masked; in the record, where that is more.
    pub(super) fn masked(&self) -> Masked {
        match self {
            Self::Masked(filter) | Self::RecordMasked(filter) => filter.masked(),
            Self::Apart(apart) => apart.record.masked(),
            Self::AsItCame | Self::Unrecorded => Masked::default(),
        }
    }
}

impl Filter {
    fn masked_piece(&mut self, chunk: &[u8]) -> Result<Vec<u8>, MaskError> {
        let mut out = Vec::with_capacity(chunk.len() + 64);
        match self {
            Self::Json(masker) => masker.push(chunk, &mut out)?,
            Self::Text(scanner) => scanner.push(chunk, &mut out),
        }
        Ok(out)
    }

    fn flush(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Self::Text(scanner) = self {
            scanner.flush(&mut out);
        }
        out
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match self {
            Self::Json(masker) => masker.finish(out),
            Self::Text(scanner) => {
                scanner.finish(out);
                Ok(())
            }
        }
    }

    /// A string of JSON is whole before long; text may stop anywhere.
    fn held(&self) -> usize {
        match self {
            Self::Json(_) => 0,
            Self::Text(scanner) => scanner.held(),
        }
    }

    fn masked(&self) -> Masked {
        match self {
            Self::Json(masker) => masker.masked().clone(),
            Self::Text(scanner) => Masked {
                count: scanner.masked(),
                paths: Vec::new(),
            },
        }
    }
}

impl Seen {
    fn same(bytes: Bytes) -> Self {
        Self {
            client: bytes,
            record: Record::Same,
        }
    }

    /// Records it; the client has got `sent` bytes in all.
    pub(super) fn record(&self, recorder: &mut AnswerRecorder, sent: u64) {
        match &self.record {
            Record::Same => recorder.push(&self.client),
            Record::Other(recorded) => {
                recorder.push(recorded);
                recorder.sent(sent);
            }
            Record::Length => {
                recorder.push(&self.client);
                recorder.uninspected();
            }
        }
    }
}
