//! Tests of the executable, over evidence that the tests make.

mod fixture;
mod look;
mod run;
mod tampering;
mod writer;
