//! Options of a provider, written as in a URL: `?name=value&name=value`.

use std::time::Duration;

/// The options of `text`, without the question mark. Only those in `known` are taken.
pub(super) fn parse<'a>(text: &'a str, known: &[&str]) -> Result<Vec<(&'a str, &'a str)>, String> {
    let text = text.strip_prefix('?').unwrap_or(text);
    let mut options = Vec::new();
    for option in text.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("write the option {option} as {option}=VALUE"))?;
        if !known.contains(&name) {
            return Err(unknown("option", name, known));
        }
        options.push((name, value));
    }
    Ok(options)
}

/// Says that `name` is none of `known`, and which is nearest.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .min_by_key(|known| strsim::damerau_levenshtein(name, known));
    match nearest {
        Some(nearest) if strsim::damerau_levenshtein(name, nearest) <= 3 => {
            format!("there is no {what} {name:?}; {nearest:?} is nearest")
        }
        _ => format!(
            "there is no {what} {name:?}; there are {}",
            known.join(", ")
        ),
    }
}

/// `80ms`, `2s` or `5m`.
pub(super) fn duration(name: &str, value: &str) -> Result<Duration, String> {
    let wrong = || format!("{name}={value} is no time; write it as 80ms, 2s or 5m");
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    let ms = match &value[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_millis(u64::from(number) * ms))
}

/// `1%` as 0.01.
pub(super) fn share(name: &str, value: &str) -> Result<f64, String> {
    let number = value
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok());
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    Ok(number.ok_or_else(|| format!("{name}={value} is no share; write it as 1%"))? / 100.0)
}

/// A number between two others.
pub(super) fn number<T>(name: &str, value: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value
        .parse()
        .ok()
        .filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("{name}={value} is no number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_the_nearest_is_named() {
        assert_eq!(
            parse("?a=1&b=2", &["a", "b"]),
            Ok(vec![("a", "1"), ("b", "2")])
        );
        assert_eq!(parse("", &["a"]), Ok(vec![]));
        assert!(parse("?a", &["a"]).is_err());
        let error = parse("?dealy=80ms", &["delay", "partial"]).expect_err("it is unknown");
        assert!(error.contains("\"delay\" is nearest"), "{error}");
        let error = parse("?something=1", &["delay", "partial"]).expect_err("it is unknown");
        assert!(error.contains("delay, partial"), "{error}");
    }

    #[test]
    fn values_have_units() {
        assert_eq!(duration("delay", "80ms"), Ok(Duration::from_millis(80)));
        assert_eq!(duration("delay", "2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("delay", "5m"), Ok(Duration::from_secs(300)));
        for wrong in [
            "",
            "80",
            "ms",
            "-1s",
            "1h",
            "1.5s",
            "99999999999s",
            "8\u{e4}s",
        ] {
            assert!(duration("delay", wrong).is_err(), "{wrong}");
        }
        assert_eq!(share("garbage", "5%"), Ok(0.05));
        for wrong in ["", "5", "%", "101%", "-1%", "NaN%"] {
            assert!(share("garbage", wrong).is_err(), "{wrong}");
        }
        assert_eq!(number("refuse", "401", 400, 599), Ok(401));
        assert!(number("refuse", "200", 400, 599).is_err());
        assert!(number("slow", "NaN", 0.0, 9.0).is_err());
    }
}
