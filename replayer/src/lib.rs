//! Rebuilds and proves any session from the evidence: the library behind `hoop-replay`.
//!
//! It reads session files and, behind them, the live tail of a log, and never writes to either. An event's exact
//! bytes are the event: everything shown is derived from them, and every proof is a hash of them.
//!
//! # Where to look
//! [`evidence`] finds and reads files and tail; [`sessions`] makes sessions of them, [`scan`] walks all of them;
//! [`summary`] and [`filter`] say which, [`activity`] what is open now. [`timeline`] is a session as it happened and [`show`] its lines, [`content`]
//! its bodies, [`terminal`] what a command showed, [`copied`] what it moved. [`audit`] says events in the words of Kubernetes, [`verify`] proves. [`cli`] is the command line,
//! [`output`] the only place that prints, [`exit`] how the process ends.

pub mod activity;
pub mod audit;
pub mod cli;
pub mod content;
pub mod copied;
pub mod evidence;
pub mod exit;
pub mod filter;
pub mod output;
pub mod scan;
pub mod sessions;
pub mod show;
pub mod summary;
pub mod terminal;
pub mod timeline;
pub mod verify;
pub mod when;
