//! An issuer of ID tokens: discovery document and keys over TLS, and whatever tokens a test wants.
//!
//! The unit tests of the authenticator use it too, so it knows nothing of the gateway.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::FromDer;

/// An issuer that is up.
pub(crate) struct TestIssuer {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
    served: Arc<Served>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Served {
    url: Mutex<String>,
    keys: Mutex<Bytes>,
    down: AtomicBool,
    fetches: AtomicUsize,
}

/// A key pair for one algorithm.
pub(crate) struct SigningKey {
    alg: &'static str,
    kid: Option<&'static str>,
    signer: Signer,
}

enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
}

impl TestIssuer {
    pub(crate) async fn start() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap())
            .unwrap();
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
            "https://localhost:{}/realms/test",
            listener.local_addr().unwrap().port()
        );
        let served = Arc::new(Served::default());
        *served.url.lock() = url.clone();
        let server = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            Arc::clone(&served),
        ));
        Self {
            url,
            ca_pem: ca.pem(),
            served,
            server,
        }
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.publish_raw(json!({"keys": keys}).to_string());
    }

    /// Serves this as the keys.
    pub(crate) fn publish_raw(&self, keys: String) {
        *self.served.keys.lock() = keys.into();
    }

    /// Says in its discovery document that it is this one.
    pub(crate) fn call_itself(&self, url: &str) {
        *self.served.url.lock() = url.to_owned();
    }

    /// Hangs up on everybody, or no longer.
    pub(crate) fn set_down(&self, down: bool) {
        self.served.down.store(down, Ordering::SeqCst);
    }

    /// How often the keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        self.served.fetches.load(Ordering::SeqCst)
    }

    /// The file of an authentication configuration with this issuer; `more` is YAML below `jwt[0]`.
    pub(crate) fn configuration(&self, more: &str) -> String {
        let pem = self.ca_pem.trim().replace('\n', "\n        ");
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n  - issuer:\n      url: {}\n      \
             audiences: [hoop]\n      certificateAuthority: |\n        {pem}\n{more}",
            self.url
        )
    }

    /// Claims that are good for an hour.
    pub(crate) fn claims(&self, more: Value) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let mut claims =
            json!({"iss": self.url, "aud": "hoop", "sub": "alice", "iat": now, "exp": now + 3600});
        let (Value::Object(all), Value::Object(more)) = (&mut claims, more) else {
            panic!("claims are an object");
        };
        all.extend(more);
        claims
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, served: Arc<Served>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if served.down.load(Ordering::SeqCst) {
            continue;
        }
        tokio::spawn(connection(stream, tls.clone(), Arc::clone(&served)));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, served: Arc<Served>) {
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let answer = |request: Request<Incoming>| {
        let url = served.url.lock().clone();
        let (status, body) = match request.uri().path() {
            "/realms/test/.well-known/openid-configuration" => {
                let base = url.trim_end_matches('/');
                let port = request.headers()["host"].to_str().unwrap();
                let keys = format!("https://{port}/keys");
                (
                    200,
                    Bytes::from(json!({"issuer": base, "jwks_uri": keys}).to_string()),
                )
            }
            "/keys" => {
                served.fetches.fetch_add(1, Ordering::SeqCst);
                (200, served.keys.lock().clone())
            }
            _ => (404, Bytes::new()),
        };
        let response = Response::builder()
            .status(status)
            .body(Full::new(body))
            .unwrap();
        async move { Ok::<_, Infallible>(response) }
    };
    let http = hyper::server::conn::http1::Builder::new();
    // A client that goes away is no failure of the test.
    drop(
        http.serve_connection(TokioIo::new(stream), service_fn(answer))
            .await,
    );
}

impl SigningKey {
    /// A new key pair for this algorithm.
    pub(crate) fn new(alg: &'static str, kid: Option<&'static str>) -> Self {
        let ec = |algorithm, curve| Signer::Ec(EcdsaKeyPair::generate(algorithm).unwrap(), curve);
        let signer = match alg {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES512" => ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            _ => Signer::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()),
        };
        Self { alg, kid, signer }
    }

    /// The public key as the issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.signer {
            Signer::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(der).unwrap();
                let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
                json!({"kty": "RSA", "n": encode(&key.modulus[zeros..]), "e": encode(key.exponent)})
            }
            Signer::Ec(pair, curve) => {
                let (x, y) =
                    pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
        };
        jwk["use"] = json!("sig");
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// A token.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.alg, "typ": "JWT"});
        if let Some(kid) = self.kid {
            header["kid"] = json!(kid);
        }
        self.sign_as(&header, claims)
    }

    /// A token with this header; its `alg` says how it is signed.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let message = signed.as_bytes();
        let alg = header["alg"].as_str().unwrap();
        let signature = match &self.signer {
            // The classic confusion: the public key as the secret.
            _ if alg.starts_with("HS") => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, self.jwk().to_string().as_bytes());
                hmac::sign(&secret, message).as_ref().to_vec()
            }
            Signer::Rsa(pair) => {
                let encoding: &'static dyn aws_lc_rs::signature::RsaEncoding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
                    .unwrap();
                signature
            }
            Signer::Ec(pair, _) => pair
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}
