//! The code of an error, as the server sent it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server's error code, limited in length and characters so that it cannot spoil a report.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct ServerCode(Box<str>);

impl From<String> for ServerCode {
    fn from(code: String) -> Self {
        Self::new(&code)
    }
}

impl ServerCode {
    const MAX_LEN: usize = 40;

    pub fn new(code: &str) -> Self {
        let clean = |c: char| {
            if c.is_ascii_alphanumeric() || "_-.".contains(c) {
                c
            } else {
                '_'
            }
        };
        let text: String = code.chars().take(Self::MAX_LEN).map(clean).collect();
        Self(if text.is_empty() {
            "unspecified".into()
        } else {
            text.into()
        })
    }
}

impl fmt::Display for ServerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_code_cannot_spoil_a_report() {
        assert_eq!(ServerCode::new("rate_limited").to_string(), "rate_limited");
        assert_eq!(ServerCode::new("").to_string(), "unspecified");
        let wild = ServerCode::new(&"\u{1b}[31m\nä".repeat(100)).to_string();
        assert_eq!(wild.len(), ServerCode::MAX_LEN);
        assert!(wild.chars().all(|c| c.is_ascii_graphic()), "{wild}");
    }
}
