//! The store behind a bad line: nothing is lost, nothing is overwritten, and what is not known is said to be unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use hoop_sinks::store::s3::S3;
use hoop_sinks::store::{CreateOptions, Created, EvidenceStore, StoreError};
use hoop_tests::testbed::{Fault, FaultProxy, Need};

use super::{Bucket, block_on, expect_unfit, put, whole};
use crate::harness::{Test, minio, tests};

/// Names that are fought for, and who fights for each.
const NAMES: usize = 60;
const RIVALS: usize = 4;

/// Of a thousand requests, how many meet a fault: far worse than any line that anybody would keep.
const FAULTS_PER_THOUSAND: u64 = 300;

pub(super) fn tests() -> Vec<Test> {
    tests![&[Need::Minio];
        a_put_that_landed_without_an_answer_is_known_again,
        a_put_that_did_not_land_is_put_again,
        a_rival_is_not_mistaken_for_a_put_of_ours,
        what_stays_unclear_is_unknown,
        a_clear_refusal_after_an_unclear_answer_is_unknown,
        a_read_that_breaks_off_goes_on_where_it_was,
        a_server_that_ignores_conditions_is_unfit,
        an_expired_token_is_said_and_another_one_taken,
        nothing_is_lost_or_overwritten_behind_a_bad_line,
    ]
}

/// A store behind a proxy, and one before it.
struct Line {
    proxy: FaultProxy,
    bad: S3,
    good: S3,
    bucket: String,
}

async fn line() -> Result<Line> {
    let minio = minio()?;
    let made = tokio::task::spawn_blocking({
        let minio = Arc::clone(&minio);
        move || Bucket::make(&minio, true)
    });
    let bed = made.await??;
    let proxy = FaultProxy::start(minio.address()).await?;
    Ok(Line {
        bad: bed.open_with(Some(proxy.url()), minio.root()).await?,
        good: bed.open().await?,
        proxy,
        bucket: bed.place.bucket,
    })
}

fn a_put_that_landed_without_an_answer_is_known_again() -> Result<()> {
    block_on(async {
        let line = line().await?;
        for (i, fault) in [
            Fault::LostAfter,
            Fault::FalseAfter(500, "InternalError"),
            Fault::FalseAfter(503, "SlowDown"),
            Fault::SilentAfter(Duration::from_millis(300)),
            Fault::Twice,
        ]
        .into_iter()
        .enumerate()
        {
            line.proxy.fail_creates([fault]);
            let key = format!("a/{i}");
            let answer = put(&line.bad, &key, b"ours").await;
            if fault == Fault::Twice {
                // The second answer says that it exists, and nothing tells that this is about the first: the caller
                // looks at the object and finds its own hash.
                ensure!(matches!(answer, Ok(Created::Exists)), "{answer:?}");
            } else {
                ensure!(
                    matches!(answer, Ok(Created::Created)),
                    "{fault:?}: {answer:?}"
                );
            }
            ensure!(line.good.get(&key, 0..99).await? == "ours");
        }
        Ok(())
    })
}

fn a_put_that_did_not_land_is_put_again() -> Result<()> {
    block_on(async {
        let line = line().await?;
        for (i, fault) in [
            Fault::LostBefore,
            Fault::FalseBefore(409, "ConditionalRequestConflict"),
            Fault::FalseBefore(503, "SlowDown"),
            Fault::SilentBefore(Duration::from_millis(300)),
        ]
        .into_iter()
        .enumerate()
        {
            line.proxy.fail_creates([fault, fault]);
            let answer = put(&line.bad, &format!("a/{i}"), b"ours").await;
            ensure!(
                matches!(answer, Ok(Created::Created)),
                "{fault:?}: {answer:?}"
            );
        }
        Ok(())
    })
}

fn a_rival_is_not_mistaken_for_a_put_of_ours() -> Result<()> {
    block_on(async {
        let line = line().await?;
        // The rival's bytes are even the same.
        put(&line.good, "a", b"same").await?;
        for fault in [
            Fault::LostAfter,
            Fault::FalseBefore(409, "ConditionalRequestConflict"),
        ] {
            line.proxy.fail_creates([fault]);
            let answer = put(&line.bad, "a", b"same").await;
            ensure!(matches!(answer, Ok(Created::Exists)), "{answer:?}");
        }
        Ok(())
    })
}

fn what_stays_unclear_is_unknown() -> Result<()> {
    block_on(async {
        let line = line().await?;
        for fault in [
            Fault::LostBefore,
            Fault::FalseBefore(500, "InternalError"),
            Fault::FalseBefore(409, "ConditionalRequestConflict"),
        ] {
            line.proxy.fail_creates([fault; 99]);
            let answer = put(&line.bad, "a", b"x").await;
            ensure!(
                matches!(answer, Err(StoreError::Unknown { .. })),
                "{answer:?}"
            );
        }
        Ok(())
    })
}

fn a_clear_refusal_after_an_unclear_answer_is_unknown() -> Result<()> {
    block_on(async {
        let line = line().await?;
        let denied = Fault::FalseBefore(403, "AccessDenied");
        line.proxy.fail_creates([Fault::LostAfter, denied]);
        let answer = put(&line.bad, "a", b"x").await;
        ensure!(
            matches!(answer, Err(StoreError::Unknown { .. })),
            "{answer:?}"
        );
        line.proxy.fail_creates([denied]);
        let answer = put(&line.bad, "b", b"x").await;
        ensure!(
            matches!(answer, Err(StoreError::Refused { .. })),
            "{answer:?}"
        );
        Ok(())
    })
}

fn a_read_that_breaks_off_goes_on_where_it_was() -> Result<()> {
    block_on(async {
        let line = line().await?;
        let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        put(&line.good, "a", &bytes).await?;
        let mut gets = 0;
        line.proxy.set(move |seen| {
            gets += usize::from(seen.method == http::Method::GET);
            match gets {
                1 => Fault::CutShort(300_000),
                2 => Fault::LostBefore,
                3 => Fault::CutShort(1),
                _ => Fault::None,
            }
        });
        ensure!(line.bad.get("a", 0..u64::MAX).await? == bytes);
        let read = line.bad.get("a", 10..900_000).await?;
        ensure!(read == bytes[10..900_000]);
        Ok(())
    })
}

fn a_server_that_ignores_conditions_is_unfit() -> Result<()> {
    block_on(async {
        let line = line().await?;
        line.proxy.set(|_| Fault::Unconditional);
        expect_unfit(line.bad.probe().await, "ignores If-None-Match")?;
        line.proxy.set(|seen| match seen.is_create() {
            true => Fault::FalseBefore(501, "NotImplemented"),
            false => Fault::None,
        });
        expect_unfit(line.bad.probe().await, "NotImplemented")
    })
}

fn an_expired_token_is_said_and_another_one_taken() -> Result<()> {
    block_on(async {
        let line = line().await?;
        line.proxy.set(|_| Fault::FalseBefore(400, "ExpiredToken"));
        let answer = put(&line.bad, "a", b"x").await;
        let Err(error @ StoreError::Refused { .. }) = &answer else {
            anyhow::bail!("{answer:?}");
        };
        let text = whole(error);
        ensure!(
            text.contains("ExpiredToken") && text.contains("renew them"),
            "{text}"
        );
        line.proxy.set(|_| Fault::None);
        ensure!(put(&line.bad, "a", b"x").await? == Created::Created);
        Ok(())
    })
}

/// Rivals put under the same names through a line on which a third of all requests goes wrong. Whoever was told that
/// it created an object finds its own bytes there, at the end and at every moment; nobody is told so twice.
fn nothing_is_lost_or_overwritten_behind_a_bad_line() -> Result<()> {
    block_on(async {
        let line = Arc::new(line().await?);
        line.proxy.misbehave(7, FAULTS_PER_THOUSAND);
        let mut rivals = tokio::task::JoinSet::new();
        for rival in 0..RIVALS {
            let line = Arc::clone(&line);
            rivals.spawn(async move {
                let mut won = Vec::new();
                for name in 0..NAMES {
                    let key = format!("a/{:03}", (name + rival) % NAMES);
                    let bytes = Bytes::from(format!("rival {rival}"));
                    // As a recorder does: what is unknown is looked at, and put again when it is not there.
                    loop {
                        let options = CreateOptions::default();
                        match line.bad.create(&key, bytes.clone(), &options).await {
                            Ok(Created::Created) => {
                                won.push((key, rival));
                                break;
                            }
                            Ok(Created::Exists) => break,
                            Err(_) => {
                                if let Ok(Some(_)) = line.bad.head(&key).await {
                                    break;
                                }
                            }
                        }
                    }
                }
                won
            });
        }
        let mut created: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(won) = rivals.join_next().await {
            for (key, rival) in won? {
                let twice = created.insert(key.clone(), rival);
                ensure!(
                    twice.is_none(),
                    "{key} was created by {twice:?} and {rival}"
                );
            }
        }
        ensure!(line.good.list("a/", None).await?.len() == NAMES);
        for (key, rival) in &created {
            let bytes = line.good.get(key, 0..99).await?;
            ensure!(
                bytes == format!("rival {rival}"),
                "{key}: {rival}, {bytes:?}"
            );
        }
        ensure!(
            created.len() > NAMES / 2,
            "only {} were answered",
            created.len()
        );
        let client = minio()?.client();
        let versions = client.list_object_versions().bucket(&line.bucket);
        let versions = versions.prefix("audit/prod/a/").send().await?;
        ensure!(
            versions.versions().len() == NAMES,
            "nothing was overwritten"
        );
        ensure!(line.proxy.seen() > 200);
        Ok(())
    })
}
