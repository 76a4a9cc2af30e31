//! Asking one webhook.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Position;

use super::connect::{Connector, read};
use super::kept::Kept;
use super::{WebhookError, answer};
use crate::policy::{Answer, Webhook};

/// Questions to one webhook at once, and connections to it: a bound on what a slow one can hold; the rest wait for
/// their turn within their time.
const AT_ONCE_MAX: usize = 64;

/// Connections that are kept open for the next question, as many as a busy gateway has under way.
const IDLE_MAX: usize = 16;

/// How long an unused connection is kept; servers close theirs after 60 s and more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// The longest answer, in bytes. It repeats the question, whose longest part are the groups of a person.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long a token that was read is good: Kubernetes renews those of a pod an hour before they end.
const TOKEN_FRESH: Duration = Duration::from_secs(60);

/// Between two lines in the log about failures of one webhook.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Asks one webhook.
pub(super) struct Client {
    webhook: Arc<Webhook>,
    connector: Connector,
    host: HeaderValue,
    /// What the request line says.
    target: http::Uri,
    slots: Semaphore,
    idle: Mutex<Vec<(Instant, SendRequest<Full<Bytes>>)>>,
    token: Mutex<Option<(Instant, HeaderValue)>>,
    pub(super) kept: Kept,
    failures: Mutex<Failures>,
}

/// What the log was told about failures.
#[derive(Default)]
struct Failures {
    last_told: Option<Instant>,
    untold: u64,
}

/// Why there is no answer. Display is for the person who waits, after "webhook NAME".
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("did not answer in time")]
    Timeout,
    #[error("cannot be reached")]
    Connect(#[source] std::io::Error),
    #[error("cannot be asked")]
    Credential(#[source] WebhookError),
    #[error("broke off its answer")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("answered with the HTTP status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("answered with more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("answered with something else than one SubjectAccessReview")]
    NoReview,
}

impl AskError {
    /// As in metrics.
    pub(super) fn result(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            _ => "failed",
        }
    }
}

impl Client {
    /// Reads what the webhook's definition names.
    pub(super) async fn open(webhook: Arc<Webhook>) -> Result<Self, WebhookError> {
        let url = webhook.url.clone();
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let client = Self {
            connector: Connector::open(&webhook).await?,
            host: HeaderValue::from_str(host).map_err(|_| WebhookError::Address)?,
            target: target.parse().map_err(|_| WebhookError::Address)?,
            webhook,
            slots: Semaphore::new(AT_ONCE_MAX),
            idle: Mutex::default(),
            token: Mutex::default(),
            kept: Kept::default(),
            failures: Mutex::default(),
        };
        client.authorization().await?;
        Ok(client)
    }

    pub(super) fn name(&self) -> &str {
        &self.webhook.name
    }

    /// Connects, and no more.
    pub(super) async fn reach(&self) -> Result<(), AskError> {
        let connected = self.connector.connect().await;
        connected.map(drop).map_err(AskError::Connect)
    }

    /// Asks. Takes as long as it takes: whoever calls has the clock.
    pub(super) async fn ask(&self, review: Bytes) -> Result<Answer, AskError> {
        let slot = self.slots.acquire().await;
        let _slot = slot.expect("the semaphore is never closed");
        let authorization = self.authorization().await.map_err(AskError::Credential)?;
        let request = || self.request(review.clone(), authorization.clone());
        let (sender, response) = match self.send_over_kept(&request).await {
            Some(answered) => answered,
            None => {
                let mut sender = self.connector.connect().await.map_err(AskError::Connect)?;
                let response = sender.send_request(request()).await;
                (sender, response.map_err(|e| AskError::Http(e.into()))?)
            }
        };
        let status = response.status();
        if !status.is_success() {
            return Err(AskError::Status(status));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                AskError::TooLong
            } else {
                AskError::Http(error)
            }
        })?;
        self.keep(sender);
        answer::read(&body.to_bytes()).ok_or(AskError::NoReview)
    }

    /// Sends over a connection that was kept; nothing when there is none that works. A question can be asked twice.
    async fn send_over_kept(
        &self,
        request: impl Fn() -> Request<Full<Bytes>>,
    ) -> Option<(SendRequest<Full<Bytes>>, Response<Incoming>)> {
        loop {
            let (since, mut sender) = self.idle.lock().pop()?;
            if since.elapsed() > IDLE_TIME_MAX || sender.ready().await.is_err() {
                continue;
            }
            if let Ok(response) = sender.send_request(request()).await {
                return Some((sender, response));
            }
        }
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        idle.retain(|(since, sender)| since.elapsed() <= IDLE_TIME_MAX && !sender.is_closed());
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push((Instant::now(), sender));
        }
    }

    fn request(&self, review: Bytes, authorization: Option<HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(review));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.target.clone();
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        headers.insert(USER_AGENT, HeaderValue::from_static("hoop"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        request
    }

    /// The header with the token, which is read again now and then.
    async fn authorization(&self) -> Result<Option<HeaderValue>, WebhookError> {
        let Some(file) = &self.webhook.token_file else {
            return Ok(None);
        };
        if let Some((read, header)) = &*self.token.lock()
            && read.elapsed() < TOKEN_FRESH
        {
            return Ok(Some(header.clone()));
        }
        let token = zeroize::Zeroizing::new(read(file).await?);
        let token = token.trim_ascii();
        let bearer = zeroize::Zeroizing::new([b"Bearer ", token].concat());
        let header = HeaderValue::from_bytes(&bearer).ok();
        let header = header.filter(|_| !token.is_empty());
        let mut header = header.ok_or_else(|| WebhookError::Token(file.clone()))?;
        header.set_sensitive(true);
        *self.token.lock() = Some((Instant::now(), header.clone()));
        Ok(Some(header))
    }

    /// Tells the log, but not each time.
    pub(super) fn note_failure(&self, error: &AskError) {
        let untold = {
            let mut failures = self.failures.lock();
            let told = failures.last_told;
            if told.is_some_and(|told| told.elapsed() < FAILURE_LOG_INTERVAL) {
                failures.untold += 1;
                return;
            }
            failures.last_told = Some(Instant::now());
            std::mem::take(&mut failures.untold)
        };
        tracing::warn!(
            webhook = self.webhook.name,
            error = error as &dyn std::error::Error,
            untold,
            "a webhook of the policy failed"
        );
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("webhook", &self.webhook.name)
            .finish_non_exhaustive()
    }
}
