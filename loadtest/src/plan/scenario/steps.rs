//! The steps of a scenario file.

use std::{collections::BTreeMap, time::Duration};

use toml::Spanned;

use super::{
    Wrong,
    file::{ComesBack, FrameText, MessageTable, StepTable, StepText, WITHIN},
    http, talks,
    values::ManyOrOne,
};
use crate::plan::{
    flow::{Between, Call, JoinRoom, Message, Relayed, Rounds, Step},
    size::{MIN_PAYLOAD_BYTES, Size},
    template::{Frame, Names, Template},
};

const WORDS: &str = "connect, find_match, next, leave, reconnect, close, stay, or a table such as { think = \"2s\" }";
const TABLES: &str = "one of connect, join_room, expect, send, think, loop, call, http, talk and interview, such as { expect = \"offer\", within = \"5s\" }";

/// The messages of a file, by name.
pub(super) struct Messages<'a> {
    known: BTreeMap<&'a str, Known>,
    names: Names,
}

struct Known {
    template: Template,
    frame: Frame,
    size: Size,
    answer: Option<String>,
    some_come_back: bool,
}

impl<'a> Messages<'a> {
    pub(super) fn new(
        tables: &'a BTreeMap<String, Spanned<MessageTable>>,
        variables: &BTreeMap<String, ManyOrOne>,
        saved: Vec<String>,
    ) -> Result<Self, Wrong> {
        let variables = variables
            .iter()
            .map(|(name, values)| (name.clone(), values.0.clone()));
        let names = Names {
            variables: variables.collect(),
            saved: saved.into_iter().collect(),
        };
        let mut known = BTreeMap::new();
        for (name, table) in tables {
            let given = table.get_ref();
            let template = Template::parse(&given.text, &names)
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
                some_come_back: given.comes_back == ComesBack::Some,
            };
            known.insert(name.as_str(), message);
        }
        Ok(Self { known, names })
    }

    pub(super) fn steps(&self, steps: &[Spanned<StepText>]) -> Result<Vec<Step>, Wrong> {
        let step = |step: &Spanned<StepText>| self.step(step);
        steps.iter().map(step).collect()
    }

    fn step(&self, step: &Spanned<StepText>) -> Result<Step, Wrong> {
        let read = match step.get_ref() {
            StepText::Word(word) => plain(word),
            StepText::Table(table) if kinds(table) > 1 => {
                Err(format!("this is more than one step; a step is {TABLES}"))
            }
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
                join_room: Some(name),
                ..
            } => Ok(Step::JoinRoom(JoinRoom {
                name: name.clone(),
                members: table.members.ok_or(
                    "say how many users share a room: { join_room = \"talk\", members = 8 }",
                )?,
                within,
            })),
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
                http: Some(url), ..
            } => http::http(url, table, &self.names),
            StepTable {
                connect: Some(path),
                ..
            } => http::connect(path, &self.names),
            StepTable {
                talk: Some(name), ..
            } => talks::talk(name, table, within),
            StepTable {
                interview: Some(survey),
                ..
            } => talks::interview(survey, table, within),
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
                some_come_back: known.some_come_back,
            },
            (None, Some((_, kind))) => Message::Relay {
                kind: *kind,
                size: size.unwrap_or(Size::Fixed(MIN_PAYLOAD_BYTES)),
            },
            (None, None) => {
                return Err(format!(
                    "{name:?} is unknown: give it as [message.{name}], or send offer, answer, \
                     ice_candidate or message"
                ));
            }
        };
        let (every, rounds) = pace(table)?;
        Ok(Step::Send {
            message,
            every,
            rounds,
        })
    }

    fn call(&self, name: &str, table: &StepTable, within: Duration) -> Result<Step, String> {
        let known = self
            .known
            .get(name)
            .ok_or_else(|| format!("{name:?} is unknown: give its request as [message.{name}]"))?;
        let (every, rounds) = pace(table)?;
        Ok(Step::Call(Call {
            name: table.name.clone().unwrap_or_else(|| name.to_owned()),
            template: known.template.clone(),
            frame: known.frame,
            size: known.size.clone(),
            answer: known.answer.clone(),
            within,
            every,
            rounds,
        }))
    }
}

/// How many kinds of step a table names.
fn kinds(table: &StepTable) -> usize {
    let named = [
        table.connect.is_some(),
        table.join_room.is_some(),
        table.expect.is_some(),
        table.send.is_some(),
        table.think.is_some(),
        table.repeat.is_some(),
        table.call.is_some(),
        table.http.is_some(),
        table.talk.is_some(),
        table.interview.is_some(),
    ];
    named.into_iter().filter(|named| *named).count()
}

/// The time between two, and how often.
fn pace(table: &StepTable) -> Result<(Duration, Rounds), String> {
    let rounds = match (table.times, table.time) {
        (Some(_), Some(_)) => {
            return Err("`times` or `for`, not both: take one out".to_owned());
        }
        (Some(times), None) => Rounds::Times(times),
        (None, Some(time)) => Rounds::For(time.0),
        (None, None) if table.every.is_some() => Rounds::Endless,
        (None, None) => Rounds::Times(1),
    };
    Ok((table.every.map_or(Duration::ZERO, |time| time.0), rounds))
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
        _ => return Err(format!("{word:?} is not a step: give {WORDS}")),
    })
}
