//! Watches through the gateway: as complete and as prompt as without it.

use std::collections::BTreeSet;
use std::fs;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hoop_schema::EventHash;
use hoop_tests::testbed::Need;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client;
use crate::compatibility::{self, Client, Feature};
use crate::harness::{Test, api_server, own_pipeline, pipeline, tests};

/// A controller sees some five changes a second on a busy cluster: ten minutes of them.
const OBJECTS: usize = 20;
const ROUNDS: usize = 150;

/// Changes under way at once.
const AT_ONCE: usize = 8;

/// How long one watch of the informer lasts, in seconds, so that it has several.
const WATCH_SECONDS: u32 = 5;

/// How long the informer may take to see the last of them.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// How long the last of them may take until they can be read from the record.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

/// Changes whose delay is measured, and the most the gateway may add to the median of them.
const DELAYS: usize = 60;
const DELAY_MAX: Duration = Duration::from_millis(5);

pub(crate) fn tests() -> Vec<Test> {
    let mut all = tests![
        &[Need::Kubernetes];
        an_informer_misses_none_of_thousands_of_changes,
        kubectl_says_that_its_credential_has_expired,
    ];
    let timed = tests![&[Need::Kubernetes]; a_watch_is_no_later_than_without_the_gateway];
    all.extend(timed.into_iter().map(Test::alone));
    all
}

fn config_map(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object
}

fn version(object: &ConfigMap) -> Result<String> {
    object
        .metadata
        .resource_version
        .clone()
        .context("a stored object has a version")
}

fn an_informer_misses_none_of_thousands_of_changes() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("informer")?;
    let (seen, wanted) = client::block_on(async {
        let direct = client::connect(&server.admin_kubeconfig()).await?;
        let through = client::connect(&pipeline.kubeconfig("alice")).await?;
        let (listed, begun) = tokio::sync::oneshot::channel();
        let informer = tokio::spawn(inform(Api::namespaced(through, &namespace), listed));
        begun.await?;
        let wanted = change(Api::namespaced(direct, &namespace)).await?;
        let seen = tokio::time::timeout(SEEN_WITHIN, informer).await???;
        Ok((seen, wanted))
    })?;
    let missed: Vec<_> = wanted.difference(&seen).collect();
    ensure!(
        missed.is_empty(),
        "{} of {} changes missed",
        missed.len(),
        wanted.len()
    );

    // The record has what the informer saw: all watches but the last have ended, and that one's pieces are there too.
    let watches = pipeline.events_of(&namespace, |event| {
        event["kind"] == "intent" && event["request"]["verb"] == "watch"
    })?;
    let ids: BTreeSet<_> = watches
        .iter()
        .filter_map(|event| event["request"]["audit_id"].as_str())
        .collect();
    ensure!(!ids.is_empty());
    let unrecorded = || {
        let of_ours = |event: &Value| {
            event["audit_id"]
                .as_str()
                .is_some_and(|id| ids.contains(id))
        };
        let pieces = pipeline.events(|event| event["kind"] == "stream.data" && of_ours(event))?;
        let text: String = pieces
            .iter()
            .filter_map(|event| event["content"].as_str())
            .collect();
        let recorded =
            |version: &&String| text.contains(&format!(r#""resourceVersion":"{version}""#));
        anyhow::Ok(wanted.iter().filter(|version| !recorded(version)).count())
    };
    let begun = Instant::now();
    while unrecorded()? > 0 {
        ensure!(
            begun.elapsed() < RECORDED_WITHIN,
            "{} changes are not recorded",
            unrecorded()?
        );
    }
    compatibility::works(Client::Kube, &[Feature::Watch, Feature::Informer]);
    Ok(())
}

/// What every informer does: lists once, then watches from there, and begins the next watch where the last one ended.
/// Returns the versions it saw, when they are as many as there will be. It never lists again: what happened meanwhile
/// would be lost, so an answer that makes it do so is an error.
async fn inform(api: Api<ConfigMap>, listed: oneshot::Sender<()>) -> Result<BTreeSet<String>> {
    let list = api.list(&ListParams::default()).await?;
    let mut latest = list
        .metadata
        .resource_version
        .context("a list has a version")?;
    listed
        .send(())
        .map_err(|()| anyhow!("nobody waits for the list"))?;
    let mut seen = BTreeSet::new();
    while seen.len() < OBJECTS * (ROUNDS + 1) {
        let watch = WatchParams::default().timeout(WATCH_SECONDS);
        let mut events = pin!(api.watch(&watch, &latest).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    latest = version(&object)?;
                    seen.insert(latest.clone());
                }
                WatchEvent::Bookmark(bookmark) => latest = bookmark.metadata.resource_version,
                event => bail!("{event:?}"),
            }
            if seen.len() == OBJECTS * (ROUNDS + 1) {
                break;
            }
        }
    }
    Ok(seen)
}

/// Makes the objects and changes each of them in every round. Returns the versions that came of it.
async fn change(api: Api<ConfigMap>) -> Result<BTreeSet<String>> {
    let mut versions = BTreeSet::new();
    for round in 0..=ROUNDS {
        let changes = stream::iter(0..OBJECTS).map(|i| {
            let api = api.clone();
            async move {
                let name = format!("object-{i}");
                if round == 0 {
                    return api.create(&PostParams::default(), &config_map(&name)).await;
                }
                let patch = json!({"data": {"round": round.to_string()}});
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
            }
        });
        let changed: Vec<_> = changes.buffer_unordered(AT_ONCE).try_collect().await?;
        for object in &changed {
            versions.insert(version(object)?);
        }
    }
    ensure!(versions.len() == OBJECTS * (ROUNDS + 1));
    Ok(versions)
}

fn a_watch_is_no_later_than_without_the_gateway() -> Result<()> {
    let (server, pipeline) = (api_server()?, pipeline()?);
    let namespace = server.namespace("delay")?;
    let mut added = client::block_on(async {
        let direct = client::connect(&server.admin_kubeconfig()).await?;
        let through = client::connect(&pipeline.kubeconfig("alice")).await?;
        let writer = Api::<ConfigMap>::namespaced(direct.clone(), &namespace);
        let mut watches = Vec::new();
        for client in [direct, through] {
            let api = Api::<ConfigMap>::namespaced(client, &namespace);
            watches.push(tokio::spawn(arrivals(api)));
        }
        // Both watches are there: a watch from "now" shows only what comes after it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for i in 0..DELAYS {
            writer
                .create(&PostParams::default(), &config_map(&format!("object-{i}")))
                .await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut times = Vec::new();
        for watch in watches {
            times.push(tokio::time::timeout(SEEN_WITHIN, watch).await???);
        }
        let pairs = times[0].iter().zip(&times[1]);
        Ok(pairs
            .map(|(direct, through)| through.saturating_duration_since(*direct))
            .collect::<Vec<_>>())
    })?;
    added.sort();
    let median = added[added.len() / 2];
    ensure!(
        median <= DELAY_MAX,
        "the gateway adds {median:?} in the median; all: {added:?}"
    );
    Ok(())
}

/// When each of the objects came, in the order in which they were made.
async fn arrivals(api: Api<ConfigMap>) -> Result<Vec<Instant>> {
    let now = api
        .list(&Default::default())
        .await?
        .metadata
        .resource_version;
    let mut events = pin!(
        api.watch(&WatchParams::default(), &now.unwrap_or_default())
            .await?
    );
    let mut arrivals = Vec::new();
    while arrivals.len() < DELAYS {
        if let WatchEvent::Added(_) = events.try_next().await?.context("the watch ended")? {
            arrivals.push(Instant::now());
        }
    }
    Ok(arrivals)
}

/// How long the token is valid: longer than `hoop up` and kubectl take to start.
const TOKEN_SECONDS: i64 = 12;

fn kubectl_says_that_its_credential_has_expired() -> Result<()> {
    let mut pipeline = own_pipeline("expiry")?;
    pipeline.stop()?;
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(TOKEN_SECONDS);
    let hash = EventHash::of(b"short-lived");
    let folder = pipeline.folder();
    fs::write(
        folder.join("tokens.yaml"),
        format!(
            "tokens: [{{name: eve, groups: [developers], sha256: {hash}, expires: {expires:.6}}}]"
        ),
    )?;
    let configuration = folder.join("hoop.yaml");
    let text = fs::read_to_string(&configuration)?;
    fs::write(&configuration, format!("{text}tokens: tokens.yaml\n"))?;
    pipeline.start_again()?;

    let kubectl = pipeline.kubectl_with_token("short-lived")?;
    let watch = kubectl.run(&["get", "configmaps", "--all-namespaces", "--watch"])?;
    // kubectl shows the Status as the last row of its table, and takes the end of a watch for success.
    let last = watch.stdout.trim_end().lines().last().unwrap_or_default();
    ensure!(
        last.contains("Unauthorized") && last.contains("has expired"),
        "kubectl shows: {}",
        watch.stdout
    );
    let again = kubectl.run(&["get", "configmaps"])?.expect_failure()?;
    ensure!(
        again.contains("the bearer token has expired"),
        "kubectl says: {again}"
    );
    let ended = pipeline.events(|event| event["decision"]["cause"] == "credential_expired")?;
    ensure!(ended.len() == 1, "{ended:?}");
    Ok(())
}
