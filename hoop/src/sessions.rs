//! `hoop sessions`: who is at work through the gateway, ending it, and taking that back.
//!
//! They read the record of the data directory, as `hoop-replay` does; `end` and `pardon` write the file that the gateway
//! looks at every second (see [`hoop_proxy::endings`]).

mod end;
mod ended;
mod list;
mod pardon;

use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hoop_replayer::activity::Activity;
use hoop_replayer::cli::{Place, find_evidence};
use hoop_replayer::evidence::Days;
use hoop_replayer::sessions::View;
use hoop_schema::Timestamp;

pub use self::end::EndArgs;
pub use self::list::ListArgs;
pub use self::pardon::PardonArgs;
use crate::config::{Config, Environment, Overrides};
use crate::data_dir::DataDir;
use crate::exit::ExitCode;
use crate::output::{self, Printer};
use crate::pipeline::chain;

/// What to do about sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List who is at work, and who was lately
    List(ListArgs),
    /// End sessions, logins, or a person's access: what is open closes, and what comes is refused
    End(EndArgs),
    /// Let in again what was ended
    Pardon(PardonArgs),
}

/// Whose sessions.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Data directory of `hoop up` [default: $HOOP_DATA, else that of the configuration]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file of `hoop up`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why nothing was listed or ended: what to tell, and what to exit with.
#[derive(Debug)]
struct Refused {
    code: ExitCode,
    message: String,
}

/// Does it.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(
    command: SessionsCommand,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    let done = match command {
        SessionsCommand::List(args) => list::run(&args, environment, printer, now).await,
        SessionsCommand::End(args) => end::run(&args, environment, printer, now).await,
        SessionsCommand::Pardon(args) => pardon::run(&args, environment, printer, now).await,
    };
    done.or_else(|error| match error {
        Stop::Output(error) => Err(error),
        Stop::Refused(Refused { code, message }) => {
            output::notice(&message);
            Ok(code)
        }
    })
}

/// What keeps a command from its end.
#[derive(Debug)]
enum Stop {
    Output(io::Error),
    Refused(Refused),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Stop {
    fn usage(message: impl Into<String>) -> Self {
        Self::Refused(Refused {
            code: ExitCode::Usage,
            message: message.into(),
        })
    }

    fn failure(message: impl Into<String>) -> Self {
        Self::Refused(Refused {
            code: ExitCode::Failure,
            message: message.into(),
        })
    }
}

/// The data directory, which has to be there.
fn data(args: &DataArgs, environment: &Environment) -> Result<DataDir, Stop> {
    let overrides = Overrides {
        data: args.data.clone(),
        ..Overrides::default()
    };
    let config = Config::load(args.config.as_deref(), overrides, environment)
        .map_err(|error| Stop::usage(error.to_string()))?;
    let unnamed = args.data.is_none() && args.config.is_none();
    let of_environment = environment.get("HOOP_DATA").filter(|_| unnamed);
    let folder = of_environment.map_or(config.data, PathBuf::from);
    let is_there = folder.is_dir();
    let data = is_there.then(|| DataDir::open(&folder)).transpose();
    let data = data.map_err(|error| Stop::failure(chain(&error)))?;
    data.filter(DataDir::is_of_a_gateway).ok_or_else(|| {
        Stop::usage(format!(
            "{} is no data directory of a gateway: name it with --data DIR or --config FILE",
            folder.display()
        ))
    })
}

/// Says what an ending or a pardon does not reach.
fn notice_others(data: &DataDir) {
    if data.is_on_brokers() {
        output::notice(
            "other gateways of this cluster have endings of their own: say the same at each of them",
        );
    }
}

/// Sessions with an event since `since`, and those that may be open still.
async fn activity(data: &DataDir, since: Timestamp, now: Timestamp) -> Result<Vec<Activity>, Stop> {
    let place = Place {
        data: Some(data.root().to_owned()),
        ..Place::default()
    };
    let evidence = find_evidence(&place, None)
        .await
        .map_err(|failure| Stop::failure(format!("{:#}", failure.error)))?;
    let unreadable = |error: hoop_replayer::evidence::Error| Stop::failure(chain(&error));
    let from = now.plus_micros(-hoop_replayer::activity::OPEN_MICROS_MAX);
    let days = Days::between(Some(since.min(from)), None);
    let view = View::open(evidence, &days).await.map_err(unreadable)?;
    for damage in view.tail_damage() {
        output::notice(&damage);
    }
    let (mut sessions, damaged) = view.activity(since, now).await.map_err(unreadable)?;
    for damage in damaged {
        output::notice(&format!("{}; its sessions are not seen", chain(&damage)));
    }
    if !data.is_served() {
        // Whatever is without an outcome broke off with the gateway.
        for session in &mut sessions {
            session.summary.ended = true;
            session.open.clear();
        }
    }
    Ok(sessions)
}
