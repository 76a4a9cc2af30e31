//! How the process ends.

/// Exit codes of `hoop-replay`. A closed pipe is [`ExitCode::Success`]: whoever reads has seen enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// It is done; for `verify`: proven.
    Success = 0,
    /// `verify`: something was altered. `reconcile`: one id stands for two requests.
    Altered = 1,
    /// `verify`: nothing was altered, but something is missing. `reconcile`: something bypassed the gateway or its
    /// record, never arrived, or could not be compared.
    Incomplete = 2,
    /// `verify`: signed by a key that is not known.
    UnknownKey = 3,
    /// The command line is wrong.
    Usage = 64,
    /// Evidence or log is damaged; the message says where, and what is still readable.
    Damaged = 65,
    /// There is nothing of this name: no such directory, no such session, no match for `grep`.
    NotFound = 66,
    /// The evidence or the log could not be read, or the output not be written. Where it is the log alone that does not
    /// answer, what files say is on the output all the same.
    Io = 74,
}

/// Why a command did not end well: the code, and the chain of causes for people.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub code: ExitCode,
    /// What happened, where, and what to do.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: ExitCode::Usage,
            error: anyhow::Error::msg(message.into()),
        }
    }

    /// Something that was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: ExitCode::NotFound,
            error: anyhow::Error::msg(message.into()),
        }
    }
}

impl From<crate::evidence::Error> for Failure {
    fn from(error: crate::evidence::Error) -> Self {
        Self {
            code: error.exit_code(),
            error: error.into(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            code: ExitCode::Io,
            error: anyhow::Error::new(error).context("cannot write the output"),
        }
    }
}
