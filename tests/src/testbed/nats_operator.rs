//! NATS accounts by signed claims: an operator who vouches for accounts, which vouch for their users. Made with the
//! command line of NATS, as its administrators do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Answer, build, cache};

/// The account that may use JetStream.
const ACCOUNT: &str = "audit";

/// The account that operators get by themselves.
const SYSTEM: &str = "SYSTEM";

/// An operator with one account.
#[derive(Debug)]
pub struct NatsOperator {
    name: String,
    folder: PathBuf,
    program: PathBuf,
}

impl NatsOperator {
    /// Makes the operator of this name and an account in a folder.
    ///
    /// # Errors
    /// When the command line cannot be had, or does not do it.
    pub fn make(folder: &Path, name: &str) -> Result<Self> {
        cache::create(folder)?;
        let operator = Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            program: build::nats_client()?,
        };
        operator.run(&["operator", "add", name])?;
        let account = [
            "account",
            "add",
            ACCOUNT,
            "--operator",
            name,
            "--jetstream",
            "--js-disk",
            "1GiB",
            "--js-memory",
            "1MiB",
            "--defaults",
        ];
        operator.run(&account)?;
        Ok(operator)
    }

    /// Makes a user of the account, who may publish to these subjects, or to all when there are none. Returns the file with
    /// its credentials.
    ///
    /// # Errors
    /// When the command line does not do it.
    pub fn user(&self, name: &str, may_publish: &[&str]) -> Result<PathBuf> {
        let file = self.folder.join(format!("{name}.creds"));
        let path = file.to_str().context("a path of plain letters")?;
        let mut args = vec![
            "user",
            "add",
            name,
            ACCOUNT,
            "--operator",
            &self.name,
            "--credential",
            path,
            "--defaults",
        ];
        args.extend(
            may_publish
                .iter()
                .flat_map(|subject| ["--pub-allow", subject]),
        );
        self.run(&args)?;
        Ok(file)
    }

    /// What the configuration of a server has to say that trusts this operator alone.
    ///
    /// # Errors
    /// When the claims cannot be read.
    pub fn settings(&self) -> Result<String> {
        let operator = self.claims(&format!("{}.jwt", self.name))?;
        let [account, system] =
            [ACCOUNT, SYSTEM].map(|name| self.claims(&format!("accounts/{name}/{name}.jwt")));
        let (account, system) = (account?, system?);
        let (account_id, system_id) = (subject(&account)?, subject(&system)?);
        Ok(format!(
            "operator: \"{operator}\"\nsystem_account: {system_id}\nresolver: MEMORY\n\
             resolver_preload: {{ {account_id}: \"{account}\", {system_id}: \"{system}\" }}"
        ))
    }

    fn claims(&self, file: &str) -> Result<String> {
        let path = self.folder.join("data/nats/nsc/stores").join(&self.name);
        let path = path.join(file);
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("auth")
            .args(args)
            .env("HOME", &self.folder)
            .env("XDG_DATA_HOME", self.folder.join("data"))
            .env("XDG_CONFIG_HOME", self.folder.join("config"));
        Answer::of(&mut command, "")?.expect_success()?;
        Ok(())
    }
}

/// Whom claims are about.
fn subject(claims: &str) -> Result<String> {
    let payload = claims.split('.').nth(1).context("claims are a JWT")?;
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    let subject = payload["sub"].as_str().context("claims name a subject")?;
    Ok(subject.to_owned())
}
