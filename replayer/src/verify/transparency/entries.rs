//! The entries of one log, hashed again, and compared with everything that was derived from them.

use std::collections::HashMap;

use hoop_schema::transparency::tiles::{
    BUNDLE_BYTES_MAX, Level, RightEdge, TILE_WIDTH, Tile, bundle, entries, tile_path,
};
use hoop_schema::transparency::tree::Hash;

use super::{Error, Heads, Log, Objects, Said, get};

/// What came out of the entries.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) said: Said,
    /// The root at every size that somebody has a checkpoint of.
    pub(super) roots: HashMap<u64, Hash>,
    /// Number of leaves that could be read.
    pub(super) leaves: u64,
}

impl Log<'_> {
    /// Reads all entries that the newest checkpoint covers.
    pub(super) async fn read(&mut self, objects: &Objects, heads: &Heads) -> Result<Read, Error> {
        let size = heads.size();
        let (mut read, mut edge) = (Read::default(), RightEdge::default());
        let mut row: Vec<Vec<u8>> = Vec::new();
        while edge.size() < size {
            let index = edge.size() / TILE_WIDTH;
            let width = TILE_WIDTH.min(size - edge.size());
            let Some(list) = self.bundle(objects, index, width).await? else {
                break;
            };
            for entry in list {
                let filled = edge.push(&entry);
                if let Err(what) = read.said.take(edge.size() - 1, &entry) {
                    let origin = self.place.origin();
                    self.walk.altered(origin, what);
                }
                row.push(entry);
                for tile in filled {
                    self.compare_tile(objects, &tile, true).await?;
                }
                if heads.has(edge.size()) {
                    read.roots.insert(edge.size(), edge.root());
                }
                if heads.stored.contains_key(&edge.size()) {
                    let mut tiles = edge.partial();
                    tiles.extend(partial_bundle(edge.size(), &row));
                    for tile in tiles {
                        self.compare_tile(objects, &tile, edge.size() == size)
                            .await?;
                    }
                }
            }
            row.clear();
        }
        read.leaves = edge.size();
        Ok(read)
    }

    /// The first `width` entries of a bundle; none when they cannot be had.
    async fn bundle(
        &mut self,
        objects: &Objects,
        index: u64,
        width: u64,
    ) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let (full, partial) = (
            tile_path(Level::Entries, index, TILE_WIDTH),
            tile_path(Level::Entries, index, width),
        );
        let path = if objects.tiles.contains(&full) {
            full
        } else {
            partial
        };
        let key = format!("{}{path}", self.place.prefix());
        let Some(bytes) = get(self.store, &key, BUNDLE_BYTES_MAX).await? else {
            let what = "these entries of the log are not there, though a checkpoint covers them";
            self.walk.incomplete(key, what.into());
            return Ok(None);
        };
        let list = entries(&bytes).filter(|list| list.len() as u64 >= width);
        let Some(list) = list else {
            self.walk
                .altered(key, format!("it does not hold {width} entries"));
            return Ok(None);
        };
        let width = usize::try_from(width).unwrap_or(list.len());
        Ok(Some(
            list.into_iter().take(width).map(<[u8]>::to_vec).collect(),
        ))
    }

    /// A tile has to hold what its entries have; one that is not full may be gone once it is not needed.
    async fn compare_tile(
        &mut self,
        objects: &Objects,
        tile: &Tile,
        is_needed: bool,
    ) -> Result<(), Error> {
        let key = format!("{}{}", self.place.prefix(), tile.path);
        let bytes = if objects.tiles.contains(&tile.path) {
            get(self.store, &key, BUNDLE_BYTES_MAX).await?
        } else {
            None
        };
        match bytes {
            Some(bytes) if bytes == tile.bytes => {}
            Some(_) => self
                .walk
                .altered(key, "it is not what the entries of the log make".into()),
            None if is_needed => {
                let what = "this part of the log is not there, though a checkpoint needs it";
                self.walk.incomplete(key, what.into());
            }
            None => {}
        }
        Ok(())
    }
}

/// The bundle that is not full at this size.
fn partial_bundle(size: u64, row: &[Vec<u8>]) -> Option<Tile> {
    let width = size % TILE_WIDTH;
    (width > 0).then(|| Tile {
        path: tile_path(Level::Entries, size / TILE_WIDTH, width),
        bytes: bundle(row),
    })
}
