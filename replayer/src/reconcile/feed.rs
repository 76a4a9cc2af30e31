//! From the bytes of a file, in whatever pieces they come, to its lines: unpacked where gzip packed them.
//!
//! Whether gzip did is told by how the file begins, not by its name. Memory: one line, at most [`LINE_BYTES_MAX`].

use std::io::{self, BufRead, Write};

use flate2::write::MultiGzDecoder;

/// The longest line: an answer with a whole list in it, at the level `RequestResponse`, is tens of megabytes.
pub const LINE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How a file begins that gzip wrote.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// One file on its way. `take` gets each line without its end, and whether it is whole: of one that is too long it gets
/// the beginning.
#[derive(Debug)]
pub struct Feed<T: FnMut(&[u8], bool) -> io::Result<()>> {
    packing: Packing<T>,
}

#[derive(Debug)]
enum Packing<T: FnMut(&[u8], bool) -> io::Result<()>> {
    /// Too little came to tell.
    Unknown(Vec<u8>, Lines<T>),
    Plain(Lines<T>),
    // Unpacked as a stream and cut into lines of a bounded length, so it takes no memory however large it gets.
    Gzip(Box<MultiGzDecoder<Lines<T>>>),
    /// A failure ended it.
    Broken,
}

impl<T: FnMut(&[u8], bool) -> io::Result<()>> Feed<T> {
    /// A file of which nothing came yet.
    pub fn new(take: T) -> Self {
        let lines = Lines {
            take,
            line: Vec::new(),
            skipping: false,
        };
        Self {
            packing: Packing::Unknown(Vec::new(), lines),
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When what is packed is damaged, or a line cannot be taken.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let packing = std::mem::replace(&mut self.packing, Packing::Broken);
        self.packing = match packing {
            Packing::Unknown(mut begin, lines) => {
                begin.extend_from_slice(piece);
                if begin.len() < GZIP_MAGIC.len() {
                    Packing::Unknown(begin, lines)
                } else {
                    Packing::of(&begin, lines)?
                }
            }
            Packing::Plain(mut lines) => {
                lines.write_all(piece)?;
                Packing::Plain(lines)
            }
            Packing::Gzip(mut unpacking) => {
                unpacking.write_all(piece)?;
                Packing::Gzip(unpacking)
            }
            Packing::Broken => return Err(io::Error::other("it broke off before")),
        };
        Ok(())
    }

    /// The file ends here.
    ///
    /// # Errors
    /// When what is packed breaks off, or the last line cannot be taken.
    pub fn end(self) -> io::Result<()> {
        let mut lines = match self.packing {
            Packing::Unknown(begin, lines) => match Packing::of(&begin, lines)? {
                Packing::Plain(lines) => lines,
                // Two bytes that look like gzip and end there.
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Packing::Plain(lines) => lines,
            Packing::Gzip(unpacking) => unpacking.finish()?,
            Packing::Broken => return Err(io::Error::other("it broke off before")),
        };
        lines.end()
    }
}

impl<T: FnMut(&[u8], bool) -> io::Result<()>> Packing<T> {
    fn of(begin: &[u8], mut lines: Lines<T>) -> io::Result<Self> {
        if begin.starts_with(&GZIP_MAGIC) {
            let mut unpacking = Box::new(MultiGzDecoder::new(lines));
            unpacking.write_all(begin)?;
            return Ok(Self::Gzip(unpacking));
        }
        lines.write_all(begin)?;
        Ok(Self::Plain(lines))
    }
}

/// Bytes as they are written, cut into lines.
#[derive(Debug)]
struct Lines<T: FnMut(&[u8], bool) -> io::Result<()>> {
    take: T,
    /// The line under way.
    line: Vec<u8>,
    /// Whether the rest of the line under way is passed over.
    skipping: bool,
}

impl<T: FnMut(&[u8], bool) -> io::Result<()>> Lines<T> {
    fn end(&mut self) -> io::Result<()> {
        if self.line.is_empty() {
            return Ok(());
        }
        (self.take)(&self.line, true)?;
        self.line.clear();
        Ok(())
    }
}

impl<T: FnMut(&[u8], bool) -> io::Result<()>> Write for Lines<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skipping {
                let before = rest;
                let skipped = rest.skip_until(b'\n')?;
                self.skipping = !before[..skipped].ends_with(b"\n");
                continue;
            }
            let room = LINE_BYTES_MAX - self.line.len();
            let mut fits = &rest[..rest.len().min(room)];
            let read = fits.read_until(b'\n', &mut self.line)?;
            rest = &rest[read..];
            if self.line.last() == Some(&b'\n') {
                (self.take)(&self.line[..self.line.len() - 1], true)?;
                self.line.clear();
            } else if self.line.len() == LINE_BYTES_MAX {
                (self.take)(&self.line, false)?;
                self.line.clear();
                self.skipping = true;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    /// The lines of a file that comes in pieces of these lengths, again and again.
    fn lines(bytes: &[u8], pieces: &[usize]) -> io::Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let mut feed = Feed::new(|line: &[u8], whole| {
            assert!(whole);
            found.push(line.to_vec());
            Ok(())
        });
        let (mut rest, mut lengths) = (bytes, pieces.iter().cycle());
        while !rest.is_empty() {
            let length = lengths.next().copied().unwrap_or(1).clamp(1, rest.len());
            let (piece, further) = rest.split_at(length);
            feed.push(piece)?;
            rest = further;
        }
        feed.end()?;
        Ok(found)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packing = GzEncoder::new(Vec::new(), Compression::fast());
        packing.write_all(bytes).unwrap();
        packing.finish().unwrap()
    }

    proptest! {
        #[test]
        fn however_it_comes_it_has_the_same_lines(
            all in prop::collection::vec("[a-z]{0,20}", 0..20),
            pieces in prop::collection::vec(1usize..40, 1..5),
            twice: bool,
        ) {
            let text: String = all.iter().map(|line| format!("{line}\n")).collect();
            let expected: Vec<Vec<u8>> = all.iter().map(|line| line.clone().into_bytes()).collect();
            prop_assert_eq!(&lines(text.as_bytes(), &pieces).unwrap(), &expected);
            // Rotated logs that were put together are still one.
            let half = all.len() / 2;
            let part = |lines: &[String]| packed(lines.iter().map(|l| format!("{l}\n")).collect::<String>().as_bytes());
            let file = if twice { [part(&all[..half]), part(&all[half..])].concat() } else { part(&all) };
            prop_assert_eq!(&lines(&file, &pieces).unwrap(), &expected);
        }
    }

    #[test]
    fn a_last_line_needs_no_end() {
        assert_eq!(lines(b"a\nb", &[1]).unwrap(), [b"a", b"b"]);
        assert_eq!(lines(b"a", &[1]).unwrap(), [b"a"]);
        assert!(lines(b"", &[1]).unwrap().is_empty());
    }

    #[test]
    fn what_is_packed_and_breaks_off_is_an_error() {
        let whole = packed(b"{}\n{}\n");
        for length in 2..whole.len() {
            assert!(lines(&whole[..length], &[7]).is_err(), "{length}");
        }
    }
}
