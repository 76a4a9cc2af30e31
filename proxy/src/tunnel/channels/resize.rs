//! Terminal sizes: JSON objects one after the other, `{"Width":97,"Height":31}`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{DecodeError, Emit, Item};

/// The longest one. `{"Width":65535,"Height":65535}` and white space.
pub const RESIZE_BYTES_MAX: usize = 1024;

/// Keeps the beginning of a size of which the rest has not come.
#[derive(Debug, Default)]
pub(super) struct ResizeParser {
    buffer: Vec<u8>,
}

/// Keys are read as Go does: in any case, the last one counts, 0 where there is none.
struct Size {
    width: u16,
    height: u16,
}

impl ResizeParser {
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        emit: &mut Emit<'_>,
    ) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            let room = RESIZE_BYTES_MAX - self.buffer.len();
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            let mut sizes = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Size>();
            for size in &mut sizes {
                match size {
                    Ok(Size { width, height }) => emit(Item::Resize { width, height }),
                    Err(error) if error.is_eof() => break,
                    Err(_) => return Err(DecodeError::Resize),
                }
            }
            let read = sizes.byte_offset();
            self.buffer.drain(..read);
            if self.buffer.len() == RESIZE_BYTES_MAX {
                return Err(DecodeError::Resize);
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SizeVisitor)
    }
}

struct SizeVisitor;

impl<'de> Visitor<'de> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a terminal size")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
        let mut size = Size {
            width: 0,
            height: 0,
        };
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let field = if key.eq_ignore_ascii_case("width") {
                &mut size.width
            } else if key.eq_ignore_ascii_case("height") {
                &mut size.height
            } else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if let Some(value) = map.next_value()? {
                *field = value;
            }
        }
        Ok(size)
    }
}
