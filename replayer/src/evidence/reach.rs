//! How far away a store is, and what follows for which bytes are asked for together.
//!
//! In a directory a request costs nothing and every byte is read. From a bucket a request takes as long as some megabytes
//! do, and many of them at a time take no longer than one: so there, ranges with a small gap between them are one
//! request, long ranges are several at a time, and small objects are read whole when they are opened.

use std::ops::Range;

/// Where a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// On this machine.
    #[default]
    Near,
    /// Behind a network.
    Far,
}

/// A request to a bucket takes some 30 ms before its first byte comes; this much comes in that time.
const GAP_BYTES: u64 = 2 * 1024 * 1024;

/// A range longer than this is fetched in parts of this length: one connection to S3 carries some 80 MB/s.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// An object no longer than this is read whole when it is opened: an index of sessions, a session file of a quiet hour.
const WHOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The same for a session file that is going to be read to its last row.
const READ_THROUGH_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is fetched of the end of a larger session file, as a part of its length and at least: its footer and the index
/// of its pages. The footer of a sealed object of 150 MB is some 100 KB, the index of its pages a few times that.
const TAIL_PART: u64 = 192;
const TAIL_BYTES_MIN: u64 = 64 * 1024;
const TAIL_BYTES_MAX: u64 = 1024 * 1024;

/// What of a nearby session file's end is fetched at once: a footer of ten row groups is about this long.
const NEAR_TAIL_BYTES: u64 = 48 * 1024;

/// The same of an index.
const NEAR_INDEX_TAIL_BYTES: u64 = 16 * 1024;

impl Reach {
    /// Bytes of the end of a session file of `bytes` bytes that are likely to hold everything that tells where its rows are.
    pub fn file_tail(self, bytes: u64) -> u64 {
        match self {
            Self::Near => NEAR_TAIL_BYTES,
            Self::Far if bytes <= TAIL_BYTES_MAX => bytes,
            Self::Far => (bytes / TAIL_PART).clamp(TAIL_BYTES_MIN, TAIL_BYTES_MAX),
        }
    }

    /// The same of a session file whose rows are all going to be read.
    pub fn file_to_read_through(self, bytes: u64) -> u64 {
        match self {
            Self::Far if bytes <= READ_THROUGH_BYTES_MAX => bytes,
            _ => self.file_tail(bytes),
        }
    }

    /// The same of an index of sessions.
    pub fn index_tail(self, bytes: u64) -> u64 {
        match self {
            Self::Near => NEAR_INDEX_TAIL_BYTES,
            Self::Far if bytes <= WHOLE_BYTES_MAX => bytes,
            Self::Far => TAIL_BYTES_MIN,
        }
    }

    /// Requests that are under way at a time.
    pub fn requests_at_once(self) -> usize {
        match self {
            Self::Near => 1,
            Self::Far => 16,
        }
    }

    /// Session files of which the beginning is fetched while another is read: at most these times 16 MiB are held.
    pub fn files_ahead(self) -> usize {
        match self {
            Self::Near => 1,
            Self::Far => 4,
        }
    }

    /// The ranges to ask for so that all of `wanted` come: sorted, those with a small gap between them as one.
    pub fn together(self, wanted: &[Range<u64>]) -> Vec<Range<u64>> {
        let gap = match self {
            Self::Near => 0,
            Self::Far => GAP_BYTES,
        };
        let mut sorted: Vec<&Range<u64>> = wanted.iter().filter(|r| !r.is_empty()).collect();
        sorted.sort_unstable_by_key(|range| (range.start, range.end));
        let mut together: Vec<Range<u64>> = Vec::new();
        for range in sorted {
            match together.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(gap) => {
                    last.end = last.end.max(range.end);
                }
                _ => together.push(range.clone()),
            }
        }
        together
    }

    /// The parts of a range that are asked for at the same time.
    pub fn parts(self, range: Range<u64>) -> Vec<Range<u64>> {
        if self == Self::Near || range.end.saturating_sub(range.start) <= PART_BYTES {
            return vec![range];
        }
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PART_BYTES);
            parts.push(at..end);
            at = end;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_afar_neighbours_are_one_request_and_others_are_not() {
        let wanted = [
            10_000_000..10_000_100,
            100..200,
            150..300,
            1_000_000..1_000_001,
        ];
        assert_eq!(
            Reach::Far.together(&wanted),
            [100..1_000_001, 10_000_000..10_000_100]
        );
        assert_eq!(
            Reach::Near.together(&wanted),
            [100..300, 1_000_000..1_000_001, 10_000_000..10_000_100]
        );
    }

    #[test]
    fn the_parts_of_a_range_are_the_range() {
        let range = 5..5 + 3 * PART_BYTES + 7;
        let parts = Reach::Far.parts(range.clone());
        assert_eq!(parts.len(), 4);
        assert_eq!((parts[0].start, parts[3].end), (range.start, range.end));
        for pair in parts.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
        }
        assert_eq!(Reach::Near.parts(range.clone()), [range]);
    }

    #[test]
    fn a_small_object_is_read_whole_from_afar() {
        assert_eq!(Reach::Far.file_tail(3_000), 3_000);
        assert_eq!(Reach::Far.index_tail(3_000_000), 3_000_000);
        assert_eq!(Reach::Far.file_to_read_through(9_000_000), 9_000_000);
        assert!(Reach::Far.file_tail(256 << 20) <= TAIL_BYTES_MAX);
        assert!(Reach::Far.file_to_read_through(256 << 20) <= TAIL_BYTES_MAX);
    }
}
