//! The folder where built servers are kept, and the lock that lets one process build at a time.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::progress;

/// The folder of the cache, created if need be.
pub(crate) fn folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("set HOME or XDG_CACHE_HOME")?)
            .join(".cache"),
    };
    let folder = base.join("hoop-test-bed");
    create(&folder)?;
    Ok(folder)
}

pub(crate) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Returns the folder `name` of the cache, made by `make` if it is not there. `make` gets an empty folder of another
/// name, which takes its place in one step at the end: what is in the cache is whole.
pub(crate) fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = folder()?;
    let wanted = cache.join(name);
    if wanted.exists() {
        return Ok(wanted);
    }
    let _lock = lock(&cache)?;
    if wanted.exists() {
        return Ok(wanted);
    }
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        std::fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    create(&partial)?;
    make(&partial)?;
    std::fs::rename(&partial, &wanted)
        .with_context(|| format!("cannot rename {}", partial.display()))?;
    Ok(wanted)
}

/// Waits until no other process builds. The lock goes with the file, so it cannot be left behind.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::say("another process builds the test bed; waiting for it");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
