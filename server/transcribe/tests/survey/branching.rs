//! Random questionnaires and random answers, against a model that knows nothing but the text of the questionnaire.

use std::{collections::HashSet, fmt::Write};

use proptest::prelude::*;
use serde_json::{Value, json};
use voicematch_transcribe::{
    record::{Interview, RowId},
    survey::{Attempts, Outcome, State, Survey, Tool, ToolResult, answer},
};

/// A branch: taken if the answer is at most the number; leads to the question so many places ahead.
type Way = (Option<i64>, usize);

/// Questions with answers from 0 to 9, each with its branches.
#[derive(Clone, Debug)]
struct Model {
    questions: Vec<Vec<Way>>,
}

impl Model {
    /// The place after `place`; `len` is the end.
    fn next(&self, place: usize, answer: Option<i64>) -> usize {
        let fits = |limit: &Option<i64>| {
            limit.is_none_or(|limit| answer.is_some_and(|answer| answer <= limit))
        };
        let taken = self.questions[place].iter().find(|(limit, _)| fits(limit));
        let ahead = taken.map_or(1, |(_, ahead)| *ahead);
        (place + ahead).min(self.questions.len())
    }

    /// The longest way from `place`, by trying all.
    fn longest(&self, place: usize) -> usize {
        if place == self.questions.len() {
            return 0;
        }
        let answers = (0..=9).map(Some).chain([None]);
        let ways: HashSet<usize> = answers.map(|answer| self.next(place, answer)).collect();
        // Branches that no answer takes count too: the questionnaire does not look into conditions.
        let named = self.questions[place]
            .iter()
            .map(|(_, ahead)| (place + ahead).min(self.questions.len()));
        let ways: HashSet<usize> = ways.into_iter().chain(named).collect();
        1 + ways
            .into_iter()
            .map(|way| self.longest(way))
            .max()
            .unwrap_or(0)
    }

    fn text(&self) -> String {
        let mut text = "id = \"s\"\nlanguages = [\"en\"]\n".to_owned();
        for (place, ways) in self.questions.iter().enumerate() {
            let way = |(limit, ahead): &Way| {
                let when = limit
                    .map(|limit| format!("when = \"answer <= {limit}\", "))
                    .unwrap_or_default();
                let target = place + ahead;
                let target = if target < self.questions.len() {
                    format!("q{target}")
                } else {
                    "end".to_owned()
                };
                format!("{{ {when}goto = \"{target}\" }}")
            };
            let ways: Vec<String> = ways.iter().map(way).collect();
            writeln!(text, "[[question]]\nid = \"q{place}\"\ntype = \"scale\"\nmin = 0\nmax = 9\ntext = {{ en = \"?\" }}")
                .unwrap();
            if !ways.is_empty() {
                writeln!(text, "next = [{}]", ways.join(", ")).unwrap();
            }
        }
        text
    }
}

fn models() -> impl Strategy<Value = Model> {
    let ahead = prop_oneof![3 => 1..3_usize, 1 => 3..20_usize];
    let ways = proptest::collection::vec((0..=9_i64, ahead.clone()), 0..3);
    // Mostly a way to the next question is left, so that most questionnaires have no unreachable one.
    let always = proptest::option::weighted(0.1, ahead);
    let question = (ways, always).prop_map(|(ways, always)| {
        let limited = ways.into_iter().map(|(limit, ahead)| (Some(limit), ahead));
        limited.chain(always.map(|ahead| (None, ahead))).collect()
    });
    proptest::collection::vec(question, 1..12).prop_map(|questions| Model { questions })
}

fn call(state: &State, name: &str, arguments: Value, now_ms: i64) -> Outcome {
    let tool = Tool::parse(name, arguments).unwrap();
    answer(state, &Attempts::default(), &tool, now_ms).unwrap()
}

fn new_state(survey: Survey) -> State {
    let interview = Interview {
        id: RowId(1),
        survey_id: survey.id.clone(),
        version: survey.version,
        session_id: None,
        respondent: None,
        language: "en".to_owned(),
        started_ms: 0,
        ended_ms: None,
    };
    State::new(survey.into(), interview, Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_question_is_asked_once_and_every_way_ends(model in models(), answers in proptest::collection::vec(proptest::option::of(0..=9_i64), 12)) {
        let Ok(survey) = Survey::parse(&model.text(), "random.toml") else {
            // Only because some question cannot be reached.
            let reached = reachable(&model);
            prop_assert!(reached < model.questions.len(), "{}", model.text());
            return Ok(());
        };
        prop_assert_eq!(reachable(&model), model.questions.len());
        let mut state = new_state(survey);
        let mut place = 0;
        let mut last_of = usize::MAX;
        for (count, given) in answers.iter().enumerate() {
            let Outcome::Reply(ToolResult::Next(next)) = call(&state, "get_next_question", json!({}), 0) else {
                panic!("no question");
            };
            if place == model.questions.len() {
                prop_assert!(next.done && next.question.is_none() && state.done());
                break;
            }
            let asked = next.question.unwrap();
            prop_assert_eq!(&asked.id, &format!("q{place}"));
            prop_assert_eq!(asked.index, count + 1);
            prop_assert_eq!(asked.of, count + model.longest(place));
            prop_assert!(asked.of <= last_of, "what is left grows");
            last_of = asked.of;
            let arguments = json!({ "value": given, "request_id": count.to_string() });
            let Outcome::Store(record) = call(&state, "record_response", arguments, 5) else { panic!("nothing to store") };
            state.add(record, None);
            place = model.next(place, *given);
        }
        prop_assert!(state.done(), "twelve answers are enough for eleven questions");
    }
}

fn reachable(model: &Model) -> usize {
    let mut reached = HashSet::from([0]);
    for place in 0..model.questions.len() {
        if reached.contains(&place) {
            let ways = &model.questions[place];
            reached.extend(ways.iter().map(|(_, ahead)| place + ahead));
            if ways.iter().all(|(limit, _)| limit.is_some()) {
                reached.insert(place + 1);
            }
        }
    }
    (0..model.questions.len())
        .filter(|place| reached.contains(place))
        .count()
}
