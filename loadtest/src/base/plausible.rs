//! Whole numbers of a file, before anything is counted with them: what no run can have measured would overflow sums.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// More than any count, byte or microsecond of a run; two thousand such add up without overflow.
pub const MOST: u64 = 1_000_000_000_000_000;

/// What stands for a room is a number that may be any.
const NAMES: [&str; 2] = ["room", "closed"];

/// Reads JSON to its end and keeps nothing of it. An error tells the first number that cannot be meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plausible {
    /// Stands for something: nobody counts with it.
    name: bool,
}

/// Looks through a whole document.
///
/// # Errors
/// It is no JSON, or has an implausible number.
pub fn check<'de, D: Deserializer<'de>>(json: D) -> Result<(), D::Error> {
    Plausible::default().deserialize(json)
}

impl Plausible {
    fn number<E: Error>(self, size: u64, number: impl fmt::Display) -> Result<(), E> {
        if size <= MOST || self.name {
            return Ok(());
        }
        Err(E::custom(format_args!("no run measures {number}")))
    }
}

impl<'de> DeserializeSeed<'de> for Plausible {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plausible {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _is: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _text: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.number(n, n)
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.number(n.unsigned_abs(), n)
    }

    /// Sums of these end at infinity, and the longest times are cut off where they are read.
    fn visit_f64<E>(self, _n: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let name = NAMES.contains(&key.as_ref());
            map.next_value_seed(Self { name })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<(), String> {
        check(&mut serde_json::Deserializer::from_str(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_no_run_measures_is_told_with_its_place() {
        for good in [
            r#"{"a": [1, -2.5, 1e300, null, true, "x", {"b": 1000000000000000}]}"#,
            r#"{"room": 18446744073709551615, "closed": [[18446744073709551615, {"at": 3}]]}"#,
        ] {
            assert_eq!(found(good), Ok(()), "{good}");
        }
        for bad in [
            r#"{"a": 18446744073709551615}"#,
            r#"{"a": [{"b": -9223372036854775808}]}"#,
            r#"{"closed": [[1, {"at": {"secs": 18446744073709551615}}]]}"#,
        ] {
            let error = found(bad).expect_err(bad);
            assert!(
                error.contains("no run measures") && error.contains("line 1"),
                "{error}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(found(&deep).expect_err("deep").contains("recursion limit"));
    }
}
