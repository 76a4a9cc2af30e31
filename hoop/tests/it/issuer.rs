//! An issuer that does what a test tells it: for the answers that no honest issuer gives, or not when a test wants them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The only code that it takes.
pub(crate) const CODE: &str = "good-code";

/// An issuer that is up.
pub(crate) struct LoginIssuer {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
    pub(crate) says: Arc<Mutex<Says>>,
    server: tokio::task::JoinHandle<()>,
}

/// What it says, and what it heard.
pub(crate) struct Says {
    /// Seconds that a token lasts.
    pub(crate) lifetime: i64,
    /// Of the last authorisation request.
    pub(crate) challenge: String,
    pub(crate) nonce: String,
    pub(crate) redirect_uri: String,
    /// Refresh tokens that it takes; each once.
    pub(crate) refresh: Vec<String>,
    /// What a device is told, one after the other; an empty text is a yes.
    pub(crate) device: VecDeque<&'static str>,
    /// What the discovery document says besides.
    pub(crate) discovery: Value,
    /// Every form that was posted: the path, and the fields.
    pub(crate) heard: Vec<(String, BTreeMap<String, String>)>,
    issued: usize,
}

impl LoginIssuer {
    pub(crate) async fn start() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let says = Arc::new(Mutex::new(Says {
            lifetime: 3600,
            challenge: String::new(),
            nonce: String::new(),
            redirect_uri: String::new(),
            refresh: Vec::new(),
            device: VecDeque::new(),
            discovery: json!({
                "issuer": url,
                "authorization_endpoint": format!("{url}/authorize?tenant=a"),
                "token_endpoint": format!("{url}/token"),
                "device_authorization_endpoint": format!("{url}/device"),
                "revocation_endpoint": format!("{url}/revoke"),
            }),
            heard: Vec::new(),
            issued: 0,
        }));
        let server = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            url.clone(),
            Arc::clone(&says),
        ));
        Self {
            url,
            ca_pem: ca.pem(),
            says,
            server,
        }
    }

    /// Changes what it says.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    /// The values that a field of the forms posted to `path` had.
    pub(crate) fn heard(&self, path: &str, field: &str) -> Vec<String> {
        let says = self.says.lock().unwrap();
        let forms = says.heard.iter().filter(|(at, _)| at == path);
        forms
            .filter_map(|(_, form)| form.get(field).cloned())
            .collect()
    }
}

impl Drop for LoginIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, url: String, says: Arc<Mutex<Says>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, url, says) = (tls.clone(), url.clone(), Arc::clone(&says));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let answer = service_fn(|request: Request<Incoming>| {
                let (url, says) = (url.clone(), Arc::clone(&says));
                async move { Ok::<_, Infallible>(answer(request, &url, &says).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            drop(http.serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    url: &str,
    says: &Mutex<Says>,
) -> Response<Full<Bytes>> {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let mut says = says.lock().unwrap();
    if method == Method::POST {
        says.heard.push((path.clone(), form.clone()));
    }
    let (status, document) = match path.as_str() {
        "/.well-known/openid-configuration" => (200, says.discovery.clone()),
        "/token" => says.token(url, &form),
        "/device" => (
            200,
            json!({"device_code": "device-code", "user_code": "WDJB-MJHT", "interval": 1, "expires_in": 60,
                "verification_uri": format!("{url}/enter")}),
        ),
        "/revoke" => (200, json!({})),
        _ => (404, json!({})),
    };
    let mut response = Response::new(Full::new(document.to_string().into()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

impl Says {
    fn token(&mut self, url: &str, form: &BTreeMap<String, String>) -> (u16, Value) {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let refused = |error: &str| {
            (
                400,
                json!({"error": error, "error_description": "so it is"}),
            )
        };
        if field("client_id") != "hoop" {
            return refused("invalid_client");
        }
        match field("grant_type") {
            "authorization_code" => {
                let digest = Sha256::digest(field("code_verifier").as_bytes());
                let proven = URL_SAFE_NO_PAD.encode(digest) == self.challenge;
                if field("code") != CODE || field("redirect_uri") != self.redirect_uri || !proven {
                    return refused("invalid_grant");
                }
            }
            "refresh_token" => {
                let known = self
                    .refresh
                    .iter()
                    .position(|r| r == field("refresh_token"));
                let Some(known) = known else {
                    return refused("invalid_grant");
                };
                self.refresh.remove(known);
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let error = self.device.pop_front().unwrap_or("authorization_pending");
                if !error.is_empty() {
                    return refused(error);
                }
            }
            _ => return refused("unsupported_grant_type"),
        }
        self.issued += 1;
        let refresh = format!("refresh-{}", self.issued);
        self.refresh.push(refresh.clone());
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"iss": url, "aud": "hoop", "sub": "alice", "iat": now, "exp": now + self.lifetime,
            "nonce": self.nonce, "jti": self.issued});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let id_token = format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims));
        (
            200,
            json!({"id_token": id_token, "refresh_token": refresh, "token_type": "Bearer"}),
        )
    }
}
