//! `hoop key`, and the keys of a recorder: what signs the transparency log of the evidence. And the master key of encrypted
//! content, which is a file of its own.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hoop_recorder::Signing;
use hoop_schema::transparency::key_name;
use hoop_schema::transparency::note::SigningKey;
use hoop_sinks::keys::{FileMasterKey, MasterKey};

use crate::config::{Config, ConfigError, Environment, Overrides};
use crate::data_dir::{DataDir, DataError, random, read_if_there, read_or_create, write_private};
use crate::exit::ExitCode;
use crate::output::{self, Line, Printer};
use crate::pipeline::chain;

/// What to do with the key.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Print the public key, for `hoop-replay verify --key`; makes the key where there is none
    Show(KeyPlace),
    /// Make another key, and keep this one beside it: from the next start on both sign, and the log announces the new one
    Rotate(KeyPlace),
    /// Make the master key of encrypted content, where there is none, and print its name
    Master(MasterPlace),
}

/// Where the master key is.
#[derive(Debug, Clone, Args)]
pub struct MasterPlace {
    /// Whose.
    #[command(flatten)]
    pub of: KeyPlace,
    /// Its file [default: as encryption.master_key says, else master.key in the data directory]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Whose key.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyPlace {
    /// Configuration file, as of `hoop up`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory, as of `hoop up` [default: ./hoop-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] DataError),
    /// There is none.
    #[error("there is no key in {}; write one with `hoop key show`, and name it as recorder.signing_key", .0.display())]
    Missing(PathBuf),
    /// What is in the file.
    #[error("{} holds no key of ours", file.display())]
    Text {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: hoop_schema::transparency::note::KeyError,
    },
    /// The key before this one was not announced everywhere yet, perhaps.
    #[error(
        "{} is still there: the last change of the key may not be in every log yet; once `hoop up` has run with both keys and written a checkpoint of every log, delete it",
        .0.display()
    )]
    NotDone(PathBuf),
}

/// The configuration that a command names.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn config(
    command: &KeyCommand,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let place = match command {
        KeyCommand::Show(place) | KeyCommand::Rotate(place) => place,
        KeyCommand::Master(master) => &master.of,
    };
    let overrides = Overrides {
        data: place.data.clone(),
        ..Overrides::default()
    };
    Config::load(place.config.as_deref(), overrides, environment)
}

/// Does what the command says.
///
/// # Errors
/// When the output cannot be written.
pub(crate) fn run(
    command: &KeyCommand,
    config: &Config,
    printer: &mut Printer,
) -> io::Result<ExitCode> {
    if let KeyCommand::Master(place) = command {
        return master(place, config, printer);
    }
    let done = DataDir::open(&config.data)
        .map_err(KeyError::from)
        .and_then(|data| {
            if matches!(command, KeyCommand::Rotate(_)) {
                rotate(config, &data)?;
            }
            signing(config, &data)
        });
    match done {
        Ok(signing) => {
            for key in [Some(&signing.key), signing.previous.as_ref()]
                .into_iter()
                .flatten()
            {
                printer.line(&Line::plain(key.verifier().to_string()))?;
            }
            if matches!(command, KeyCommand::Rotate(_)) {
                output::notice(
                    "restart hoop up, so that both keys sign and the new one is announced",
                );
            }
            Ok(ExitCode::Success)
        }
        Err(error) => {
            output::notice(&chain(&error));
            Ok(ExitCode::Failure)
        }
    }
}

/// Makes the master key where there is none, and prints its name.
fn master(place: &MasterPlace, config: &Config, printer: &mut Printer) -> io::Result<ExitCode> {
    let file = place.file.clone().unwrap_or_else(|| config.master_key());
    let done = if file.exists() {
        FileMasterKey::read(&file).map_err(|error| chain(&error))
    } else {
        DataDir::open(&config.data)
            .map_err(|error| chain(&error))
            .and_then(|_| FileMasterKey::make(&file).map_err(|error| chain(&error)))
    };
    match done {
        Ok(key) => {
            printer.line(&Line::plain(format!("{}  {}", key.name(), file.display())))?;
            if !key.is_private() {
                let text = format!("{} can be read by others: chmod 600 {0}", file.display());
                output::notice(&text);
            }
            Ok(ExitCode::Success)
        }
        Err(why) => {
            output::notice(&why);
            Ok(ExitCode::Failure)
        }
    }
}

/// The keys of the recorder. Without a file named, the key in the data directory, made where it is missing; its public
/// half is written beside it.
///
/// # Errors
/// When a key cannot be read or made.
pub(crate) fn signing(config: &Config, data: &DataDir) -> Result<Signing, KeyError> {
    let key = match &config.recorder.signing_key {
        Some(file) => read(file)?.ok_or_else(|| KeyError::Missing(file.clone()))?,
        None => {
            let file = data.signing_key();
            let text = read_or_create(&file, || new_key(&key_name(&config.cluster)))?;
            parse(&file, &text)?
        }
    };
    let previous = match &config.recorder.previous_signing_key {
        Some(file) => Some(read(file)?.ok_or_else(|| KeyError::Missing(file.clone()))?),
        None => read(&data.previous_signing_key())?,
    };
    let previous = previous.filter(|previous| previous.verifier() != key.verifier());
    let mut public = format!("{}\n", key.verifier());
    if let Some(previous) = &previous {
        public.push_str(&format!("{}\n", previous.verifier()));
    }
    let file = data.verifier_keys();
    if read_if_there(&file)?.as_ref() != Some(&public) {
        write_private(&file, &public)?;
    }
    Ok(Signing { key, previous })
}

/// The public keys of a recorder that has started over this data directory.
pub(crate) fn public(data: &DataDir) -> Vec<String> {
    let text = read_if_there(&data.verifier_keys()).ok().flatten();
    text.unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Puts another key in the place of this one. The old one is kept first: a key that is lost could not hand over.
fn rotate(config: &Config, data: &DataDir) -> Result<(), KeyError> {
    let named = config.recorder.signing_key.clone();
    let file = named.unwrap_or_else(|| data.signing_key());
    let before = config.recorder.previous_signing_key.clone();
    let before = before.unwrap_or_else(|| data.previous_signing_key());
    let Some(old) = read(&file)? else {
        return Err(KeyError::Missing(file));
    };
    if let Some(kept) = read(&before)?
        && kept.verifier() != old.verifier()
    {
        return Err(KeyError::NotDone(before));
    }
    write_private(&before, &format!("{}\n", old.secret_text()))?;
    // Under the old one's name: rotating needs no configuration, which alone says the cluster's.
    let new =
        new_key(old.verifier().name()).map_err(crate::data_dir::failed("make a key for", &file))?;
    Ok(write_private(&file, &new)?)
}

fn new_key(name: &str) -> io::Result<String> {
    let key = SigningKey::new(name, random::<32>()?).map_err(io::Error::other)?;
    Ok(format!("{}\n", key.secret_text()))
}

fn read(file: &Path) -> Result<Option<SigningKey>, KeyError> {
    let text = read_if_there(file)?;
    text.map(|text| parse(file, &text)).transpose()
}

fn parse(file: &Path, text: &str) -> Result<SigningKey, KeyError> {
    SigningKey::parse(text).map_err(|source| KeyError::Text {
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn of(folder: &Path) -> (Config, DataDir) {
        let overrides = Overrides {
            data: Some(folder.to_owned()),
            ..Overrides::default()
        };
        let config = Config::load(None, overrides, &Environment::new()).unwrap();
        (config, DataDir::open(folder).unwrap())
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let (config, data) = of(folder.path());
        let first = signing(&config, &data).unwrap();
        let again = signing(&config, &data).unwrap();
        assert_eq!(first.key.verifier(), again.key.verifier());
        assert_eq!(first.key.verifier().name(), "hoop/default");
        let mode = std::fs::metadata(data.signing_key()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let public = std::fs::read_to_string(data.verifier_keys()).unwrap();
        assert_eq!(public.trim(), first.key.verifier().to_string());
    }

    #[test]
    fn a_change_of_the_key_keeps_the_one_before_and_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (config, data) = of(folder.path());
        assert!(matches!(rotate(&config, &data), Err(KeyError::Missing(_))));
        let old = signing(&config, &data).unwrap().key;
        rotate(&config, &data).unwrap();
        let both = signing(&config, &data).unwrap();
        assert_ne!(both.key.verifier(), old.verifier());
        assert_eq!(both.previous.unwrap().verifier(), old.verifier());
        assert!(matches!(rotate(&config, &data), Err(KeyError::NotDone(_))));
    }

    #[test]
    fn a_file_that_holds_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (config, data) = of(folder.path());
        std::fs::write(data.signing_key(), "nonsense").unwrap();
        let error = signing(&config, &data).unwrap_err().to_string();
        assert!(error.contains("evidence.key"), "{error}");
    }
}
