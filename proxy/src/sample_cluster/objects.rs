//! The objects of the cluster, and the history of their changes that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::resource_types::{ResourceType, TYPES, by_kind};
use super::status::Failure;

/// Changes remembered for watches; a watch from before them is answered with 410, as by a real server.
const HISTORY_MAX: usize = 10_000;

/// Namespace and name.
type Key = (String, String);

/// What happened to an object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) kind: &'static ResourceType,
    pub(super) namespace: String,
    /// The object before; `None` when it was created.
    pub(super) before: Option<Arc<Value>>,
    /// The object after; `None` when it was deleted.
    pub(super) after: Option<Arc<Value>>,
}

/// All objects.
#[derive(Debug)]
pub(super) struct Objects {
    inner: RwLock<Inner>,
    /// The latest revision: who waits for changes waits for this.
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    by_plural: BTreeMap<&'static str, BTreeMap<Key, Arc<Value>>>,
    history: VecDeque<Change>,
    /// Revision of the newest change that was forgotten.
    forgotten: u64,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            inner: RwLock::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl Objects {
    /// Creates or replaces an object as a controller would.
    pub(super) fn put(&self, object: Value) -> Result<(), String> {
        let text = |pointer| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let kind = by_kind(api_version, kind)
            .ok_or_else(|| format!("the sample cluster does not serve {api_version} {kind}"))?;
        let (namespace, name) = (
            text("/metadata/namespace").to_owned(),
            text("/metadata/name").to_owned(),
        );
        if name.is_empty() {
            return Err("an object needs a name".into());
        }
        self.store(kind, &namespace, &name, object);
        Ok(())
    }

    /// Deletes an object by its resource, if it is there.
    pub(super) fn remove(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let kind = TYPES.iter().find(|t| t.plural == plural)?;
        let mut inner = self.inner.write();
        let removed = inner.remove(kind, namespace, name)?;
        if kind.kind == "Namespace" {
            inner.empty_namespace(name);
        }
        self.latest.send_replace(inner.revision);
        Some(removed)
    }

    /// Stores an object under its key, with a new revision and whatever metadata it lacks. Returns it as stored.
    pub(super) fn store(
        &self,
        kind: &'static ResourceType,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Arc<Value> {
        let mut inner = self.inner.write();
        let stored = inner.store(kind, namespace, name, object);
        self.latest.send_replace(inner.revision);
        stored
    }

    /// Replaces an object by what `change` makes of it, in one step. `change` gets the object as it is, or `None`.
    pub(super) fn update(
        &self,
        kind: &'static ResourceType,
        namespace: &str,
        name: &str,
        keep: bool,
        change: impl FnOnce(Option<&Value>) -> Result<Value, Failure>,
    ) -> Result<Arc<Value>, Failure> {
        let mut inner = self.inner.write();
        let before = inner.get(kind, namespace, name);
        let mut object = change(before.as_deref())?;
        if !keep {
            complete(
                kind,
                namespace,
                name,
                &mut object,
                before.as_deref(),
                inner.revision,
            );
            return Ok(Arc::new(object));
        }
        let stored = inner.store(kind, namespace, name, object);
        self.latest.send_replace(inner.revision);
        Ok(stored)
    }

    /// One object.
    pub(super) fn get(
        &self,
        kind: &'static ResourceType,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        self.inner.read().get(kind, namespace, name)
    }

    /// All objects of a type, in one namespace or (empty) in all, and the revision they are of.
    pub(super) fn list(&self, kind: &ResourceType, namespace: &str) -> (Vec<Arc<Value>>, u64) {
        let inner = self.inner.read();
        let objects = inner
            .by_plural
            .get(kind.plural)
            .into_iter()
            .flatten()
            .filter(|((of, _), _)| namespace.is_empty() || of == namespace)
            .map(|(_, object)| object.clone())
            .collect();
        (objects, inner.revision)
    }

    /// Changes after `revision`, oldest first; `None` when some of them are forgotten.
    pub(super) fn changes_after(&self, revision: u64) -> Option<Vec<Change>> {
        let inner = self.inner.read();
        if revision < inner.forgotten {
            return None;
        }
        let from = inner.history.partition_point(|c| c.revision <= revision);
        Some(inner.history.range(from..).cloned().collect())
    }

    /// Tells of every new revision.
    pub(super) fn revisions(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

impl Inner {
    fn get(&self, kind: &ResourceType, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.by_plural
            .get(kind.plural)?
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    fn store(
        &mut self,
        kind: &'static ResourceType,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> Arc<Value> {
        let before = self.get(kind, namespace, name);
        self.revision += 1;
        complete(
            kind,
            namespace,
            name,
            &mut object,
            before.as_deref(),
            self.revision,
        );
        let object = Arc::new(object);
        self.by_plural
            .entry(kind.plural)
            .or_default()
            .insert((namespace.to_owned(), name.to_owned()), object.clone());
        self.remember(kind, namespace, before, Some(object.clone()));
        object
    }

    fn remove(
        &mut self,
        kind: &'static ResourceType,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let removed = self
            .by_plural
            .get_mut(kind.plural)?
            .remove(&(namespace.to_owned(), name.to_owned()))?;
        self.revision += 1;
        self.remember(kind, namespace, Some(removed.clone()), None);
        Some(removed)
    }

    fn empty_namespace(&mut self, namespace: &str) {
        for kind in TYPES.iter().filter(|t| t.namespaced) {
            let names: Vec<_> = self
                .by_plural
                .get(kind.plural)
                .into_iter()
                .flatten()
                .filter(|((of, _), _)| of == namespace)
                .map(|((_, name), _)| name.clone())
                .collect();
            for name in names {
                self.remove(kind, namespace, &name);
            }
        }
    }

    fn remember(
        &mut self,
        kind: &'static ResourceType,
        namespace: &str,
        before: Option<Arc<Value>>,
        after: Option<Arc<Value>>,
    ) {
        self.history.push_back(Change {
            revision: self.revision,
            kind,
            namespace: namespace.to_owned(),
            before,
            after,
        });
        if self.history.len() > HISTORY_MAX
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }
}

/// Fills in what the server owns: names, uid, revision, time of creation; and moves `stringData` into `data`.
fn complete(
    kind: &ResourceType,
    namespace: &str,
    name: &str,
    object: &mut Value,
    before: Option<&Value>,
    revision: u64,
) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    if kind.kind == "Secret" {
        take_string_data(object);
    }
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(name);
    if kind.namespaced {
        metadata["namespace"] = json!(namespace);
    }
    for (field, fresh) in [
        ("uid", json!(uid(kind, namespace, name, revision))),
        ("creationTimestamp", json!(now())),
    ] {
        let kept = before.map(|b| b["metadata"][field].clone());
        if kept.is_some() || metadata[field].is_null() {
            metadata[field] = kept.unwrap_or(fresh);
        }
    }
    metadata["resourceVersion"] = json!(revision.to_string());
}

/// As the API server does with a Secret that is written.
fn take_string_data(secret: &mut Value) {
    use base64::Engine;
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    for (key, text) in texts {
        let value = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or(""));
        secret["data"][key] = json!(value);
    }
}

/// The time as Kubernetes writes it: whole seconds.
pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn uid(kind: &ResourceType, namespace: &str, name: &str, revision: u64) -> String {
    let basis = format!("{}/{namespace}/{name}/{revision}", kind.plural);
    let digest = Sha256::digest(basis.as_bytes());
    let bytes: [u8; 16] = digest[..16]
        .try_into()
        .expect("sixteen of thirty-two bytes");
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}
