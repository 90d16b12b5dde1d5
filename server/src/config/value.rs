//! How values of flags are written, and read.

use std::{path::PathBuf, time::Duration};

use clap::builder::RangedU64ValueParser;
use voicematch_core::events::EventKind;
use voicematch_protocol::IceServer;

/// The STUN and TURN servers that one flag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServers(pub Vec<IceServer>);

/// A time after which something happens, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(pub Option<Duration>);

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

/// A number between two bounds.
pub(super) fn count<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    least: u64,
    most: u64,
) -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(least..=most)
}

/// A time between two bounds, each written as the flag is.
pub(super) fn time(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let time = duration(text)?;
        if time < duration(least)? || time > duration(most)? {
            return Err(format!("give {least} to {most}"));
        }
        Ok(time)
    }
}

/// The same, where 0 has a meaning of its own.
pub(super) fn time_or_zero(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| match duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => time(least, most)(text).map_err(|bounds| format!("{bounds}, or 0")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 250ms, 25s or 10m"))
}

/// The longest path of `--hand-over`: that of a Unix socket (`sun_path` less its final zero, unix(7)), and behind it a point
/// and a process id.
const MAX_HAND_OVER_PATH: usize = 107 - 8;

pub(super) fn hand_over_path(text: &str) -> Result<PathBuf, String> {
    match text.len() {
        0 => Err("the path is missing; write it as /run/voicematch/hand-over.sock".into()),
        1..=MAX_HAND_OVER_PATH => Ok(text.into()),
        length => Err(format!(
            "the path has {length} bytes; it may have {MAX_HAND_OVER_PATH}"
        )),
    }
}

#[cfg(feature = "traces")]
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "give 0 to 1, as in 0.05".into())
}

/// What the service takes as a name (<https://docs.sentry.io/concepts/key-terms/environments/>).
#[cfg(feature = "sentry")]
pub(super) fn environment(text: &str) -> Result<String, String> {
    let is_name = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && text != "None";
    match is_name {
        true => Ok(text.to_owned()),
        false => Err("give up to 64 letters without spaces and slashes".into()),
    }
}

pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|&mode| mode <= 0o777)
        .ok_or_else(|| "write it in octal, as 660 or 666".into())
}

pub(super) fn after(text: &str) -> Result<After, String> {
    if text == "never" {
        return Ok(After(None));
    }
    time("0s", "1day")(text).map(|after| After(Some(after)))
}

/// A number of bytes between two bounds.
pub(super) fn size(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let how = "write it as 65536, 64KiB, 1MiB or 2GiB";
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = match unit {
            "" => 1,
            "KiB" => KIB,
            "MiB" => MIB,
            "GiB" => 1024 * MIB,
            _ => return Err(how.into()),
        };
        let number: usize = digits.parse().map_err(|_| how)?;
        number
            .checked_mul(unit)
            .filter(|bytes| (least..=most).contains(bytes))
            .ok_or_else(|| format!("give {} to {}", shown(least), shown(most)))
    }
}

/// A number of bytes as a flag is written.
fn shown(bytes: usize) -> String {
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => bytes.to_string(),
    }
}

pub(super) fn ice_servers(text: &str) -> Result<IceServers, String> {
    let text = text.trim();
    let json = |error: serde_json::Error| error.to_string();
    let servers: Vec<IceServer> = if text.starts_with('{') {
        vec![serde_json::from_str(text).map_err(json)?]
    } else if text.starts_with('[') {
        serde_json::from_str(text).map_err(json)?
    } else {
        let urls = text.split_whitespace().map(|url| vec![url.to_owned()]);
        urls.map(|urls| IceServer {
            urls,
            username: None,
            credential: None,
        })
        .collect()
    };
    for server in &servers {
        if server.urls.is_empty() {
            return Err("urls is empty".into());
        }
        if let Some(url) = server.urls.iter().find(|url| !is_ice_url(url)) {
            return Err(format!(
                "{url:?} is no stun:, stuns:, turn: or turns: address, such as stun:stun.example.org:3478"
            ));
        }
    }
    Ok(IceServers(servers))
}

pub(super) fn event_kind(text: &str) -> Result<EventKind, String> {
    let mut kinds = EventKind::ALL.into_iter();
    kinds.find(|kind| kind.as_str() == text).ok_or_else(|| {
        let known = EventKind::ALL.map(EventKind::as_str).join(", ");
        format!("give some of {known}")
    })
}

pub(super) fn turn_url(text: &str) -> Result<String, String> {
    let is_turn = text.starts_with("turn:") || text.starts_with("turns:");
    match is_turn && is_ice_url(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("write it as turn:turn.example.org:3478 or turns:turn.example.org:5349".into())
        }
    }
}

fn is_ice_url(url: &str) -> bool {
    let mut schemes = ["stun:", "stuns:", "turn:", "turns:"].into_iter();
    schemes.any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|host| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic())
        })
    })
}
