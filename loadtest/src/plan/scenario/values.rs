//! Values of a scenario file: times, rates, percentages, sizes. Each error says what to give.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Value;

use crate::{
    base::units::parse_rate,
    plan::{
        Transport,
        flow::{Between, Rounds},
        size::Size,
    },
};

/// `10ms`, `5s`, `30m`
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub Duration);

/// `50/s`, or a number
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub f64);

/// `50%`, or a number
#[derive(Debug, Clone, Copy)]
pub(super) struct Percent(pub f64);

/// `2s`, or `1s..3s`
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause(pub Between);

/// A number, a time, or `endless`
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub Rounds);

/// One value or a list
#[derive(Debug, Clone)]
pub(super) struct ManyOrOne(pub Vec<String>);

/// `"ws"`, or `["ws", "sse"]`
#[derive(Debug, Clone)]
pub(super) struct TransportList(pub Vec<Transport>);

/// `500`, `"200..2000"`, `{ median = 800, p99 = 5000 }` or `[[9, 200], [1, 5000]]`
#[derive(Debug, Clone)]
pub(super) struct SizeText(pub Size);

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; give a number and a unit, such as 10ms, 5s, 30m or 1h"))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<usize> {
    value.as_integer().and_then(|n| usize::try_from(n).ok())
}

fn size(value: &Value) -> Option<Size> {
    match value {
        Value::Integer(_) => bytes(value).map(Size::Fixed),
        Value::String(text) => {
            let (from, to) = text.split_once("..")?;
            let end = |text: &str| text.trim().parse().ok();
            Some(Size::Between(end(from)?, end(to)?))
        }
        Value::Table(table) if table.len() == 2 => Some(Size::LogNormal {
            median: bytes(table.get("median")?)?,
            p99: bytes(table.get("p99")?)?,
        }),
        Value::Array(list) => {
            let pair = |pair: &Value| match pair.as_array()?.as_slice() {
                [weight, size] => Some((u32::try_from(weight.as_integer()?).ok()?, bytes(size)?)),
                _ => None,
            };
            list.iter()
                .map(pair)
                .collect::<Option<_>>()
                .map(Size::Weighted)
        }
        _ => None,
    }
}

fn pause(text: &str) -> Result<Between, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    Ok(Between {
        from: time(from)?,
        to: time(to)?,
    })
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        time(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let read = match (&value, number(&value)) {
            (_, Some(number)) => Ok(number),
            (Value::String(text), None) => parse_rate(text),
            _ => Err("a rate is users per second, such as \"50/s\"".to_owned()),
        };
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let text = value.as_str().and_then(|text| text.strip_suffix('%'));
        let read = number(&value).or_else(|| text?.trim().parse().ok());
        let sound = read.filter(|percent| (0.0..=100.0).contains(percent));
        let error = || D::Error::custom("give 0% to 100%, such as \"50%\"");
        sound.map(Self).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        pause(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let read = match &value {
            Value::Integer(n) => u32::try_from(*n)
                .map(Rounds::Times)
                .map_err(|_none| format!("{n} rounds: give 1 or more")),
            Value::String(text) if text == "endless" => Ok(Rounds::Endless),
            Value::String(text) => time(text).map(Rounds::For),
            _ => Err("give how often (3), how long (\"5m\"), or \"endless\"".to_owned()),
        };
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ManyOrOne {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Integer(n) => Some(n.to_string()),
            Value::Float(n) => Some(n.to_string()),
            Value::Boolean(is) => Some(is.to_string()),
            _ => None,
        };
        let read = match &value {
            Value::Array(list) => list.iter().map(one).collect(),
            _ => one(&value).map(|one| vec![one]),
        };
        let error = || D::Error::custom("a variable is a text, a number, or a list of them");
        read.map(Self).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for TransportList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let one = |value: &Value| match value.as_str() {
            Some(name) => name.parse().map_err(D::Error::custom),
            None => Err(D::Error::custom(
                "give \"ws\", \"sse\", \"poll\", or a list of them",
            )),
        };
        let read: Result<_, _> = match &value {
            Value::Array(list) => list.iter().map(one).collect(),
            _ => one(&value).map(|one| vec![one]),
        };
        read.map(Self)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let error = || {
            D::Error::custom(
                "give bytes: 500, \"200..2000\", { median = 800, p99 = 5000 }, or by weight [[9, 200], [1, 5000]]",
            )
        };
        let size = size(&value).ok_or_else(error)?;
        size.check().map_err(D::Error::custom)?;
        Ok(Self(size))
    }
}
