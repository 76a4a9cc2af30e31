//! Rebuilds and proves any session from the evidence: the library behind `hoop-replay`.
//!
//! It reads session files and, behind them, the live tail of a log, and never writes to either; only legal holds are set
//! and released, and keys of content destroyed. An event's exact
//! bytes are the event: everything shown is derived from them, and every proof is a hash of them.
//!
//! # Where to look
//! [`evidence`] finds and reads files and tail; [`sessions`] makes sessions of them, `lookup` finds one, [`scan`] walks all of them;
//! [`summary`] and [`filter`] say which, [`activity`] what is open now. [`timeline`] is a session as it happened and [`show`] its lines, [`content`]
//! its bodies, [`contents`] reads those that are encrypted, [`terminal`] what a command showed, [`copied`] what it moved. [`audit`] says events in the words of Kubernetes, [`verify`] proves,
//! [`reconcile`] compares with the API server's own audit log, [`sql`] is for other engines. [`holdings`] are what legal holds concern, [`retention`] says what is kept and what was deleted. [`installation`] is what a configuration says about where all of it is. [`cli`] is the command line,
//! [`output`] the only place that prints, [`exit`] how the process ends.

pub mod activity;
pub mod audit;
pub mod cli;
pub mod content;
pub mod contents;
pub mod copied;
pub mod evidence;
pub mod exit;
pub mod filter;
pub mod holdings;
pub mod installation;
mod lookup;
pub mod output;
pub mod reconcile;
pub mod retention;
pub mod scan;
pub mod sessions;
pub mod show;
pub mod sql;
pub mod summary;
pub mod terminal;
pub mod timeline;
pub mod verify;
pub mod when;
