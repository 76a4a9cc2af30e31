//! The machine that walks the bytes: JSON's grammar, the path to where it stands, and what is copied.

mod applied;

use std::sync::Arc;

use hoop_schema::kinds::request::Masked;

use applied::Applied;

use super::fields::{NOWHERE, Place};
use super::look::{Looking, Searched, masked_whole};
use super::place::{Frame, Role, Secrecy, Slot};
use super::skip::skip;
use super::string::{Escape, plain_run};
use super::token::Scalar;
use super::value::{Form, Replacement};
use super::{MaskError, MaskHint, MaskKey, MaskMode};

/// The deepest nesting that is followed. The deepest real objects (schemas of custom resources) stay below 200.
pub(super) const DEPTH_MAX: usize = 512;

/// The most of a key, kind or version that is kept, in bytes: names of annotations are the longest known keys, with
/// at most 317. A longer key is none of those that matter.
const TEXT_BYTES_MAX: usize = 320;

/// The most paths that are named in what was masked.
const PATHS_MAX: usize = 64;

/// What the next byte may be, outside strings and scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After a comma in an object.
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    /// After a value inside a container.
    CommaOrEnd,
    /// Inside a string.
    String,
    /// Inside a number or word.
    Scalar(Scalar),
}

/// What is done with the string that is being read.
#[derive(Debug)]
enum Use {
    /// A value that does not matter.
    Copy,
    /// A key that does not matter.
    CopyKey,
    Key,
    Kind,
    ApiVersion,
    Secret(Replacement),
    Applied(Box<Applied>),
    Search(Box<Searched>),
}

/// See [`super::Masker`].
#[derive(Debug)]
pub(super) struct Machine {
    hint: MaskHint,
    pub(super) mode: MaskMode,
    pub(super) key: Arc<MaskKey>,
    /// The policy's own rules.
    pub(super) looking: Option<Looking>,
    /// Whether this reads an annotation; annotations inside it are not read again.
    is_nested: bool,
    /// What is known of the whole from outside, where the request says nothing.
    outside: Secrecy,
    masked: Masked,
    pub(super) frames: Vec<Frame>,
    expect: Expect,
    pub(super) slot: Slot,
    /// Where the next value stands among the fields of the policy's rules.
    pub(super) place: Place,
    string: Use,
    escape: Escape,
    /// The key, kind or version being read, or the last key.
    pub(super) text: Vec<u8>,
    /// Where the machine is, such as `items[].data`.
    path: String,
    /// Bytes taken before this chunk.
    offset: u64,
    /// Where in this chunk the bytes begin that were not copied yet; nothing inside a masked value.
    copy_from: Option<usize>,
    /// A number or word that is masked.
    scalar: Option<Replacement>,
    /// Decoded escapes.
    decoded: Vec<u8>,
}

impl Machine {
    pub(super) fn new(hint: MaskHint, mode: MaskMode, key: Arc<MaskKey>) -> Self {
        Self {
            hint,
            mode,
            key,
            looking: None,
            is_nested: false,
            outside: Secrecy::Doubt,
            masked: Masked::default(),
            frames: Vec::new(),
            expect: Expect::Value,
            slot: Slot::Root,
            place: NOWHERE,
            string: Use::Copy,
            escape: Escape::default(),
            text: Vec::new(),
            path: String::new(),
            offset: 0,
            copy_from: Some(0),
            scalar: None,
            decoded: Vec::new(),
        }
    }

    pub(super) fn masked(&self) -> &Masked {
        &self.masked
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.copy_from = self.copy_from.map(|_| 0);
        let mut at = 0;
        while at < chunk.len() {
            let taken = match self.expect {
                Expect::String => self.in_string(chunk, at, out),
                Expect::Scalar(scalar) => self.in_scalar(scalar, chunk, at, out),
                _ => self.between(chunk, at, out),
            };
            at = match taken {
                Ok(at) => at,
                Err((at, what)) => {
                    // What comes out before a mistake must not depend on how the body was cut.
                    self.copy_until(chunk, at, out);
                    let offset = self.offset + at as u64;
                    return Err(MaskError { offset, what });
                }
            };
        }
        if let Some(from) = self.copy_from {
            out.extend_from_slice(&chunk[from..]);
        }
        self.offset += chunk.len() as u64;
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if let Expect::Scalar(scalar) = self.expect
            && scalar.is_complete()
        {
            self.end_scalar(0, out);
        }
        if self.frames.is_empty() && self.expect == Expect::Value {
            return Ok(());
        }
        Err(MaskError {
            offset: self.offset,
            what: "the body ends in the middle of a JSON value",
        })
    }

    /// Takes white space and one byte of structure, or the first byte of a string or scalar.
    #[inline]
    fn between(&mut self, chunk: &[u8], mut at: usize, out: &mut Vec<u8>) -> Taken {
        at = skip(&mut self.frames, &mut self.expect, chunk, at)?;
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = chunk.get(at) {
            at += 1;
        }
        let Some(&byte) = chunk.get(at) else {
            return Ok(at);
        };
        if self.is_nested && self.frames.is_empty() && byte != b'{' {
            return Err((at, "an annotation holds something else than an object"));
        }
        match (self.expect, byte) {
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                self.begin_key();
                return Ok(at + 1);
            }
            (Expect::Colon, b':') => self.expect = Expect::Value,
            (Expect::CommaOrEnd, b',') => self.comma(),
            (Expect::CommaOrEnd | Expect::KeyOrEnd, b'}') => self.close(false, at)?,
            (Expect::CommaOrEnd | Expect::ValueOrEnd, b']') => self.close(true, at)?,
            (Expect::Value | Expect::ValueOrEnd, b'"') => self.begin_string(chunk, at, out),
            (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(false, at)?,
            (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(true, at)?,
            (Expect::Value | Expect::ValueOrEnd, _) => self.begin_scalar(chunk, at, out)?,
            _ => return Err((at, "the body is not JSON")),
        }
        Ok(at + 1)
    }

    fn comma(&mut self) {
        match self.frames.last() {
            Some(frame) if frame.is_array => {
                self.slot = frame.slot_of_item();
                self.expect = Expect::Value;
                if self.looking.is_some() {
                    self.look_at_item(false);
                }
            }
            _ => self.expect = Expect::Key,
        }
    }

    fn open(&mut self, is_array: bool, at: usize) -> Result<(), Mistake> {
        if self.frames.len() == DEPTH_MAX {
            return Err((at, "the body nests too deeply"));
        }
        let parent = self.frames.last();
        let inherited = parent.map_or_else(|| self.inherited_by_body(), Frame::secrecy);
        let patches = self.looking.as_ref().is_some_and(Looking::masks_patches);
        let role = self
            .slot
            .role(is_array, patches || self.hint == MaskHint::Secrets);
        let role = self.role_looked_at(role);
        let path_length = self.path.len();
        if role != Role::Skip {
            let inside_secret = parent.is_some_and(|frame| is_masked(frame.role));
            let inside_object = parent.is_some_and(|frame| !frame.is_array);
            if inside_object && !inside_secret {
                push_segment(&mut self.path, &self.text);
            }
            if is_array && !inside_secret {
                self.path.push_str("[]");
            }
        }
        let mut frame = Frame::new(role, is_array, inherited, path_length);
        if let Some(looking) = &self.looking {
            frame.place = self.place;
            frame.root = parent.map_or(looking.root, |parent| parent.root);
        }
        self.slot = frame.slot_of_item();
        self.frames.push(frame);
        if is_array && self.looking.is_some() {
            self.look_at_item(true);
        }
        self.expect = if is_array {
            Expect::ValueOrEnd
        } else {
            Expect::KeyOrEnd
        };
        Ok(())
    }

    fn inherited_by_body(&self) -> Secrecy {
        match self.hint {
            MaskHint::Secrets => Secrecy::Yes,
            _ => self.outside,
        }
    }

    fn close(&mut self, is_array: bool, at: usize) -> Result<(), Mistake> {
        match self.frames.pop() {
            Some(frame) if frame.is_array == is_array => {
                self.path.truncate(frame.path_length);
                self.after_value();
                Ok(())
            }
            _ => Err((at, "a bracket of the body has no partner")),
        }
    }

    #[inline]
    fn after_value(&mut self) {
        if self.frames.is_empty() {
            self.expect = Expect::Value;
            self.slot = Slot::Root;
            self.place = NOWHERE;
        } else {
            self.expect = Expect::CommaOrEnd;
        }
    }

    #[inline]
    fn begin_key(&mut self) {
        self.expect = Expect::String;
        let matters = self
            .frames
            .last()
            .is_some_and(|frame| frame.role != Role::Skip);
        if matters {
            self.text.clear();
            self.string = Use::Key;
        } else {
            self.string = Use::CopyKey;
        }
    }

    #[inline]
    fn begin_string(&mut self, chunk: &[u8], at: usize, out: &mut Vec<u8>) {
        self.expect = Expect::String;
        self.string = match self.slot {
            Slot::Kind | Slot::ApiVersion => {
                self.text.clear();
                if self.slot == Slot::Kind {
                    Use::Kind
                } else {
                    Use::ApiVersion
                }
            }
            Slot::Secret(form) => Use::Secret(self.begin_secret(form, self.mode, chunk, at, out)),
            Slot::Field(form, mode) => Use::Secret(self.begin_secret(form, mode, chunk, at, out)),
            Slot::Look => match self.searched(&chunk[at + 1..]) {
                None => Use::Copy,
                Some(searched) => {
                    self.copy_until(chunk, at + 1, out);
                    Use::Search(Box::new(searched))
                }
            },
            Slot::Applied if self.is_nested => {
                let mode = self.mode.for_record();
                Use::Secret(self.begin_secret(Form::Plain, mode, chunk, at, out))
            }
            Slot::Applied => {
                self.copy_until(chunk, at + 1, out);
                Use::Applied(Box::new(self.applied()))
            }
            _ => Use::Copy,
        };
    }

    fn begin_secret(
        &mut self,
        form: Form,
        mode: MaskMode,
        chunk: &[u8],
        at: usize,
        out: &mut Vec<u8>,
    ) -> Replacement {
        self.copy_until(chunk, at, out);
        self.note_masked(1);
        Replacement::new(form, mode, &self.key)
    }

    fn copy_until(&mut self, chunk: &[u8], at: usize, out: &mut Vec<u8>) {
        if let Some(from) = self.copy_from.take() {
            out.extend_from_slice(&chunk[from..at]);
        }
    }

    fn note_masked(&mut self, count: u64) {
        self.masked.count += count;
        if self.masked.paths.len() == PATHS_MAX {
            return;
        }
        let length = self.path.len();
        let [.., parent] = self.frames.as_slice() else {
            return;
        };
        let is_deep = self.frames.len() > 1 && is_masked(self.frames[self.frames.len() - 2].role);
        if !parent.is_array && !is_deep {
            push_segment(&mut self.path, &self.text);
        }
        if !self.masked.paths.contains(&self.path) {
            self.masked.paths.push(self.path.clone());
        }
        self.path.truncate(length);
    }

    fn in_string(&mut self, chunk: &[u8], mut at: usize, out: &mut Vec<u8>) -> Taken {
        while at < chunk.len() {
            if self.escape.is_plain() {
                let run = plain_run(&chunk[at..]);
                if run > 0 {
                    self.take_plain(&chunk[at..at + run], out);
                    at += run;
                }
                match chunk.get(at) {
                    None => return Ok(at),
                    Some(b'"') => {
                        self.end_string(at, out);
                        return Ok(at + 1);
                    }
                    Some(b'\\') => self.escape.begin(),
                    Some(_) => return Err((at, "a string of the body has a control character")),
                }
            } else {
                let mut decoded = std::mem::take(&mut self.decoded);
                decoded.clear();
                if self.escape.step(chunk[at], &mut decoded).is_none() {
                    return Err((at, "a string of the body has an escape that is none"));
                }
                self.take(&decoded, out);
                self.decoded = decoded;
            }
            at += 1;
        }
        Ok(at)
    }

    /// Takes plain bytes, after ending what an escape before them left open.
    #[inline]
    fn take_plain(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if matches!(self.string, Use::Copy | Use::CopyKey) {
            return;
        }
        self.take_open_half(out);
        self.take(piece, out);
    }

    #[inline]
    fn take_open_half(&mut self, out: &mut Vec<u8>) {
        if !self.escape.has_half() {
            return;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        self.escape.flush(&mut decoded);
        if !decoded.is_empty() {
            self.take(&decoded, out);
        }
        self.decoded = decoded;
    }

    /// Takes decoded bytes of the string.
    #[inline]
    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match &mut self.string {
            Use::Copy | Use::CopyKey => {}
            Use::Key | Use::Kind | Use::ApiVersion => {
                let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
                self.text.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            Use::Secret(replacement) => replacement.take(piece),
            Use::Applied(applied) => applied.take(piece, out),
            Use::Search(searched) => searched.take(piece, out),
        }
    }

    #[inline]
    fn end_string(&mut self, at: usize, out: &mut Vec<u8>) {
        self.take_open_half(out);
        // Most strings are these; they need no clearing away.
        match self.string {
            Use::Copy => return self.after_value(),
            Use::CopyKey => {
                self.slot = Slot::Skip;
                self.expect = Expect::Colon;
                return;
            }
            _ => {}
        }
        match std::mem::replace(&mut self.string, Use::Copy) {
            Use::Copy | Use::CopyKey => {}
            Use::Key => {
                let frame = self.frames.last();
                self.slot = frame.map_or(Slot::Skip, |frame| frame.slot_of_key(&self.text));
                self.expect = Expect::Colon;
                self.look_at_key();
            }
            Use::Kind => {
                let is_other = !matches!(self.hint, MaskHint::Unknown | MaskHint::Secrets);
                if let Some(frame) = self.frames.last_mut() {
                    frame.note_kind(&self.text, is_other);
                }
                self.look_at_kind();
                self.after_value();
            }
            Use::ApiVersion => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.note_api_version(&self.text);
                }
                self.after_value();
            }
            Use::Secret(replacement) => {
                replacement.finish(out);
                self.copy_from = Some(at + 1);
                self.after_value();
            }
            Use::Applied(mut applied) => {
                applied.finish(out);
                self.add_masked(&applied);
                self.copy_from = Some(at);
                self.after_value();
            }
            Use::Search(searched) => {
                let count = searched.finish(out);
                if count > 0 {
                    self.note_masked(count);
                }
                self.copy_from = Some(at);
                self.after_value();
            }
        }
    }

    fn begin_scalar(&mut self, chunk: &[u8], at: usize, out: &mut Vec<u8>) -> Result<(), Mistake> {
        let byte = chunk[at];
        let scalar = Scalar::begin(byte).ok_or((at, "the body is not JSON"))?;
        self.expect = Expect::Scalar(scalar);
        let (form, mode) = match masked_whole(self.slot, self.mode) {
            Some(how) => how,
            None if self.slot == Slot::Applied => (Form::Plain, self.mode.for_record()),
            None => return Ok(()),
        };
        // `null` says that there is no value; in a patch it removes one.
        if byte != b'n' {
            let mut replacement = self.begin_secret(form, mode, chunk, at, out);
            replacement.take(&[byte]);
            self.scalar = Some(replacement);
        }
        Ok(())
    }

    fn in_scalar(
        &mut self,
        mut scalar: Scalar,
        chunk: &[u8],
        mut at: usize,
        out: &mut Vec<u8>,
    ) -> Taken {
        while let Some(&byte) = chunk.get(at) {
            let Some(next) = scalar.step(byte) else {
                // Between bodies, two scalars need something that keeps them apart.
                let runs_on = self.frames.is_empty() && !b" \t\r\n\"[{".contains(&byte);
                if !scalar.is_complete() || runs_on {
                    return Err((at, "the body is not JSON"));
                }
                self.end_scalar(at, out);
                return Ok(at);
            };
            if let Some(replacement) = &mut self.scalar {
                replacement.take(&[byte]);
            }
            scalar = next;
            at += 1;
        }
        self.expect = Expect::Scalar(scalar);
        Ok(at)
    }

    fn end_scalar(&mut self, at: usize, out: &mut Vec<u8>) {
        if let Some(replacement) = self.scalar.take() {
            replacement.finish(out);
            self.copy_from = Some(at);
        }
        self.after_value();
    }
}

/// Where a byte stands that should not, and what is wrong.
pub(super) type Mistake = (usize, &'static str);

/// The place of the first byte that was not taken.
pub(super) type Taken = Result<usize, Mistake>;

/// Whether every value in such a container is masked.
fn is_masked(role: Role) -> bool {
    matches!(role, Role::Secret(_) | Role::Field(..))
}

fn push_segment(path: &mut String, segment: &[u8]) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&String::from_utf8_lossy(segment));
}
