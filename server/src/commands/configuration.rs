//! `checkconfig` and `defaultconfig`: the configuration file, before a server reads it.

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Arg, ArgAction, Command, CommandFactory};
use voicematch_server::{
    config::{Cli, file, parse, parse::CannotParse},
    log,
};

use super::{Outcome, print};

/// The longest line of an explanation, but for one long word.
const WIDTH: usize = 100;

/// Says whether a server could start with this file.
pub(crate) fn check(path: &Path) -> Outcome {
    let program = OsString::from("voicematch-server");
    let args = [program, "--config".into(), path.into()];
    let faults = match parse::parse(args) {
        Err(CannotParse::Flags(error)) => error.exit(),
        Err(CannotParse::File(faults)) => faults,
        Ok(parsed) => parsed.check_all().err().unwrap_or_default(),
    };
    if faults.is_empty() {
        println!("{} is good", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    for fault in faults {
        log::print_error(&fault);
    }
    Ok(ExitCode::from(2))
}

/// Prints a file with every key, its meaning and its default.
pub(crate) fn print_default() -> Outcome {
    print(default_file(&Cli::command()).as_bytes())
}

fn default_file(command: &Command) -> String {
    let mut text = String::from(
        "# The configuration of voicematch-server. Each key is a flag of the same name; the environment wins over this file,\n# and the command line over both.\n",
    );
    let mut topic = None;
    for flag in file::settable(command) {
        let heading = flag.get_help_heading();
        if heading != topic {
            topic = heading;
            text += &format!("\n# == {}\n", heading.unwrap_or("Others"));
        }
        text.push('\n');
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        // What is off or absent by default is seen below.
        let help = help
            .replace(" [default: none]", "")
            .replace(" [default: false]", "");
        for line in wrapped(&help) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{} = {}\n", file::key_of(flag), default_of(flag));
    }
    text
}

/// The text in lines of a width that is read easily.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines
            .last_mut()
            .filter(|line| line.len() + word.len() < WIDTH);
        match line {
            Some(line) if line.is_empty() => *line += word,
            Some(line) => *line += &format!(" {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The default as TOML; where there is none, what is to be written.
fn default_of(flag: &Arg) -> String {
    let values: Vec<_> = flag
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    let quoted = |text: &str| match text.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("{text:?}"),
    };
    match (flag.get_action(), &values[..]) {
        (ArgAction::SetTrue, _) => "false".to_owned(),
        (ArgAction::Append, values) => {
            let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            format!("[{}]", values.join(", "))
        }
        (_, [value]) => quoted(value),
        _ => {
            let names = flag.get_value_names().unwrap_or_default();
            format!("\"{}\"", names.first().map_or("", |name| name.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use voicematch_server::config::file::ConfigFile;

    use super::*;

    #[test]
    fn the_default_file_says_what_is_so_anyway() {
        let command = Cli::command();
        let text = default_file(&command);
        let mut keys = 0;
        // What has a default can be written as it stands there.
        let placeholders = [
            "\"FILE\"",
            "\"DIR\"",
            "\"URL\"",
            "\"BYTES\"",
            "\"N\"",
            "\"FILE|URL\"",
            "\"NAME\"",
            "\"true|false\"",
        ];
        let mut uncommented = String::new();
        for line in text.lines() {
            let setting = line
                .strip_prefix('#')
                .filter(|line| !line.starts_with([' ', '=']));
            if let Some(setting) = setting {
                keys += 1;
                if !placeholders.iter().any(|end| setting.ends_with(end)) {
                    uncommented += &format!("{setting}\n");
                }
            }
        }
        assert_eq!(keys, file::settable(&command).count());
        let path =
            std::env::temp_dir().join(format!("voicematch-default-{}.toml", std::process::id()));
        std::fs::write(&path, &uncommented).expect("written");
        let read = ConfigFile::read(&path, &command);
        std::fs::remove_file(&path).expect("removed");
        let read = read.unwrap_or_else(|errors| panic!("{errors:?}"));
        assert!(read.args().count() > 20);
    }
}
