//! Reading, appending to and publishing one log. Every step may be done again from any point; see the parent module.

use bytes::Bytes;
use hoop_schema::EventHash;
use hoop_schema::transparency::LogPlace;
use hoop_schema::transparency::checkpoint::Checkpoint;
use hoop_schema::transparency::leaf::Leaf;
use hoop_schema::transparency::note::{NOTE_BYTES_MAX, Note, Signed};
use hoop_schema::transparency::tiles::{BUNDLE_BYTES_MAX, Level, TILE_WIDTH, entries, tile_path};
use hoop_sinks::store::{CreateOptions, Created, StoreError};

use super::found::{Found, FoundFile, Refused};
use super::line::Line;
use super::{ProofError, Signing, broken};
use crate::resume::read_signed;
use crate::session_file::footer::FooterError;
use crate::shared::Shared;

/// Leaves after which a checkpoint is written even if there are more: what is held in memory until then is some hundred
/// bytes each.
const LEAVES_PER_CHECKPOINT_MAX: u64 = 1024;

/// Reads a log up to its newest checkpoint, and makes sure that one of our keys signed that.
///
/// # Errors
/// When the store does not answer, or the log is not what was signed.
pub(super) async fn load(
    shared: &Shared,
    signing: &Signing,
    place: LogPlace,
) -> Result<Line, ProofError> {
    let store = &*shared.store;
    let prefix = format!("{}checkpoints/", place.prefix());
    let newest = store
        .list(&prefix, None)
        .await?
        .pop()
        .map(|object| object.key);
    let mut line = Line::new(place, signing.verifiers());
    let Some(key) = newest else { return Ok(line) };
    let note = store.get(&key, 0..NOTE_BYTES_MAX as u64).await?;
    let Some((note, checkpoint)) = read_checkpoint(&note) else {
        return Err(broken(key, "is no checkpoint"));
    };
    let ours = signing
        .keys()
        .any(|k| matches!(note.signed_by(k.verifier()), Signed::Yes(_)));
    if !ours || checkpoint.origin != line.place().origin() {
        return Err(broken(
            key,
            "is signed by another key than this recorder has (all recorders of a cluster share one, recorder.signing_key, and after a change of it the previous one too)",
        ));
    }
    while line.size() + TILE_WIDTH <= checkpoint.size {
        let path = tile_path(Level::Entries, line.size() / TILE_WIDTH, TILE_WIDTH);
        let key = format!("{}{path}", line.place().prefix());
        let bundle = get(shared, &key, BUNDLE_BYTES_MAX).await?;
        let leaves = bundle.as_deref().and_then(entries);
        match leaves.filter(|leaves| leaves.len() as u64 == TILE_WIDTH) {
            Some(leaves) => leaves.into_iter().for_each(|leaf| line.take(leaf)),
            None => return Err(broken(key, "is missing or damaged")),
        }
    }
    while line.size() < checkpoint.size {
        let key = line.place().leaf_key(line.size());
        let object = get(shared, &key, NOTE_BYTES_MAX as u64).await?;
        // The root is checked below, and tells more than a signature.
        match object.and_then(|object| line.read(&object, false)) {
            Some(leaf) => line.take(&leaf),
            None => return Err(broken(key, "is missing or damaged")),
        }
    }
    if line.checkpoint() != checkpoint {
        return Err(broken(key, "does not agree with the leaves below it"));
    }
    let covered = line.is_published();
    shared.proofs.recorded.lock().extend(covered);
    Ok(line)
}

/// Logs what was found and is not in the log, and publishes it. Returns whether nothing is left to be done.
///
/// # Errors
/// When the store does not answer, or something in it is not what it must be.
pub(super) async fn advance(
    shared: &Shared,
    signing: &Signing,
    line: &mut Line,
    found: &Found,
    refused: &mut Refused,
) -> Result<bool, ProofError> {
    let mut whole = true;
    let announcement = signing
        .previous
        .as_ref()
        .and_then(|_| line.announcement(signing.key.verifier()));
    let something = announcement.is_some()
        || found.files.iter().any(|file| line.wants_file(&file.name))
        || found.acts.iter().any(|act| line.wants(act));
    if something || line.published() < line.size() {
        read_on(shared, line).await?;
    }
    if let Some(leaf) = announcement {
        append(shared, signing, line, &leaf, |line| line.wants(&leaf)).await?;
    }
    for file in &found.files {
        if !line.wants_file(&file.name) || refused.contains(&file.name.to_string()) {
            continue;
        }
        match file_leaf(shared, line, file, refused).await? {
            Some(leaf) => {
                append(shared, signing, line, &leaf, |line| {
                    line.wants_file(&file.name)
                })
                .await?;
                shared
                    .proofs
                    .committed
                    .lock()
                    .remove(&file.name.to_string());
            }
            None => whole = false,
        }
    }
    for act in &found.acts {
        append(shared, signing, line, act, |line| line.wants(act)).await?;
    }
    publish(shared, signing, line).await?;
    Ok(whole)
}

/// Takes the leaves that others appended.
pub(super) async fn read_on(shared: &Shared, line: &mut Line) -> Result<(), ProofError> {
    loop {
        let key = line.place().leaf_key(line.size());
        let Some(object) = get(shared, &key, NOTE_BYTES_MAX as u64).await? else {
            return Ok(());
        };
        match line.read(&object, true) {
            Some(leaf) => line.take(&leaf),
            None => {
                return Err(broken(
                    key,
                    "is signed by no key of this log (all recorders of a cluster share one, recorder.signing_key)",
                ));
            }
        }
    }
}

/// Appends a leaf, while it is wanted: somebody else may append it, or others before it.
async fn append(
    shared: &Shared,
    signing: &Signing,
    line: &mut Line,
    leaf: &Leaf,
    wanted: impl Fn(&Line) -> bool,
) -> Result<(), ProofError> {
    let bytes = leaf.bytes();
    while wanted(line) {
        let key = line.place().leaf_key(line.size());
        let object = line.proposal(&bytes, signing.keys());
        match shared
            .store
            .create(&key, object.into(), &CreateOptions::default())
            .await?
        {
            Created::Created => line.take(&bytes),
            Created::Exists => read_on(shared, line).await?,
        }
        if line.size() - line.published() >= LEAVES_PER_CHECKPOINT_MAX {
            publish(shared, signing, line).await?;
        }
    }
    Ok(())
}

/// The leaf of a file. `None` when it has to wait for the file before it, which is there and not listed yet, or when it
/// is damaged, or by nobody who has a key.
async fn file_leaf(
    shared: &Shared,
    line: &Line,
    file: &FoundFile,
    refused: &mut Refused,
) -> Result<Option<Leaf>, ProofError> {
    let key = file.name.to_string();
    let (signed, object) = match read_signed(&*shared.store, &file.name).await {
        Ok(file) => file,
        Err(FooterError::Store(StoreError::NotFound { .. })) => return Ok(None),
        Err(e @ FooterError::Damaged { .. }) => {
            tracing::error!(key, error = %e, "a session file is damaged, so it is not in the transparency log");
            refused.insert(key);
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    let committed = shared.proofs.committed.lock().get(&key).copied();
    if committed.is_some_and(|sha256| sha256 != object.sha256) {
        return Err(broken(key, "is not the file that this recorder committed"));
    }
    let is_ours = || {
        signed
            .signature(&key)
            .is_some_and(|note| line.trusts(&note))
    };
    if committed.is_none() && !is_ours() {
        tracing::error!(
            key,
            "no recorder with a key of this log wrote this session file, so it is not in the transparency log; look at who can write to the evidence"
        );
        refused.insert(key);
        return Ok(None);
    }
    let footer = &signed.footer;
    if let Some(previous) = &footer.previous {
        let newest = line.newest(file.name.source);
        let follows = newest.is_some_and(|newest| newest.object == previous.key);
        if !follows
            && !refused.contains(&previous.key)
            && shared.store.head(&previous.key).await?.is_some()
        {
            return Ok(None);
        }
        if newest.is_some() && !follows {
            tracing::error!(
                key,
                previous = previous.key,
                "a session file is missing; the transparency log goes on without it"
            );
        }
    }
    Ok(Some(Leaf::file(&key, object.sha256, footer)))
}

/// Writes tiles and bundles, then the checkpoint over them.
async fn publish(shared: &Shared, signing: &Signing, line: &mut Line) -> Result<(), ProofError> {
    if line.published() == line.size() {
        return Ok(());
    }
    for tile in line.tiles() {
        let key = format!("{}{}", line.place().prefix(), tile.path);
        let expected = EventHash::of(&tile.bytes);
        let bytes = Bytes::from(tile.bytes);
        if shared
            .store
            .create(&key, bytes, &CreateOptions::default())
            .await?
            == Created::Exists
            && shared.store.head(&key).await?.map(|head| head.sha256) != Some(expected)
        {
            return Err(broken(key, "holds other hashes than the leaves have"));
        }
    }
    let checkpoint = line.checkpoint();
    let key = line.place().checkpoint_key(checkpoint.size);
    let note = Note::sign(checkpoint.text(), signing.keys());
    let put = shared
        .store
        .create(&key, note.to_string().into(), &CreateOptions::default())
        .await?;
    if put == Created::Exists {
        // A rival's has the same text; its signatures may be of other keys while the key is being changed.
        let there = shared.store.get(&key, 0..NOTE_BYTES_MAX as u64).await?;
        if read_checkpoint(&there).is_none_or(|(there, _)| there.text != note.text) {
            return Err(broken(key, "is a checkpoint of another past"));
        }
    }
    let covered = line.is_published();
    shared.proofs.recorded.lock().extend(covered);
    tracing::debug!(class = %line.place().class, shard = %line.place().shard, leaves = line.size(), at = %shared.clock.now(), "transparency log published");
    Ok(())
}

fn read_checkpoint(bytes: &[u8]) -> Option<(Note, Checkpoint)> {
    let note: Note = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let checkpoint = Checkpoint::parse(&note.text)?;
    Some((note, checkpoint))
}

/// An object, or none. What is longer than any of ours is cut, and does not pass for one then.
async fn get(shared: &Shared, key: &str, bytes_max: u64) -> Result<Option<Bytes>, ProofError> {
    match shared.store.get(key, 0..bytes_max).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
