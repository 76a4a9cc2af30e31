//! Watches and logs over WebSocket, as dashboards ask for them: frame by frame as the API server itself sends them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hoop_schema::EventHash;
use hoop_tests::testbed::Need;
use http::Request;
use http::header::{ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use memchr::memmem;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::client;
use crate::harness::{Test, api_server, node_cluster, own_pipeline, tests};
use crate::node::NodeCluster;
use crate::pipeline::Pipeline;
use crate::recorded::Recorded;

/// How long the watches go on, in seconds: longer than the changes take.
const WATCH_SECONDS: u32 = 5;

/// How long a stream may take from its beginning to its end.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// How long the outcomes may take until they can be read from the record, and how often they are looked for.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a masked watch must not show.
const CANARY: &str = "canary-f3a9c1e07b52";

/// The token of a dashboard that shows nothing else.
const TOKEN: &str = "dashboard";

/// The first byte of frames: final, and what they hold.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

pub(crate) fn tests() -> Vec<Test> {
    let with_node: &'static [Need] = &[Need::Kubernetes, Need::Node];
    [
        tests![&[Need::Kubernetes]; a_watch_has_the_frames_of_the_api_server_but_for_what_is_masked],
        tests![with_node; logs_are_those_of_the_api_server],
    ]
    .concat()
}

/// A frame of a server, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    /// Whether it is final, and what it holds.
    first: u8,
    payload: Vec<u8>,
}

/// A WebSocket that was opened.
struct WebSocket {
    stream: TokioIo<Upgraded>,
    /// The subprotocol that the server chose; empty for none.
    protocol: String,
}

impl WebSocket {
    /// Opens one as a page of a dashboard does.
    async fn open(client: &kube::Client, target: &str, offered: Option<&str>) -> Result<Self> {
        let mut request = Request::get(target)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header(ORIGIN, "https://dashboard.example")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-extensions", "permessage-deflate");
        if let Some(offered) = offered {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        let response = client.send(request.body(Body::empty())?).await?;
        let (status, headers) = (response.status(), response.headers());
        ensure!(status == 101, "{target}: {status}");
        ensure!(headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        ensure!(!headers.contains_key("sec-websocket-extensions"));
        let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.map_or(Ok(""), |name| name.to_str())?.to_owned();
        let stream = TokioIo::new(hyper::upgrade::on(response).await?);
        Ok(Self { stream, protocol })
    }

    async fn next(&mut self) -> Result<Frame> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            length @ 0..126 => u64::from(length),
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            _ => bail!("a server does not mask"),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame { first, payload })
    }

    /// All frames, the last one a close frame.
    async fn frames(mut self) -> Result<Vec<Frame>> {
        let all = async {
            let mut frames = Vec::new();
            while frames
                .last()
                .is_none_or(|frame: &Frame| frame.first != CLOSE)
            {
                frames.push(self.next().await?);
            }
            anyhow::Ok(frames)
        };
        tokio::time::timeout(OVER_WITHIN, all)
            .await
            .context("a stream does not end")?
    }
}

/// A client without any credential but what it says in its requests.
async fn anonymous(kubeconfig: &Path) -> Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(read, &options).await?;
    config.auth_info = AuthInfo::default();
    Ok(kube::Client::try_from(config)?)
}

fn a_watch_has_the_frames_of_the_api_server_but_for_what_is_masked() -> Result<()> {
    let server = api_server()?;
    let namespace = server.namespace("websocketwatch")?;
    let mut pipeline = own_pipeline("websocket")?;
    pipeline.stop()?;
    let hash = EventHash::of(TOKEN.as_bytes());
    let (folder, file) = (pipeline.folder(), "tokens.yaml");
    fs::write(
        folder.join(file),
        format!("tokens: [{{name: page, groups: [platform], sha256: {hash}}}]"),
    )?;
    let configuration = folder.join("hoop.yaml");
    let text = fs::read_to_string(&configuration)?;
    fs::write(&configuration, format!("{text}tokens: {file}\n"))?;
    pipeline.start_again()?;

    let bearer = BASE64_URL_SAFE_NO_PAD.encode(TOKEN);
    let offered = format!("base64url.bearer.authorization.k8s.io.{bearer}, dashboard");
    let [wanted, unmasked, masked] = client::block_on(async {
        let direct = client::connect(&server.admin_kubeconfig()).await?;
        let trusted = client::connect(&pipeline.kubeconfig("dave")).await?;
        let page = anonymous(&pipeline.kubeconfig("dave")).await?;
        let secrets = Api::<Secret>::namespaced(direct.clone(), &namespace);
        let version = secrets.list(&ListParams::default()).await?.metadata;
        let version = version.resource_version.context("a list has a version")?;
        let target = format!(
            "/api/v1/namespaces/{namespace}/secrets?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        );
        let sockets = [
            WebSocket::open(&direct, &target, Some("dashboard")).await?,
            WebSocket::open(&trusted, &target, Some("dashboard")).await?,
            WebSocket::open(&page, &target, Some(&offered)).await?,
        ];
        for socket in &sockets {
            ensure!(socket.protocol == "dashboard", "{}", socket.protocol);
        }
        change(&secrets).await?;
        let [direct, trusted, page] = sockets.map(|socket| tokio::spawn(socket.frames()));
        Ok([direct.await??, trusted.await??, page.await??])
    })?;
    ensure!(wanted.len() == 4, "three changes and an end: {wanted:?}");
    ensure!(wanted == unmasked, "{wanted:?}\n{unmasked:?}");
    ensure!(shows_canary(&wanted), "the API server shows it");
    ensure!(!shows_canary(&masked), "{masked:?}");
    ensure!(without_values(&wanted)? == without_values(&masked)?);
    is_recorded(&pipeline, &namespace, &bearer)
}

/// Makes a Secret, changes it and removes it.
async fn change(secrets: &Api<Secret>) -> Result<()> {
    let mut secret = Secret::default();
    secret.metadata.name = Some("password".to_owned());
    let value = ByteString(CANARY.into());
    secret.data = Some([("value".to_owned(), value)].into());
    secrets.create(&PostParams::default(), &secret).await?;
    let patch = json!({"stringData": {"another": format!("{CANARY}<&> \u{2028}")}});
    secrets
        .patch("password", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    secrets.delete("password", &DeleteParams::default()).await?;
    Ok(())
}

fn shows_canary(frames: &[Frame]) -> bool {
    let forms = [CANARY.to_owned(), BASE64_STANDARD.encode(CANARY)];
    frames.iter().any(|frame| {
        let found = |form: &String| memmem::find(&frame.payload, form.as_bytes()).is_some();
        forms.iter().any(found)
    })
}

/// Frames of events without the values of Secrets: what they hold and what is in them.
fn without_values(frames: &[Frame]) -> Result<Vec<(u8, Value)>> {
    let strip = |frame: &Frame| {
        if frame.first != TEXT {
            return Ok((frame.first, json!(frame.payload)));
        }
        let mut event: Value = serde_json::from_slice(&frame.payload)?;
        let data = event["object"]["data"].as_object_mut();
        data.context("a Secret has data")?
            .values_mut()
            .for_each(|value| *value = json!(""));
        Ok((frame.first, event))
    };
    frames.iter().map(strip).collect()
}

/// Both watches are in the record, in full, and the token is not.
fn is_recorded(pipeline: &Pipeline, namespace: &str, bearer: &str) -> Result<()> {
    let begun = Instant::now();
    let ended = loop {
        let ended = pipeline.events_of(namespace, |event| event["kind"] == "outcome")?;
        if ended.len() == 2 || begun.elapsed() > RECORDED_WITHIN {
            break ended;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let ids: Vec<_> = ended
        .iter()
        .map(|event| &event["request"]["audit_id"])
        .collect();
    ensure!(ids.len() == 2, "{ended:?}");
    for outcome in &ended {
        ensure!(outcome["status"] == 101, "{outcome}");
        ensure!(outcome["ended"] == "complete", "{outcome}");
        ensure!(outcome["request"]["verb"] == "watch", "{outcome}");
    }
    let users: Vec<_> = ended
        .iter()
        .filter_map(|event| event["request"]["user"]["username"].as_str())
        .collect();
    ensure!(
        users.contains(&"page") && users.contains(&"dave"),
        "{users:?}"
    );
    for id in ids {
        let pieces =
            pipeline.events(|event| event["kind"] == "stream.data" && event["audit_id"] == *id)?;
        let text: String = pieces
            .iter()
            .filter_map(|event| event["content"].as_str())
            .collect();
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            ensure!(text.contains(&format!(r#""type":"{kind}""#)), "{text}");
        }
        ensure!(!text.contains(&BASE64_STANDARD.encode(CANARY)), "{text}");
    }
    for record in pipeline.records()?.values() {
        ensure!(
            !record.contains(bearer) && !record.contains(CANARY),
            "{record}"
        );
    }
    Ok(())
}

fn logs_are_those_of_the_api_server() -> Result<()> {
    let cluster = node_cluster()?;
    let namespace = cluster.server.namespace("websocketlogs")?;
    // Longer than a message.
    let command = "for n in $(seq 1 2000); do echo line $n of the log; done; sleep 1000000";
    cluster.run_pods(&namespace, &["talker"], command)?;
    has_said_all(&cluster, &namespace)?;
    for (offered, opcode) in [
        (None, BINARY),
        (Some("binary.k8s.io"), BINARY),
        (Some("unknown, base64.binary.k8s.io"), TEXT),
    ] {
        compare_logs(&cluster, &namespace, offered, opcode)?;
    }
    let log: String = (1..=2000)
        .map(|n| format!("line {n} of the log\n"))
        .collect();
    let recorded = Recorded::of_pod(&cluster.pipeline, &namespace, "talker", "log")?;
    ensure!(recorded.len() == 6, "{} requests", recorded.len());
    for (number, one) in recorded.iter().enumerate() {
        ensure!(one.outcome["status"] == 101, "{}", one.outcome);
        // The second of each pair was followed, and its client went away.
        if number % 2 == 1 {
            ensure!(one.outcome["ended"] == "client_closed", "{}", one.outcome);
            ensure!(one.text("log")? == log);
        } else {
            ensure!(one.outcome["ended"] == "complete", "{}", one.outcome);
        }
    }
    Ok(())
}

/// Waits until the talker has said its last line: a pod runs before its command has done anything.
fn has_said_all(cluster: &NodeCluster, namespace: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let args = ["logs", "-n", namespace, "talker", "--tail=1"];
        let last = cluster.server.kubectl().run(&args)?;
        if last.stdout.starts_with("line 2000 ") {
            return Ok(());
        }
        ensure!(begun.elapsed() < OVER_WITHIN, "the talker says {last:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Reads a log to its end and follows it, on both sides. How it is cut into messages depends on when it comes; what is
/// in them, how they are written, and the first and the last one do not.
fn compare_logs(
    cluster: &NodeCluster,
    namespace: &str,
    offered: Option<&str>,
    opcode: u8,
) -> Result<()> {
    let target = format!("/api/v1/namespaces/{namespace}/pods/talker/log");
    client::block_on(async {
        let mut sides = Vec::new();
        for kubeconfig in [
            cluster.server.admin_kubeconfig(),
            cluster.pipeline.kubeconfig("dave"),
        ] {
            let client = client::connect(&kubeconfig).await?;
            let socket = WebSocket::open(&client, &target, offered).await?;
            let protocol = socket.protocol.clone();
            let frames = socket.frames().await?;
            let (first, rest) = frames.split_first().context("a first frame")?;
            let (last, pieces) = rest.split_last().context("a last frame")?;
            let log = text_of(pieces, opcode)?;
            sides.push((protocol, first.clone(), log.clone(), last.clone()));

            let following = format!("{target}?follow=true");
            let mut socket = WebSocket::open(&client, &following, offered).await?;
            let (first_followed, mut followed) = (socket.next().await?, Vec::new());
            ensure!(first_followed == *first, "{first_followed:?}");
            let follow = async {
                while followed.len() < log.len() {
                    followed.extend(text_of(&[socket.next().await?], opcode)?);
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(OVER_WITHIN, follow).await??;
            ensure!(followed == log, "{}", String::from_utf8_lossy(&followed));
        }
        ensure!(sides[0] == sides[1], "{sides:?}");
        ensure!(sides[0].1.payload.is_empty() && sides[0].2.len() > 2048);
        Ok(())
    })
}

/// What frames of a log hold. None may be longer than those of the API server.
fn text_of(frames: &[Frame], opcode: u8) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for frame in frames {
        ensure!(frame.first == opcode, "{frame:?}");
        let piece = match opcode {
            TEXT => BASE64_STANDARD.decode(&frame.payload)?,
            _ => frame.payload.clone(),
        };
        ensure!(piece.len() <= 2048, "{} bytes", piece.len());
        text.extend(piece);
    }
    Ok(text)
}
