//! Any number of sightings, in the order of their ids.
//!
//! Memory: [`MEMORY_BYTES`], and [`READ_BYTES`] for each run that was written to disk, which is one for every 64 MiB. A run is
//! a sorted file of JSON lines in the system's folder for temporary files, without a name, so that nothing is left behind
//! whatever happens; a request takes there some 250 bytes for each line about it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use super::sighting::Sighting;

/// Bytes of sightings that are held in memory before they go to disk.
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a run that are read at once.
pub const READ_BYTES: usize = 64 * 1024;

/// Sightings to be sorted.
#[derive(Debug)]
pub struct Sorter {
    held: Vec<Sighting>,
    held_bytes: usize,
    memory_bytes: usize,
    runs: Vec<File>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::new(MEMORY_BYTES)
    }
}

impl Sorter {
    /// A sorter that holds so many bytes in memory.
    pub fn new(memory_bytes: usize) -> Self {
        Self {
            held: Vec::new(),
            held_bytes: 0,
            memory_bytes,
            runs: Vec::new(),
        }
    }

    /// Adds a sighting.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn push(&mut self, sighting: Sighting) -> io::Result<()> {
        self.held_bytes += sighting.bytes();
        self.held.push(sighting);
        if self.held_bytes > self.memory_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let mut file = BufWriter::new(tempfile::tempfile()?);
        for sighting in &self.held {
            serde_json::to_writer(&mut file, sighting)?;
            file.write_all(b"\n")?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.runs.push(file);
        self.held.clear();
        self.held_bytes = 0;
        Ok(())
    }

    /// All sightings in order. May be asked for more than once.
    ///
    /// # Errors
    /// When the disk cannot be read, here or in the iterator.
    pub fn sorted(&mut self) -> io::Result<Sorted<'_>> {
        self.held.sort_unstable();
        let mut sources: Vec<Source<'_>> = Vec::new();
        for run in &mut self.runs {
            run.rewind()?;
            sources.push(Source::Disk(BufReader::with_capacity(READ_BYTES, run)));
        }
        sources.push(Source::Memory(self.held.iter()));
        let mut sorted = Sorted {
            sources,
            next: BinaryHeap::new(),
        };
        for number in 0..sorted.sources.len() {
            sorted.fetch(number)?;
        }
        Ok(sorted)
    }
}

#[derive(Debug)]
enum Source<'a> {
    Memory(std::slice::Iter<'a, Sighting>),
    Disk(BufReader<&'a mut File>),
}

/// See [`Sorter::sorted`].
#[derive(Debug)]
pub struct Sorted<'a> {
    sources: Vec<Source<'a>>,
    /// The next sighting of each source that has one, and the number of that source.
    next: BinaryHeap<Reverse<(Sighting, usize)>>,
}

impl Sorted<'_> {
    fn fetch(&mut self, number: usize) -> io::Result<()> {
        let sighting = match &mut self.sources[number] {
            Source::Memory(rest) => rest.next().cloned(),
            Source::Disk(file) => {
                let mut line = String::new();
                match file.read_line(&mut line)? {
                    0 => None,
                    _ => Some(serde_json::from_str(&line)?),
                }
            }
        };
        self.next
            .extend(sighting.map(|sighting| Reverse((sighting, number))));
        Ok(())
    }
}

impl Iterator for Sorted<'_> {
    type Item = io::Result<Sighting>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((sighting, number)) = self.next.pop()?;
        Some(self.fetch(number).map(|()| sighting))
    }
}
