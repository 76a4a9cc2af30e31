//! `hoop`: gateway, recorder and tools in one binary.

use std::process::ExitCode;

/// A request takes dozens of small allocations: a tenth of the processor time of a busy gateway less than with the
/// allocator of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hoop::program::run(std::env::args_os())
}
