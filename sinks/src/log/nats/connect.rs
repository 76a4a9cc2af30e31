//! Connections: TLS, credentials, and the one thing that the writer needs beyond them: a connection that is never made
//! again behind its back.
//!
//! The client library keeps what was not sent yet when a connection breaks, and sends it on the next one. What *was*
//! sent and is lost then has no place any more: it came before. So a writer's connection is refused its second life,
//! and the writer makes a new one and decides what to send on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event};
use tokio::sync::watch;

use super::error::OpenError;
use super::options::{Auth, Options, PUBLISHES_MAX};

/// How often a server has to show that it is alive; three silences end a connection.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Name of the connections, for `nats server report connections`.
const NAME: &str = "hoop";

/// A connection that does not come back.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Turns true when it is lost.
    pub(crate) lost: watch::Receiver<bool>,
}

/// Connects for a reader: a lost connection is made again.
pub(crate) async fn lasting(options: &Options) -> Result<Client, OpenError> {
    let connect = connect_options(options, Arc::default());
    finish(connect, options).await
}

/// Connects for a writer.
pub(crate) async fn once(options: &Options) -> Result<Connection, OpenError> {
    let connected = Arc::new(AtomicBool::new(false));
    let (lose, lost) = watch::channel(false);
    let connect = connect_options(options, Arc::clone(&connected))
        .max_reconnects(options.urls.len())
        .ignore_discovered_servers()
        .reconnect_delay_callback(|_| Duration::ZERO)
        .client_capacity(2 * PUBLISHES_MAX)
        .subscription_capacity(4 * PUBLISHES_MAX)
        .event_callback(move |event| {
            let lose = lose.clone();
            async move {
                match event {
                    Event::Disconnected | Event::Closed => {
                        lose.send_replace(true);
                    }
                    Event::ServerError(error) => {
                        tracing::warn!(%error, "the NATS server reports an error");
                    }
                    _ => {}
                }
            }
        });
    let client = finish(connect, options).await?;
    connected.store(true, Ordering::SeqCst);
    Ok(Connection { client, lost })
}

async fn finish(connect: ConnectOptions, options: &Options) -> Result<Client, OpenError> {
    let client = connect.connect(options.urls.as_slice()).await;
    client.map_err(|source| OpenError::Connect {
        urls: options.urls.join(", "),
        source: source.into(),
    })
}

fn connect_options(options: &Options, fence: Arc<AtomicBool>) -> ConnectOptions {
    let auth = Arc::new(options.auth.clone());
    let mut connect = ConnectOptions::with_auth_callback(move |nonce| {
        let (auth, fence) = (Arc::clone(&auth), Arc::clone(&fence));
        async move {
            if fence.load(Ordering::SeqCst) {
                return Err(AuthError::new(
                    "this connection is over; the log makes a new one",
                ));
            }
            answer(&auth, &nonce).await.map_err(AuthError::new)
        }
    });
    if let Some(ca) = &options.tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.tls.identity {
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    if options.tls.handshake_first {
        connect = connect.tls_first();
    }
    connect
        .require_tls(options.tls != super::options::Tls::default())
        .name(NAME)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(options.request_timeout)
        .request_timeout(Some(options.request_timeout))
        .custom_inbox_prefix(&options.inbox_prefix)
}

/// What to tell a server that has sent this nonce.
async fn answer(auth: &Auth, nonce: &[u8]) -> Result<async_nats::Auth, String> {
    let mut answer = async_nats::Auth::new();
    match auth {
        Auth::None => {}
        Auth::Token { file } => answer.token = Some(secret(file).await?),
        Auth::Password { user, file } => {
            answer.username = Some(user.clone());
            answer.password = Some(secret(file).await?);
        }
        Auth::Nkey { file } => {
            let key = key_pair(file, &secret(file).await?)?;
            answer.nkey = Some(key.public_key());
            answer.signature = Some(sign(&key, nonce)?);
        }
        Auth::Credentials { file } => {
            let text = secret(file).await?;
            let (jwt, seed) = credentials(&text)
                .ok_or_else(|| format!("{} has no JWT and seed", file.display()))?;
            answer.jwt = Some(jwt.to_owned());
            answer.signature = Some(sign(&key_pair(file, seed)?, nonce)?);
        }
    }
    Ok(answer)
}

async fn secret(file: &Path) -> Result<String, String> {
    match tokio::fs::read_to_string(file).await {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

fn key_pair(file: &Path, seed: &str) -> Result<nkeys::KeyPair, String> {
    nkeys::KeyPair::from_seed(seed)
        .map_err(|error| format!("{} does not hold a seed: {error}", file.display()))
}

fn sign(key: &nkeys::KeyPair, nonce: &[u8]) -> Result<Vec<u8>, String> {
    key.sign(nonce)
        .map_err(|error| format!("cannot sign with the NKey: {error}"))
}

/// The JWT and the seed of a `.creds` file: the line after the first and the second line that begins a block.
fn credentials(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines();
    let mut block = || {
        lines.find(|line| line.starts_with("-----BEGIN"))?;
        lines.next().map(str::trim)
    };
    Some((block()?, block()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_the_two_blocks_of_the_file() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n***** IMPORTANT *****\n\
                    -----BEGIN USER NKEY SEED-----\r\nSUAI\r\n------END USER NKEY SEED------\n";
        assert_eq!(credentials(text), Some(("eyJ0", "SUAI")));
        assert_eq!(credentials("SUAI"), None);
    }

    #[tokio::test]
    async fn secrets_are_read_from_their_files_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let auth = Auth::Token { file: file.clone() };
        assert!(answer(&auth, b"").await.is_err());
        for token in ["first", "second"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            let answer = answer(&auth, b"").await.unwrap();
            assert_eq!(answer.token.as_deref(), Some(token));
        }
    }

    #[tokio::test]
    async fn a_seed_signs_the_nonce() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seed");
        let key = nkeys::KeyPair::new_user();
        std::fs::write(&file, key.seed().unwrap()).unwrap();
        let answer = answer(&Auth::Nkey { file }, b"nonce").await.unwrap();
        assert_eq!(answer.nkey, Some(key.public_key()));
        key.verify(b"nonce", &answer.signature.unwrap()).unwrap();
    }
}
