//! The tree as it lies in the store: tiles of 256 hashes and bundles of 256 entries
//! ([C2SP tlog-tiles](https://c2sp.org/tlog-tiles)).
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]          up to 256 hashes of 32 bytes; each covers 256^L leaves
//! tile/entries/<N>[.p/<W>]      up to 256 entries, each after its length as a big-endian u16
//! ```
//! `<N>` is written in groups of three digits, all but the last with an `x` before it; `.p/<W>` names the width of a tile
//! that is not full.

use super::tree::{Hash, leaf_hash, node_hash, root};

/// Hashes of a full tile, and entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// The longest entry: its length is a u16.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// The largest bundle, in bytes: 256 entries with their lengths.
pub const BUNDLE_BYTES_MAX: u64 = TILE_WIDTH * (ENTRY_BYTES_MAX as u64 + 2);

/// Bundles hold entries, tiles hold hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Entry bundles.
    Entries,
    /// Tiles whose hashes each cover 256 to this power leaves.
    Hashes(u8),
}

/// The path of a tile below the prefix of its log. `width` is 1 to 256.
pub fn tile_path(level: Level, index: u64, width: u64) -> String {
    let mut groups = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    let level = match level {
        Level::Entries => "entries".to_owned(),
        Level::Hashes(level) => level.to_string(),
    };
    if width < TILE_WIDTH {
        format!("tile/{level}/{groups}.p/{width}")
    } else {
        format!("tile/{level}/{groups}")
    }
}

/// A bundle of these entries. An entry longer than [`ENTRY_BYTES_MAX`] cannot be in one; it is cut there, so that a
/// reader finds that its hash is wrong.
pub fn bundle<E: AsRef<[u8]>>(entries: &[E]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry[..usize::from(length)]);
    }
    bytes
}

/// The entries of a bundle; `None` when it ends in the middle of one or holds more than fit.
pub fn entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bundle = rest;
    }
    (entries.len() as u64 <= TILE_WIDTH).then_some(entries)
}

/// A tile: where it belongs and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its path below the prefix of its log.
    pub path: String,
    /// Its hashes.
    pub bytes: Vec<u8>,
}

/// A growing tree: the hashes that its tiles at the right edge hold, which is all that appending needs.
#[derive(Debug, Clone, Default)]
pub struct RightEdge {
    size: u64,
    /// Of each level, the hashes of the tile that is not full.
    levels: Vec<Vec<Hash>>,
}

impl RightEdge {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, and returns the tiles that it filled.
    pub fn push(&mut self, leaf: &[u8]) -> Vec<Tile> {
        let mut full = Vec::new();
        let mut hash = leaf_hash(leaf);
        self.size += 1;
        let mut covered = 1;
        for level in 0..u8::MAX {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            self.levels[at].push(hash);
            if self.levels[at].len() as u64 != TILE_WIDTH {
                break;
            }
            covered *= TILE_WIDTH;
            let hashes = std::mem::take(&mut self.levels[at]);
            hash = root(&hashes);
            full.push(Tile {
                path: tile_path(Level::Hashes(level), self.size / covered - 1, TILE_WIDTH),
                bytes: hashes.concat(),
            });
        }
        full
    }

    /// The tiles that are not full, which a checkpoint of this size needs as well.
    pub fn partial(&self) -> Vec<Tile> {
        let mut covered = 1u64;
        let mut tiles = Vec::new();
        for (level, hashes) in (0u8..).zip(&self.levels) {
            if !hashes.is_empty() {
                let index = self.size / covered / TILE_WIDTH;
                tiles.push(Tile {
                    path: tile_path(Level::Hashes(level), index, hashes.len() as u64),
                    bytes: hashes.concat(),
                });
            }
            covered = covered.saturating_mul(TILE_WIDTH);
        }
        tiles
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for hashes in &self.levels {
            let mut end = hashes.len();
            // Complete subtrees from the right: one per set bit of the width.
            while end > 0 {
                let begin = end - (1 << end.trailing_zeros());
                let left = root(&hashes[begin..end]);
                right = Some(right.map_or(left, |right| node_hash(&left, &right)));
                end = begin;
            }
        }
        right.unwrap_or_else(|| root(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = tile_path(Level::Hashes(0), 1_234_067, 256);
        assert_eq!(path, "tile/0/x001/x234/067");
        assert_eq!(tile_path(Level::Entries, 0, 7), "tile/entries/000.p/7");
        assert_eq!(tile_path(Level::Hashes(2), 1000, 1), "tile/2/x001/000.p/1");
    }

    #[test]
    fn a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() {
        let mut edge = RightEdge::default();
        let mut full = [0; 3];
        for i in 0..70_000u32 {
            for tile in edge.push(&i.to_be_bytes()) {
                let level = tile.path.split('/').nth(1).unwrap();
                full[level.parse::<usize>().unwrap()] += 1;
                assert_eq!(tile.bytes.len(), 8192);
            }
        }
        assert_eq!(full, [273, 1, 0]);
        let partial: Vec<String> = edge.partial().into_iter().map(|t| t.path).collect();
        assert_eq!(
            partial,
            ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
    }

    #[test]
    fn a_full_tile_leaves_one_hash_above_it() {
        let mut edge = RightEdge::default();
        let full: Vec<Tile> = (0..256u32)
            .flat_map(|i| edge.push(&i.to_be_bytes()))
            .collect();
        assert_eq!(full.len(), 1);
        assert_eq!(full[0].path, "tile/0/000");
        assert_eq!(edge.partial()[0].path, "tile/1/000.p/1");
        assert_eq!(edge.partial().len(), 1);
    }

    #[test]
    fn a_bundle_that_is_cut_is_refused() {
        let whole = bundle(&[&b"one"[..], b"", b"three"]);
        assert_eq!(entries(&whole).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(entries(&whole[..whole.len() - 1]).is_none());
        assert!(entries(&[0]).is_none());
        assert!(entries(&[0; 2 * 257]).is_none());
    }

    proptest! {
        #[test]
        fn the_edge_has_the_root_of_the_definition(n in 0u32..600) {
            let mut edge = RightEdge::default();
            let leaves: Vec<Hash> = (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            (0..n).for_each(|i| drop(edge.push(&i.to_be_bytes())));
            prop_assert_eq!(edge.root(), root(&leaves));
            prop_assert_eq!(edge.size(), u64::from(n));
        }

        #[test]
        fn bundles_round_trip(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let bytes = bundle(&all);
            let read: Vec<Vec<u8>> = entries(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, all);
        }
    }
}
