//! How the process ends.

/// Exit codes of `hoop`. A closed pipe is [`ExitCode::Success`]: whoever reads has seen enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It is done; for `check`: nothing is wrong; for `policy explain`: it would be allowed.
    Success = 0,
    /// It was tried and did not work; for `check`: something is wrong; for `policy explain`: it would not be allowed;
    /// for `policy replay`: something would have been decided otherwise.
    Failure = 1,
    /// The command line or the configuration is wrong, and the message says where.
    Usage = 64,
    /// The record is damaged, as of `hoop-replay`.
    Damaged = 65,
    /// There is no record there, as of `hoop-replay`.
    NotFound = 66,
    /// The record could not be read, as of `hoop-replay`.
    Io = 74,
    /// It was interrupted a second time while it was stopping, as shells say it: 128 and the signal's number.
    Interrupted = 130,
}

impl From<hoop_replayer::exit::ExitCode> for ExitCode {
    fn from(code: hoop_replayer::exit::ExitCode) -> Self {
        use hoop_replayer::exit::ExitCode as Replayer;
        match code {
            Replayer::Success => Self::Success,
            Replayer::Altered | Replayer::Incomplete | Replayer::UnknownKey => Self::Failure,
            Replayer::Usage => Self::Usage,
            Replayer::Damaged => Self::Damaged,
            Replayer::NotFound => Self::NotFound,
            Replayer::Io => Self::Io,
        }
    }
}
