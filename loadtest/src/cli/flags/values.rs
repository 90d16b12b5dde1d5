//! Times and texts as values of flags.

use std::time::Duration;

pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a number and a unit, such as 10ms, 5s, 30m or 1h"))
}

/// A text that fits into a line of a report.
pub(super) fn line(text: &str) -> Result<String, String> {
    const MAX_BYTES: usize = 100;
    if text.len() > MAX_BYTES || text.contains(char::is_control) {
        return Err(format!(
            "it has to fit a line: give {MAX_BYTES} bytes at the most, and no control characters"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_end_and_no_others_in_it() {
        assert_eq!(line("2.4.1 (9f3c2ab)"), Ok("2.4.1 (9f3c2ab)".to_owned()));
        assert!(line("a\nb").is_err() && line(&"x".repeat(101)).is_err());
    }
}
