//! Threads that give way to those that somebody waits for.
//!
//! In `hoop up` the gateway and the recorder share the processors. Nobody waits for the recorder: what it has not come to
//! is durable in the log. So it runs on threads of its own, at a lower priority (`nice`): when there is processor time
//! for both, both run as if alone; when there is not, requests and streams go first.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// By how much its threads are nicer than others. At 5 a thread still gets a quarter of a processor that it shares with
/// one other: a gateway that is busy for hours must not keep the recorder from emptying the log.
const NICER: i32 = 5;

/// A runtime whose threads, those for blocking work included, give way.
#[derive(Debug)]
pub(crate) struct Background {
    /// Taken when this is dropped, since a runtime must not end by waiting for its threads inside of another one.
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start() -> io::Result<Self> {
        let niceness = niceness();
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("background")
            .on_thread_start(move || give_way(niceness))
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    /// Runs a task, and all that it spawns, in the background.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime
            .as_ref()
            .expect("taken only when dropped")
            .spawn(task)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the threads' niceness is to be. It is fixed once: a thread begins with that of the thread that started it, which
/// may be one of them.
#[cfg(target_os = "linux")]
fn niceness() -> Option<i32> {
    Some(rustix::process::getpriority_process(None).ok()? + NICER)
}

/// Where niceness belongs to the whole process, it is left alone: the gateway would be slowed as well.
#[cfg(not(target_os = "linux"))]
fn niceness() -> Option<i32> {
    None
}

/// Makes the calling thread nicer. On Linux each thread has a niceness of its own.
fn give_way(niceness: Option<i32>) {
    if let Some(niceness) = niceness
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "the recorder runs at the priority of the gateway");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_threads_are_nicer_than_the_one_that_started_it() {
        let niceness = || rustix::process::getpriority_process(None).expect("asking is allowed");
        let before = niceness();
        let background = Background::start().expect("threads can be had");
        let in_task = background.spawn(async move { niceness() });
        assert_eq!(in_task.await.expect("it ran"), (before + NICER).min(19));
        let blocking = background
            .spawn(async move { tokio::task::spawn_blocking(niceness).await.expect("it ran") });
        assert_eq!(blocking.await.expect("it ran"), (before + NICER).min(19));
        assert_eq!(niceness(), before);
    }
}
