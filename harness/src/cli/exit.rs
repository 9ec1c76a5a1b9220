//! Exit codes: one table, published.

use std::process::ExitCode;

use crate::verdict::result::RunResult;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: every verdict is pass, or the command did what it says.
    Pass,
    /// 1: a requirement failed.
    Fail,
    /// 2: bad usage or file.
    Usage,
    /// 3: no failure, but something could not be established.
    Inconclusive,
    /// 4: something could not be restored.
    NotRestored,
    /// What a supervised command ended with.
    Other(u8),
}

impl ExitStatus {
    /// The status of a judged run; 4 beats 1 beats 3.
    #[must_use]
    pub fn of(result: &RunResult) -> Self {
        Self::of_run(result.exit_code())
    }

    /// The status that a run has ended with.
    #[must_use]
    pub fn of_run(code: u8) -> Self {
        match code {
            0 => Self::Pass,
            1 => Self::Fail,
            4 => Self::NotRestored,
            _ => Self::Inconclusive,
        }
    }

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Inconclusive => 3,
            Self::NotRestored => 4,
            Self::Other(code) => code,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
