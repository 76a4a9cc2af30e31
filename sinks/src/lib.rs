//! The seams of the pipeline: where events go, and where evidence is kept.
//!
//! [`log`] is the event log with its two traits, [`store`] the evidence store. Each has backends and one conformance
//! suite that all backends run. [`keys`] makes, keeps and destroys the keys of encrypted content.

pub mod keys;
pub mod log;
pub mod store;
