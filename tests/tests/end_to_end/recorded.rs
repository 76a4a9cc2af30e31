//! What was recorded of one request, as `hoop-replay` shows it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::pipeline::Pipeline;

/// How long the outcome of a request may take until it is recorded, once the client is gone.
const OUTCOME_WITHIN: Duration = Duration::from_secs(20);

/// How often the record is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The events of one request, in their order.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) intent: Value,
    pub(crate) outcome: Value,
    /// Everything between them.
    events: Vec<Value>,
}

impl Recorded {
    /// The requests about a pod's subresource, the first one first, when all of them are over.
    pub(crate) fn of_pod(
        pipeline: &Pipeline,
        namespace: &str,
        pod: &str,
        subresource: &str,
    ) -> Result<Vec<Self>> {
        let about = |event: &Value| {
            let object = &event["request"]["object_ref"];
            object["name"] == pod && object["subresource"] == subresource
        };
        let begun = Instant::now();
        let intents = loop {
            let both = pipeline.events_of(namespace, about)?;
            let (intents, outcomes): (Vec<_>, Vec<_>) = both
                .into_iter()
                .partition(|event| event["kind"] == "intent");
            if !intents.is_empty() && intents.len() == outcomes.len() {
                break intents;
            }
            ensure!(
                begun.elapsed() < OUTCOME_WITHIN,
                "{} intents and {} outcomes of {subresource} on {pod}",
                intents.len(),
                outcomes.len()
            );
            std::thread::sleep(LOOK_EVERY);
        };
        let requests = intents
            .into_iter()
            .map(|intent| Self::replay(pipeline, intent));
        requests.collect()
    }

    /// The only request about a pod's subresource.
    pub(crate) fn one_of_pod(
        pipeline: &Pipeline,
        namespace: &str,
        pod: &str,
        subresource: &str,
    ) -> Result<Self> {
        let mut all = Self::of_pod(pipeline, namespace, pod, subresource)?;
        ensure!(all.len() == 1, "{} of {subresource} on {pod}", all.len());
        all.pop().context("there is one")
    }

    /// What `hoop-replay show` says about the request with this intent.
    fn replay(pipeline: &Pipeline, intent: Value) -> Result<Self> {
        let session = intent["session_id"].as_str().context("it has a session")?;
        let id = intent["request"]["audit_id"].clone();
        let shown = pipeline
            .replay(&["show", session, "-o", "json"])?
            .expect_success()?;
        let shown: Vec<Value> = serde_json::from_str(&shown)?;
        ensure!(
            shown.contains(&intent),
            "the intent of the log is in what is shown"
        );
        let outcome = shown
            .iter()
            .find(|event| event["kind"] == "outcome" && event["request"]["audit_id"] == id)
            .context("an outcome is shown")?
            .clone();
        let events = shown
            .into_iter()
            .filter(|event| event["audit_id"] == id)
            .collect();
        Ok(Self {
            intent,
            outcome,
            events,
        })
    }

    /// The bytes of a channel; the pieces must lie end to end.
    pub(crate) fn bytes(&self, channel: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for event in self.pieces(channel) {
            let content = event["content"].as_str().context("a piece has content")?;
            // Connections of a port-forward share their channels, each from offset 0.
            ensure!(
                event["connection"].is_u64() || event["offset"] == bytes.len(),
                "a piece begins at {} and not at {}",
                event["offset"],
                bytes.len()
            );
            match event["encoding"].as_str() {
                Some("text") => bytes.extend(content.as_bytes()),
                Some("base64") => bytes.extend(STANDARD.decode(content)?),
                other => anyhow::bail!("an encoding is {other:?}"),
            }
        }
        Ok(bytes)
    }

    /// The bytes of a channel as text.
    pub(crate) fn text(&self, channel: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(channel)?).into_owned())
    }

    fn pieces(&self, channel: &str) -> impl Iterator<Item = &Value> {
        self.of_kind("stream.data")
            .filter(move |event| event["channel"] == channel)
    }

    /// The events of one kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |event| event["kind"] == kind)
    }
}
