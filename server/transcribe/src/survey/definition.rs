//! A questionnaire: what is asked, what counts as an answer, and what is asked next.

use std::{collections::BTreeMap, fmt};

use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{check, condition::Condition, date::Date, document, read};
use crate::record::SurveyVersion;

/// Bytes of a file.
const FILE_BYTES: usize = 1 << 20;

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 18;

/// What is wrong with a questionnaire, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file.
    pub name: String,
    /// Counts from 1.
    pub line: usize,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.name, self.line, self.message)
    }
}

/// A questionnaire that has passed all checks: every way through it ends, and every question can be reached.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// 1 to 64 of `[A-Za-z0-9_-]`.
    pub id: String,
    /// The first one is that of interviews that name none.
    pub languages: Vec<String>,
    /// In the order of the file.
    #[serde(rename = "question")]
    pub questions: Vec<Question>,
    /// Whether anybody may start an interview. It does not change the version.
    #[serde(skip)]
    pub open: bool,
    /// A hash of the meaning: another order of keys, other spaces or comments do not change it.
    #[serde(skip)]
    pub version: i64,
    /// For each question, how many the longest way from it to the end has, itself included.
    #[serde(skip)]
    longest: Vec<usize>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// Unique in the questionnaire; as the survey's id.
    pub id: String,
    #[serde(flatten)]
    pub kind: Kind,
    /// By language.
    pub text: BTreeMap<String, String>,
    /// Whether "no answer" does not count as one.
    pub required: bool,
    /// Without it the question is asked until it is answered.
    #[serde(flatten)]
    pub skip: Option<Skip>,
    /// The first that fits is taken; without one, the next question of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<Branch>,
}

/// A question that is not answered validly is asked `retries` times more, then the interview goes on without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    pub retries: usize,
    pub on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    Skip,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    YesNo,
    /// One of them.
    Choice {
        choices: Vec<Choice>,
    },
    /// One or several of them.
    Choices {
        choices: Vec<Choice>,
    },
    /// A whole number.
    Scale {
        min: i64,
        max: i64,
    },
    Number {
        #[serde(skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// Lengths count characters.
    Text {
        min_length: usize,
        max_length: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        pattern: Option<Pattern>,
    },
    Date {
        #[serde(skip_serializing_if = "Option::is_none")]
        min: Option<Date>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<Date>,
    },
}

impl Kind {
    pub(super) const NAMES: [&'static str; 7] = [
        "yes_no", "choice", "choices", "scale", "number", "text", "date",
    ];

    /// As the file spells it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::YesNo => "yes_no",
            Self::Choice { .. } => "choice",
            Self::Choices { .. } => "choices",
            Self::Scale { .. } => "scale",
            Self::Number { .. } => "number",
            Self::Text { .. } => "text",
            Self::Date { .. } => "date",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What is stored.
    pub value: String,
    /// What is said, by language.
    pub label: BTreeMap<String, String>,
}

/// A regular expression that the whole answer must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    pub(super) fn new(source: &str) -> Result<Self, regex::Error> {
        // Alone first, so that a parenthesis too many cannot close the group around it.
        RegexBuilder::new(source)
            .size_limit(PATTERN_BYTES)
            .build()?;
        let whole = format!("^(?:{source})$");
        let regex = RegexBuilder::new(&whole)
            .size_limit(PATTERN_BYTES)
            .build()?;
        Ok(Self {
            source: source.to_owned(),
            regex,
        })
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

/// Where the interview goes on.
#[derive(Clone, Debug, Serialize)]
pub struct Branch {
    /// Without it: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    #[serde(rename = "goto")]
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A question's id, or `end`.
    pub(super) name: String,
    /// Its place in [`Survey::questions`]; none is the end of the interview.
    pub(super) place: Option<usize>,
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

/// The file's name for the end of the interview.
pub(super) const END: &str = "end";

impl Survey {
    /// Reads a questionnaire, TOML or JSON. `name` is the file's, for the problems.
    ///
    /// # Errors
    /// All problems that were found, in the order of their lines.
    pub fn parse(text: &str, name: &str) -> Result<Self, Vec<Problem>> {
        let problem = |(line, message)| Problem {
            name: name.to_owned(),
            line,
            message,
        };
        if text.len() > FILE_BYTES {
            return Err(vec![problem((
                1,
                format!("the file has more than {FILE_BYTES} bytes"),
            ))]);
        }
        let document = document::parse(text).map_err(|fault| vec![problem(fault)])?;
        let mut faults = Vec::new();
        let draft = read::survey(&document, &mut faults);
        let survey = draft.and_then(|draft| check::survey(draft, &mut faults));
        match survey {
            Some(survey) if faults.is_empty() => Ok(survey),
            _ => {
                faults.sort();
                faults.dedup();
                Err(faults.into_iter().map(problem).collect())
            }
        }
    }

    /// Puts a checked questionnaire together.
    pub(super) fn new(
        id: String,
        languages: Vec<String>,
        questions: Vec<Question>,
        open: bool,
    ) -> Self {
        let mut survey = Self {
            id,
            languages,
            questions,
            open,
            version: 0,
            longest: Vec::new(),
        };
        survey.longest = check::longest_ways(&survey);
        let hash = Sha256::digest(survey.to_json());
        let head = hash
            .iter()
            .take(8)
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        // 53 bits, so that scripts that read JSON numbers as floats see the same one.
        survey.version = (head >> 11).cast_signed().max(1);
        survey
    }

    /// The questionnaire as JSON that [`Survey::parse`] reads; of equal meaning, equal bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What is stored of it.
    #[must_use]
    pub fn to_record(&self) -> SurveyVersion {
        SurveyVersion {
            id: self.id.clone(),
            version: self.version,
            definition: self.to_json(),
        }
    }

    #[must_use]
    pub fn place(&self, question: &str) -> Option<usize> {
        self.questions.iter().position(|known| known.id == question)
    }

    /// The question after `place` if it is answered so; none at the end.
    #[must_use]
    pub fn next(&self, place: usize, answer: &Value) -> Option<usize> {
        let branches = self
            .questions
            .get(place)
            .map_or(&[][..], |question| &question.next);
        let fits = |branch: &&Branch| branch.when.as_ref().is_none_or(|when| when.holds(answer));
        match branches.iter().find(fits) {
            Some(branch) => branch.target.place,
            None => (place + 1 < self.questions.len()).then_some(place + 1),
        }
    }

    /// How many questions the longest way from `place` to the end has, itself included.
    #[must_use]
    pub fn longest_from(&self, place: usize) -> usize {
        self.longest.get(place).copied().unwrap_or(0)
    }

    /// The survey's language for a wish such as `de-AT`: itself, `de`, or the first one.
    #[must_use]
    pub fn language<'s>(&'s self, wish: Option<&str>) -> &'s str {
        let primary = |tag: &str| {
            tag.split(['-', '_'])
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let exact = |known: &&String| wish.is_some_and(|wish| known.eq_ignore_ascii_case(wish));
        let close = |known: &&String| wish.is_some_and(|wish| primary(known) == primary(wish));
        let mut languages = self.languages.iter();
        let found = languages
            .clone()
            .find(exact)
            .or_else(|| languages.clone().find(close));
        found
            .or_else(|| languages.next())
            .map_or("", String::as_str)
    }
}
