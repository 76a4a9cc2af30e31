//! Which evidence is asked: a store, a log, or both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use hoop_schema::Class;
use hoop_sinks::log::EventReader;
use hoop_sinks::log::embedded::EmbeddedReader;
use hoop_sinks::store::{self, Access, BucketOptions};

use crate::evidence::{Evidence, Reach};
use crate::exit::{ExitCode, Failure};
use crate::installation::{Brokers, Installation, Note};

/// Where the evidence is.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// Data directory of `hoop`: evidence and log are found inside, or where its configuration says [default: $HOOP_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Evidence: the directory that holds events/v1, a data directory, or s3://BUCKET/PREFIX
    #[arg(long, global = true, value_name = "DIR|s3://...")]
    pub evidence: Option<store::Place>,
    /// Configuration of `hoop`: where the evidence is, and the log on NATS or Kafka whose tail is read too
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Server of the bucket, where it is not AWS [default: $AWS_ENDPOINT_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Keys of encrypted content: a directory or s3://BUCKET/PREFIX [default: as the configuration says, or `keys` in
    /// the data directory, if it is there]
    #[arg(long, global = true, value_name = "DIR|s3://...")]
    pub keys: Option<store::Place>,
    /// File of the master key that wrapped them; may be given more than once [default: as the configuration says, or
    /// `master.key` in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub master_key: Vec<PathBuf>,
    /// Directory of the embedded log, whose tail is read too
    #[arg(long, global = true, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Of a bucket: neither use nor fill the cache on this machine [default: $HOOP_REPLAY_CACHE]
    #[arg(long, global = true)]
    pub no_cache: bool,
}

/// The data directory of an installation whose configuration names none.
pub(super) const DATA_DEFAULT: &str = "hoop-data";

/// Finds evidence and log. A directory that holds a folder `evidence` is a data directory, whose log is in `log`, or where
/// the configuration says that it belongs to.
///
/// # Errors
/// When nothing is named, or is not there. A log on brokers that do not answer is no error: it is named in the evidence.
pub async fn find(place: &Place, default_data: Option<&Path>) -> Result<Evidence, Failure> {
    find_for(place, default_data, Access::Read, true).await
}

/// The same, for more than reading, or without the log.
///
/// # Errors
/// When nothing is named, or is not there.
pub(super) async fn find_for(
    place: &Place,
    default_data: Option<&Path>,
    access: Access,
    with_log: bool,
) -> Result<Evidence, Failure> {
    let named = Named::of(place, default_data)?;
    if let Some(store::Place::Dir(folder)) = &named.store
        && !folder.is_dir()
    {
        return Err(Failure::not_found(format!(
            "there is no directory {}",
            folder.display()
        )));
    }
    let reach = match &named.store {
        Some(store::Place::Bucket(_)) => Reach::Far,
        _ => Reach::Near,
    };
    let store = match &named.store {
        Some(found) => {
            let opened = store::open(found, access, &named.bucket).await;
            Some(opened.map_err(crate::evidence::Error::Store)?)
        }
        None => None,
    };
    let (logs, mut logs_away) = match &named.log {
        _ if !with_log => (Vec::new(), Vec::new()),
        Some(Log::Folder(folder)) => (open_logs(folder)?, Vec::new()),
        Some(Log::Brokers(brokers)) => brokers.open().await,
        Some(Log::Away(why)) => (Vec::new(), vec![why.clone()]),
        None => (Vec::new(), Vec::new()),
    };
    if store.is_none() && logs.is_empty() && !logs_away.is_empty() {
        let error = anyhow::Error::msg(logs_away.swap_remove(0));
        let code = ExitCode::Io;
        return Err(Failure { code, error });
    }
    Ok(Evidence {
        reach,
        logs_away,
        ..Evidence::new(store, logs)
    })
}

/// What is named, whether it is there or not.
struct Named {
    store: Option<store::Place>,
    bucket: BucketOptions,
    log: Option<Log>,
}

/// Where a log is.
enum Log {
    /// In this directory.
    Folder(PathBuf),
    /// On brokers.
    Brokers(Brokers),
    /// On brokers, of which is not known how they are reached: why.
    Away(String),
}

impl Named {
    fn of(place: &Place, default_data: Option<&Path>) -> Result<Self, Failure> {
        let data = data_dir(place, default_data);
        let mut away = None;
        let installation = match (&place.config, &data) {
            (Some(file), _) => Some(Installation::read(file).map_err(Failure::usage)?),
            (None, Some(data)) => of_note(data).unwrap_or_else(|why| {
                away = Some(Log::Away(why));
                None
            }),
            (None, None) => None,
        };
        // An option wins over the configuration, a data directory of the command line over that of the configuration.
        let default = || DATA_DEFAULT.into();
        let of_config = |i: &Installation| i.data.clone().unwrap_or_else(default);
        let data = data.or_else(|| installation.as_ref().map(of_config));
        let mut store = match &place.evidence {
            Some(store::Place::Dir(folder)) if is_data_dir(folder) => {
                Some(store::Place::Dir(folder.join("evidence")))
            }
            named => named.clone(),
        };
        let mut log = place.log.clone().map(Log::Folder);
        let mut bucket = BucketOptions::default();
        if let Some(installation) = &installation {
            store = store.or_else(|| installation.evidence.clone());
            if place.evidence.is_none() {
                bucket.clone_from(&installation.bucket);
            }
            log = log.or(match installation.brokers() {
                Ok(brokers) => brokers.map(Log::Brokers),
                Err(why) => Some(Log::Away(why)),
            });
        }
        log = log.or(away);
        bucket.endpoint = place.s3_endpoint.clone().or(bucket.endpoint);
        if let Some(data) = &data {
            store = store.or_else(|| existing(data.join("evidence")).map(store::Place::Dir));
            log = log.or_else(|| existing(data.join("log")).map(Log::Folder));
        }
        match (&store, &log, data) {
            (None, None, Some(data)) => Err(Failure::not_found(format!(
                "there is neither a folder evidence nor a folder log in {}: is it the --data of `hoop up`?",
                data.display()
            ))),
            (None, None, None) => Err(Failure::usage(
                "say where the evidence is: --data DIR for a data directory of `hoop up`, --config FILE for its configuration, --evidence DIR for a directory that holds events/v1, --evidence s3://BUCKET/PREFIX for a bucket, or set HOOP_DATA",
            )),
            _ => Ok(Self { store, bucket, log }),
        }
    }
}

/// The configuration that a data directory says it belongs to.
pub(super) fn of_note(data: &Path) -> Result<Option<Installation>, String> {
    let Some(note) = Note::read(data)? else {
        return Ok(None);
    };
    let read = Installation::read(&note.configuration);
    read.map(Some).map_err(|e| {
        format!(
            "the log of {} is on brokers ({}), and its configuration says on which: {e}; name it with --config",
            data.display(),
            note.log
        )
    })
}

/// Whether a directory is a data directory and none of evidence.
fn is_data_dir(folder: &Path) -> bool {
    let is_evidence = folder.join("events").is_dir() || folder.join("sealed").is_dir();
    !is_evidence && folder.join("evidence").is_dir()
}

/// The data directory of `hoop up` that is asked, if it is one.
pub(super) fn data_dir(place: &Place, default_data: Option<&Path>) -> Option<PathBuf> {
    let nothing_given = place.data.is_none()
        && place.evidence.is_none()
        && place.log.is_none()
        && place.config.is_none();
    let of_evidence = match &place.evidence {
        Some(store::Place::Dir(folder)) if is_data_dir(folder) => Some(folder),
        _ => None,
    };
    let default = default_data.filter(|_| nothing_given).map(Path::to_owned);
    place.data.clone().or(default).or(of_evidence.cloned())
}

pub(super) fn existing(folder: PathBuf) -> Option<PathBuf> {
    folder.is_dir().then_some(folder)
}

/// Opens the log of every class below `folder` for reading.
fn open_logs(folder: &Path) -> Result<Vec<Arc<dyn EventReader>>, Failure> {
    let classes = std::fs::read_dir(folder).map_err(|e| {
        Failure::not_found(format!(
            "cannot look into the log {}: {e}",
            folder.display()
        ))
    })?;
    let mut logs: Vec<Arc<dyn EventReader>> = Vec::new();
    let mut names: Vec<Class> = classes
        .filter_map(|entry| Class::new(entry.ok()?.file_name().to_str()?).ok())
        .filter(|class| folder.join(class.as_str()).is_dir())
        .collect();
    names.sort_unstable();
    for class in names {
        let reader = EmbeddedReader::open(folder, &class).map_err(|e| Failure {
            code: ExitCode::Damaged,
            error: anyhow::Error::new(e).context(format!(
                "cannot read the log of class {class} in {}; leave out --log to see the evidence without it",
                folder.display()
            )),
        })?;
        logs.push(Arc::new(reader));
    }
    Ok(logs)
}
