//! Keycloak: a real OpenID Connect issuer with device flow, and a SAML identity provider.
//!
//! The realms are those of `testbed/keycloak`: `people` has alice (group platform) and bob (group developers), the public
//! client `hoop`, and a client `agent-platform` whose tokens say that `agent-7` acts for the person. `company` is the SAML
//! provider of carol, who comes to `people` through it and is put into the group developers there. `rotating` and
//! `short` are as `people`: one for tests that rotate keys, the other with tokens that last for seconds. Everybody's password is their name with `-secret` behind it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::certificates::Authority;
use super::clients::Answer;
use super::process::{Run, Server, free_port};
use super::{build, cache};

/// How long it may take until it answers: 20 s, and two minutes were seen on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(600);

/// How often it is looked at.
const READY_ASKED_EVERY: Duration = Duration::from_millis(200);

/// A free port may be taken before the server has it; then all is begun again, this often.
const STARTS_MAX: u32 = 3;

/// Of the administrator `admin`, who exists for one run.
const ADMIN_PASSWORD: &str = "admin-secret";

/// Seconds that ID tokens last, by realm.
const REALMS: [(&str, &str); 3] = [("people", "600"), ("rotating", "600"), ("short", "20")];

/// Runs Java so that it ends when its standard input does: Java itself does not look.
const LEASH: &str = r#"exec 3<&0; (cat <&3 >/dev/null; grep -q kc.home.dir /proc/$$/cmdline && kill -9 $$) & exec "$@""#;

/// A running Keycloak.
#[derive(Debug)]
pub struct Keycloak {
    folder: PathBuf,
    url: String,
    ca: PathBuf,
    _server: Server,
}

impl Keycloak {
    /// Fetches it if need be, starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be had, or does not get ready; with the end of what it said.
    pub fn start(run: &Run) -> Result<Self> {
        let program = build::keycloak()?;
        let folder = run.folder().join("keycloak");
        cache::create(&folder)?;
        let authority = Authority::make(&folder)?;
        let identity = authority.server("server")?;
        std::fs::write(folder.join("browser.py"), BROWSER)?;
        std::fs::write(folder.join("rotate.py"), ROTATE)?;
        let mut start = 1;
        loop {
            let port = free_port()?;
            let url = format!("https://localhost:{port}");
            let home = folder.join(format!("home-{start}"));
            make_home(&program, &home, &url)?;
            let mut command = java(&home);
            command
                .args(["start", "--optimized", "--import-realm", "--log-level=info"])
                .args(["--http-host=127.0.0.1", &format!("--https-port={port}")])
                .arg(format!("--hostname={url}"))
                .arg(option("https-certificate-file", &identity.certificate_path))
                .arg(option("https-certificate-key-file", &identity.key_path))
                // One realm asks another for its SAML metadata.
                .arg(option("truststore-paths", &authority.path()))
                .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
                .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD);
            let mut server = Server::start(run, "keycloak", &mut command)?;
            match until_ready(&mut server) {
                Ok(()) => {
                    return Ok(Self {
                        ca: authority.path(),
                        folder,
                        url,
                        _server: server,
                    });
                }
                Err(_) if start < STARTS_MAX => start += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What the tokens of a realm have as their issuer.
    pub fn issuer(&self, realm: &str) -> String {
        format!("{}/realms/{realm}", self.url)
    }

    /// Who certifies it.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// A command that plays a browser with this person before it, in words without spaces, for `BROWSER`. It wants the
    /// page as its last argument.
    pub fn browser(&self, person: &str, through: Option<&str>) -> String {
        let script = self.folder.join("browser.py");
        let mut words = vec![
            "python3".to_owned(),
            script.display().to_string(),
            self.ca.display().to_string(),
            person.to_owned(),
            format!("{person}-secret"),
        ];
        words.extend(
            through
                .iter()
                .flat_map(|idp| ["--through", idp])
                .map(str::to_owned),
        );
        words.join(" ")
    }

    /// What the browsers saw so far: `open` and the person for each login, `at` and the page for each step.
    pub fn browsed(&self) -> String {
        std::fs::read_to_string(self.folder.join("browser.log")).unwrap_or_default()
    }

    /// Lets a realm sign with a new key; the old one stays published.
    ///
    /// # Errors
    /// When Keycloak refuses.
    pub fn rotate_keys(&self, realm: &str) -> Result<()> {
        self.rotate(realm, "add")
    }

    /// Lets a realm sign with a new key, and no longer publish any but the last one.
    ///
    /// # Errors
    /// When Keycloak refuses.
    pub fn withdraw_old_keys(&self, realm: &str) -> Result<()> {
        self.rotate(realm, "drop-old")
    }

    fn rotate(&self, realm: &str, what: &str) -> Result<()> {
        let mut command = Command::new("python3");
        command
            .arg(self.folder.join("rotate.py"))
            .arg(&self.ca)
            .args([&self.url, realm, ADMIN_PASSWORD, what]);
        Answer::of(&mut command, "")?.expect_success()?;
        Ok(())
    }
}

/// A browser, and an administrator.
const BROWSER: &str = include_str!("../../testbed/keycloak/browser.py");
const ROTATE: &str = include_str!("../../testbed/keycloak/rotate.py");

/// The realms, with places for what is different each time.
const PEOPLE: &str = include_str!("../../testbed/keycloak/people.json");
const COMPANY: &str = include_str!("../../testbed/keycloak/company.json");

/// A home of its own for the program in the cache, since it writes into its home.
fn make_home(program: &Path, home: &Path, url: &str) -> Result<()> {
    let realms = home.join("data/import");
    cache::create(&realms)?;
    for part in ["lib", "conf", "providers", "themes"] {
        symlink(program.join(part), home.join(part))?;
    }
    let with_url = |text: &str| text.replace("@URL@", url);
    for (realm, lifespan) in REALMS {
        let text = with_url(PEOPLE)
            .replace("@REALM@", realm)
            .replace("@LIFESPAN@", lifespan);
        std::fs::write(realms.join(format!("{realm}-realm.json")), text)?;
    }
    std::fs::write(realms.join("company-realm.json"), with_url(COMPANY))?;
    Ok(())
}

/// What `kc.sh` runs, without the shell, so that the process id is Java's.
fn java(home: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", LEASH, "leash", "java"])
        .args(["-Xms64m", "-Xmx512m", "-Dkc.config.built=true"])
        .arg(format!("-Dkc.home.dir={}", home.display()))
        .arg(format!(
            "-Djboss.server.config.dir={}",
            home.join("conf").display()
        ))
        .args([
            "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
            "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=\
             io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
            "-Dquarkus-log-max-startup-records=10000",
            "-XX:+ExitOnOutOfMemoryError",
            "--add-opens=java.base/java.util=ALL-UNNAMED",
            "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
            "--add-opens=java.base/java.security=ALL-UNNAMED",
            "-cp",
        ])
        .arg(home.join("lib/quarkus-run.jar"))
        .arg("io.quarkus.bootstrap.runner.QuarkusEntryPoint");
    command
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn until_ready(server: &mut Server) -> Result<()> {
    let begun = Instant::now();
    loop {
        let log = server.log();
        if log.contains(" started in ") {
            return Ok(());
        }
        if !server.runs() || begun.elapsed() > READY_WITHIN {
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            bail!("keycloak did not get ready; the end of its log:\n{end}");
        }
        std::thread::sleep(READY_ASKED_EVERY);
    }
}
