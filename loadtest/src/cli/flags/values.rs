//! Values of flags: times, sizes and words.

use std::time::Duration;

/// A length of time.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a number and a unit, such as 10ms, 5s, 30m or 1h"))
}

/// A size in bytes; decimal and binary units.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()));
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, unit))| number.checked_mul(*unit))
        .ok_or_else(|| {
            "not a size; give a whole number and a unit, such as 500MB or 2GB".to_owned()
        })
}

/// Words that a line of a report can hold.
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

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let good = [
            ("7", 7),
            ("2GB", 2_000_000_000),
            ("2 gib", 2 << 30),
            ("1kb", 1000),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GB", "-1", "1.5GB", "99999999999GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
