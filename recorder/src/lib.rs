//! From the event log to session files.
//!
//! The commit point is one sentence: **the create-only put of a session file, whose name any rival recorder would
//! compute too, is the commit** ([`commit`]). Everything before it can be done again from the log, everything after
//! it can be rebuilt from the file. No lease is needed: two recorders of one shard are wasteful, never wrong.
//!
//! - [`core`]: one shard as a pure state machine; `holes` knows what is a copy and what is missing, `own` makes the
//!   recorder's own events, `batch` is what one file will hold.
//! - `session_file`: the bytes of a session file; [`read_footer`] reads what one says of itself.
//! - [`commit`]: the decisions of the commit; `shard` is the shell around core and commit, [`Recorder`] runs all shards.
//!   `resume` finds where a shard goes on, `rival` whether a file that somebody else put may be followed.
//! - [`seal`]: finished days become few large objects.
//! - `index`: the index of sessions beside each file. `care`, `keep`, `held`, [`retention`]: what is kept, and for how
//!   long.
//! - `transparency`: the signed log of everything above.

pub mod commit;
pub mod config;
pub mod core;
#[cfg(any(test, feature = "test-util"))]
pub mod generator;
pub mod retention;
pub mod seal;
pub mod share;

mod back_off;
mod batch;
mod care;
mod held;
mod holes;
mod index;
mod keep;
mod metrics;
mod recorder;
mod resume;
mod rival;
mod session_file;
mod shard;
mod shared;
mod standby;
mod tails;
mod time;
mod transparency;

pub use batch::{Batch, Encoded};
pub use config::{Config, FlushLimits, HoleLimits, SealConfig};
pub use recorder::{FlushError, Handle, Recorder, RecorderError};
pub use session_file::footer::{FooterError, parse_footer, read_footer};
pub use share::{InvalidShare, Share};
pub use time::Clock;
pub use transparency::Signing;
