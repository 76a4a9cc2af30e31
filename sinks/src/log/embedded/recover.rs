//! Opening a shard for writing: where the log ends, and what to do with what lies behind its end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hoop_schema::{Shard, SourceId, Timestamp};

use super::error::{OpenError, io_error};
use super::frame::{BLOCK, FRAME_BYTES_MAX, FrameBuilder};
use super::layout::{self, SegmentMap};
use super::options::Options;
use super::segment::{Found, ReadAt, SegmentHead, find_later_frame, read_frame};
use super::spare::create_spare;
use super::writer::Active;
use crate::log::{Position, ReadError};

/// A shard that can be written to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) active: Active,
    pub(crate) segments: SegmentMap,
    pub(crate) committed: u64,
}

/// Where the frames of a segment end.
#[derive(Debug)]
struct End {
    offset: u64,
    next: u64,
    last_ts: Timestamp,
    /// Place of the last frame.
    last_frame: Option<(u64, usize)>,
    /// Why there is no further frame, when it is not because nothing was written.
    invalid: Option<&'static str>,
}

/// Opens a shard, making it when it does not exist.
pub(crate) fn recover(
    dir: PathBuf,
    shard: Shard,
    source: SourceId,
    options: &Options,
) -> Result<Recovered, OpenError> {
    std::fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
    let committed = layout::read_committed(&dir);
    let firsts = layout::segments(&dir).map_err(io_error("list", &dir))?;
    let Some(&last) = firsts.last() else {
        if committed > 1 {
            return Err(damaged(
                &dir,
                0,
                1,
                "its segments are gone, though records were committed",
            ));
        }
        return begin(&dir, shard, source, options);
    };
    let mut segments = SegmentMap::new();
    for first in &firsts {
        // The time is only needed to tell the age of the segment before: a head that cannot be read makes that one
        // look young, and is reported by whoever reads there.
        let created = head_of(&layout::segment_path(&dir, *first))
            .map_or_else(super::now, |head| head.created);
        segments.insert(*first, created);
    }
    let active = open_last(&dir, shard, source, last)?;
    if committed > active.next {
        let what = "the log ends here, though later records were committed";
        return Err(damaged(&active.path, active.offset, active.next, what));
    }
    Ok(Recovered {
        active,
        segments,
        committed,
    })
}

/// The first segment of a new shard.
fn begin(
    dir: &Path,
    shard: Shard,
    source: SourceId,
    options: &Options,
) -> Result<Recovered, OpenError> {
    let head = SegmentHead {
        source,
        shard,
        seed: u32::from_le_bytes(layout::random().map_err(io_error("get random bytes for", dir))?),
        first: 1,
        created: super::now(),
        len: options.segment_bytes,
        recycled: false,
    };
    let file = create_spare(dir, options.segment_bytes)
        .and_then(|spare| spare.activate(dir, &head))
        .map_err(io_error("create the first segment in", dir))?;
    Ok(Recovered {
        active: Active {
            file,
            path: layout::segment_path(dir, 1).into(),
            head,
            offset: BLOCK as u64,
            next: 1,
            last_ts: head.created,
            frame: FrameBuilder::default(),
        },
        segments: SegmentMap::from([(1, head.created)]),
        committed: 0,
    })
}

fn open_last(dir: &Path, shard: Shard, source: SourceId, first: u64) -> Result<Active, OpenError> {
    let path = layout::segment_path(dir, first);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    let head = SegmentHead::read(&file)
        .map_err(io_error("read", &path))?
        .map_err(|what| damaged(&path, 0, first, what))?;
    if (head.source, head.shard, head.first) != (source, shard, first) {
        return Err(damaged(&path, 0, first, "the segment belongs elsewhere"));
    }
    let end = find_end(&file, &head).map_err(io_error("read", &path))?;
    let later = find_later_frame(&file, &head, end.offset, end.next, u64::MAX)
        .map_err(io_error("read", &path))?;
    if let Some((later, position)) = later {
        let what = end.invalid.unwrap_or("a frame is missing");
        let what =
            format!("{what}, though the frame of position {position} at offset {later} is whole");
        return Err(damaged(&path, end.offset, end.next, &what));
    }
    cut_torn_tail(dir, &path, &file, &head, &end)?;
    settle(&file, &head, &end).map_err(io_error("write to", &path))?;
    Ok(Active {
        file,
        path: path.into(),
        head,
        offset: end.offset,
        next: end.next,
        last_ts: end.last_ts,
        frame: FrameBuilder::default(),
    })
}

fn find_end(file: &File, head: &SegmentHead) -> io::Result<End> {
    let mut end = End {
        offset: BLOCK as u64,
        next: head.first,
        last_ts: head.created,
        last_frame: None,
        invalid: None,
    };
    loop {
        match read_frame(file, head, end.offset, end.next)? {
            Found::Frame(frame) => {
                end.last_frame = Some((
                    end.offset,
                    usize::try_from(frame.span).expect("was in memory"),
                ));
                end.offset += frame.span;
                end.next = frame.next();
                end.last_ts = end.last_ts.max(frame.log_ts);
            }
            Found::Nothing => return Ok(end),
            Found::Invalid(what) => {
                end.invalid = Some(what);
                return Ok(end);
            }
        }
    }
}

/// Saves and then removes what a crash left behind the last frame. In a recycled segment, what follows a block of
/// zeros are remains of its former life and stays.
fn cut_torn_tail(
    dir: &Path,
    path: &Path,
    file: &File,
    head: &SegmentHead,
    end: &End,
) -> Result<(), OpenError> {
    if end.invalid.is_none() && head.recycled {
        return Ok(());
    }
    let mut tail = vec![0; FRAME_BYTES_MAX];
    let read = file
        .read_up_to(&mut tail, end.offset)
        .map_err(io_error("read", path))?;
    let Some(last) = tail[..read].iter().rposition(|byte| *byte != 0) else {
        return Ok(());
    };
    tail.truncate(last + 1);
    let saved = layout::save_torn(dir, end.next, &tail)
        .map_err(io_error("save the torn end of the log in", dir))?;
    tracing::warn!(
        segment = %path.display(),
        offset = end.offset,
        position = end.next,
        bytes = tail.len(),
        saved = %saved.display(),
        "the end of the log was torn and is cut; the bytes are saved"
    );
    tail.fill(0);
    tail.resize(tail.len().next_multiple_of(BLOCK), 0);
    file.write_all_at(&tail, end.offset)
        .map_err(io_error("write to", path))
}

/// Makes durable what was read. After a sync that failed, or a process that died before its sync, the last frame may
/// lie in memory only, and the system may believe that it is on the disk: so it is written again. A file that was
/// cut short gets its length back.
fn settle(file: &File, head: &SegmentHead, end: &End) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    let zeros = vec![0; 256 * BLOCK];
    while len < head.len {
        let piece =
            usize::try_from(head.len - len).map_or(zeros.len(), |rest| rest.min(zeros.len()));
        file.write_all_at(&zeros[..piece], len)?;
        len += piece as u64;
    }
    if let Some((offset, span)) = end.last_frame {
        let mut frame = vec![0; span];
        file.read_exact_at(&mut frame, offset)?;
        file.write_all_at(&frame, offset)?;
    }
    file.sync_all()
}

fn head_of(path: &Path) -> Option<SegmentHead> {
    SegmentHead::read(&File::open(path).ok()?).ok()?.ok()
}

fn damaged(path: &Path, offset: u64, position: u64, what: &str) -> OpenError {
    OpenError::Damaged(ReadError::Damaged {
        place: format!("{} at offset {offset}", path.display()),
        position: Position(position),
        what: what.to_owned(),
    })
}
