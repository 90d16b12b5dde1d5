//! The answers that the server said are stored, against the export of their survey.

use std::{collections::BTreeMap, time::Duration};

use hyper::Method;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Talks, api::MAX_BYTES, lock};
use crate::{
    measure::talk::WordCounts,
    user::{
        net::{
            http::{self, UserRequest},
            servers::Servers,
        },
        tag::room_key,
    },
};

/// How long an export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// By survey: how often the export has each answer, told by its interview and a hash of its question.
#[derive(Default)]
pub struct Answers(BTreeMap<String, BTreeMap<(u64, u64), u32>>);

#[derive(Deserialize)]
struct Line<'a> {
    interview: &'a str,
    question: &'a str,
}

impl Answers {
    /// The server said that this answer is stored.
    pub fn add(&mut self, survey: &str, interview: &str, question: &str) {
        let answers = match self.0.get_mut(survey) {
            Some(answers) => answers,
            None => self.0.entry(survey.to_owned()).or_default(),
        };
        answers.insert((room_key(interview), room_key(question)), 0);
    }

    /// Counts the answers of an export; those of other runs are passed over.
    fn read(&mut self, survey: &str, export: &str) {
        let Some(answers) = self.0.get_mut(survey) else {
            return;
        };
        let lines = export.lines();
        for line in lines.filter_map(|line| serde_json::from_str::<Line<'_>>(line).ok()) {
            let key = (room_key(line.interview), room_key(line.question));
            if let Some(count) = answers.get_mut(&key) {
                *count += 1;
            }
        }
    }

    fn counts(&self, survey: &str) -> WordCounts {
        let counts = self.0.get(survey).into_iter().flat_map(BTreeMap::values);
        let (mut missing, mut twice) = (0, 0);
        for count in counts {
            missing += u64::from(*count == 0);
            twice += u64::from(*count > 1);
        }
        WordCounts {
            answers_missing: missing,
            answers_twice: twice,
            exports: 1,
            ..WordCounts::default()
        }
    }
}

impl Talks {
    /// Compares all stored answers with the exports of their surveys. An export that cannot be read is not counted as
    /// compared, so that a threshold on it has no data.
    pub async fn compare_answers(&self, servers: &Servers) -> WordCounts {
        let mut answers = std::mem::take(&mut *lock(&self.answers));
        let surveys: Vec<_> = answers.0.keys().cloned().collect();
        let mut counts = WordCounts::default();
        for survey in surveys {
            if let Some(export) = export(servers, &survey).await {
                answers.read(&survey, &export);
                counts += answers.counts(&survey);
            }
        }
        counts
    }
}

async fn export(servers: &Servers, survey: &str) -> Option<String> {
    let asked = UserRequest {
        method: &Method::GET,
        path: &format!("/api/surveys/{survey}/answers.jsonl"),
        body: None,
        bearer: None,
        kept: MAX_BYTES,
    };
    let answer = timeout(EXPORT_TIMEOUT, http::ask(servers.admin()?, 0, asked)).await;
    let answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
    String::from_utf8(answer.body?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_in_the_export_once() {
        let mut answers = Answers::default();
        for question in ["a", "b", "c"] {
            answers.add("s", "1", question);
        }
        let line = |interview, question: &str| {
            format!("{{\"interview\":\"{interview}\",\"question\":\"{question}\",\"value\":1}}\n")
        };
        let export = [
            line("1", "a"),
            line("2", "b"),
            line("1", "c"),
            line("1", "c"),
        ];
        answers.read("s", &export.concat());
        let counts = answers.counts("s");
        assert_eq!((counts.answers_missing, counts.answers_twice), (1, 1));
        assert_eq!(counts.exports, 1);
    }
}
