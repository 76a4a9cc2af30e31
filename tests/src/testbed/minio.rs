//! MinIO: a real server of S3's protocol, with versions, Object Lock, conditional writes and policies.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;

use super::process::{Run, Server, free_port};
use super::{build, cache};

/// How long it may take until it answers; 2 s, and more on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked at.
const READY_ASKED_EVERY: Duration = Duration::from_millis(50);

/// A free port may be taken before the server has it; then all is begun again, this often.
const STARTS_MAX: u32 = 3;

/// Who may do everything, for one run.
const ROOT: (&str, &str) = ("hoop-root", "hoop-root-secret");

/// Where MinIO says that it is.
const REGION: &str = "us-east-1";

/// Runs MinIO so that it ends when its standard input does: it does not look itself.
const LEASH: &str = r#"exec 3<&0; (cat <&3 >/dev/null; grep -q 'server' /proc/$$/cmdline && kill -9 $$) & exec "$@""#;

/// A running MinIO.
#[derive(Debug)]
pub struct Minio {
    folder: PathBuf,
    address: SocketAddr,
    server: Server,
}

impl Minio {
    /// Builds it if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be had, or does not get ready; with the end of what it said.
    pub fn start(run: &Run) -> Result<Self> {
        Self::start_as(run, "minio")
    }

    /// As [`Minio::start`], under a name of its own: beside another one.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(run: &Run, name: &str) -> Result<Self> {
        let program = build::minio()?;
        let folder = run.folder().join(name);
        cache::create(&folder)?;
        let mut start = 1;
        loop {
            let port = free_port()?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut command = Command::new("sh");
            command
                .args(["-c", LEASH, "leash"])
                .arg(&program)
                .args(["server", "--quiet", "--address", &address.to_string()])
                .arg(folder.join(format!("data-{start}")))
                .env("MINIO_ROOT_USER", ROOT.0)
                .env("MINIO_ROOT_PASSWORD", ROOT.1)
                .env("MINIO_BROWSER", "off")
                .env("MINIO_UPDATE", "off")
                .env("HOME", &folder);
            let server = Server::start(run, name, &mut command)?;
            let mut minio = Self {
                folder: folder.clone(),
                address,
                server,
            };
            match minio.until_ready() {
                Ok(()) => {
                    minio.write_credentials("root", &keys(ROOT.0, ROOT.1, None))?;
                    return Ok(minio);
                }
                Err(_) if start < STARTS_MAX => start += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file with the credentials of somebody who may do everything.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.credentials")
    }

    /// A client of somebody who may do everything.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(self.url())
            .region(Region::from_static(REGION))
            .credentials_provider(root())
            .force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Makes a bucket, with Object Lock and so with versions, or with neither.
    ///
    /// # Errors
    /// When MinIO refuses.
    pub fn make_bucket(&self, name: &str, object_lock: bool) -> Result<()> {
        let client = self.client();
        let made = client
            .create_bucket()
            .bucket(name)
            .object_lock_enabled_for_bucket(object_lock)
            .send();
        block_on(async { made.await.map(drop).context("cannot make a bucket") })
    }

    /// A file with the credentials of somebody who may do what `policy` says, for an hour.
    ///
    /// # Errors
    /// When MinIO refuses the policy.
    pub fn credentials(&self, name: &str, policy: &Value) -> Result<PathBuf> {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(self.url())
            .region(Region::from_static(REGION))
            .credentials_provider(root());
        let client = aws_sdk_sts::Client::from_conf(config.build());
        let assumed = block_on(async {
            client
                .assume_role()
                .role_arn("arn:xxx:xxx:xxx:xxxx")
                .role_session_name(name)
                .policy(policy.to_string())
                .send()
                .await
                .with_context(|| format!("the policy of {name} is refused: {policy}"))
        })?;
        let found = assumed.credentials().context("no credentials came")?;
        let (key, secret) = (found.access_key_id(), found.secret_access_key());
        self.write_credentials(name, &keys(key, secret, Some(found.session_token())))
    }

    /// Writes a file of credentials as `~/.aws/credentials` is one, and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_credentials(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.credentials"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let client = self.client();
            let listed = block_on(async { Ok(client.list_buckets().send().await.is_ok()) })?;
            if listed {
                return Ok(());
            }
            if !self.server.runs() || begun.elapsed() > READY_WITHIN {
                bail!("minio did not get ready:\n{}", self.server.log());
            }
            std::thread::sleep(READY_ASKED_EVERY);
        }
    }
}

/// A file of credentials.
fn keys(key: &str, secret: &str, token: Option<&str>) -> String {
    let token = token.map_or(String::new(), |token| {
        format!("aws_session_token = {token}\n")
    });
    format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n{token}")
}

fn root() -> Credentials {
    Credentials::new(ROOT.0, ROOT.1, None, None, "test bed")
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
