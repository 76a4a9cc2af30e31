//! Watches: what is there, then every change, bookmarks in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::State;
use super::handle::{Query, Target};
use super::negotiate::Wanted;
use super::objects::Change;
use super::resource_types::ResourceType;
use super::selector::Selector;
use super::server::{Answer, pieces, respond};
use super::status::Failure;
use super::table::{self, IncludeObject};

/// How often a watch that wants bookmarks gets one. A real server sends one a minute; tests would wait too long.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a watch lasts that does not say: the lower end of what a real server takes.
const WATCH_SECONDS: u64 = 30 * 60;

/// One watch under way.
struct Watch {
    state: Arc<State>,
    kind: &'static ResourceType,
    namespace: String,
    selector: Selector,
    form: Wanted,
    include: IncludeObject,
    bookmarks: bool,
    headed: bool,
    /// Everything up to here has been sent or is in `ready`.
    revision: u64,
    revisions: tokio::sync::watch::Receiver<u64>,
    ready: VecDeque<Bytes>,
    ends: Instant,
    ended: bool,
}

/// Starts a watch.
pub(super) fn start(
    state: &Arc<State>,
    target: &Target<'_>,
    query: &Query,
    form: Wanted,
) -> Result<Answer, Failure> {
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
    let number = |name: &str| match query.get(name) {
        "" => Ok(None),
        text => {
            let number = text.parse::<u64>();
            number
                .map(Some)
                .map_err(|_| Failure::bad_request(&format!("{name} is not a number")))
        }
    };
    let from = number("resourceVersion")?.unwrap_or(0);
    let initial = query.is_true("sendInitialEvents");
    let revisions = state.objects.revisions();
    let seconds = number("timeoutSeconds")?.unwrap_or(WATCH_SECONDS);
    let mut watch = Watch {
        state: state.clone(),
        kind: target.kind,
        namespace: target.namespace.to_owned(),
        selector,
        form,
        include: IncludeObject::parse(query.get("includeObject")),
        bookmarks: query.is_true("allowWatchBookmarks"),
        headed: true,
        revision: from,
        revisions,
        ready: VecDeque::new(),
        ends: Instant::now() + Duration::from_secs(seconds),
        ended: false,
    };
    if from == 0 || initial {
        let (objects, revision) = state.objects.list(target.kind, target.namespace);
        for object in &objects {
            if watch.selector.matches(object) {
                watch.push("ADDED", object);
            }
        }
        watch.revision = revision;
        if initial {
            watch.push_bookmark(true);
        }
    }
    Ok(respond(
        StatusCode::OK,
        "application/json",
        pieces(stream::unfold(watch, next)),
    ))
}

/// The next piece of a watch: everything that is ready at once.
async fn next(mut watch: Watch) -> Option<(Bytes, Watch)> {
    loop {
        if !watch.ready.is_empty() {
            let piece: Vec<u8> = watch.ready.drain(..).flatten().collect();
            return Some((piece.into(), watch));
        }
        if watch.ended {
            return None;
        }
        watch.revisions.borrow_and_update();
        match watch.state.objects.changes_after(watch.revision) {
            Some(changes) => changes.iter().for_each(|change| watch.take(change)),
            None => {
                watch.ended = true;
                watch.push_line("ERROR", Failure::expired().body());
            }
        }
        if !watch.ready.is_empty() {
            continue;
        }
        tokio::select! {
            changed = watch.revisions.changed() => watch.ended |= changed.is_err(),
            () = tokio::time::sleep(BOOKMARK_INTERVAL), if watch.bookmarks => watch.push_bookmark(false),
            () = tokio::time::sleep_until(watch.ends) => {
                watch.ended = true;
                if watch.bookmarks {
                    watch.push_bookmark(false);
                }
            }
        }
    }
}

impl Watch {
    /// A change, as this watch sees it: an object that comes to match was added, one that no longer does is deleted.
    fn take(&mut self, change: &Change) {
        self.revision = change.revision;
        let here = self.namespace.is_empty() || self.namespace == change.namespace;
        if change.kind != self.kind || !here {
            return;
        }
        let matching =
            |object: &Option<Arc<Value>>| object.clone().filter(|o| self.selector.matches(o));
        match (matching(&change.before), matching(&change.after)) {
            (None, Some(after)) => self.push("ADDED", &after),
            (Some(_), Some(after)) => self.push("MODIFIED", &after),
            (Some(before), None) => {
                let mut gone = before.as_ref().clone();
                gone["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                self.push("DELETED", &Arc::new(gone));
            }
            (None, None) => {}
        }
    }

    fn push(&mut self, event: &str, object: &Arc<Value>) {
        let object = match self.form {
            Wanted::Table => {
                let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
                let rows = std::slice::from_ref(object);
                let table = table::table(self.kind, rows, revision, self.include, self.headed);
                self.headed = false;
                table
            }
            Wanted::Metadata => table::metadata(object),
            Wanted::Json | Wanted::AggregatedDiscovery => object.as_ref().clone(),
        };
        self.push_line(event, object);
    }

    fn push_bookmark(&mut self, initial_end: bool) {
        let mut object = json!({
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": self.revision.to_string(), "creationTimestamp": null},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Wanted::Metadata => table::metadata(&object),
            Wanted::Table => {
                let revision = self.revision.to_string();
                let mut table = table::table(
                    self.kind,
                    &[Arc::new(object)],
                    &revision,
                    self.include,
                    self.headed,
                );
                self.headed = false;
                table["rows"][0]["cells"] = json!([]);
                table
            }
            Wanted::Json | Wanted::AggregatedDiscovery => object,
        };
        self.push_line("BOOKMARK", object);
    }

    fn push_line(&mut self, event: &str, object: Value) {
        let line = json!({"type": event, "object": object});
        self.ready.push_back(Bytes::from(format!("{line}\n")));
    }
}
