//! Connections that are kept for the next request, and the bound on all of them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::Link;

/// Below the 90 s after which the API server closes an idle connection, so that the gateway closes it first.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long a request waits for a connection to become free when all are in use.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Kept connections, the one used last on top.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Link>>,
    idle_max: usize,
    slots: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(connections_max: usize, idle_max: usize) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            idle_max,
            slots: Arc::new(Semaphore::new(connections_max)),
        }
    }

    /// The right to use one connection; `None` when all stay in use for too long.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        tokio::time::timeout(SLOT_WAIT_MAX, Arc::clone(&self.slots).acquire_owned())
            .await
            .ok()?
            .ok()
    }

    /// A kept connection that is still open.
    pub(super) async fn take(&self) -> Option<Link> {
        loop {
            let mut link = self.idle.lock().pop()?;
            if link.idle_since.elapsed() < IDLE_MAX && usable(&mut link).await {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose request is over.
    pub(super) fn put(&self, mut link: Link) {
        link.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(link);
        }
    }

    /// Drops connections that are closed or were not used for long.
    pub(super) async fn sweep(&self) {
        let mut links = std::mem::take(&mut *self.idle.lock());
        links.retain(|link| link.idle_since.elapsed() < IDLE_MAX);
        let mut open = Vec::with_capacity(links.len());
        for mut link in links {
            if usable(&mut link).await {
                open.push(link);
            }
        }
        // What was given back meanwhile is younger: on top.
        let mut idle = self.idle.lock();
        open.append(&mut idle);
        open.truncate(self.idle_max);
        *idle = open;
    }
}

/// Whether a request can be sent over a kept connection, as far as can be seen.
async fn usable(link: &mut Link) -> bool {
    poll_fn(|cx| Poll::Ready(link.poll_usable(cx))).await
}
