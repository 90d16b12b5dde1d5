//! From the command line, the environment and the configuration file to flags: the file is the weakest, the command line
//! the strongest.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use clap::{ArgMatches, CommandFactory, FromArgMatches, parser::ValueSource};

use super::{
    Cli, Config,
    file::{ConfigFile, key_of, settable},
    needs,
};

/// What was asked for.
#[derive(Debug)]
pub struct Parsed {
    /// The flags.
    pub cli: Cli,
    /// The file that has set some of them.
    pub file: Option<ConfigFile>,
    /// Each flag as it was written, by its name in the file: to tell what has changed.
    pub written: BTreeMap<String, Vec<OsString>>,
    /// Those that are not left as they are by default: `--heartbeat`.
    set: BTreeSet<String>,
}

impl Parsed {
    /// Checks the flags against each other; the error names the lines of the file that have set them.
    pub fn check(self) -> Result<Config, String> {
        let Self { cli, file, set, .. } = self;
        let checked = needs::check(&set).and_then(|()| cli.serve.check());
        checked.map_err(|error| match &file {
            Some(file) => file.with_lines(&error.to_string()),
            None => error.to_string(),
        })
    }

    /// The same, and whether the files that the flags name can be used.
    pub fn check_all(self) -> Result<Config, Vec<String>> {
        let file = self.file.clone();
        let config = self.check().map_err(|fault| vec![fault])?;
        let faults = config.check_files();
        if faults.is_empty() {
            return Ok(config);
        }
        let with_lines = |fault: String| match &file {
            Some(file) => file.with_lines(&fault),
            None => fault,
        };
        Err(faults.into_iter().map(with_lines).collect())
    }
}

/// Why the program cannot know what was asked for.
#[derive(Debug)]
pub enum CannotParse {
    /// The command line or the environment, or a question for help.
    Flags(clap::Error),
    /// The configuration file: one line for each fault.
    File(Vec<String>),
}

impl CannotParse {
    /// One line for each fault.
    pub fn faults(self) -> Vec<String> {
        match self {
            Self::Flags(error) => vec![error.to_string()],
            Self::File(faults) => faults,
        }
    }
}

impl From<clap::Error> for CannotParse {
    fn from(error: clap::Error) -> Self {
        Self::Flags(error)
    }
}

/// Reads the arguments, the program's name among them.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, CannotParse> {
    let args: Vec<_> = args.into_iter().collect();
    let mut matches = Cli::command().try_get_matches_from(&args)?;
    let mut file = None;
    if matches.subcommand().is_none()
        && let Some(path) = matches.get_one::<PathBuf>("config")
    {
        let mut read = ConfigFile::read(path, &Cli::command()).map_err(CannotParse::File)?;
        read.leave_out(|id| is_set(&matches, id));
        let (program, own) = args
            .split_first()
            .map_or((None, &[][..]), |(program, own)| {
                (Some(program.clone()), own)
            });
        let from_file = read.args();
        let all = program
            .into_iter()
            .chain(from_file)
            .chain(own.iter().cloned());
        let all: Vec<_> = all.collect();
        matches = Cli::command().try_get_matches_from(all)?;
        file = Some(read);
    }
    let written = settable(&Cli::command())
        .filter_map(|flag| {
            let id = flag.get_id().as_str();
            let values = matches.try_get_raw(id).ok()??;
            Some((key_of(flag), values.map(OsString::from).collect()))
        })
        .collect();
    let set = settable(&Cli::command())
        .filter(|flag| is_set(&matches, flag.get_id().as_str()))
        .filter_map(|flag| Some(format!("--{}", flag.get_long()?)))
        .collect();
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(Parsed {
        cli,
        file,
        written,
        set,
    })
}

/// Whether the command line or the environment has set a flag.
fn is_set(matches: &ArgMatches, id: &str) -> bool {
    let source = matches.value_source(id);
    matches!(
        source,
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}
