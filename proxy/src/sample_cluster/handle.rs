//! From a request to its answer: which resource, which verb, what to do.

use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::State;
use super::identity::Caller;
use super::negotiate::{Wanted, wanted};
use super::patch::{self, Strategy};
use super::resource_types::{ResourceType, by_path};
use super::selector::Selector;
use super::server::{Answer, json as json_answer, pieces, respond, whole};
use super::status::{Failure, success};
use super::table::{self, IncludeObject};
use super::{discovery, reviews, watch};
use crate::protobuf::{self, Unread};

/// Pieces of a list body are at least this long, so that a long list is neither built whole nor sent in crumbs.
const LIST_PIECE_BYTES: usize = 64 * 1024;

/// What a path is about.
pub(super) struct Target<'a> {
    pub(super) kind: &'static ResourceType,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) subresource: &'a str,
}

/// The query parameters that mean something here.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(text.unwrap_or("").as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of a parameter, or nothing.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// A parameter that is there and neither `false` nor `0` is true, as in a real API server.
    pub(super) fn is_true(&self, name: &str) -> bool {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.is_some_and(|(_, value)| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}

/// Answers a request of an authenticated caller.
pub(super) fn handle(
    state: &Arc<State>,
    parts: &Parts,
    body: &Bytes,
    caller: &Caller,
) -> Result<Answer, Failure> {
    let path = parts.uri.path();
    if let Some(text) = health(path) {
        return Ok(respond(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            whole(text),
        ));
    }
    let form = wanted(&parts.headers).unwrap_or(Wanted::Json);
    if let Some(document) = discovery::document(path, form) {
        let mut answer = json_answer(StatusCode::OK, &document);
        if document["kind"] == "APIGroupDiscoveryList" {
            let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
        }
        return Ok(answer);
    }
    let target = target(path).ok_or_else(Failure::no_such_path)?;
    let query = Query::parse(parts.uri.query());
    match (target.kind.plural, target.subresource) {
        ("pods", "log") if parts.method == Method::GET => return pod_log(state, &target, &query),
        ("serviceaccounts", "token") if parts.method == Method::POST => {
            found(state, &target)?;
            let review =
                reviews::token(state, target.namespace, target.name, &decode(parts, body)?);
            return Ok(json_answer(StatusCode::CREATED, &review));
        }
        (_, "" | "status") => {}
        _ => return Err(Failure::no_such_path()),
    }
    let form = wanted(&parts.headers).ok_or_else(Failure::not_acceptable)?;
    if !target.kind.stored {
        if parts.method != Method::POST {
            return Err(Failure::method_not_allowed());
        }
        let review = reviews::answer(state, target.kind, caller, &decode(parts, body)?);
        return Ok(json_answer(StatusCode::CREATED, &review));
    }
    let named = !target.name.is_empty();
    match parts.method {
        Method::GET if named => {
            let object = found(state, &target)?;
            Ok(one(StatusCode::OK, &target, &object, form, &query))
        }
        Method::GET if query.is_true("watch") => watch::start(state, &target, &query, form),
        Method::GET => list(state, &target, &query, form),
        Method::POST if !named => create(state, &target, &query, form, &decode(parts, body)?),
        Method::PUT if named => update(state, &target, &query, form, &decode(parts, body)?),
        Method::PATCH if named => apply_patch(state, &target, &query, form, parts, body),
        Method::DELETE if named => delete(state, &target, &query),
        Method::DELETE => delete_collection(state, &target, &query),
        _ => Err(Failure::method_not_allowed()),
    }
}

fn health(path: &str) -> Option<Bytes> {
    matches!(path, "/healthz" | "/livez" | "/readyz").then(|| Bytes::from_static(b"ok"))
}

/// Takes a resource path apart. Unlike a real API server, only canonical paths are served.
fn target(path: &str) -> Option<Target<'_>> {
    let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
    let (group, version, rest) = match segments[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    let kind = by_path(group, version, plural)?;
    let fits = kind.namespaced != namespace.is_empty() || (kind.namespaced && name.is_empty());
    fits.then_some(Target {
        kind,
        namespace,
        name,
        subresource,
    })
}

fn found(state: &State, target: &Target<'_>) -> Result<Arc<Value>, Failure> {
    let object = state
        .objects
        .get(target.kind, target.namespace, target.name);
    object.ok_or_else(|| missing(target, target.name))
}

fn missing(target: &Target<'_>, name: &str) -> Failure {
    Failure::not_found(target.kind.plural, target.kind.group, name)
}

/// One object, in the form wanted.
fn one(
    code: StatusCode,
    target: &Target<'_>,
    object: &Arc<Value>,
    form: Wanted,
    query: &Query,
) -> Answer {
    let include = IncludeObject::parse(query.get("includeObject"));
    let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
    match form {
        Wanted::Table => {
            let rows = std::slice::from_ref(object);
            json_answer(
                code,
                &table::table(target.kind, rows, revision, include, true),
            )
        }
        Wanted::Metadata => json_answer(code, &table::metadata(object)),
        Wanted::Json | Wanted::AggregatedDiscovery => json_answer(code, object),
    }
}

fn list(
    state: &State,
    target: &Target<'_>,
    query: &Query,
    form: Wanted,
) -> Result<Answer, Failure> {
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
    let (mut objects, revision) = state.objects.list(target.kind, target.namespace);
    objects.retain(|object| selector.matches(object));
    let revision = revision.to_string();
    match form {
        Wanted::Table => {
            let include = IncludeObject::parse(query.get("includeObject"));
            let table = table::table(target.kind, &objects, &revision, include, true);
            Ok(json_answer(StatusCode::OK, &table))
        }
        Wanted::Metadata => Ok(json_answer(
            StatusCode::OK,
            &json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": revision},
                "items": objects.iter().map(|o| table::metadata(o)).collect::<Vec<_>>(),
            }),
        )),
        Wanted::Json | Wanted::AggregatedDiscovery => {
            let body = list_body(target.kind, objects, &revision);
            Ok(respond(StatusCode::OK, "application/json", body))
        }
    }
}

/// A list, encoded item by item while it is sent.
fn list_body(
    kind: &ResourceType,
    objects: Vec<Arc<Value>>,
    revision: &str,
) -> super::server::AnswerBody {
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"items\":[",
        kind.kind,
        kind.api_version()
    );
    let items = objects.into_iter().enumerate();
    pieces(stream::unfold(
        Some((head.into_bytes(), items)),
        async |state| {
            let (mut piece, mut items) = state?;
            while piece.len() < LIST_PIECE_BYTES {
                let Some((index, item)) = items.next() else {
                    piece.extend_from_slice(b"]}\n");
                    return Some((piece.into(), None));
                };
                if index > 0 {
                    piece.push(b',');
                }
                serde_json::to_writer(&mut piece, item.as_ref()).expect("a JSON value has JSON");
            }
            Some((piece.into(), Some((Vec::new(), items))))
        },
    ))
}

fn create(
    state: &State,
    target: &Target<'_>,
    query: &Query,
    form: Wanted,
    object: &Value,
) -> Result<Answer, Failure> {
    let metadata = &object["metadata"];
    let given = metadata["name"].as_str().unwrap_or("");
    let prefix = metadata["generateName"].as_str().unwrap_or("");
    let generated;
    let name = if given.is_empty() && !prefix.is_empty() {
        generated = format!("{prefix}{:05x}", *state.objects.revisions().borrow());
        &generated
    } else {
        given
    };
    if name.is_empty() {
        return Err(Failure::bad_request("name or generateName is required"));
    }
    check_namespace(state, target)?;
    let keep = query.get("dryRun").is_empty();
    let stored =
        state.objects.update(
            target.kind,
            target.namespace,
            name,
            keep,
            |before| match before {
                Some(_) => Err(Failure::already_exists(
                    target.kind.plural,
                    target.kind.group,
                    name,
                )),
                None => Ok(object.clone()),
            },
        )?;
    Ok(one(StatusCode::CREATED, target, &stored, form, query))
}

fn check_namespace(state: &State, target: &Target<'_>) -> Result<(), Failure> {
    if !target.kind.namespaced {
        return Ok(());
    }
    let namespaces = by_path("", "v1", "namespaces").expect("namespaces are served");
    match state.objects.get(namespaces, "", target.namespace) {
        Some(_) => Ok(()),
        None => Err(Failure::not_found("namespaces", "", target.namespace)),
    }
}

fn update(
    state: &State,
    target: &Target<'_>,
    query: &Query,
    form: Wanted,
    object: &Value,
) -> Result<Answer, Failure> {
    let keep = query.get("dryRun").is_empty();
    let wanted_revision = object["metadata"]["resourceVersion"].as_str().unwrap_or("");
    let stored =
        state
            .objects
            .update(target.kind, target.namespace, target.name, keep, |before| {
                let before = before.ok_or_else(|| missing(target, target.name))?;
                if !wanted_revision.is_empty()
                    && before["metadata"]["resourceVersion"] != wanted_revision
                {
                    return Err(Failure::conflict(
                        target.kind.plural,
                        target.kind.group,
                        target.name,
                    ));
                }
                Ok(object.clone())
            })?;
    Ok(one(StatusCode::OK, target, &stored, form, query))
}

fn apply_patch(
    state: &State,
    target: &Target<'_>,
    query: &Query,
    form: Wanted,
    parts: &Parts,
    body: &Bytes,
) -> Result<Answer, Failure> {
    let media_type = media_type(parts);
    let (strategy, creates) = match media_type {
        "application/merge-patch+json" => (Strategy::Merge, false),
        "application/strategic-merge-patch+json" => (Strategy::Strategic, false),
        "application/apply-patch+yaml" => (Strategy::Strategic, true),
        other => return Err(Failure::unsupported(other)),
    };
    let change = text_document(body)?;
    if creates {
        check_namespace(state, target)?;
    }
    let keep = query.get("dryRun").is_empty();
    let mut code = StatusCode::OK;
    let stored =
        state
            .objects
            .update(target.kind, target.namespace, target.name, keep, |before| {
                let mut object = match before {
                    Some(before) => before.clone(),
                    None if creates => {
                        code = StatusCode::CREATED;
                        json!({})
                    }
                    None => return Err(missing(target, target.name)),
                };
                patch::apply(&mut object, &change, strategy);
                Ok(object)
            })?;
    Ok(one(code, target, &stored, form, query))
}

fn delete(state: &State, target: &Target<'_>, query: &Query) -> Result<Answer, Failure> {
    found(state, target)?;
    if query.get("dryRun").is_empty() {
        state
            .objects
            .remove(target.kind.plural, target.namespace, target.name);
    }
    let status = success(target.kind.plural, target.kind.group, target.name);
    Ok(json_answer(StatusCode::OK, &status))
}

/// Deletes what is selected, and answers with the list of it, as a real API server does.
fn delete_collection(state: &State, target: &Target<'_>, query: &Query) -> Result<Answer, Failure> {
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
    let (mut objects, revision) = state.objects.list(target.kind, target.namespace);
    objects.retain(|object| selector.matches(object));
    if query.get("dryRun").is_empty() {
        for object in &objects {
            let text = |field| object["metadata"][field].as_str().unwrap_or("");
            state
                .objects
                .remove(target.kind.plural, text("namespace"), text("name"));
        }
    }
    let body = list_body(target.kind, objects, &revision.to_string());
    Ok(respond(StatusCode::OK, "application/json", body))
}

fn pod_log(state: &Arc<State>, target: &Target<'_>, query: &Query) -> Result<Answer, Failure> {
    found(state, target)?;
    let (namespace, pod) = (target.namespace, target.name);
    let from = match query.get("tailLines") {
        "" => 0,
        count => {
            let count = count
                .parse()
                .map_err(|_| Failure::bad_request("tailLines is not a number"))?;
            state.logs.tail(namespace, pod, count)
        }
    };
    let body = if query.is_true("follow") {
        followed_log(state, namespace, pod, from)
    } else {
        whole(state.logs.read(namespace, pod, from).0.into())
    };
    Ok(respond(StatusCode::OK, "text/plain", body))
}

/// Lines as they come, until the client goes.
fn followed_log(
    state: &Arc<State>,
    namespace: &str,
    pod: &str,
    from: usize,
) -> super::server::AnswerBody {
    let written = state.logs.written(namespace, pod);
    let (state, namespace, pod) = (state.clone(), namespace.to_owned(), pod.to_owned());
    pieces(stream::unfold(
        (from, written),
        move |(from, mut written)| {
            let (state, namespace, pod) = (state.clone(), namespace.clone(), pod.clone());
            async move {
                loop {
                    written.borrow_and_update();
                    let (text, next) = state.logs.read(&namespace, &pod, from);
                    if !text.is_empty() {
                        return Some((Bytes::from(text), (next, written)));
                    }
                    written.changed().await.ok()?;
                }
            }
        },
    ))
}

fn media_type(parts: &Parts) -> &str {
    let value = parts.headers.get(CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// The object in a body.
fn decode(parts: &Parts, body: &Bytes) -> Result<Value, Failure> {
    match media_type(parts) {
        protobuf::MEDIA_TYPE => {
            protobuf::decode(body, Unread::Dropped).map_err(|what| Failure::unsupported(&what))
        }
        "" | "application/json" | "application/yaml" => text_document(body),
        other => Err(Failure::unsupported(other)),
    }
}

/// A JSON object, or the same in YAML.
fn text_document(body: &Bytes) -> Result<Value, Failure> {
    let value: Option<Value> = serde_json::from_slice(body).ok().or_else(|| {
        let text = std::str::from_utf8(body).ok()?;
        serde_saphyr::from_str(text).ok()
    });
    match value {
        Some(value) if value.is_object() => check_data(value),
        _ => Err(Failure::bad_request(
            "the request body is neither JSON nor YAML of an object",
        )),
    }
}

/// Refuses a Secret whose data is not base64, as decoding does in a real API server.
fn check_data(object: Value) -> Result<Value, Failure> {
    let secret = object["kind"] == "Secret";
    for value in object["data"]
        .as_object()
        .into_iter()
        .flat_map(|data| data.values())
    {
        let text = value.as_str().unwrap_or("");
        if secret
            && base64::engine::general_purpose::STANDARD
                .decode(text)
                .is_err()
        {
            return Err(Failure::bad_request("illegal base64 data in a Secret"));
        }
    }
    Ok(object)
}
