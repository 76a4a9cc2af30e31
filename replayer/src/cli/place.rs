//! Which evidence is asked: a store, a log, or both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use hoop_schema::Class;
use hoop_sinks::log::EventReader;
use hoop_sinks::log::embedded::EmbeddedReader;
use hoop_sinks::store::dir::Dir;

use crate::evidence::{Evidence, ReadStats};
use crate::exit::{ExitCode, Failure};

/// Where the evidence is.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// Data directory of `hoop up`: evidence and log are found inside [default: $HOOP_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Evidence directory, the one that holds events/v1, or a data directory
    #[arg(long, global = true, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
    /// Directory of the embedded log, whose tail is read too
    #[arg(long, global = true, value_name = "DIR")]
    pub log: Option<PathBuf>,
}

/// Finds evidence and log. A directory that holds a folder `evidence` is a data directory, whose log is in `log`.
///
/// # Errors
/// When nothing is named, or is not there.
pub fn find(place: &Place, default_data: Option<&Path>) -> Result<Evidence, Failure> {
    let nothing_given = place.data.is_none() && place.evidence.is_none() && place.log.is_none();
    let data = match (&place.data, default_data) {
        (Some(data), _) => Some(data.clone()),
        (None, Some(data)) if nothing_given => Some(data.to_owned()),
        _ => None,
    };
    let (mut store, mut log) = (place.evidence.clone(), place.log.clone());
    if let Some(evidence) = &place.evidence
        && !evidence.join("events").is_dir()
        && evidence.join("evidence").is_dir()
    {
        store = Some(evidence.join("evidence"));
        log = log.or_else(|| existing(evidence.join("log")));
    }
    if let Some(data) = data {
        store = store.or_else(|| existing(data.join("evidence")));
        log = log.or_else(|| existing(data.join("log")));
        if store.is_none() && log.is_none() {
            return Err(Failure::not_found(format!(
                "there is neither a folder evidence nor a folder log in {}: is it the --data of `hoop up`?",
                data.display()
            )));
        }
    }
    if store.is_none() && log.is_none() {
        return Err(Failure::usage(
            "say where the evidence is: --data DIR for a data directory of `hoop up`, --evidence DIR for a directory that holds events/v1, or set HOOP_DATA",
        ));
    }
    if let Some(folder) = store.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::not_found(format!(
            "there is no directory {}",
            folder.display()
        )));
    }
    let store = match store {
        Some(root) => {
            let dir = Dir::read_only(&root).map_err(crate::evidence::Error::Store)?;
            Some(Arc::new(dir) as _)
        }
        None => None,
    };
    Ok(Evidence {
        store,
        logs: match log {
            Some(folder) => open_logs(&folder)?,
            None => Vec::new(),
        },
        stats: Arc::new(ReadStats::default()),
    })
}

fn existing(folder: PathBuf) -> Option<PathBuf> {
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
