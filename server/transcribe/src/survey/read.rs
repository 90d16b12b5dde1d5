//! From the tree of a document to a questionnaire whose parts are right, each for itself.

mod fields;
mod kind;

use super::{
    condition::Condition,
    definition::{Branch, OnFailure, Question, Skip, Target},
    document::{Fault, Node, Value},
};
use fields::Fields;
pub(super) use fields::unknown;

const QUESTIONS: usize = 500;
const BRANCHES: usize = 50;
const LANGUAGES: usize = 20;
/// Characters of a question or a label.
const TEXT: usize = 2_000;
/// Characters of an answer, at most and unless said otherwise.
pub(super) const ANSWER: usize = 4_000;
/// More invalid answers than this are not waited for.
pub(super) const RETRIES: usize = 20;
const SURVEY: [&str; 4] = ["id", "languages", "open", "question"];
const QUESTION: [&str; 7] = [
    "id",
    "type",
    "text",
    "required",
    "retries",
    "on_failure",
    "next",
];
const BRANCH: [&str; 2] = ["when", "goto"];

/// A questionnaire whose questions have not been seen together.
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) languages: Vec<String>,
    pub(super) open: bool,
    pub(super) questions: Vec<(Question, Places)>,
    /// Ids of questions that have problems of their own.
    pub(super) faulty: Vec<String>,
}

/// Lines of a question's parts.
pub(super) struct Places {
    pub(super) line: usize,
    /// Of its branches' `when` or `goto`.
    pub(super) branches: Vec<usize>,
}

pub(super) fn survey(document: &Node, faults: &mut Vec<Fault>) -> Option<Draft> {
    let mut fields = Fields::of(document, "the file", faults)?;
    fields.known(&SURVEY);
    let id = fields.id();
    let open = fields.bool("open");
    let mut languages = Vec::new();
    if let Some(entry) = fields.needed("languages") {
        for node in fields.list(entry, LANGUAGES) {
            match language(node) {
                Ok(tag) if languages.contains(&tag) => {
                    fields.fault(node.line, format!("the language `{tag}` is there twice"));
                }
                Ok(tag) => languages.push(tag),
                Err(message) => fields.fault(node.line, message),
            }
        }
    }
    let entry = fields.needed("question")?;
    let nodes = fields.list(entry, QUESTIONS);
    let (mut questions, mut faulty) = (Vec::new(), Vec::new());
    for node in nodes {
        match question(node, &languages, faults) {
            Ok(question) => questions.push(question),
            Err(id) => faulty.extend(id),
        }
    }
    Some(Draft {
        id: id?,
        languages,
        open,
        questions,
        faulty,
    })
}

fn language(node: &Node) -> Result<String, String> {
    let Value::Text(tag) = &node.value else {
        return Err(format!("a language is a text, not {}", node.noun()));
    };
    let plain = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if tag.len() > 35 || !tag.split('-').all(plain) {
        return Err(format!("`{tag}` is not a language; write en, de or pt-BR"));
    }
    Ok(tag.clone())
}

/// The question, or the id of one that cannot be used.
fn question(
    node: &Node,
    languages: &[String],
    faults: &mut Vec<Fault>,
) -> Result<(Question, Places), Option<String>> {
    let mut fields = Fields::of(node, "a question", faults).ok_or(None)?;
    let id = fields.id();
    let kind = kind::kind(&mut fields, languages);
    let text = fields.translated("text", languages);
    let required = fields.bool("required");
    let skip = skip(&mut fields);
    let (next, branches) = branches(&mut fields);
    let (Some(id), Some(kind)) = (id.clone(), kind) else {
        return Err(id);
    };
    let question = Question {
        id,
        kind,
        text,
        required,
        skip,
        next,
    };
    Ok((
        question,
        Places {
            line: node.line,
            branches,
        },
    ))
}

/// Times that a question is asked again before it is skipped, unless the file says so.
const DEFAULT_RETRIES: usize = 2;

fn skip(fields: &mut Fields<'_, '_>) -> Option<Skip> {
    let retries = fields.count("retries", RETRIES);
    let Some(entry) = fields.entry("on_failure") else {
        if fields.entry("retries").is_some() {
            let line = fields.line_of("retries");
            fields.fault(line, "`retries` does nothing without on_failure = \"skip\"");
        }
        return None;
    };
    let name = fields.text(entry)?;
    if name != "skip" {
        fields.fault(
            entry.line,
            format!("`on_failure` is \"skip\", not \"{name}\""),
        );
    }
    Some(Skip {
        retries: retries.unwrap_or(DEFAULT_RETRIES),
        on_failure: OnFailure::Skip,
    })
}

fn branches(fields: &mut Fields<'_, '_>) -> (Vec<Branch>, Vec<usize>) {
    let (mut branches, mut lines) = (Vec::new(), Vec::new());
    let Some(entry) = fields.entry("next") else {
        return (branches, lines);
    };
    for node in fields.list(entry, BRANCHES) {
        let Some(mut fields) = Fields::of(node, "a branch", fields.faults) else {
            continue;
        };
        fields.known(&BRANCH);
        let when = fields.entry("when").and_then(|entry| {
            let condition = Condition::parse(fields.text(entry)?);
            condition
                .map_err(|message| fields.fault(entry.line, message))
                .ok()
        });
        let Some(name) = fields.needed("goto").and_then(|entry| fields.text(entry)) else {
            continue;
        };
        if fields.entry("when").is_some() && when.is_none() {
            continue;
        }
        let line = fields.line_of("goto");
        branches.push(Branch {
            when,
            target: Target {
                name: name.to_owned(),
                place: None,
            },
        });
        lines.push(line);
    }
    (branches, lines)
}
