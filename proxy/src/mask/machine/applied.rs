//! An object inside a string: annotations that hold what was applied. It is read by a machine of its own.

use std::sync::Arc;

use super::{Machine, PATHS_MAX, push_segment};
use crate::mask::place::{Frame, Secrecy};
use crate::mask::sentinel::SENTINEL;
use crate::mask::string::escape_into;
use crate::mask::{MaskError, MaskHint};

/// How much of an annotation is decoded before it is looked into, in bytes.
const APPLIED_BYTES_PENDING: usize = 4 * 1024;

/// An object as JSON inside a string.
#[derive(Debug)]
pub(super) struct Applied {
    machine: Machine,
    /// Decoded bytes that the machine has not seen: escapes come one by one, and are dear one by one.
    pending: Vec<u8>,
    /// Whether it is no JSON: the rest is left out.
    is_broken: bool,
}

impl Machine {
    /// A machine for the object inside an annotation. What is no Secret by its own word is one if it is part of one.
    pub(super) fn applied(&self) -> Applied {
        let secrecy = self.frames.last().map_or(Secrecy::Doubt, Frame::secrecy);
        let hint = if secrecy == Secrecy::Yes {
            MaskHint::Secrets
        } else {
            MaskHint::Unknown
        };
        let mut machine = Self::new(hint, self.mode, Arc::clone(&self.key));
        machine.is_nested = true;
        machine.outside = secrecy;
        machine.looking = self.looking.clone();
        if let (Some(looking), Some(frame)) = (&mut machine.looking, self.frames.last()) {
            // What it is part of says what it is, unless it does so itself.
            looking.root = frame.root;
        }
        Applied {
            machine,
            pending: Vec::new(),
            is_broken: false,
        }
    }

    /// Adds what was masked inside an annotation.
    pub(super) fn add_masked(&mut self, applied: &Applied) {
        let inner = &applied.machine.masked;
        self.masked.count += inner.count + u64::from(applied.is_broken);
        let inner_paths = inner.paths.iter().map(String::as_str);
        let broken = applied.is_broken.then_some("");
        for inner_path in inner_paths.chain(broken) {
            let mut path = self.path.clone();
            push_segment(&mut path, &self.text);
            if !inner_path.is_empty() {
                push_segment(&mut path, inner_path.as_bytes());
            }
            if self.masked.paths.len() < PATHS_MAX && !self.masked.paths.contains(&path) {
                self.masked.paths.push(path);
            }
        }
    }
}

impl Applied {
    /// The next decoded bytes of the string.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(piece);
        if self.pending.len() >= APPLIED_BYTES_PENDING {
            self.read_pending(out);
        }
    }

    fn read_pending(&mut self, out: &mut Vec<u8>) {
        let mut pending = std::mem::take(&mut self.pending);
        if !self.is_broken {
            let mut inner = Vec::with_capacity(pending.len());
            let result = self.machine.push(&pending, &mut inner);
            escape_into(&inner, out);
            self.check(result, out);
        }
        pending.clear();
        self.pending = pending;
    }

    /// The string is over.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.read_pending(out);
        if self.is_broken {
            return;
        }
        let mut inner = Vec::new();
        let result = self.machine.finish(&mut inner);
        escape_into(&inner, out);
        self.check(result, out);
    }

    /// What is no JSON cannot be looked into: the rest of it is replaced.
    fn check(&mut self, result: Result<(), MaskError>, out: &mut Vec<u8>) {
        if result.is_err() {
            out.extend_from_slice(SENTINEL.as_bytes());
            self.is_broken = true;
        }
    }
}
