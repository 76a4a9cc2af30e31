//! NATS servers with JetStream: one alone, or three in a cluster.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::certificates::Authority;
use super::process::{Run, Server, free_port};
use super::{build, cache};

/// How long it may take until a server lets clients in.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked at.
const READY_ASKED_EVERY: Duration = Duration::from_millis(50);

/// Runs a server so that it ends when its standard input does.
const LEASH: &str = r#"exec 3<&0; (cat <&3 >/dev/null; grep -q nats-server /proc/$$/cmdline && kill -9 $$) & exec "$@""#;

/// One server, which may be stopped, killed, paused and started again on the same port and data.
#[derive(Debug)]
pub struct Nats {
    name: String,
    folder: PathBuf,
    port: u16,
    starts: u32,
    server: Option<Server>,
}

impl Nats {
    /// Builds it if need be, starts it with the settings that an event log needs (every write synced) and `settings`
    /// behind them, in the words of its configuration file, and waits until it lets clients in.
    ///
    /// # Errors
    /// When it cannot be had, or does not get ready.
    pub fn start(run: &Run, name: &str, settings: &str) -> Result<Self> {
        let mut nats = Self::configure(run, name, settings, "sync_interval: always")?;
        nats.start_again(run)?;
        Ok(nats)
    }

    /// As [`Nats::start`], but it syncs its writes as `interval` says.
    ///
    /// # Errors
    /// As there.
    pub fn start_with_sync(run: &Run, name: &str, interval: &str) -> Result<Self> {
        let mut nats = Self::configure(run, name, "", &format!("sync_interval: {interval}"))?;
        nats.start_again(run)?;
        Ok(nats)
    }

    fn configure(run: &Run, name: &str, settings: &str, jetstream: &str) -> Result<Self> {
        let folder = run.folder().join(name);
        cache::create(&folder)?;
        let port = free_port()?;
        let store = folder.join("data");
        let configuration = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", {jetstream} }}\n{settings}\n",
            store.display()
        );
        std::fs::write(folder.join("nats.conf"), configuration)?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            port,
            starts: 0,
            server: None,
        })
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder with its configuration and data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its name in a cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it on the data that it had.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_again(&mut self, run: &Run) -> Result<()> {
        self.spawn(run)?;
        self.until_ready()
    }

    fn spawn(&mut self, run: &Run) -> Result<()> {
        self.starts += 1;
        let program = build::nats_server()?;
        let mut command = Command::new("sh");
        command
            .args(["-c", LEASH, "leash"])
            .arg(program)
            .arg("--config")
            .arg(self.folder.join("nats.conf"));
        let log = format!("{}-{}", self.name, self.starts);
        self.server = Some(Server::start(run, &log, &mut command)?);
        Ok(())
    }

    fn until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.lets_in() {
            let server = self.server.as_mut().context("it was started")?;
            if !server.runs() || begun.elapsed() > READY_WITHIN {
                bail!("{} did not get ready:\n{}", self.name, server.log());
            }
            std::thread::sleep(READY_ASKED_EVERY);
        }
        Ok(())
    }

    /// Whether it greets whoever connects.
    fn lets_in(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut greeting = String::new();
        let wait = stream.set_read_timeout(Some(READY_WITHIN / 10));
        let read = BufReader::new(&stream).read_line(&mut greeting);
        wait.is_ok() && read.is_ok() && greeting.starts_with("INFO ")
    }

    /// Everything it printed since it was last started.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }

    /// Ends it at once, with SIGKILL.
    pub fn kill(&mut self) {
        self.server.take();
    }

    /// Lets it end by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.terminate()?;
        }
        Ok(())
    }

    /// Pauses it, with SIGSTOP, until [`Nats::resume`].
    pub fn pause(&self) {
        if let Some(server) = &self.server {
            server.pause();
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(server) = &self.server {
            server.resume();
        }
    }
}

/// The command line `nats` of those who administer servers, built if need be.
///
/// # Errors
/// When it cannot be had.
pub fn nats_client() -> Result<PathBuf> {
    build::nats_client()
}

/// Three servers, each of which keeps a copy.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers.
    pub servers: Vec<Nats>,
}

impl NatsCluster {
    /// Starts three servers, and waits until they let clients in; they have no leader yet.
    ///
    /// # Errors
    /// When they cannot be had, or do not get ready.
    pub fn start(run: &Run, name: &str) -> Result<Self> {
        let ports = [free_port()?, free_port()?, free_port()?];
        let routes = ports
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .join(", ");
        let mut servers = Vec::new();
        for (number, port) in ports.into_iter().enumerate() {
            let settings = format!(
                "cluster {{ name: {name}, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            let name = format!("{name}-{number}");
            let mut nats = Nats::configure(run, &name, &settings, "sync_interval: always")?;
            nats.spawn(run)?;
            servers.push(nats);
        }
        for nats in &mut servers {
            nats.until_ready()?;
        }
        Ok(Self { servers })
    }

    /// Where clients reach them.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Nats::url).collect()
    }
}

/// Certificates for a server that asks its clients for theirs.
#[derive(Debug)]
pub struct NatsIdentities {
    /// Who certifies them.
    pub ca: PathBuf,
    /// Certificate and key of a client.
    pub client: (PathBuf, PathBuf),
    server: (PathBuf, PathBuf),
}

impl NatsIdentities {
    /// Makes them in a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn make(folder: &Path) -> Result<Self> {
        cache::create(folder)?;
        let authority = Authority::make(folder)?;
        let server = authority.server("server")?;
        let client = authority.client("client", "hoop", None)?;
        Ok(Self {
            ca: authority.path(),
            client: (client.certificate_path, client.key_path),
            server: (server.certificate_path, server.key_path),
        })
    }

    /// What the server's configuration has to say.
    pub fn settings(&self) -> String {
        let (certificate, key) = &self.server;
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
            certificate.display(),
            key.display(),
            self.ca.display()
        )
    }
}
