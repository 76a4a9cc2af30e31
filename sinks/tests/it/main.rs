//! Integration tests of the seams: every backend against its conformance suite, and the faults of each.

mod log_conformance;
mod log_crash;
mod log_damage;
mod log_files;
mod log_model;
mod log_room;
