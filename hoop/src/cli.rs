//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Environment, Overrides};
use crate::exit::ExitCode;
use crate::key::{self, KeyCommand};
use crate::login::{self, LoginArgs, LogoutArgs};
use crate::output::{self, Printer};
use crate::pipeline::Parts;
use crate::policy::PolicyCommand;
use crate::sessions::SessionsCommand;
use crate::store::StoreCommand;
use crate::{check, demo, policy, sessions, store, up};

/// An audited gateway in front of the Kubernetes API.
///
/// Exit codes: 0 done, 1 it did not work or something is wrong, 64 wrong command line or configuration; 65, 66 and 74 as
/// of hoop-replay.
#[derive(Debug, Parser)]
#[command(name = "hoop", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole pipeline at work, on a sample cluster or your own
    Demo(DemoArgs),
    /// Serve: gateway, event log and recorder on this machine
    Up(UpArgs),
    /// Serve: the gateway alone, with its events on NATS or Kafka
    Proxy(UpArgs),
    /// Record: from NATS or Kafka to evidence, beside any number of others that do the same
    Recorder(RecorderArgs),
    /// Say everything that is wrong with a configuration and what it names, before a socket opens
    Check(UpArgs),
    /// Check a policy, ask what it would decide or would have decided, test it, or write the rights it needs
    Policy(PolicyArgs),
    /// List who is at work through the gateway, and end sessions and logins
    Sessions(SessionsArgs),
    /// Write the rights that a bucket of evidence wants
    Store(StoreArgs),
    /// The key that signs the evidence: print its public half, or change it; and the master key of encrypted content
    Key(KeyArgs),
    /// Log in at an OpenID Connect issuer: kubectl runs this when it needs a credential
    Login(LoginArgs),
    /// Forget logins, and end them at their issuers
    Logout(LogoutArgs),
    /// Look at evidence: the same as the program hoop-replay
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Replay(ReplayArgs),
}

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Keep everything in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use the cluster of this kubeconfig instead of the sample cluster; a namespace hoop-demo is created and removed
    #[arg(long, value_name = "KUBECONFIG")]
    pub upstream: Option<PathBuf>,
    /// Use the demonstration's own client even if kubectl is there
    #[arg(long)]
    pub own_client: bool,
}

/// Arguments of `up` and `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// Configuration file; all of it has defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of log, evidence, certificates and kubeconfigs [default: ./hoop-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen at [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Kubeconfig of the API server and the gateway's own credential for it
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of that kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Policy file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Arguments of `recorder`.
#[derive(Debug, Clone, Args)]
pub struct RecorderArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of what this recorder keeps for itself [default: ./hoop-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// Arguments of `store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// Arguments of `key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// Arguments that are handed on.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Arguments of hoop-replay; `hoop replay --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

impl UpArgs {
    /// The configuration that these arguments and the environment make.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(self, environment: &Environment) -> Result<Config, ConfigError> {
        let overrides = Overrides {
            data: self.data,
            listen: self.listen,
            kubeconfig: self.kubeconfig,
            context: self.context,
            policy: self.policy,
        };
        Config::load(self.config.as_deref(), overrides, environment)
    }
}

/// Does what the command line says, and returns what the process exits with.
pub async fn run(cli: Cli, environment: Environment) -> ExitCode {
    let mut printer = Printer::new(
        environment.get("NO_COLOR").cloned(),
        environment.get("COLUMNS").cloned(),
    );
    let done = match cli.command {
        Command::Up(args) => match args.load(&environment) {
            Ok(config) => up::run(config, Parts::All, &environment, &mut printer).await,
            Err(error) => return refused(&error),
        },
        Command::Proxy(args) => match args.load(&environment) {
            Ok(config) => up::run(config, Parts::Gateway, &environment, &mut printer).await,
            Err(error) => return refused(&error),
        },
        Command::Recorder(RecorderArgs { config, data }) => {
            let args = UpArgs {
                config,
                data,
                ..UpArgs::default()
            };
            match args.load(&environment) {
                Ok(config) => up::run(config, Parts::Recorder, &environment, &mut printer).await,
                Err(error) => return refused(&error),
            }
        }
        Command::Check(args) => match args.load(&environment) {
            Ok(config) => check::run(&config, &environment, &mut printer).await,
            Err(error) => return refused(&error),
        },
        Command::Demo(args) => demo::run(args, &environment, &mut printer).await,
        Command::Policy(args) => policy::run(args.command, &environment, &mut printer).await,
        Command::Sessions(args) => sessions::run(args.command, &environment, &mut printer).await,
        Command::Store(args) => store::run(args.command, &environment, &mut printer),
        Command::Key(args) => match key::config(&args.command, &environment) {
            Ok(config) => key::run(&args.command, &config, &mut printer),
            Err(error) => return refused(&error),
        },
        Command::Login(args) => login::run(args, &environment, &mut printer).await,
        Command::Logout(args) => login::log_out(args, &environment).await,
        Command::Replay(_) => unreachable!("main hands it to the replayer"),
    };
    match done {
        Ok(code) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Success,
        Err(error) => {
            output::notice(&format!("cannot go on: {error}"));
            ExitCode::Failure
        }
    }
}

fn refused(error: &ConfigError) -> ExitCode {
    output::notice(&error.to_string());
    ExitCode::Usage
}
