//! Who speaks to the gateway: `kubectl` where there is one, else a few requests of our own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::Failed;
use super::stage::Stage;
use crate::config::Environment;
use crate::data_dir::DataDir;

/// The longest that one command may take; a machine under load needs seconds to start kubectl.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Changes that a watch is to show before it is ended.
const CHANGES_SEEN: usize = 2;

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Lists the pods.
    Pods,
    /// Reads the password in the secret.
    Secret,
    /// Tries to delete the pod.
    Delete,
    /// Watches the pods until they changed twice.
    Watch,
    /// Reads the end of the pod's log.
    Log,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    /// Whether it worked.
    pub(super) success: bool,
    /// What it printed.
    pub(super) text: String,
}

/// Who speaks to the gateway.
#[derive(Debug)]
pub(super) enum Client {
    /// A kubectl, with a home of its own.
    Kubectl {
        /// The program.
        program: PathBuf,
        /// Parent of the homes.
        homes: PathBuf,
        /// `PATH`, for credential plugins.
        path: String,
    },
    /// Requests of our own.
    Own,
}

impl Client {
    /// The kubectl on `PATH`, or our own client.
    pub(super) fn find(own: bool, environment: &Environment, data: &DataDir) -> Self {
        let path = environment.get("PATH").cloned().unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|folder| folder.join("kubectl"))
            .find(|program| program.is_file());
        match program {
            Some(program) if !own => Self::Kubectl {
                program,
                homes: data.root().join("homes"),
                path,
            },
            _ => Self::Own,
        }
    }

    /// Whether it is kubectl.
    pub(super) fn is_kubectl(&self) -> bool {
        matches!(self, Self::Kubectl { .. })
    }

    /// How, for people.
    pub(super) fn by(&self) -> &'static str {
        match self {
            Self::Kubectl { .. } => "with plain kubectl",
            Self::Own => {
                "with a client of this demonstration (kubectl is used where it is on PATH)"
            }
        }
    }

    /// The command, for people.
    pub(super) fn command(&self, action: Action, stage: &Stage) -> String {
        match self {
            Self::Kubectl { .. } => {
                let decoded = if action == Action::Secret {
                    " | base64 -d"
                } else {
                    ""
                };
                format!("kubectl {}{decoded}", arguments(action, stage).join(" "))
            }
            Self::Own => {
                let (method, target) = request(action, stage);
                format!("{method} {target}")
            }
        }
    }

    /// Does it.
    pub(super) async fn run(
        &self,
        who: &str,
        kubeconfig: &Path,
        action: Action,
        stage: &Stage,
    ) -> Result<Ran, Failed> {
        let run = async {
            match self {
                Self::Kubectl {
                    program,
                    homes,
                    path,
                } => {
                    let home = homes.join(who);
                    crate::data_dir::create_private_dir(&home)?;
                    let mut command = Command::new(program);
                    command
                        .args(arguments(action, stage))
                        .env_clear()
                        .env("PATH", path)
                        .env("HOME", &home)
                        .env("KUBECONFIG", kubeconfig)
                        .stdin(Stdio::null())
                        .kill_on_drop(true);
                    if action == Action::Watch {
                        return watch(&mut command).await;
                    }
                    kubectl(&mut command, action).await
                }
                Self::Own => own(kubeconfig, action, stage).await,
            }
        };
        let done = tokio::time::timeout(COMMAND_TIMEOUT, run).await;
        done.map_err(|_| Failed(format!("no end within {COMMAND_TIMEOUT:?}")))?
    }
}

fn arguments(action: Action, stage: &Stage) -> Vec<&'static str> {
    let mut arguments = vec!["-n", stage.namespace()];
    let (pod, rest): (_, &[&str]) = match action {
        Action::Pods => (None, &["get", "pods"]),
        Action::Secret => (
            None,
            &[
                "get",
                "secret",
                "db-credentials",
                "-o",
                "jsonpath={.data.password}",
            ],
        ),
        Action::Delete => (Some(stage.pod()), &["delete", "pod"]),
        Action::Watch => (None, &["get", "pods", "--watch-only"]),
        Action::Log => (Some(stage.pod()), &["logs", "--tail=2"]),
    };
    arguments.extend(rest);
    arguments.extend(pod);
    arguments
}

async fn kubectl(command: &mut Command, action: Action) -> Result<Ran, Failed> {
    let output = command.output().await?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if action == Action::Secret && output.status.success() {
        text = decoded(&text);
    }
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Ran {
        success: output.status.success(),
        text,
    })
}

/// Reads until enough changes came, and ends it: a watch has no end of its own.
async fn watch(command: &mut Command) -> Result<Ran, Failed> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failed("kubectl has no output".into()))?;
    let mut lines = BufReader::new(stdout).lines();
    let mut seen = Vec::new();
    // The heading is a line too.
    while seen.len() <= CHANGES_SEEN
        && let Some(line) = lines.next_line().await?
    {
        seen.push(line);
    }
    let enough = seen.len() > CHANGES_SEEN;
    if enough {
        child.kill().await?;
    }
    // Why it ended by itself.
    let output = child.wait_with_output().await?;
    if !enough {
        seen.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(Ran {
        success: enough,
        text: seen.join("\n"),
    })
}

fn request(action: Action, stage: &Stage) -> (&'static str, String) {
    let core = format!("/api/v1/namespaces/{}", stage.namespace());
    match action {
        Action::Pods => ("GET", format!("{core}/pods")),
        Action::Secret => ("GET", format!("{core}/secrets/db-credentials")),
        Action::Delete => ("DELETE", format!("{core}/pods/{}", stage.pod())),
        Action::Watch => ("GET", format!("{core}/pods?watch=true&timeoutSeconds=3")),
        Action::Log => (
            "GET",
            format!("{core}/pods/{}/log?tailLines=2", stage.pod()),
        ),
    }
}

async fn own(kubeconfig: &Path, action: Action, stage: &Stage) -> Result<Ran, Failed> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let (method, target) = request(action, stage);
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .body(Vec::new())?;
    let text = match client.request_text(request).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) => {
            return Ok(Ran {
                success: false,
                text: format!("Error from server ({}): {}", status.reason, status.message),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let row = |prefix: &str, pod: &Value| {
        let text = |pointer| pod.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        format!(
            "{prefix}{:<28} {}",
            text("/metadata/name"),
            text("/status/phase")
        )
    };
    let text = match action {
        Action::Pods => {
            let list = parsed(&text);
            let items = list["items"].as_array().into_iter().flatten();
            items.map(|pod| row("", pod)).collect::<Vec<_>>().join("\n")
        }
        Action::Secret => {
            let secret = parsed(&text);
            format!(
                "data.password: {}",
                decoded(secret["data"]["password"].as_str().unwrap_or(""))
            )
        }
        Action::Watch => {
            let events = text.lines().map(parsed);
            let shown = events
                .filter(|event| event["type"] != "BOOKMARK")
                .map(|event| {
                    let kind = event["type"].as_str().unwrap_or("");
                    row(&format!("{kind:<9} "), &event["object"])
                });
            shown.collect::<Vec<_>>().join("\n")
        }
        Action::Delete | Action::Log => text,
    };
    Ok(Ran {
        success: true,
        text,
    })
}

fn decoded(base64: &str) -> String {
    let bytes = STANDARD.decode(base64.trim()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned() + "\n"
}
