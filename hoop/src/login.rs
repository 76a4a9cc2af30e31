//! `hoop login`: a credential plugin of kubectl that gets ID tokens of an OpenID Connect issuer, and `hoop logout`.
//!
//! kubectl runs it when it needs a credential, with `KUBERNETES_EXEC_INFO` set, and reads an `ExecCredential` from its
//! standard output. Whatever a person is told goes to standard error.
//!
//! # The way to a token
//! 1. The cached one, while it lasts.
//! 2. By the refresh token, while the issuer takes it.
//! 3. By a login: authorisation code with PKCE in the system's browser (`browser`), or the device flow (`device`)
//!    where there is no screen.
//!
//! # Promises
//! - One login at a time: ten kubectl that start together open one browser, and all get the token of that login.
//! - A token is nowhere but in the cache file (mode 0600) and on standard output, and there only when that is no terminal
//!   or kubectl asks.
//! - Everything ends: a login that nobody finishes is given up after three minutes, or when the code of the
//!   device flow expires.

mod browser;
mod cache;
mod callback;
mod device;
mod exec_credential;
mod id_token;
mod issuer;
mod kubeconfig;
mod settings;

use std::io;
use std::time::Duration;

use jiff::Timestamp;

use self::cache::{Cache, CacheError, Found};
use self::exec_credential::ExecInfo;
use self::id_token::IdToken;
use self::issuer::{Issuer, IssuerError};
use self::settings::Settings;
pub use self::settings::{LoginArgs, LogoutArgs};
use crate::config::{Environment, Secret};
use crate::exit::ExitCode;
use crate::output::{self, Printer};
use crate::pipeline::chain;

/// A token that ends sooner than this is renewed: what is asked with it must still arrive.
const RENEW_BEFORE_END: Duration = Duration::from_secs(30);

/// What a login brings.
#[derive(Debug)]
struct Tokens {
    id_token: IdToken,
    refresh: Option<Secret<String>>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Callback(#[from] callback::CallbackError),
    #[error(transparent)]
    Device(#[from] device::DeviceError),
    #[error("the system gives no random bytes")]
    Random(#[source] io::Error),
    #[error("nobody has logged in at the issuer within {} seconds", browser::LOGIN_WAIT.as_secs())]
    Nobody,
}

/// How a person logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Browser,
    Device,
}

/// Writes a credential for kubectl, or a kubeconfig that gets them so.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(
    args: LoginArgs,
    environment: &Environment,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    let settings = match Settings::new(&args) {
        Ok(settings) => settings,
        Err(why) => return Ok(wrong(&why)),
    };
    if args.print_kubeconfig {
        return match kubeconfig::lines(&settings, &args) {
            Ok(lines) => {
                for line in lines {
                    printer.line(&output::Line::plain(line))?;
                }
                Ok(ExitCode::Success)
            }
            Err(why) => Ok(wrong(&why)),
        };
    }
    let info = match ExecInfo::read(environment) {
        Ok(info) => info,
        Err(why) => return Ok(wrong(&why)),
    };
    let token = match token(&settings, environment).await {
        Ok(token) => token,
        Err(error) => {
            output::notice(&chain(&error));
            return Ok(ExitCode::Failure);
        }
    };
    if info.is_none() && io::IsTerminal::is_terminal(&io::stdout()) {
        output::notice(&format!(
            "logged in as {} until {}",
            token.person(),
            token.expires()
        ));
    } else {
        let credential = exec_credential::write(info.unwrap_or_default(), &token);
        printer.line(&output::Line::plain(credential))?;
    }
    Ok(ExitCode::Success)
}

/// Forgets logins, and takes them back at their issuers where these offer that.
///
/// # Errors
/// When the output cannot be written.
pub async fn log_out(args: LogoutArgs, environment: &Environment) -> io::Result<ExitCode> {
    let found = match cache::all(environment) {
        Ok(found) => found,
        Err(error) => {
            output::notice(&chain(&error));
            return Ok(ExitCode::Failure);
        }
    };
    let asked = |found: &Found| {
        let is = |asked: &Option<String>, found: &str| asked.as_ref().is_none_or(|a| a == found);
        is(&args.issuer, &found.issuer) && is(&args.client_id, &found.client_id)
    };
    let (mut count, mut code) = (0, ExitCode::Success);
    for found in found.into_iter().filter(asked) {
        count += 1;
        // First what is here, so that it is gone whatever the issuer says.
        if let Err(error) = found.remove() {
            output::notice(&chain(&error));
            code = ExitCode::Failure;
        }
        match take_back(&found).await {
            Ok(true) => output::notice(&format!("logged out of {}", found.issuer)),
            Ok(false) => output::notice(&format!(
                "logged out here; {} offers no way to end the login there",
                found.issuer
            )),
            Err(error) => {
                output::notice(&format!(
                    "logged out here, but {} could not be told: {}",
                    found.issuer,
                    chain(&error)
                ));
                code = ExitCode::Failure;
            }
        }
    }
    if count == 0 {
        output::notice("there is no such login");
    }
    Ok(code)
}

/// Revokes the refresh token, where there is one and the issuer has an endpoint for that.
async fn take_back(found: &Found) -> Result<bool, LoginError> {
    let Some(refresh) = &found.refresh else {
        return Ok(true);
    };
    let issuer = Issuer::discover(&found.settings()?).await?;
    Ok(issuer.revoke(refresh).await?)
}

/// A token that lasts.
async fn token(settings: &Settings, environment: &Environment) -> Result<IdToken, LoginError> {
    let cache = Cache::open(settings, environment)?;
    let lasting = |tokens: &Tokens| tokens.id_token.lasts(Timestamp::now(), RENEW_BEFORE_END);
    if let Some(tokens) = cache.read().filter(lasting) {
        return Ok(tokens.id_token);
    }
    let lock = cache.lock().await?;
    let cached = cache.read();
    let refresh = match cached {
        Some(tokens) if lasting(&tokens) => return Ok(tokens.id_token),
        Some(tokens) => tokens.refresh,
        None => None,
    };
    match new_tokens(settings, refresh, environment).await {
        Ok(tokens) => {
            if let Err(error) = cache.write(&tokens) {
                output::notice(&format!("the login is not kept: {}", chain(&error)));
            }
            Ok(tokens.id_token)
        }
        Err(error) => {
            lock.failed(&chain(&error));
            Err(error)
        }
    }
}

/// Renews a login, or makes a new one.
async fn new_tokens(
    settings: &Settings,
    refresh: Option<Secret<String>>,
    environment: &Environment,
) -> Result<Tokens, LoginError> {
    let issuer = Issuer::discover(settings).await?;
    if let Some(refresh) = refresh {
        match issuer.refresh(refresh).await {
            Ok(tokens) => return Ok(tokens),
            // The login has ended. An issuer that is down is another matter: no browser will help.
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let way = match way(settings, environment) {
        Way::Device if !settings.device && !issuer.has_device_flow() => Way::Browser,
        way => way,
    };
    match way {
        Way::Device => device::log_in(&issuer).await,
        Way::Browser => browser::log_in(&issuer, settings, environment).await,
    }
}

/// By the browser where there may be one to be seen.
fn way(settings: &Settings, environment: &Environment) -> Way {
    let set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let own_screen = cfg!(target_os = "macos") && !set("SSH_CONNECTION");
    let browser = set("BROWSER") || set("DISPLAY") || set("WAYLAND_DISPLAY") || own_screen;
    if settings.device || !browser {
        Way::Device
    } else {
        Way::Browser
    }
}

fn wrong(why: &str) -> ExitCode {
    output::notice(why);
    ExitCode::Usage
}

/// A foreign text, fit for a terminal: of one line, without control characters, not long.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(200).collect()
}
