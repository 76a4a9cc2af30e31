//! The file that becomes the next segment: made of zeros, or left over from a segment that was dropped.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::frame::BLOCK;
use super::layout;
use super::segment::SegmentHead;

/// Zeros are written in pieces of this size.
const ZEROS: usize = 1 << 20;

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Whether it holds remains of a former life.
    pub(crate) recycled: bool,
}

impl Spare {
    /// Makes it the segment that begins at `first`. Durable when this returns.
    ///
    /// # Errors
    /// When the file system refuses; the file is then still a spare, or a segment without records.
    pub(crate) fn activate(self, shard_dir: &Path, head: &SegmentHead) -> io::Result<File> {
        // The block of zeros after the head says that no frame was written yet.
        let mut blocks = vec![0; 2 * BLOCK];
        blocks[..BLOCK].copy_from_slice(&head.encode());
        self.file.write_all_at(&blocks, 0)?;
        rustix::fs::fdatasync(&self.file)?;
        fs::rename(&self.path, layout::segment_path(shard_dir, head.first))?;
        layout::sync_dir(shard_dir)?;
        Ok(self.file)
    }
}

/// Opens a file that an earlier process left as a spare. `None`, and it is removed, when it has another length.
pub(crate) fn open_spare(path: &Path, len: u64) -> io::Result<Option<Spare>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != len {
        fs::remove_file(path)?;
        return Ok(None);
    }
    Ok(Some(Spare {
        file,
        path: path.to_owned(),
        recycled: true,
    }))
}

/// Makes a file of zeros whose blocks are all allocated and written: a later write in place changes no metadata, so
/// that its sync has only the data to write. Nothing is left behind when there is no room.
pub(crate) fn create_spare(shard_dir: &Path, len: u64) -> io::Result<Spare> {
    let path = layout::spare_path(shard_dir);
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)?;
    if let Err(error) = fill_with_zeros(&file, len) {
        fs::remove_file(&path)?;
        return Err(error);
    }
    Ok(Spare {
        file,
        path,
        recycled: false,
    })
}

fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    // Tells at once when there is no room. A file system that cannot do it says so, and the zeros do the work.
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < len {
        let piece = usize::try_from(len - at).map_or(ZEROS, |rest| rest.min(ZEROS));
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    file.sync_all()
}
