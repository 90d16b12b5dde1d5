//! Steps of transcription sessions and interviews, in a scenario file.

use std::time::Duration;

use super::file::StepTable;
use crate::plan::{
    flow::{Between, Step},
    talk::{Audio, Interview, Over, RATES, Talk},
};

/// The audio of a chunk by default.
const EVERY: Duration = Duration::from_millis(100);

pub(super) fn talk(name: &str, table: &StepTable, within: Duration) -> Result<Step, String> {
    if table.times.is_some() {
        return Err("a talk takes a time: give `for`, and no `times`".to_owned());
    }
    let members = table.members.unwrap_or(1);
    Ok(Step::Talk(Talk {
        name: name.to_owned(),
        members,
        speakers: table.speakers.unwrap_or(members),
        audio: audio(table.audio.as_deref().unwrap_or("numbered"))?,
        sample_rate: table.sample_rate.unwrap_or(RATES[0]),
        every: table.every.map_or(EVERY, |time| time.0),
        time: table.time.map(|time| time.0),
        acks_each: match table.acks.as_deref() {
            None | Some("second") => false,
            Some("each") => true,
            Some(other) => return Err(format!("`acks` are second or each, not {other:?}")),
        },
        within,
    }))
}

fn audio(text: &str) -> Result<Audio, String> {
    match (text, text.strip_prefix("file:")) {
        ("numbered", _) => Ok(Audio::Numbered),
        ("silence", _) => Ok(Audio::Silence),
        (_, Some(path)) if !path.is_empty() => Ok(Audio::File(path.into())),
        _ => Err(format!(
            "`audio` is numbered, silence, or file: and a path, not {text:?}"
        )),
    }
}

pub(super) fn interview(survey: &str, table: &StepTable, within: Duration) -> Result<Step, String> {
    if table.time.is_some() || table.every.is_some() {
        return Err("an interview has questions: give `times`, and no `for` or `every`".to_owned());
    }
    let none = Between {
        from: Duration::ZERO,
        to: Duration::ZERO,
    };
    Ok(Step::Interview(Interview {
        survey: survey.to_owned(),
        over: match table.over.as_deref() {
            None | Some("http") => Over::Http,
            Some("ws") => Over::Ws,
            Some(other) => return Err(format!("`over` is http or ws, not {other:?}")),
        },
        cycles: table.times.unwrap_or(10),
        think: table.pause.map_or(none, |pause| pause.0),
        within,
    }))
}
