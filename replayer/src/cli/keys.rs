//! Which keys of encrypted content are at hand.

use std::path::Path;
use std::sync::Arc;

use hoop_sinks::keys::{FileMasterKey, KeyRing, MasterKey};
use hoop_sinks::store::{self, Access};

use super::place::{DATA_DEFAULT, Place, data_dir, existing, of_note};
use crate::contents::Contents;
use crate::evidence::Evidence;
use crate::exit::{ExitCode, Failure};
use crate::installation::Installation;
use crate::output;

/// What makes encrypted content readable: the keys that are named, or those of the configuration or the data directory.
///
/// # Errors
/// When what is named cannot be opened.
pub async fn contents(
    place: &Place,
    default_data: Option<&Path>,
    evidence: &Evidence,
) -> Result<Contents, Failure> {
    let ring = ring(place, default_data, Access::Read).await?;
    Ok(Contents::new(evidence.store.clone(), ring))
}

/// The keys that are named, or those of the configuration or the data directory; none where there are none.
pub(super) async fn ring(
    place: &Place,
    default_data: Option<&Path>,
    access: Access,
) -> Result<Option<KeyRing>, Failure> {
    let data = data_dir(place, default_data);
    let installation = match (&place.config, &data) {
        (Some(file), _) => Some(Installation::read(file).map_err(Failure::usage)?),
        // What is wrong with it is said where the log is looked for.
        (None, Some(data)) => of_note(data).ok().flatten(),
        (None, None) => None,
    };
    let of_config = installation.as_ref();
    let data = data.or_else(|| {
        let named = of_config?.data.clone();
        Some(named.unwrap_or_else(|| DATA_DEFAULT.into()))
    });
    let of_data = |name: &str| data.as_ref().map(|data| data.join(name));
    let keys = place.keys.clone();
    let keys = keys.or_else(|| of_config.and_then(|i| i.keys.clone()));
    let own = || of_data("keys").and_then(existing).map(store::Place::Dir);
    let Some(keys) = keys.or_else(own) else {
        return match place.master_key.is_empty() {
            true => Ok(None),
            false => Err(Failure::usage(
                "a master key opens nothing without the keys that it wrapped: name their place with --keys",
            )),
        };
    };
    if let store::Place::Dir(folder) = &keys
        && !folder.is_dir()
    {
        if place.keys.is_none() {
            // Of a gateway that has not started yet.
            return Ok(None);
        }
        return Err(Failure::not_found(format!(
            "there is no directory {}: --keys names the place of encryption.keys in the configuration of `hoop up`",
            folder.display()
        )));
    }
    let mut files = place.master_key.clone();
    if files.is_empty() {
        let of_config = of_config.and_then(|i| i.master_key.clone());
        let found = of_config.or_else(|| of_data("master.key"));
        files.extend(found.filter(|file| file.is_file()));
    }
    let mut masters: Vec<Arc<dyn MasterKey>> = Vec::new();
    for file in files {
        let master = FileMasterKey::read(&file).map_err(|error| Failure {
            code: ExitCode::Usage,
            error: error.into(),
        })?;
        if !master.is_private() {
            let text = format!("{} can be read by others: chmod 600 {0}", file.display());
            output::notice(&text);
        }
        masters.push(Arc::new(master));
    }
    let mut bucket = of_config.map(|i| i.keys_bucket.clone()).unwrap_or_default();
    bucket.endpoint = place.s3_endpoint.clone().or(bucket.endpoint);
    let store = store::open(&keys, access, &bucket).await;
    let store = store.map_err(crate::evidence::Error::Store)?;
    Ok(Some(KeyRing::new(store, masters)))
}
