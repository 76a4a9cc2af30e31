//! Rebuilds and proves any session from the evidence: the library behind `hoop-replay`.
//!
//! It reads session files and, behind them, the live tail of a log, and never writes to either. An event's exact
//! bytes are the event: everything shown is derived from them, and every proof is a hash of them.
//!
//! # Where to look
//! [`evidence`] finds and reads files and tail; [`sessions`] makes sessions of them; [`summary`] and [`filter`] say
//! which; [`cli`] is the command line, [`output`] the only place that prints, [`exit`] how the process ends.

pub mod cli;
pub mod evidence;
pub mod exit;
pub mod filter;
pub mod output;
pub mod sessions;
pub mod summary;
pub mod when;
