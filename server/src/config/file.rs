//! The configuration file: TOML whose keys are the flags, with `_` for `-`.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue},
};
use toml::{Spanned, Value};

use crate::files;

/// The most bytes of a file.
const MAX_BYTES: u64 = 1024 * 1024;

/// How similar an unknown key must be to a known one for the error to suggest it (Jaro-Winkler; 1: the same).
const ALIKE: f64 = 0.8;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    settings: Vec<Setting>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// clap's name of the flag.
    id: String,
    flag: String,
    line: usize,
    /// The same as arguments.
    args: Vec<OsString>,
}

impl ConfigFile {
    /// Reads a file of settings for `command`. The errors name the line, one for each fault.
    pub fn read(path: &Path, command: &Command) -> Result<Self, Vec<String>> {
        let named = |error: String| vec![format!("--config: {error}")];
        let (bytes, _) = files::read(path, MAX_BYTES).map_err(named)?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| named(format!("{} is not UTF-8", path.display())))?;
        Self::parse(path, &text, command)
    }

    fn parse(path: &Path, text: &str, command: &Command) -> Result<Self, Vec<String>> {
        let place = |at: usize| {
            let line = line_of(text, at);
            format!("{}:{line}", path.display())
        };
        type Entries = BTreeMap<Spanned<String>, Spanned<Value>>;
        let entries: Entries = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            vec![format!("{}: {}", place(at), error.message())]
        })?;
        let (mut settings, mut errors) = (Vec::new(), Vec::new());
        for (key, value) in &entries {
            let at = key.span().start;
            match setting(key.get_ref(), value.get_ref(), command) {
                Ok((id, flag, args)) => settings.push(Setting {
                    id,
                    flag,
                    line: line_of(text, at),
                    args,
                }),
                Err(error) => errors.push((at, error)),
            }
        }
        if !errors.is_empty() {
            errors.sort();
            let errors = errors.into_iter();
            return Err(errors
                .map(|(at, error)| format!("{}: {error}", place(at)))
                .collect());
        }
        Ok(Self {
            path: path.to_owned(),
            settings,
        })
    }

    /// Leaves out what something stronger has set.
    pub fn leave_out(&mut self, is_set: impl Fn(&str) -> bool) {
        self.settings.retain(|setting| !is_set(&setting.id));
    }

    /// The settings as arguments.
    pub fn args(&self) -> impl Iterator<Item = OsString> {
        self.settings
            .iter()
            .flat_map(|setting| setting.args.iter().cloned())
    }

    /// An error about flags, with the lines that have set them.
    pub fn with_lines(&self, error: &str) -> String {
        let words: Vec<_> = error.split([' ', ',', ':', ';']).collect();
        let named = self
            .settings
            .iter()
            .filter(|setting| words.contains(&setting.flag.as_str()));
        let lines: Vec<_> = named
            .map(|setting| format!("{}:{}", self.path.display(), setting.line))
            .collect();
        match lines.is_empty() {
            true => error.to_owned(),
            false => format!("{}: {error}", lines.join(" and ")),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The flags that a file may set.
pub fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    let flags = command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some());
    flags.filter(|arg| !["config", "help", "version"].contains(&arg.get_id().as_str()))
}

/// The key of a flag.
pub fn key_of(flag: &Arg) -> String {
    flag.get_long().unwrap_or_default().replace('-', "_")
}

/// clap's name of the flag, the flag, and the arguments that set it.
fn setting(
    key: &str,
    value: &Value,
    command: &Command,
) -> Result<(String, String, Vec<OsString>), String> {
    let known = settable(command).find(|arg| key_of(arg) == key);
    let arg = match (known, value) {
        (Some(arg), _) => arg,
        (None, Value::Table(_)) => {
            return Err(format!(
                "[{key}] is no part of this file: all keys stand at the top"
            ));
        }
        (None, _) => return Err(unknown(key, command)),
    };
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let id = arg.get_id().to_string();
    let values: Vec<OsString> = match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(on)) => {
            let args = on.then(|| flag.clone().into());
            return Ok((id, flag, args.into_iter().collect()));
        }
        (ArgAction::SetTrue, _) => return Err(format!("{key} is true or false")),
        (ArgAction::Append, Value::Array(values)) => values
            .iter()
            .map(|value| text_of(key, value))
            .collect::<Result<_, _>>()?,
        (_, value) => vec![text_of(key, value)?],
    };
    let args: Vec<_> = values
        .into_iter()
        .map(|value| {
            let mut arg = OsString::from(format!("{flag}="));
            arg.push(value);
            arg
        })
        .collect();
    // Each alone, so that an error is about this line.
    let program = OsString::from(command.get_name());
    let alone = std::iter::once(program).chain(args.iter().cloned());
    match command.clone().try_get_matches_from(alone) {
        Ok(_) => Ok((id, flag, args)),
        Err(error) => Err(format!("{key}: {}", fault(&error))),
    }
}

/// What is wrong with a value, without the value: it may be a secret.
fn fault(error: &clap::Error) -> String {
    let known = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(known)) if !known.is_empty() => known.join(", "),
        _ => match error.source() {
            Some(why) => return why.to_string(),
            None => return error.kind().to_string(),
        },
    };
    format!("give one of {known}")
}

/// A value as it is written behind a flag. STUN and TURN servers may be tables.
fn text_of(key: &str, value: &Value) -> Result<OsString, String> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Integer(number) => Ok(number.to_string().into()),
        Value::Boolean(on) => Ok(on.to_string().into()),
        Value::Float(number) if key == "trace_sample" => Ok(number.to_string().into()),
        Value::Table(table) if key == "ice_server" => {
            let json = serde_json::to_string(table);
            json.map(Into::into).map_err(|error| error.to_string())
        }
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("{key} is a text or a whole number"))
        }
    }
}

fn unknown(key: &str, command: &Command) -> String {
    let with_likeness = |arg: &Arg| {
        let known = key_of(arg);
        (strsim::jaro_winkler(key, &known), known)
    };
    let known = settable(command).map(with_likeness);
    match known.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness >= ALIKE => {
            format!("{key} is not known; do you mean {known}?")
        }
        _ => format!("{key} is not known; defaultconfig prints all keys"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Cli;

    fn parse(text: &str) -> Result<Vec<String>, Vec<String>> {
        let file = ConfigFile::parse(Path::new("my.toml"), text, &Cli::command())?;
        let args = file.args();
        Ok(args.map(|arg| arg.into_string().expect("UTF-8")).collect())
    }

    #[test]
    fn settings_are_flags() {
        let text = r#"
            listen = ":9000"
            max_connections = 5
            limit_loopback = true
            dev_tokens = false
            allowed_origin = ["https://a.example", "https://b.example"]
            ice_server = ["stun:a:1", { urls = "turn:b", username = "u", credential = "c" }]
        "#;
        let mut args = parse(text).expect("good");
        args.sort();
        let expected = [
            "--allowed-origin=https://a.example",
            "--allowed-origin=https://b.example",
            "--ice-server=stun:a:1",
            "--ice-server={\"credential\":\"c\",\"urls\":\"turn:b\",\"username\":\"u\"}",
            "--limit-loopback",
            "--listen=:9000",
            "--max-connections=5",
        ];
        assert_eq!(args, expected);
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let text = "max_conections = 5\nheartbeat = \"soon\"\n\nlimit_loopback = \"yes\"\nmax_rooms = 1.5\n[limits]\nx = 1\n";
        let errors = parse(text).expect_err("bad");
        let expected = [
            ("my.toml:1: ", "max_connections"),
            ("my.toml:2: ", "25s"),
            ("my.toml:4: ", "true or false"),
            ("my.toml:5: ", "whole number"),
            ("my.toml:6: ", "at the top"),
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, (place, hint)) in errors.iter().zip(expected) {
            assert!(error.starts_with(place) && error.contains(hint), "{error}");
        }
        let errors = parse("listen = \":1\"\nlisten = \":2\"").expect_err("twice");
        assert!(errors[0].starts_with("my.toml:2: "), "{errors:?}");
    }
}
