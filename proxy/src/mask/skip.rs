//! The fast way through containers in which nothing matters: most bytes of most bodies.

use super::machine::{DEPTH_MAX, Expect, Taken};
use super::place::{Frame, Role};
use super::string::plain_run;

/// Walks on from `at` as long as whole tokens without escapes lie in the chunk and the innermost container is one in
/// which nothing matters. Where anything else comes, the general machine goes on from there; so nothing is decided
/// here that is not decided there.
#[inline]
pub(super) fn skip(
    frames: &mut Vec<Frame>,
    expect: &mut Expect,
    chunk: &[u8],
    mut at: usize,
) -> Taken {
    let Some(mut innermost) = frames
        .last()
        .copied()
        .filter(|frame| frame.role == Role::Skip)
    else {
        return Ok(at);
    };
    // A scalar or a bracket of the container's parent is left to the general machine.
    while let Some(&byte) = chunk.get(at) {
        match (*expect, byte) {
            (_, b' ' | b'\n' | b'\t' | b'\r') => at += 1,
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                let Some(end) = string_end(chunk, at) else {
                    return Ok(at);
                };
                at = end;
                *expect = Expect::Colon;
            }
            (Expect::Value | Expect::ValueOrEnd, b'"') => {
                let Some(end) = string_end(chunk, at) else {
                    return Ok(at);
                };
                at = end;
                *expect = Expect::CommaOrEnd;
            }
            (Expect::Colon, b':') => {
                at += 1;
                *expect = Expect::Value;
            }
            (Expect::CommaOrEnd, b',') => {
                at += 1;
                *expect = if innermost.is_array {
                    Expect::Value
                } else {
                    Expect::Key
                };
            }
            (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') if frames.len() < DEPTH_MAX => {
                let is_array = byte == b'[';
                innermost.is_array = is_array;
                frames.push(innermost);
                at += 1;
                *expect = if is_array {
                    Expect::ValueOrEnd
                } else {
                    Expect::KeyOrEnd
                };
            }
            (Expect::CommaOrEnd | Expect::KeyOrEnd, b'}') if !innermost.is_array => {
                let Some(parent) = leave(frames) else {
                    return Ok(at);
                };
                innermost = parent;
                at += 1;
                *expect = Expect::CommaOrEnd;
            }
            (Expect::CommaOrEnd | Expect::ValueOrEnd, b']') if innermost.is_array => {
                let Some(parent) = leave(frames) else {
                    return Ok(at);
                };
                innermost = parent;
                at += 1;
                *expect = Expect::CommaOrEnd;
            }
            _ => return Ok(at),
        }
    }
    Ok(at)
}

/// Leaves the innermost container, if nothing matters in its parent either.
#[inline]
fn leave(frames: &mut Vec<Frame>) -> Option<Frame> {
    let [.., parent, _] = frames.as_slice() else {
        return None;
    };
    let parent = *parent;
    if parent.role != Role::Skip {
        return None;
    }
    frames.pop();
    Some(parent)
}

/// The place after the closing quote of the string that begins at `at`, if it ends in this chunk without an escape.
#[inline]
fn string_end(chunk: &[u8], at: usize) -> Option<usize> {
    let begin = at + 1;
    let end = begin + plain_run(&chunk[begin..]);
    (chunk.get(end) == Some(&b'"')).then_some(end + 1)
}
