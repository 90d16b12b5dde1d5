//! Exit codes.

use std::{fmt, process::ExitCode};

use serde::{Deserialize, Serialize};

/// What the process ends with; a record holds it as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Exit {
    /// Every threshold holds.
    Pass = 0,
    /// The command line or a file is wrong, or the users do not fit the limits of this machine.
    Usage = 2,
    /// No server answers at the URL.
    Unreachable = 3,
    /// Every threshold holds, but the run is worse than its baseline.
    Regression = 97,
    /// The measurement cannot be trusted.
    Invalid = 98,
    /// A threshold failed.
    Fail = 99,
    /// Ended by a second signal, without a report.
    Killed = 130,
}

impl Exit {
    const ALL: [Self; 7] = [
        Self::Pass,
        Self::Usage,
        Self::Unreachable,
        Self::Regression,
        Self::Invalid,
        Self::Fail,
        Self::Killed,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit code of several runs: an invalid measurement is worse than a failed threshold, and that is worse
    /// than a regression.
    pub fn worst(of: &[Self]) -> Self {
        let worst_first = [Self::Invalid, Self::Fail, Self::Regression];
        let found = worst_first.into_iter().find(|exit| of.contains(exit));
        found.unwrap_or(Self::Pass)
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit.code()
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|exit| exit.code() == code);
        found.ok_or_else(|| format!("{code} is not an exit code of a run"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_the_worst_counts() {
        use Exit::{Fail, Invalid, Pass, Regression};
        assert_eq!(Exit::worst(&[]), Pass);
        assert_eq!(Exit::worst(&[Pass, Regression]), Regression);
        assert_eq!(Exit::worst(&[Fail, Regression]), Fail);
        assert_eq!(Exit::worst(&[Fail, Invalid, Pass]), Invalid);
    }

    #[test]
    fn a_record_holds_the_number() {
        for exit in Exit::ALL {
            let json = serde_json::to_string(&exit).expect("a number");
            assert_eq!(json, exit.to_string());
            assert_eq!(serde_json::from_str::<Exit>(&json).expect("known"), exit);
        }
        assert!(serde_json::from_str::<Exit>("1").is_err());
    }
}
