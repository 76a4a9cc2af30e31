//! How the process ends.

/// Exit codes of `hoop`. A closed pipe is [`ExitCode::Success`]: whoever reads has seen enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It is done; for `check`: nothing is wrong; for `policy explain`: it would be allowed.
    Success = 0,
    /// It was tried and did not work; for `check`: something is wrong; for `policy explain`: it would not be allowed.
    Failure = 1,
    /// The command line or the configuration is wrong, and the message says where.
    Usage = 64,
    /// It was interrupted a second time while it was stopping, as shells say it: 128 and the signal's number.
    Interrupted = 130,
}
