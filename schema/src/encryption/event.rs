//! The encrypted content of an event: where it is, and how it is replaced by what was encrypted.

use serde_json::value::RawValue;

use super::{ContentKey, Encryption, NotReadable, Place};
use crate::body::{Body, BodyEncoding, TextEncoding};
use crate::event::Event;
use crate::event::Kind;
use crate::ids::KeyId;
use crate::kinds::request::BodyOf;

/// The encrypted content of one event, which has one at most.
#[derive(Debug)]
pub struct EncryptedContent<'a> {
    audit_id: String,
    place: Place,
    holder: Holder<'a>,
}

#[derive(Debug)]
enum Holder<'a> {
    /// A body, inside its event or saying what its chunks are encrypted with.
    Body(&'a mut Body),
    /// A piece of a body or stream.
    Piece(
        &'a mut TextEncoding,
        &'a mut String,
        &'a mut Option<Encryption>,
    ),
}

/// The encrypted content of an event, if it has some; or what the event says of that of its chunks.
pub fn encrypted_content(event: &mut Event) -> Option<EncryptedContent<'_>> {
    let found = match &mut event.kind {
        Kind::Intent(intent) => {
            let audit_id = intent.request.audit_id.clone();
            of_body(audit_id, BodyOf::Request, intent.body.as_mut()?)
        }
        Kind::Outcome(outcome) => {
            let audit_id = outcome.request.audit_id.clone();
            of_body(audit_id, BodyOf::Response, outcome.body.as_mut()?)
        }
        Kind::BodyChunk(chunk) => EncryptedContent {
            audit_id: chunk.audit_id.clone(),
            place: Place::Chunk {
                of: chunk.of,
                index: chunk.index,
                offset: chunk.offset,
            },
            holder: Holder::Piece(
                &mut chunk.encoding,
                &mut chunk.content,
                &mut chunk.encryption,
            ),
        },
        Kind::StreamData(data) => EncryptedContent {
            audit_id: data.audit_id.clone(),
            place: Place::Stream {
                channel: data.channel,
                connection: data.connection,
                offset: data.offset,
            },
            holder: Holder::Piece(&mut data.encoding, &mut data.content, &mut data.encryption),
        },
        _ => return None,
    };
    found.key_id().is_some().then_some(found)
}

pub(super) fn of_body(audit_id: String, of: BodyOf, body: &mut Body) -> EncryptedContent<'_> {
    EncryptedContent {
        audit_id,
        place: Place::Body(of),
        holder: Holder::Body(body),
    }
}

impl EncryptedContent<'_> {
    /// The key that it wants.
    pub fn key_id(&self) -> Option<KeyId> {
        self.encryption().map(|encryption| encryption.key_id)
    }

    /// Puts what was encrypted in its place, in the form that it would have been recorded in.
    ///
    /// # Errors
    /// When the key did not encrypt it for its place; then nothing has changed.
    pub fn decrypt(self, key: &ContentKey) -> Result<(), NotReadable> {
        let Self {
            audit_id,
            place,
            holder,
        } = self;
        let audit_id = &audit_id;
        match holder {
            Holder::Body(body) if body.encoding == BodyEncoding::Encrypted => {
                let text = body.content.as_deref().map(RawValue::get);
                let text: String = text
                    .and_then(|text| serde_json::from_str(text).ok())
                    .ok_or(NotReadable)?;
                let plain = key.decrypt(audit_id, place, &text)?;
                let total = body.truncated_at.map_or(plain.len() as u64, |_| body.bytes);
                let (read, pieces) = Body::record(&plain, total, body.media_type.take());
                *body = match pieces.is_empty() {
                    true => read,
                    false => Body::in_base64(&plain, total, read.media_type),
                };
            }
            // Its chunks are other events.
            Holder::Body(body) => body.encryption = None,
            Holder::Piece(encoding, content, encryption) => {
                let plain = key.decrypt(audit_id, place, content)?;
                (*encoding, *content) = crate::body::written(&plain);
                *encryption = None;
            }
        }
        Ok(())
    }

    /// Takes the ciphertext away, and says why the content cannot be shown.
    pub fn unreadable(self, why: &str) {
        let encryption = match self.holder {
            Holder::Body(body) => {
                body.content = None;
                &mut body.encryption
            }
            Holder::Piece(_, content, encryption) => {
                content.clear();
                encryption
            }
        };
        if let Some(encryption) = encryption {
            encryption.unreadable = Some(why.to_owned());
        }
    }

    fn encryption(&self) -> Option<&Encryption> {
        match &self.holder {
            Holder::Body(body) => body.encryption.as_ref(),
            Holder::Piece(.., encryption) => encryption.as_ref(),
        }
    }
}
