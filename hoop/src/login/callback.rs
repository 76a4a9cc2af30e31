//! The small web server on this machine that the browser comes back to with the answer of the issuer (RFC 8252 §7.3).
//!
//! Whatever else comes, from other pages or programs, changes nothing: only a request with the state of this login
//! counts, compared in constant time. The answer to it is one page without scripts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::{Url, form_urlencoded};

use super::settings::Redirect;
use super::shown;
use crate::config::Secret;

/// Connections at once. A browser opens two or three, some of them without ever asking anything.
const CONNECTIONS_MAX: usize = 16;

/// For one request: it comes from this machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// After a connection that could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest head of a request; the code and the state are some hundred bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The web server, listening.
#[derive(Debug)]
pub(super) struct Callback {
    listeners: Vec<TcpListener>,
    url: Url,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallbackError {
    #[error(
        "the browser has nowhere to come back to: other programs listen at {0}; end them, or name another --redirect-uri"
    )]
    Taken(String),
    #[error("the issuer refuses: {} {}", shown(.error), shown(.description))]
    Refused { error: String, description: String },
    #[error("the answer is of another issuer, {}; somebody may have mixed up two logins", shown(.0))]
    OtherIssuer(String),
}

/// What the browser brings.
type Outcome = Result<Secret<String>, CallbackError>;

/// What an answer has to have.
struct Expected {
    path: String,
    state: Secret<String>,
    issuer: String,
}

impl Callback {
    /// Listens at the first of these that is free.
    pub(super) async fn bind(redirects: &[Redirect]) -> Result<Self, CallbackError> {
        for redirect in redirects {
            if let Some(callback) = Self::at(redirect).await {
                return Ok(callback);
            }
        }
        let taken: Vec<_> = redirects.iter().map(|r| r.url.as_str()).collect();
        Err(CallbackError::Taken(taken.join(", ")))
    }

    async fn at(redirect: &Redirect) -> Option<Self> {
        let mut port = redirect.port.unwrap_or(0);
        let mut listeners = Vec::new();
        for address in &redirect.addresses {
            match TcpListener::bind((*address, port)).await {
                Ok(listener) => {
                    port = listener.local_addr().ok()?.port();
                    listeners.push(listener);
                }
                // A machine may have no IPv6, or no IPv4; a port that another program has is another matter.
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
                Err(_) => return None,
            }
        }
        if listeners.is_empty() {
            return None;
        }
        let mut url = redirect.url.clone();
        url.set_port(Some(port)).ok()?;
        Some(Self { listeners, url })
    }

    /// Where the issuer has to send the browser. A URL that names no path has none here either: issuers compare texts.
    pub(super) fn redirect_uri(&self) -> &str {
        match self.url.path() {
            "/" => self.url.as_str().trim_end_matches('/'),
            _ => self.url.as_str(),
        }
    }

    /// Waits for the browser to bring the code. Waits forever.
    pub(super) async fn code(self, state: Secret<String>, issuer: &str) -> Outcome {
        let expected = Arc::new(Expected {
            path: self.url.path().to_owned(),
            state,
            issuer: issuer.to_owned(),
        });
        let (sender, mut accepted) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, sender.clone()));
        }
        let mut connections: JoinSet<Option<Outcome>> = JoinSet::new();
        loop {
            tokio::select! {
                Some(stream) = accepted.recv(), if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve(stream, Arc::clone(&expected)));
                }
                Some(served) = connections.join_next() => {
                    // When its page has been sent, so that the person sees it.
                    if let Ok(Some(outcome)) = served {
                        return outcome;
                    }
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, accepted: mpsc::Sender<TcpStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if accepted.send(stream).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one request. Returns what it brought, if it was the one.
async fn serve(stream: TcpStream, expected: Arc<Expected>) -> Option<Outcome> {
    let (sender, mut outcome) = mpsc::channel(1);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (page, found) = expected.judge(&request);
        if let Some(found) = found {
            // A second one on the same connection is none.
            drop(sender.try_send(found));
        }
        async move { Ok::<_, Infallible>(page) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // A browser that goes away has said what it had to say.
    drop(tokio::time::timeout(REQUEST_TIMEOUT, connection).await);
    outcome.try_recv().ok()
}

impl Expected {
    fn judge(&self, request: &Request<Incoming>) -> (Response<Full<Bytes>>, Option<Outcome>) {
        let uri = request.uri();
        if request.method() != Method::GET || uri.path() != self.path {
            return (page(StatusCode::NOT_FOUND, "There is nothing here."), None);
        }
        match self.read(uri.query().unwrap_or_default()) {
            None => {
                let text = "This is no answer to the login that hoop waits for.";
                (page(StatusCode::BAD_REQUEST, text), None)
            }
            Some(Ok(code)) => {
                let text = "You are logged in. This page can be closed.";
                (page(StatusCode::OK, text), Some(Ok(code)))
            }
            Some(Err(error)) => {
                let text = "The login failed; the terminal says why. This page can be closed.";
                (page(StatusCode::OK, text), Some(Err(error)))
            }
        }
    }

    /// What the query says, if it is about this login.
    fn read(&self, query: &str) -> Option<Outcome> {
        let one = |name: &str| {
            let mut values = form_urlencoded::parse(query.as_bytes())
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned());
            // RFC 6749 §3.1: no parameter comes twice.
            match (values.next(), values.next()) {
                (Some(value), None) => Some(value),
                _ => None,
            }
        };
        let state = one("state")?;
        if !bool::from(state.as_bytes().ct_eq(self.state.reveal().as_bytes())) {
            return None;
        }
        // RFC 9207: an issuer that names itself is the one that was asked.
        if let Some(issuer) = one("iss").filter(|issuer| *issuer != self.issuer) {
            return Some(Err(CallbackError::OtherIssuer(issuer)));
        }
        if let Some(error) = one("error") {
            let description = one("error_description").unwrap_or_default();
            return Some(Err(CallbackError::Refused { error, description }));
        }
        one("code").map(|code| Ok(Secret::new(code)))
    }
}

/// A page of fixed text.
fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>hoop</title>\
         <body style=\"font-family: sans-serif; margin: 4em\"><h1>hoop</h1><p>{text}</p></body></html>\n"
    );
    let mut response = Response::new(Full::new(html.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
        // The code is in the address of this page.
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_with_the_state_of_this_login_counts() {
        let expected = Expected {
            path: "/".into(),
            state: Secret::new("s1".into()),
            issuer: "https://id".into(),
        };
        let read = |query: &str| match expected.read(query) {
            None => "nothing".to_owned(),
            Some(Ok(code)) => code.reveal().clone(),
            Some(Err(error)) => error.to_string(),
        };
        assert_eq!(read("code=c&state=s1"), "c");
        assert_eq!(
            read("code=c%2B1&state=s1&iss=https%3A%2F%2Fid&session_state=x"),
            "c+1"
        );
        for ignored in [
            "",
            "code=c",
            "code=c&state=s",
            "code=c&state=s12",
            "code=c&state=s1&state=s1",
            "code=c&state=",
            "state=s1",
            "code=a&code=b&state=s1",
        ] {
            assert_eq!(read(ignored), "nothing", "{ignored:?}");
        }
        let denied = read("error=access_denied&error_description=no%0Away&state=s1");
        assert_eq!(denied, "the issuer refuses: access_denied no way");
        assert_eq!(read("error=access_denied"), "nothing");
        assert!(read("code=c&state=s1&iss=https://evil").contains("another issuer"));
    }

    #[tokio::test]
    async fn the_first_free_place_is_taken_and_named_as_it_was_written() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |ip: &str, port, path: &str| Redirect {
            url: Url::parse(&format!("http://{ip}{path}")).unwrap(),
            addresses: vec![ip.parse().unwrap()],
            port,
        };
        let first = at("127.0.0.1", Some(taken.local_addr().unwrap().port()), "");
        let none = Callback::bind(std::slice::from_ref(&first)).await;
        assert!(matches!(none, Err(CallbackError::Taken(_))));
        let second = Callback::bind(&[first.clone(), at("127.0.0.1", None, "")])
            .await
            .unwrap();
        let port = second.listeners[0].local_addr().unwrap().port();
        assert_eq!(second.redirect_uri(), format!("http://127.0.0.1:{port}"));
        let third = Callback::bind(&[at("127.0.0.1", None, "/back")])
            .await
            .unwrap();
        assert!(third.redirect_uri().ends_with("/back"));
    }
}
