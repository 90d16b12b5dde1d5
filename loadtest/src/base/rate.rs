//! How often something happens: `50/s`, `10/m`. Pure.

/// Reads `50/s`, `50` or `10/m`: how often each second.
///
/// # Errors
/// What to give instead.
pub fn rate(text: &str) -> Result<f64, String> {
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
        format!("{text:?} is no rate: give a number and a unit, such as 50/s or 10/m")
    })
}

/// Rates as people say them, and of which time: of a minute, if those of a second have fractions and these have not.
pub fn said<const N: usize>(each_second: [f64; N]) -> ([f64; N], &'static str) {
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
    fn rates_are_of_a_second_or_a_minute() {
        let good = [
            ("50/s", 50.0),
            ("50", 50.0),
            (" 0.5 / s ", 0.5),
            ("30/m", 0.5),
            ("0/s", 0.0),
        ];
        for (text, each_second) in good {
            assert_eq!(rate(text), Ok(each_second), "{text}");
        }
        for bad in ["", "/s", "fast", "5/h", "5/s/s", "-1/s", "inf", "NaN/m"] {
            let error = rate(bad).expect_err(bad);
            assert!(error.contains("10/m") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn rates_are_said_without_fractions_where_that_is_possible() {
        for n in 1..200 {
            let read = rate(&format!("{n}/m")).expect("good");
            let expected = match n % 60 {
                0 => ([f64::from(n / 60)], "second"),
                _ => ([f64::from(n)], "minute"),
            };
            assert_eq!(said([read]), expected);
        }
        assert_eq!(said([0.5, 2.0]), ([30.0, 120.0], "minute"));
        assert_eq!(said([1.0 / 7.0, 1.0]).1, "second");
    }
}
