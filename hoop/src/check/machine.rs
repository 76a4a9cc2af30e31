//! What this machine must have: directories, a log nobody else writes to, room on the disk, free addresses.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use hoop_schema::Class;
use hoop_sinks::keys::FileMasterKey;
use hoop_sinks::store::{self, Access};

use super::Finding;
use crate::config::{Config, LogBackend};
use crate::data_dir::DataDir;
use crate::logs::classes;
use crate::pipeline::{build_encryption, chain};

/// With less free space than this, the first day may fill the disk.
const FREE_BYTES_COMFORTABLE: u64 = 5 << 30;

/// With less than this, the segments of the log do not find room: three classes, two segments of 64 MiB each.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// Probes all of it.
pub(super) async fn probe(config: &Config) -> Vec<(&'static str, Finding)> {
    let data = DataDir::open(&config.data);
    let is_served = data.as_ref().is_ok_and(DataDir::is_served);
    let mut findings = vec![("gateway", listen(Some(config.gateway.listen), is_served))];
    findings.push(("admin", listen(config.admin_listen, is_served)));
    let data = match data {
        Ok(data) => data,
        Err(error) => {
            let text = format!("{}; name a directory that can be written to", chain(&error));
            findings.push(("data", Finding::Wrong(text)));
            return findings;
        }
    };
    findings.push(("data", Finding::Good(data.root().display().to_string())));
    findings.push(("disk", free_space(data.root())));
    let free = logs_are_free(&data, &config.log.backend);
    findings.push((log_or_spool(&config.log.backend), free));
    findings.extend(super::brokers::probe(config).await);
    findings.push(("evidence", evidence(config).await));
    findings.extend(keys(config).await.map(|finding| ("keys", finding)));
    findings
}

/// Whether the address is free, or in use by the gateway that is served from this data directory.
fn listen(address: Option<SocketAddr>, is_served: bool) -> Finding {
    let Some(address) = address else {
        return Finding::Good("off".into());
    };
    match TcpListener::bind(address) {
        Ok(_) => Finding::Good(address.to_string()),
        Err(error) if is_served && error.kind() == ErrorKind::AddrInUse => {
            Finding::Good(format!("{address}, in use while the gateway runs"))
        }
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

fn log_or_spool(backend: &LogBackend) -> &'static str {
    match backend {
        LogBackend::Embedded => "log",
        LogBackend::Nats(_) | LogBackend::Kafka(_) => "spool",
    }
}

/// Whether nobody writes to the logs, or to the spools before brokers. A class that has no folder yet is free.
fn logs_are_free(data: &DataDir, backend: &LogBackend) -> Finding {
    let folder = match backend {
        LogBackend::Embedded => data.log(),
        LogBackend::Nats(_) | LogBackend::Kafka(_) => data.spool(),
    };
    for class in classes() {
        let lock = folder.join(class.as_str()).join("lock");
        let Ok(file) = File::open(&lock) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Finding::Odd(format!(
                    "{}: a gateway runs on this data directory; another one needs a directory of its own",
                    folder.display()
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Finding::Wrong(format!("cannot lock {}: {error}", lock.display()));
            }
        }
    }
    Finding::Good(folder.display().to_string())
}

async fn evidence(config: &Config) -> Finding {
    let place = config.evidence_place();
    let probed = match store::open(&place, Access::Write, &config.evidence_bucket()).await {
        Ok(store) => store.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(odd) if odd.is_empty() => Finding::Good(place.to_string()),
        Ok(odd) => Finding::Odd(odd.join("\n")),
        Err(error) => Finding::Wrong(chain(&error)),
    }
}

/// Whether content can be encrypted, where that is asked for: the master key, and the store of the keys.
async fn keys(config: &Config) -> Option<Finding> {
    let encryption = config.encryption.as_ref()?;
    let names: Vec<&str> = encryption.classes.iter().map(Class::as_str).collect();
    if names.is_empty() {
        let text =
            "encryption.keys is named, but no class says encrypt_bodies: nothing is encrypted";
        return Some(Finding::Odd(text.into()));
    }
    if let Err(error) = build_encryption(config).await {
        return Some(Finding::Wrong(chain(&error)));
    }
    let place = &encryption.keys;
    let probed = match store::open(place, Access::Write, &encryption.bucket).await {
        Ok(store) => store.probe().await,
        Err(error) => Err(error),
    };
    let file = config.master_key();
    let is_private = FileMasterKey::read(&file).is_ok_and(|master| master.is_private());
    Some(match probed {
        Err(error) => Finding::Wrong(chain(&error)),
        Ok(_) if !is_private => Finding::Odd(format!(
            "{} can be read by others: chmod 600 {0}",
            file.display()
        )),
        Ok(_) => Finding::Good(format!(
            "{place}: content of class {} is encrypted",
            names.join(", ")
        )),
    })
}
