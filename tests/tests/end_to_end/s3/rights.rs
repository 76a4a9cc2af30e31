//! The rights that the roles get, as `hoop store policy` writes them, and credentials that are renewed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration,
};
use hoop_schema::{Class, SessionId};
use hoop_sinks::keys::{FileMasterKey, KeyMaker, KeyRing};
use hoop_sinks::store::s3::S3;
use hoop_sinks::store::{Access, BucketOptions, Created, EvidenceStore, StoreError};
use hoop_tests::testbed::{Answer, Minio, Need};
use serde_json::Value;

use super::{Bucket, block_on, put, whole};
use crate::harness::{Test, minio, tests, this_run};
use crate::pipeline::hoop;

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Minio];
        the_recorders_rights_are_enough_and_no_more,
        the_readers_rights_are_enough_and_no_more,
        the_retention_role_deletes_what_is_due_and_nothing_else,
        gateways_keep_keys_and_the_eraser_destroys_them,
        who_may_delete_is_told,
        the_rules_of_the_bucket_are_taken,
        renewed_credentials_are_taken_without_a_restart,
    ]
}

/// What `hoop store policy` says.
fn document(bed: &Bucket, name: &str) -> Result<Value> {
    let mut command = hoop();
    command
        .args(["store", "policy", name, "--plain", "--object-lock"])
        .args(["--evidence", &bed.place.to_string()])
        .args(["--keys", &bed.place.to_string()]);
    let printed = Answer::of(&mut command, "")?.expect_success()?;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

/// Credentials of a role in this bucket.
fn role(minio: &Minio, bed: &Bucket, name: &str) -> Result<std::path::PathBuf> {
    let name_of_file = format!("{}-{name}", bed.place.bucket);
    minio.credentials(&name_of_file, &document(bed, name)?)
}

fn expect_refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Result<()> {
    match answer {
        Err(error @ StoreError::Refused { .. }) => {
            let text = whole(&error);
            ensure!(text.contains("AccessDenied"), "{text}");
            Ok(())
        }
        other => anyhow::bail!("it is not refused: {other:?}"),
    }
}

fn the_recorders_rights_are_enough_and_no_more() -> Result<()> {
    let minio = minio()?;
    let mut bed = Bucket::make(&minio, true)?;
    bed.options.object_lock = true;
    let credentials = role(&minio, &bed, "recorder")?;
    block_on(async {
        let store = bed.open_with(None, credentials).await?;
        for _ in 0..2 {
            let odd = store.probe().await?;
            ensure!(odd.is_empty(), "{odd:?}");
        }
        for promise in [
            "created_objects_can_be_read_back",
            "listing_goes_on_after_a_key",
        ] {
            ensure!(put(&store, &format!("{promise}/a"), b"x").await? == Created::Created);
        }
        let until = hoop_schema::Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
        let options = hoop_sinks::store::CreateOptions {
            retention: Some(hoop_sinks::store::Retention {
                mode: hoop_sinks::store::LockMode::Governance,
                until: until.plus_micros(60_000_000),
            }),
            held: true,
            ..Default::default()
        };
        let locked = store.create("locked", bytes::Bytes::from_static(b"x"), &options);
        ensure!(locked.await? == Created::Created);
        ensure!(store.head("locked").await?.is_some());
        expect_refused(store.delete("locked").await)?;
        expect_refused(store.hold("locked", false).await)?;
        let plain = bed.open_with(None, minio.root()).await?;
        ensure!(plain.protection("locked").await?.held);
        Ok(())
    })
}

fn the_readers_rights_are_enough_and_no_more() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let credentials = role(&minio, &bed, "reader")?;
    block_on(async {
        put(&bed.open().await?, "a", b"abc").await?;
        let store = bed.open_with(None, credentials).await?;
        ensure!(store.get("a", 1..9).await? == "bc");
        ensure!(store.list("", None).await?.len() == 1);
        ensure!(store.head("a").await?.is_some() && store.head("b").await?.is_none());
        ensure!(!store.protection("a").await?.held);
        expect_refused(put(&store, "b", b"x").await)?;
        expect_refused(store.delete("a").await)?;
        expect_refused(store.hold("a", true).await)
    })
}

fn the_retention_role_deletes_what_is_due_and_nothing_else() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let credentials = role(&minio, &bed, "retention")?;
    block_on(async {
        let all = bed.open().await?;
        let (file, proof) = (
            "events/v1/class=short/a.parquet",
            "tlog/v1/short/000/checkpoint",
        );
        put(&all, file, b"x").await?;
        put(&all, proof, b"x").await?;
        let store = bed.open_with(None, credentials).await?;
        ensure!(put(&store, "retention/v1/a.json", b"first").await? == Created::Created);
        store.hold(file, true).await?;
        let held = store.delete(file).await;
        ensure!(matches!(held, Err(StoreError::Refused { .. })), "{held:?}");
        store.hold(file, false).await?;
        store.delete(file).await?;
        ensure!(all.head(file).await?.is_none());
        expect_refused(store.delete(proof).await)?;
        expect_refused(put(&store, "events/v1/b", b"x").await)
    })
}

fn gateways_keep_keys_and_the_eraser_destroys_them() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    let (gateway, eraser) = (role(&minio, &bed, "keys")?, role(&minio, &bed, "eraser")?);
    let file = this_run()?.folder().join("rights-master.key");
    let master = Arc::new(FileMasterKey::make(&file)?);
    block_on(async {
        let session = SessionId::from_bytes([7; 16]);
        let store = Arc::new(bed.open_with(None, gateway).await?);
        store.probe().await?;
        let maker = KeyMaker::new(store.clone(), master.clone());
        maker.probe().await?;
        let key = maker.make(session).await?;
        let ring = KeyRing::new(store.clone(), vec![master]);
        ensure!(ring.read(session, key.key_id()).await?.is_some());
        ensure!(ring.destroy(session).await.is_err(), "not the gateway");
        ensure!(ring.count(session).await? == 1);
        let eraser = Arc::new(bed.open_with(None, eraser).await?);
        expect_refused(put(&eraser, "keys/v1/x/y.json", b"x").await)?;
        let eraser = KeyRing::new(eraser, Vec::new());
        ensure!(eraser.destroy(session).await? == 1);
        ensure!(ring.read(session, key.key_id()).await?.is_none());
        Ok(())
    })
}

fn who_may_delete_is_told() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    block_on(async {
        let store = bed.open().await?;
        put(&store, "a", b"x").await?;
        let odd = store.probe().await?;
        ensure!(
            odd.len() == 1 && odd[0].contains("may delete from"),
            "{odd:?}"
        );
        ensure!(store.head("a").await?.is_some(), "nothing was deleted");
        Ok(())
    })
}

fn the_rules_of_the_bucket_are_taken() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, true)?;
    let configuration = this_run()?.folder().join("store-policy.yaml");
    fs::write(
        &configuration,
        "retention: {short: {term: 30d}, standard: {term: 365d}}\n",
    )?;
    let policy = document(&bed, "bucket")?;
    let mut command = hoop();
    command
        .args(["store", "policy", "lifecycle", "--config"])
        .arg(&configuration)
        .args(["--evidence", &bed.place.to_string()]);
    let printed = Answer::of(&mut command, "")?.expect_success()?;
    let rules: Value = serde_json::from_str(&printed)?;
    block_on(async {
        let client = minio.client();
        let put = client.put_bucket_policy().bucket(&bed.place.bucket);
        put.policy(policy.to_string()).send().await?;
        let mut lifecycle = BucketLifecycleConfiguration::builder();
        for rule in rules["Rules"].as_array().context("rules")? {
            lifecycle = lifecycle.rules(lifecycle_rule(rule)?);
        }
        client
            .put_bucket_lifecycle_configuration()
            .bucket(&bed.place.bucket)
            .lifecycle_configuration(lifecycle.build()?)
            .send()
            .await?;
        let kept = client.get_bucket_lifecycle_configuration();
        let kept = kept.bucket(&bed.place.bucket).send().await?;
        ensure!(kept.rules().len() == 7, "{:?}", kept.rules());
        // They keep the terms that they were made for, and would end longer ones early.
        for (days, rules) in [(365, 0), (4000, 3)] {
            let term = Duration::from_secs(days * 86_400);
            let options = BucketOptions {
                credentials_file: Some(minio.root()),
                terms: Some(BTreeMap::from([(Class::standard(), term)])),
                ..bed.options.clone()
            };
            let store = S3::open(&bed.place, Access::Write, &options).await?;
            let odd = store.probe().await?;
            let early = odd.iter().filter(|odd| odd.contains("lifecycle rule"));
            ensure!(early.count() == rules, "{odd:?}");
        }
        Ok(())
    })
}

/// A rule as the command prints it, in the words of the SDK.
fn lifecycle_rule(rule: &Value) -> Result<LifecycleRule> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let days = |value: &Value| value.as_i64().and_then(|days| i32::try_from(days).ok());
    let marker = rule["Expiration"]["ExpiredObjectDeleteMarker"].as_bool();
    let mut built = LifecycleRule::builder()
        .set_id(text(&rule["ID"]))
        .status(ExpirationStatus::Enabled)
        .filter(
            LifecycleRuleFilter::builder()
                .set_prefix(text(&rule["Filter"]["Prefix"]))
                .build(),
        )
        .expiration(
            LifecycleExpiration::builder()
                .set_days(days(&rule["Expiration"]["Days"]))
                .set_expired_object_delete_marker(marker)
                .build(),
        );
    if let Some(days) = days(&rule["NoncurrentVersionExpiration"]["NoncurrentDays"]) {
        let noncurrent = NoncurrentVersionExpiration::builder().noncurrent_days(days);
        built = built.noncurrent_version_expiration(noncurrent.build());
    }
    Ok(built.build()?)
}

fn renewed_credentials_are_taken_without_a_restart() -> Result<()> {
    let minio = minio()?;
    let bed = Bucket::make(&minio, false)?;
    let good = fs::read_to_string(minio.root())?;
    let file = minio.write_credentials(
        "renewed",
        &good.replace("secret_access_key = ", "secret_access_key = not-"),
    )?;
    block_on(async {
        let store = bed.open_with(None, file.clone()).await?;
        for _ in 0..2 {
            let answer = put(&store, "a", b"x").await;
            let Err(error @ StoreError::Refused { .. }) = &answer else {
                anyhow::bail!("{answer:?}");
            };
            let text = whole(error);
            ensure!(
                text.contains("SignatureDoesNotMatch") && text.contains("renew them"),
                "{text}"
            );
            ensure!(store.head("a").await.is_err() && store.list("", None).await.is_err());
        }
        fs::write(&file, &good)?;
        // Credentials are looked for again at most once a second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        ensure!(put(&store, "a", b"x").await? == Created::Created);
        ensure!(store.head("a").await?.is_some());
        Ok(())
    })
}
