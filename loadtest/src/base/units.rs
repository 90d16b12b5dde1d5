//! Numbers with units, printed for readers, and rates as they are typed.

/// A number in the unit that a record gives it: `ms`, `percent`, `percent_per_hour`, `bytes`, `per_second` or `count`.
pub fn value(number: f64, unit: &str) -> String {
    match unit {
        "ms" => millis(number),
        "percent" => percent(number),
        "percent_per_hour" => format!("{}/h", percent(number)),
        "bytes" => bytes(number),
        "per_second" => format!("{}/s", decimal(number)),
        _ => decimal(number),
    }
}

/// The same, or a dash for what was not measured.
pub fn value_or_dash(number: Option<f64>, unit: &str) -> String {
    number.map_or_else(|| "–".to_owned(), |number| value(number, unit))
}

/// `part` in percent of `whole`, to six decimals. `None`: `whole` is 0.
pub fn percent_of(part: u64, whole: u64) -> Option<f64> {
    // Rounded down: less than all must not look like all.
    (whole > 0).then(|| (part as f64 * 100.0 / whole as f64 * 1e6).floor() / 1e6)
}

/// Rounds down to a whole number, but not below one that only rounding errors have missed. Saturates.
pub fn whole(n: f64) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from float saturates"
    )]
    let whole = (n + 1e-9) as u32;
    whole
}

/// A latency: `0.34 ms`, `12.3 ms`, `1.40 s`.
pub fn millis(millis: f64) -> String {
    match millis {
        ..999.95 => format!("{} ms", bare_millis(millis)),
        ..99_995.0 => format!("{:.2} s", millis / 1e3),
        _ => span(millis),
    }
}

/// Milliseconds to about three digits, without their unit.
pub fn bare_millis(millis: f64) -> String {
    match millis {
        ..9.995 => format!("{millis:.2}"),
        ..999.95 => format!("{millis:.1}"),
        _ => grouped(&format!("{millis:.0}")),
    }
}

/// Percent, rounded down, so that 99.9996 % does not read as all.
pub fn percent(percent: f64) -> String {
    format!("{:.2} %", (percent * 100.0).floor() / 100.0)
}

/// Sizes in decimal units, as limits are given.
pub fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        ..1e3 => format!("{bytes:.0} B"),
        ..999_950.0 => format!("{:.1} KB", bytes / 1e3),
        ..999_950_000.0 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// 1234567 as 1,234,567.
pub fn count(count: u64) -> String {
    grouped(&count.to_string())
}

/// A number that may have a fraction worth reading: `0.50`, `12.5`, `1,234`.
pub fn decimal(number: f64) -> String {
    match number.abs() {
        _ if number.fract() == 0.0 => grouped(&format!("{number:.0}")),
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => grouped(&format!("{number:.0}")),
    }
}

/// A stretch of time, given in milliseconds: `1.5s`, `1m 30s`, `2h 5m`.
pub fn span(millis: f64) -> String {
    let seconds = (millis / 1e3).max(0.0);
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.round();
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3600.0).floor());
    let parts = if hours >= 1.0 {
        [(hours, 'h'), (minutes - hours * 60.0, 'm')]
    } else {
        [(minutes, 'm'), (seconds - minutes * 60.0, 's')]
    };
    let parts = parts.iter().filter(|(number, _)| *number > 0.0);
    parts
        .map(|(number, unit)| format!("{number:.0}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A moment of a run as a clock shows it: `0:05`, `12:30`, `1:02:03`.
pub fn clock(millis: f64) -> String {
    let seconds = (millis / 1e3).round().max(0.0);
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3600.0).floor());
    let rest = seconds - minutes * 60.0;
    if hours >= 1.0 {
        return format!("{hours:.0}:{:02.0}:{rest:02.0}", minutes - hours * 60.0);
    }
    format!("{minutes:.0}:{rest:02.0}")
}

/// A change against a baseline: `+12.5 %`.
pub fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    // What rounds to zero has no sign of its own: never -0.0.
    format!("{:+.1} %", if percent.abs() < 0.05 { 0.0 } else { percent })
}

fn grouped(digits: &str) -> String {
    let start = usize::from(digits.starts_with('-'));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > start && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Reads `50/s`, `50` or `10/m` as a number per second.
///
/// # Errors
/// The text is not a rate.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => Some(1.0),
        "m" => Some(60.0),
        _ => None,
    };
    let number = number.trim().parse::<f64>().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    let rate = number
        .zip(seconds)
        .map(|(number, seconds)| number / seconds);
    rate.ok_or_else(|| {
        format!("{text:?} is not a rate: give a number and a unit, such as 50/s or 10/m")
    })
}

/// Rates without fractions where possible: per second, or else per minute.
pub fn rate_in_words<const N: usize>(each_second: [f64; N]) -> ([f64; N], &'static str) {
    let each_minute = each_second.map(|rate| (rate * 60.0 * 1e6).round() / 1e6);
    let whole = |rates: &[f64]| rates.iter().all(|rate| rate.fract() == 0.0);
    if !whole(&each_second) && whole(&each_minute) {
        (each_minute, "minute")
    } else {
        (each_second, "second")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.34, 12.34, 999.99, 2_000.0, 130_000.0].map(millis),
            ["0.34 ms", "12.3 ms", "1.00 s", "2.00 s", "2m 10s"]
        );
        assert_eq!(
            [0.5, 12.5, 1234.5, -1234.0].map(decimal),
            ["0.50", "12.5", "1,234", "-1,234"]
        );
        assert_eq!(
            [1_500.0, 59_990.0, 90_500.0, 7_500_000.0].map(span),
            ["1.5s", "1m", "1m 31s", "2h 5m"]
        );
        assert_eq!(
            [5_000.0, 750_000.0, 3_723_000.0].map(clock),
            ["0:05", "12:30", "1:02:03"]
        );
        assert_eq!(
            [12.0, 2_500.0, 41.2e6, 2e9].map(bytes),
            ["12 B", "2.5 KB", "41.2 MB", "2.00 GB"]
        );
    }

    #[test]
    fn almost_all_does_not_read_as_all() {
        assert_eq!(percent(99.9999), "99.99 %");
        assert_eq!(percent(100.0), "100.00 %");
    }

    #[test]
    fn a_rate_is_per_second_or_per_minute() {
        let good = [
            ("50/s", 50.0),
            ("50", 50.0),
            (" 0.5 / s ", 0.5),
            ("30/m", 0.5),
            ("0/s", 0.0),
        ];
        for (text, each_second) in good {
            assert_eq!(parse_rate(text), Ok(each_second), "{text}");
        }
        for bad in ["", "/s", "fast", "5/h", "5/s/s", "-1/s", "inf", "NaN/m"] {
            let error = parse_rate(bad).expect_err(bad);
            assert!(error.contains("10/m") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn rates_have_no_fractions_where_that_is_possible() {
        for n in 1..200 {
            let read = parse_rate(&format!("{n}/m")).expect("good");
            let expected = match n % 60 {
                0 => ([f64::from(n / 60)], "second"),
                _ => ([f64::from(n)], "minute"),
            };
            assert_eq!(rate_in_words([read]), expected);
        }
        assert_eq!(rate_in_words([0.5, 2.0]), ([30.0, 120.0], "minute"));
        assert_eq!(rate_in_words([1.0 / 7.0, 1.0]).1, "second");
    }
}
