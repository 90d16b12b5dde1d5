//! The command line that repeats a run.

use std::ffi::OsString;

/// Flags whose value is a secret.
const SECRET: [&str; 2] = ["token", "header"];
const PREFIX: &str = "LOADTEST_";

/// The command line of `args` (without the program) in the environment `variables`, quoted for a shell; secrets are
/// replaced by dots.
pub fn command_line(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> String {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            Some((lossy(&name).strip_prefix(PREFIX)?.to_owned(), lossy(&value)))
        })
        .collect();
    variables.sort();
    let mut words = Vec::new();
    for (name, value) in variables {
        let flag = name.to_lowercase().replace('_', "-");
        words.push(format!("{PREFIX}{name}={}", quoted(&shown(&flag, &value))));
    }
    words.push("loadtest".to_owned());
    let mut flag = String::new();
    for arg in args.into_iter().map(|arg| lossy(&arg)) {
        match arg.strip_prefix("--").map(|long| long.split_once('=')) {
            Some(Some((name, value))) => {
                words.push(quoted(&format!("--{name}={}", shown(name, value))));
                flag.clear();
            }
            Some(None) => {
                flag = arg.trim_start_matches('-').to_owned();
                words.push(quoted(&arg));
            }
            None => words.push(quoted(&shown(&std::mem::take(&mut flag), &arg))),
        }
    }
    words.join(" ")
}

fn lossy(text: &OsString) -> String {
    text.to_string_lossy().into_owned()
}

/// The value of a flag without secrets: of a header, only the name.
fn shown(flag: &str, value: &str) -> String {
    match value.split_once(':') {
        _ if !SECRET.contains(&flag) => value.to_owned(),
        Some((name, _)) if flag == "header" => format!("{name}: ..."),
        _ => "...".to_owned(),
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str], variables: &[(&str, &str)]) -> String {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        command_line(args.iter().map(Into::into), variables.iter().map(owned))
    }

    #[test]
    fn a_shell_would_read_it_as_it_was_given() {
        let args = [
            "ws://h:1/ws",
            "--users",
            "5",
            "--threshold",
            "errors count < 1",
        ];
        let variables = [("LOADTEST_QUIET", "true"), ("HOME", "/root")];
        assert_eq!(
            line(&args, &variables),
            "LOADTEST_QUIET=true loadtest ws://h:1/ws --users 5 --threshold 'errors count < 1'"
        );
        assert_eq!(line(&["it's"], &[]), r"loadtest 'it'\''s'");
    }

    #[test]
    fn secrets_are_not_told() {
        let args = [
            "--token",
            "s3cret",
            "--header=X-Key: s3cret",
            "--header",
            "Cookie: s3cret",
            "--token-file",
            "t",
        ];
        let variables = [("LOADTEST_TOKEN", "s3cret")];
        let told = line(&args, &variables);
        assert!(!told.contains("s3cret"), "{told}");
        assert!(
            told.contains("X-Key") && told.contains("--token-file t"),
            "{told}"
        );
    }
}
