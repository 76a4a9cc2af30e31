//! What streams hold while nothing happens in them: each on a connection of its own, as with most clients.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, AttachParams, WatchParams};
use tokio::io::AsyncReadExt;

use crate::bed::{Bed, NAMESPACE, POD};
use crate::{process, verdict};

const WATCHES: usize = 1000;
const SHELLS: usize = 100;

/// Until everything that is only needed at the beginning is gone.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

pub(crate) fn measure(bed: &Bed) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let before = process::memory(bed.hoop(), "VmRSS")?;
    let held = runtime.block_on(hold(bed))?;
    println!(
        "idle: {before} MiB before, {held} MiB with {WATCHES} watches and {SHELLS} shells, at most {} MiB",
        process::memory(bed.hoop(), "VmHWM")?
    );
    let keeps = held <= 200;
    verdict(
        "1,000 watches and 100 shells: memory of hoop up, MiB",
        held as f64,
        keeps,
        "<= 200",
    );
    Ok(())
}

/// The memory while all of them are open, in MiB.
async fn hold(bed: &Bed) -> Result<u64> {
    let [_, gateway] = bed.ways();
    let client = gateway.client().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let mut watch = Box::pin(maps.watch(&WatchParams::default(), "0").await?);
        // The namespace has one object from the beginning, the cluster's certificates.
        watch.try_next().await?.context("a watch begins")?;
        watches.push(watch);
    }
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut shells = Vec::new();
    for _ in 0..SHELLS {
        let options = AttachParams::interactive_tty();
        let mut shell = pods.exec(POD, ["sh"], &options).await?;
        let mut output = shell.stdout().context("output was asked for")?;
        // The prompt.
        output.read_u8().await?;
        shells.push((shell, output));
    }
    tokio::time::sleep(SETTLED_AFTER).await;
    process::memory(bed.hoop(), "VmRSS")
}
