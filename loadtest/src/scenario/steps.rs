//! The steps of a scenario file.

use std::{collections::BTreeMap, time::Duration};

use tokio_tungstenite::tungstenite::http::uri::PathAndQuery;
use toml::Spanned;

use super::{
    Wrong,
    file::{FrameText, MessageTable, StepTable, StepText},
    values::ManyOrOne,
};
use crate::{
    flow::{Between, Call, Message, Relayed, Rounds, Step},
    payload::{MIN_PAYLOAD_BYTES, Size},
    template::{Frame, Template},
};

const WORDS: &str = "connect, find_match, next, leave, reconnect, close, stay, or a table such as { think = \"2s\" }";
const TABLES: &str = "one of expect, send, think, loop, call and http, such as { expect = \"offer\", within = \"5s\" }";
/// How long a call, a page or an expected message may take unless the file says otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// The messages of a file, ready to be used by its steps.
pub(super) struct Messages<'a> {
    known: BTreeMap<&'a str, Known>,
}

struct Known {
    template: Template,
    frame: Frame,
    size: Size,
    answer: Option<String>,
}

impl<'a> Messages<'a> {
    pub(super) fn new(
        tables: &'a BTreeMap<String, Spanned<MessageTable>>,
        variables: &BTreeMap<String, ManyOrOne>,
    ) -> Result<Self, Wrong> {
        let variables = variables
            .iter()
            .map(|(name, values)| (name.clone(), values.0.clone()))
            .collect();
        let mut known = BTreeMap::new();
        for (name, table) in tables {
            let given = table.get_ref();
            let template = Template::parse(&given.text, &variables)
                .map_err(|error| Wrong::new(table.span().start, error))?;
            let size = given.size.clone().map(|size| size.0);
            let message = Known {
                template,
                frame: match given.frame {
                    FrameText::Text => Frame::Text,
                    FrameText::Binary => Frame::Binary,
                },
                size: size.unwrap_or(Size::Fixed(MIN_PAYLOAD_BYTES)),
                answer: given.answer.clone(),
            };
            known.insert(name.as_str(), message);
        }
        Ok(Self { known })
    }

    pub(super) fn steps(&self, steps: &[Spanned<StepText>]) -> Result<Vec<Step>, Wrong> {
        let step = |step: &Spanned<StepText>| self.step(step);
        steps.iter().map(step).collect()
    }

    fn step(&self, step: &Spanned<StepText>) -> Result<Step, Wrong> {
        let read = match step.get_ref() {
            StepText::Word(word) => plain(word),
            StepText::Table(table) => match (&table.repeat, &table.steps) {
                (Some(rounds), Some(steps)) => {
                    return Ok(Step::Loop {
                        rounds: rounds.0,
                        steps: self.steps(steps)?,
                    });
                }
                (Some(_), None) => {
                    Err("a loop needs `steps`: { loop = 3, steps = [...] }".to_owned())
                }
                _ => self.table(table),
            },
        };
        read.map_err(|what| Wrong::new(step.span().start, what))
    }

    fn table(&self, table: &StepTable) -> Result<Step, String> {
        let within = table.within.map_or(WITHIN, |time| time.0);
        match table {
            StepTable {
                expect: Some(kind), ..
            } => Ok(Step::Expect {
                kind: kind.clone(),
                within,
            }),
            StepTable {
                think: Some(pause), ..
            } => Ok(Step::Think(pause.0)),
            StepTable {
                send: Some(name), ..
            } => self.send(name, table),
            StepTable {
                call: Some(name), ..
            } => self.call(name, table, within),
            StepTable {
                http: Some(path), ..
            } => page(path, table, within),
            _ => Err(format!("a step is {TABLES}")),
        }
    }

    fn send(&self, name: &str, table: &StepTable) -> Result<Step, String> {
        let size = table.size.clone().map(|size| size.0);
        let relayed = Relayed::ALL.iter().find(|(known, _)| *known == name);
        let message = match (self.known.get(name), relayed) {
            (Some(known), _) => Message::Custom {
                template: known.template.clone(),
                frame: known.frame,
                size: size.unwrap_or_else(|| known.size.clone()),
            },
            (None, Some((_, kind))) => Message::Relay {
                kind: *kind,
                size: size.unwrap_or(Size::Fixed(MIN_PAYLOAD_BYTES)),
            },
            (None, None) => {
                return Err(format!(
                    "nothing is known as {name:?}: give it as [message.{name}], or send offer, answer, \
                     ice_candidate or message"
                ));
            }
        };
        let rounds = match (table.times, table.time) {
            (Some(_), Some(_)) => {
                return Err("`times` or `for`, not both: take one out".to_owned());
            }
            (Some(times), None) => Rounds::Times(times),
            (None, Some(time)) => Rounds::For(time.0),
            (None, None) if table.every.is_some() => Rounds::Endless,
            (None, None) => Rounds::Times(1),
        };
        Ok(Step::Send {
            message,
            every: table.every.map_or(Duration::ZERO, |time| time.0),
            rounds,
        })
    }

    fn call(&self, name: &str, table: &StepTable, within: Duration) -> Result<Step, String> {
        let known = self.known.get(name).ok_or_else(|| {
            format!("nothing is known as {name:?}: give its request as [message.{name}]")
        })?;
        Ok(Step::Call(Call {
            name: table.name.clone().unwrap_or_else(|| name.to_owned()),
            template: known.template.clone(),
            frame: known.frame,
            size: known.size.clone(),
            answer: known.answer.clone(),
            within,
        }))
    }
}

fn plain(word: &str) -> Result<Step, String> {
    Ok(match word {
        "connect" => Step::Connect,
        "find_match" => Step::FindMatch,
        "next" => Step::Next,
        "leave" => Step::Leave,
        "reconnect" => Step::Reconnect,
        "close" => Step::Close,
        "stay" => Step::Think(Between::ENDLESS),
        _ => return Err(format!("{word:?} is no step: give {WORDS}")),
    })
}

fn page(path: &str, table: &StepTable, within: Duration) -> Result<Step, String> {
    if !path.starts_with('/') || path.parse::<PathAndQuery>().is_err() {
        return Err(format!("{path:?} is no path: give one such as \"/health\""));
    }
    Ok(Step::Http {
        name: table.name.clone().unwrap_or_else(|| format!("GET {path}")),
        path: path.to_owned(),
        status: table.status.unwrap_or(200),
        within,
    })
}
