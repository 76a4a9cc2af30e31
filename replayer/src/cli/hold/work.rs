//! What holds are changed with: the sessions of all files, and the locks of the store.

use futures_util::{StreamExt, stream};
use hoop_schema::evidence::SessionFileName;
use hoop_schema::{ProducerId, SessionId};
use hoop_sinks::store::holds::Holds;
use hoop_sinks::store::{EvidenceStore, StoreError};

use crate::cli::Run;
use crate::evidence::{Days, Error, StoredFile};
use crate::exit::Failure;
use crate::filter::Filter;
use crate::holdings::Holdings;
use crate::output::{self, Progress};
use crate::sessions::View;

/// Objects that are locked or released at once.
const OBJECTS_AT_ONCE: usize = 16;

/// What holds are changed with.
pub(super) struct Work {
    pub(super) view: View,
    pub(super) holdings: Holdings,
    pub(super) cluster: String,
    pub(super) producer_id: ProducerId,
    pub(super) store_locks: bool,
    pub(super) by: String,
    /// Session files of sealed days that are still there.
    pub(super) replaced: Vec<SessionFileName>,
}

impl Work {
    pub(super) async fn begin(
        run: &Run,
        store: &dyn EvidenceStore,
        by: Option<&String>,
    ) -> Result<Self, Failure> {
        let view = run.view(&Filter::default()).await?;
        let store_locks = store.locks().await.map_err(Error::Store)?;
        let mut holdings = Holdings::default();
        for (session, user) in view.tail_sessions() {
            holdings.know(session, user);
        }
        let by = by.or(run.user.as_ref()).cloned();
        Ok(Self {
            cluster: view.cluster().await.unwrap_or_else(|| "unknown".into()),
            view,
            holdings,
            producer_id: ProducerId::new("hoop-replay").expect("a name of plain letters"),
            store_locks,
            replaced: Vec::new(),
            by: by.ok_or_else(|| Failure::usage("say who asks for it: --by NAME"))?,
        })
    }

    pub(super) fn holds<'a>(&'a self, store: &'a dyn EvidenceStore) -> Holds<'a> {
        Holds::new(store, &self.cluster, &self.producer_id)
    }

    /// Reads the sessions of all files, those that came meanwhile too.
    pub(super) async fn read(&mut self, run: &Run) -> Result<(), Failure> {
        let catalog = self.view.evidence.catalog(&Days::default()).await?;
        let total = catalog.files.iter().map(|f| f.bytes).sum();
        let mut progress = Progress::new(&run.output, total);
        let read = self
            .holdings
            .read(&self.view.evidence, &catalog.files, &mut progress);
        read.await?;
        self.replaced = catalog.replaced;
        Ok(())
    }

    /// Names the files of which nobody can tell whose sessions they hold.
    pub(super) fn tell_unreadable(&self) {
        for file in self.holdings.unreadable() {
            output::notice(&format!(
                "{} cannot be read, so it counts as held; see `hoop-replay verify`",
                file.name
            ));
        }
    }

    /// The session whose id begins with these digits. A whole id need not be known yet.
    pub(super) fn session(&self, digits: &str) -> Result<SessionId, Failure> {
        let digits = digits.trim().to_lowercase();
        if let Ok(whole) = digits.parse() {
            return Ok(whole);
        }
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::usage(format!(
                "{digits:?} is no session id: give its first hexadecimal digits, as `hoop-replay list` shows them"
            )));
        }
        match self.holdings.sessions(&digits)[..] {
            [one] => Ok(one),
            [] => Err(Failure::not_found(format!(
                "no session begins with {digits}: see `hoop-replay list --all`, or give the whole id of one that is still to come"
            ))),
            [first, second, ..] => Err(Failure::usage(format!(
                "several sessions begin with {digits}, such as {first} and {second}: give more digits"
            ))),
        }
    }
}

/// Locks or unlocks files and their indexes; returns how many objects, and what did not work.
pub(super) async fn lock(
    run: &Run,
    store: &dyn EvidenceStore,
    files: &[StoredFile],
    replaced: &[SessionFileName],
    held: bool,
) -> (usize, Vec<String>) {
    let total = files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let keys = files.iter().flat_map(|file| {
        let index = file.index_bytes.map(|_| (file.name.index_key(), 0));
        std::iter::once((file.name.to_string(), file.bytes)).chain(index)
    });
    let replaced = replaced
        .iter()
        .flat_map(|name| [(name.to_string(), 0), (name.index_key(), 0)]);
    let mut answers = stream::iter(keys.chain(replaced))
        .map(|(key, bytes)| async move {
            let answer = store.hold(&key, held).await;
            (key, bytes, answer)
        })
        .buffered(OBJECTS_AT_ONCE);
    let (mut objects, mut failed) = (0, Vec::new());
    while let Some((key, bytes, answer)) = answers.next().await {
        progress.advance(bytes, &key);
        match answer {
            Ok(()) => objects += 1,
            // Deleted meanwhile, or an index that is still to be written.
            Err(StoreError::NotFound { .. }) => {}
            Err(e) => failed.push(format!("{:#}", anyhow::Error::new(e))),
        }
    }
    (objects, failed)
}
