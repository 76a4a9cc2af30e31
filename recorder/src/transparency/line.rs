//! One log as a recorder knows it: everything that follows from the leaves taken so far. Pure.

use std::collections::{BTreeMap, HashSet};

use hoop_schema::evidence::SessionFileName;
use hoop_schema::transparency::LogPlace;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::leaf::{FileLeaf, Leaf};
use hoop_schema::transparency::note::{Note, Signed, SigningKey, Verifier};
use hoop_schema::transparency::tiles::{Level, RightEdge, TILE_WIDTH, Tile, bundle, tile_path};
use hoop_schema::{EventHash, SourceId};

/// One log.
#[derive(Debug)]
pub(crate) struct Line {
    place: LogPlace,
    edge: RightEdge,
    /// Entries of the bundle that is not full.
    entries: Vec<Vec<u8>>,
    /// The last file of every source.
    newest: BTreeMap<SourceId, FileLeaf>,
    /// Hashes of the names of all acts, and of announced keys.
    acts: HashSet<EventHash>,
    /// Those of them that no checkpoint covers yet.
    unpublished: Vec<EventHash>,
    /// Whose leaves are taken.
    trusted: Vec<Verifier>,
    /// Tiles and bundles that were filled and that no checkpoint covers yet.
    filled: Vec<Tile>,
    published: u64,
}

impl Line {
    /// An empty log that takes leaves of these keys.
    pub(crate) fn new(place: LogPlace, trusted: Vec<Verifier>) -> Self {
        Self {
            place,
            edge: RightEdge::default(),
            entries: Vec::new(),
            newest: BTreeMap::new(),
            acts: HashSet::new(),
            unpublished: Vec::new(),
            trusted,
            filled: Vec::new(),
            published: 0,
        }
    }

    pub(crate) fn place(&self) -> &LogPlace {
        &self.place
    }

    /// Number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Number of leaves that the newest checkpoint covers.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// The last file of a source.
    pub(crate) fn newest(&self, source: SourceId) -> Option<&FileLeaf> {
        self.newest.get(&source)
    }

    /// Whether a file comes after everything that the log has of its source.
    pub(crate) fn wants_file(&self, name: &SessionFileName) -> bool {
        self.newest
            .get(&name.source)
            .is_none_or(|newest| name.pos_from >= newest.pos_to)
    }

    /// Whether a leaf that is no file is not there yet.
    pub(crate) fn wants(&self, leaf: &Leaf) -> bool {
        act(leaf).is_some_and(|act| !self.acts.contains(&act))
    }

    /// Whether an act of this object is there.
    pub(crate) fn has_act(&self, object: &str) -> bool {
        self.acts.contains(&EventHash::of(object.as_bytes()))
    }

    /// The leaf that the log still needs so that this key can sign it alone: its announcement.
    pub(crate) fn announcement(&self, key: &Verifier) -> Option<Leaf> {
        let leaf = Leaf::Key {
            vkey: key.to_string(),
        };
        (self.size() > 0 && self.wants(&leaf)).then_some(leaf)
    }

    /// Takes the next leaf: its exact bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.filled.extend(self.edge.push(bytes));
        self.entries.push(bytes.to_vec());
        if self.entries.len() as u64 == TILE_WIDTH {
            let index = self.size() / TILE_WIDTH - 1;
            self.filled.push(Tile {
                path: tile_path(Level::Entries, index, TILE_WIDTH),
                bytes: bundle(&self.entries),
            });
            self.entries.clear();
        }
        let Some(leaf) = Leaf::parse(bytes) else {
            return;
        };
        if let Some(act) = act(&leaf) {
            self.acts.insert(act);
            self.unpublished.push(act);
        }
        match leaf {
            Leaf::File(file) => drop(self.newest.insert(file.source, file)),
            Leaf::Key { vkey } => self.trusted.extend(vkey.parse::<Verifier>()),
            _ => {}
        }
    }

    /// The next leaf as an object, signed with these keys.
    pub(crate) fn proposal<'a>(
        &self,
        leaf: &[u8],
        keys: impl IntoIterator<Item = &'a SigningKey>,
    ) -> String {
        let leaf = String::from_utf8_lossy(leaf);
        Note::sign(format!("{}{leaf}\n", self.heading()), keys).to_string()
    }

    /// The exact bytes of the next leaf out of the object that decides it. `None` when it is not one, or, where that
    /// is asked for, when none of the keys signed it.
    pub(crate) fn read(&self, object: &[u8], must_be_signed: bool) -> Option<Vec<u8>> {
        let note: Note = std::str::from_utf8(object).ok()?.parse().ok()?;
        let leaf = note
            .text
            .strip_prefix(&self.heading())?
            .strip_suffix('\n')?;
        (!must_be_signed || self.trusts(&note)).then(|| leaf.as_bytes().to_vec())
    }

    /// Whether one of the keys whose leaves are taken signed this.
    pub(crate) fn trusts(&self, note: &Note) -> bool {
        let mut keys = self.trusted.iter();
        keys.any(|key| matches!(note.signed_by(key), Signed::Yes(_)))
    }

    /// What every object of a leaf begins with: which log, and at which index. So none can be put elsewhere.
    fn heading(&self) -> String {
        format!("{}\nleaf {}\n", self.place.origin(), self.size())
    }

    /// What the log commits to now.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.place.origin(),
            size: self.size(),
            root: self.edge.root(),
        }
    }

    /// Tiles and bundles that a checkpoint needs and that the one before did not.
    pub(crate) fn tiles(&self) -> Vec<Tile> {
        let mut tiles = self.filled.clone();
        tiles.extend(self.edge.partial());
        if !self.entries.is_empty() {
            let width = self.entries.len() as u64;
            tiles.push(Tile {
                path: tile_path(Level::Entries, self.size() / TILE_WIDTH, width),
                bytes: bundle(&self.entries),
            });
        }
        tiles
    }

    /// A checkpoint covers everything now. Returns the acts that it covers and that none did before.
    pub(crate) fn is_published(&mut self) -> Vec<EventHash> {
        self.published = self.size();
        self.filled.clear();
        std::mem::take(&mut self.unpublished)
    }
}

/// What tells an act from others; none for a file.
fn act(leaf: &Leaf) -> Option<EventHash> {
    match leaf {
        Leaf::File(_) | Leaf::Unknown => None,
        Leaf::Key { vkey } => Some(EventHash::of(vkey.as_bytes())),
        act => act.object().map(|object| EventHash::of(object.as_bytes())),
    }
}
