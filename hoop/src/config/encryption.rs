//! The section `encryption`, and which classes want it.

use std::path::Path;

use hoop_schema::Class;
use hoop_sinks::keys::overlap;
use hoop_sinks::store::{BucketOptions, Place};

use super::sections::{CLASSES, path};
use super::tree::Reader;
use super::values::{http_url, truth};
use super::{Config, EncryptionConfig};

/// Reads it; `config` is complete but for this.
pub(super) fn read(reader: &mut Reader, base: &Path, config: &Config) -> Option<EncryptionConfig> {
    let mut classes = Vec::new();
    for name in CLASSES {
        let key = format!("retention.{name}.encrypt_bodies");
        if reader.value(&key, truth) == Some(true) {
            classes.push(Class::new(name).expect("a class of ours"));
        }
    }
    let keys = reader.value("encryption.keys", |text| match text.parse() {
        Ok(Place::Dir(root)) => Ok(Place::Dir(base.join(root))),
        Ok(place) => Ok(place),
        Err(_) => Err("no place for keys: write a directory, or s3://BUCKET/PREFIX".into()),
    });
    let evidence = &config.evidence.bucket;
    let bucket = BucketOptions {
        endpoint: reader
            .value("encryption.endpoint", http_url)
            .or_else(|| evidence.endpoint.clone()),
        region: reader
            .value("encryption.region", |text| Ok(text.to_owned()))
            .or_else(|| evidence.region.clone()),
        path_style: reader
            .value("encryption.path_style", truth)
            .or(evidence.path_style),
        credentials_file: path(reader, "encryption.credentials_file", base)
            .or_else(|| evidence.credentials_file.clone()),
        object_lock: false,
        terms: None,
    };
    let master_key = path(reader, "encryption.master_key", base);
    let Some(keys) = keys else {
        if let Some(class) = classes.first() {
            reader.note(
                0,
                format!(
                    "retention.{class}.encrypt_bodies: there is no place for the keys; name one with encryption.keys"
                ),
            );
        }
        return None;
    };
    let evidence = config.evidence_place();
    if overlap(&keys, &evidence) {
        reader.note(
            0,
            format!(
                "encryption.keys: {keys} is in the same place as the evidence ({evidence}), which is kept and copied; name another one, or what is erased is kept too"
            ),
        );
    }
    Some(EncryptionConfig {
        classes,
        keys,
        bucket,
        master_key,
    })
}
