//! End-to-end tests, and the bed of real servers they run on.
//!
//! [`testbed`] builds and starts the servers; [`chaos`] lets everything go wrong at once, for as long as one likes, and
//! compares what was promised with what is there; `tests/end_to_end` holds the tests, one program for all of them. The
//! tests of this package's own code, and those that read the workspace itself, are ordinary unit tests.

pub mod chaos;
mod dice;
pub mod testbed;

#[cfg(test)]
mod workspace;
