//! Pauses between tries while the log or the store is away.

use std::time::Duration;

use hoop_schema::{Class, Shard};
use tokio::time::sleep;

/// First and longest pause.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// Pauses that double, and a warning at each power of two of them.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    tries: u32,
}

impl BackOff {
    /// Waits before the next try of `what`, which failed with `error`.
    pub(crate) async fn wait(
        &mut self,
        what: &'static str,
        error: &(dyn std::error::Error + Send + Sync),
        class: &Class,
        shard: Shard,
    ) {
        self.tries = self.tries.saturating_add(1);
        if self.tries.is_power_of_two() {
            let text = with_causes(error);
            tracing::warn!(%class, %shard, tries = self.tries, error = text, what, "waiting to try again");
        }
        let factor = 1u32 << (self.tries - 1).min(16);
        sleep(BACK_OFF.0.saturating_mul(factor).min(BACK_OFF.1)).await;
    }
}

/// An error and all its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
