//! A bad line in front of an HTTP server: requests and answers that are late, lost, doubled, or false.
//!
//! Whoever sets it up says for each request what becomes of it. The server behind stays a real one: what a fault does
//! not touch is answered by it, over a connection of its own. Bodies are held whole, so it is for objects of tests.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::dice::Dice;

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing bad.
    None,
    /// It reaches the server this much later.
    Late(Duration),
    /// It never reaches the server, and the connection breaks.
    LostBefore,
    /// The server has done it, and the connection breaks instead of an answer.
    LostAfter,
    /// It never reaches the server, and no answer comes either, for this long.
    SilentBefore(Duration),
    /// The server has done it, and no answer comes for this long; then the connection breaks.
    SilentAfter(Duration),
    /// It never reaches the server; the answer is this status with this code of S3.
    FalseBefore(u16, &'static str),
    /// The server has done it; the answer is this status with this code of S3 all the same.
    FalseAfter(u16, &'static str),
    /// The connection breaks at once, and it reaches the server only this much later, when nobody expects it any more.
    LandsLater(Duration),
    /// It reaches the server twice; the answer is that to the second.
    Twice,
    /// The server's answer breaks off after this many bytes of its body.
    CutShort(usize),
    /// When the server refuses because of a condition, the answer is that it is done, as of a server that does not know
    /// conditions. (The header itself is signed, so it cannot be taken away.)
    Unconditional,
}

/// What of a request decides about its fault.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// How many came before it.
    pub number: u64,
}

impl Seen<'_> {
    /// Whether it is a create-only put.
    pub fn is_create(&self) -> bool {
        self.method == Method::PUT && self.headers.contains_key("if-none-match")
    }
}

type Choose = Box<dyn FnMut(&Seen<'_>) -> Fault + Send>;

/// A running proxy. Dropping it breaks all connections.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

struct State {
    upstream: SocketAddr,
    choose: Mutex<Choose>,
    seen: AtomicU64,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Body = BoxBody<Bytes, Broken>;

/// Why a connection ends before its answer does.
#[derive(Debug, thiserror::Error)]
#[error("the line is broken on purpose")]
struct Broken;

impl FaultProxy {
    /// Starts in front of `upstream`, on a free port, without faults at first.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream,
            choose: Mutex::new(Box::new(|_| Fault::None)),
            seen: AtomicU64::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self {
            address,
            state,
            _serving: serving,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, this decides what becomes of each request.
    pub fn set(&self, choose: impl FnMut(&Seen<'_>) -> Fault + Send + 'static) {
        *self.state.choose.lock() = Box::new(choose);
    }

    /// The next create-only puts meet these faults, one each; what comes after meets none.
    pub fn fail_creates(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut faults: std::collections::VecDeque<_> = faults.into_iter().collect();
        self.set(move |seen| match seen.is_create() {
            true => faults.pop_front().unwrap_or(Fault::None),
            false => Fault::None,
        });
    }

    /// From now on, of a thousand requests this many meet some fault, chosen by the numbers that `seed` begins.
    pub fn misbehave(&self, seed: u64, per_thousand: u64) {
        let mut dice = Dice::new(seed);
        self.set(move |seen| {
            if !dice.chance(per_thousand) {
                return Fault::None;
            }
            let faults = [
                Fault::Late(Duration::from_millis(30)),
                Fault::LostBefore,
                Fault::LostAfter,
                Fault::SilentBefore(Duration::from_millis(200)),
                Fault::SilentAfter(Duration::from_millis(200)),
                Fault::FalseBefore(409, "ConditionalRequestConflict"),
                Fault::FalseBefore(503, "SlowDown"),
                Fault::FalseBefore(500, "InternalError"),
                Fault::FalseAfter(500, "InternalError"),
                Fault::FalseAfter(503, "SlowDown"),
                Fault::LandsLater(Duration::from_millis(1500)),
                Fault::Twice,
            ];
            match *dice.pick(&faults) {
                // A read has no use for being done and not answered.
                Fault::Twice | Fault::LandsLater(_) if seen.method == Method::GET => {
                    Fault::CutShort(10)
                }
                fault => fault,
            }
        });
    }

    /// How many requests came.
    pub fn seen(&self) -> u64 {
        self.state.seen.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let answer = service_fn(|request| answer(Arc::clone(&state), request));
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            // It breaks on purpose.
            drop(served);
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
    let number = state.seen.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let fault = state.choose.lock()(&Seen {
        method: &head.method,
        uri: &head.uri,
        headers: &head.headers,
        number,
    });
    let pass = || async {
        pass(state.upstream, &head, body.clone())
            .await
            .map_err(|_| Broken)
    };
    match fault {
        Fault::None => pass().await,
        Fault::Unconditional => match pass().await? {
            refused if refused.status() == StatusCode::PRECONDITION_FAILED => Ok(done()),
            answer => Ok(answer),
        },
        Fault::Late(wait) => {
            tokio::time::sleep(wait).await;
            pass().await
        }
        Fault::LostBefore => Err(Broken),
        Fault::LostAfter => pass().await.and(Err(Broken)),
        Fault::SilentBefore(wait) => {
            tokio::time::sleep(wait).await;
            Err(Broken)
        }
        Fault::SilentAfter(wait) => {
            pass().await?;
            tokio::time::sleep(wait).await;
            Err(Broken)
        }
        Fault::FalseBefore(status, code) => Ok(said(status, code)),
        Fault::FalseAfter(status, code) => pass().await.map(|_| said(status, code)),
        Fault::LandsLater(wait) => {
            let (upstream, head, body) = (state.upstream, head.clone(), body.clone());
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                // Nobody waits for what the server says.
                drop(self::pass(upstream, &head, body).await);
            });
            Err(Broken)
        }
        Fault::Twice => {
            pass().await?;
            pass().await
        }
        Fault::CutShort(bytes) => cut(pass().await?, bytes).await,
    }
}

/// Sends a request to the server, over a connection of its own, and takes the whole answer.
async fn pass(
    upstream: SocketAddr,
    head: &http::request::Parts,
    body: Bytes,
) -> Result<Response<Body>> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    // The body is here already, so nobody waits for leave to send it.
    request.headers_mut().remove(http::header::EXPECT);
    let (answer, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await.context("the answer broke off")?;
    driven.abort();
    let body = Full::new(body.to_bytes()).map_err(|e: Infallible| match e {});
    Ok(Response::from_parts(answer, body.boxed()))
}

/// An answer that S3 could have given.
fn said(status: u16, code: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>said on purpose</Message></Error>"
    );
    let body = Full::new(Bytes::from(text)).map_err(|e: Infallible| match e {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    answer
}

/// An answer without a body that says that it is done.
fn done() -> Response<Body> {
    let nothing = Full::new(Bytes::new()).map_err(|e: Infallible| match e {});
    Response::new(nothing.boxed())
}

/// The answer with its whole length announced, and its body cut short.
async fn cut(answer: Response<Body>, bytes: usize) -> Result<Response<Body>, Broken> {
    let (head, body) = answer.into_parts();
    let mut body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    if body.len() <= bytes {
        return Err(Broken);
    }
    body.truncate(bytes);
    let frames = futures_util::stream::iter([Ok(Frame::data(body)), Err(Broken)]);
    Ok(Response::from_parts(head, StreamBody::new(frames).boxed()))
}
