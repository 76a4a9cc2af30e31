//! What this machine must have: directories, a log nobody else writes to, room on the disk, free addresses.

use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::dir::Dir;

use super::Finding;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::pipeline::{chain, classes};

/// With less free space than this, the first day may fill the disk.
const FREE_BYTES_COMFORTABLE: u64 = 5 << 30;

/// With less than this, the segments of the log do not find room: three classes, two segments of 64 MiB each.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// Probes all of it.
pub(super) async fn probe(config: &Config) -> Vec<(&'static str, Finding)> {
    let mut findings = vec![("gateway", listen(Some(config.gateway.listen)))];
    findings.push(("admin", listen(config.admin_listen)));
    let data = match DataDir::open(&config.data) {
        Ok(data) => data,
        Err(error) => {
            let text = format!("{}; name a directory that can be written to", chain(&error));
            findings.push(("data", Finding::Wrong(text)));
            return findings;
        }
    };
    findings.push(("data", Finding::Good(data.root().display().to_string())));
    findings.push(("disk", free_space(data.root())));
    findings.push(("log", logs_are_free(&data)));
    findings.push(("evidence", store(&data).await));
    findings
}

fn listen(address: Option<SocketAddr>) -> Finding {
    let Some(address) = address else {
        return Finding::Good("off".into());
    };
    match TcpListener::bind(address) {
        Ok(_) => Finding::Good(address.to_string()),
        Err(error) => Finding::Wrong(format!(
            "cannot listen at {address}: {error}; stop what listens there, or choose another address"
        )),
    }
}

fn free_space(root: &Path) -> Finding {
    let found = match rustix::fs::statvfs(root) {
        Ok(found) => found,
        Err(error) => return Finding::Odd(format!("the free space cannot be found out: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let gigabytes = format!("{:.1} GiB free", free as f64 / f64::from(1 << 30));
    match free {
        FREE_BYTES_COMFORTABLE.. => Finding::Good(gigabytes),
        FREE_BYTES_MIN.. => Finding::Odd(format!(
            "{gigabytes}: when the disk is full, requests are refused; make room or use another disk"
        )),
        _ => Finding::Wrong(format!(
            "{gigabytes}: the event log needs at least 0.5 GiB; make room or use another disk"
        )),
    }
}

/// Whether nobody writes to the logs. A class that has no folder yet is free.
fn logs_are_free(data: &DataDir) -> Finding {
    for class in classes() {
        let lock = data.log().join(class.as_str()).join("lock");
        let Ok(file) = File::open(&lock) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Finding::Wrong(format!(
                    "another process writes to {}; stop it first, or choose another data directory",
                    data.log().display()
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Finding::Wrong(format!("cannot lock {}: {error}", lock.display()));
            }
        }
    }
    Finding::Good(data.log().display().to_string())
}

async fn store(data: &DataDir) -> Finding {
    let probed = match Dir::open(&data.evidence()) {
        Ok(store) => store.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(()) => Finding::Good(data.evidence().display().to_string()),
        Err(error) => Finding::Wrong(chain(&error)),
    }
}
