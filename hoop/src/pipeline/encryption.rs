//! The encryption of content that a configuration asks for.

use std::sync::Arc;

use hoop_proxy::record::ContentEncryption;
use hoop_sinks::keys::{FileMasterKey, KeyMaker};
use hoop_sinks::store::{self, Access};

use super::StartError;
use crate::config::Config;

/// What encrypts content, made sure of; nothing where no class is encrypted.
pub(crate) async fn build_encryption(
    config: &Config,
) -> Result<Option<ContentEncryption>, StartError> {
    let Some(encryption) = config.encryption.as_ref().filter(|e| !e.classes.is_empty()) else {
        return Ok(None);
    };
    let file = config.master_key();
    let master = FileMasterKey::read(&file)?;
    if !master.is_private() {
        tracing::warn!(
            file = %file.display(),
            "the master key can be read by others; chmod 600"
        );
    }
    let store = store::open(&encryption.keys, Access::Write, &encryption.bucket).await?;
    let keys = KeyMaker::new(store, Arc::new(master));
    keys.probe().await?;
    Ok(Some(ContentEncryption {
        classes: encryption.classes.clone(),
        keys,
    }))
}
