//! Questionnaires: what is read, and what is wrong with one, in which line.

use serde_json::json;
use voicematch_transcribe::survey::{Kind, Survey};

use crate::help::{MOBILITY, survey};

/// A questionnaire whose only question begins in line 3.
fn one(question: &str) -> String {
    format!("id = \"s\"\nlanguages = [\"en\"]\n[[question]]\n{question}")
}

/// Problems as `line: sentence`.
fn problems(text: &str) -> Vec<String> {
    let problems = Survey::parse(text, "s.toml").expect_err("a problem");
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.line, problem.message))
        .collect()
}

#[test]
fn the_sample_is_right() {
    let survey = survey(MOBILITY);
    assert_eq!(
        (
            survey.id.as_str(),
            survey.languages.len(),
            survey.questions.len()
        ),
        ("mobility", 2, 8)
    );
    assert!(!survey.open);
    assert!(matches!(
        survey.questions[1].kind,
        Kind::Scale { min: 0, max: 7 }
    ));
}

#[test]
fn each_problem_has_its_line_and_its_sentence() {
    let text = r#"t = { en = "?" }"#.replace("t =", "text =");
    let q = |rest: &str| one(&format!("id = \"a\"\n{text}\n{rest}"));
    let choice = |choices: &str| q(&format!("type = \"choice\"\nchoices = [\n{choices}\n]"));
    let two = |next: &str| {
        q(&format!(
            "type = \"scale\"\nmin = 0\nmax = 7\nnext = [\n{next}\n]\n[[question]]\nid = \"b\"\ntype = \"yes_no\"\n{text}"
        ))
    };
    let cases: &[(String, &[&str])] = &[
        (String::new(), &["1: `id` is missing", "1: `languages` is missing", "1: `question` is missing"]),
        ("id = ".to_owned(), &["1: string values must be quoted, expected literal string"]),
        ("id = \"s\"\nlanguages = [\"en\"]\nquestion = []".to_owned(), &["3: `question` is empty"]),
        ("id = \"a b\"\nlanguages = []\nquestion = 1".to_owned(), &[
            "1: the id `a b` is not 1 to 64 of A-Z a-z 0-9 _ -",
            "2: `languages` is empty",
            "3: `question` is a list, not a number",
        ]),
        ("id = \"s\"\nlanguages = [\"en\", \"en\", \"a_b\", 3]\nquestion = [3]".to_owned(), &[
            "2: `a_b` is not a language; write en, de or pt-BR",
            "2: a language is a text, not a number",
            "2: the language `en` is there twice",
            "3: a question is a table, not a number",
        ]),
        (q("type = \"yesno\""), &["6: the type `yesno` is not known; do you mean `yes_no`?"]),
        (q("type = \"zzz\""), &["6: the type `zzz` is not known; there is yes_no, choice, choices, scale, number, text, date"]),
        (q("type = \"yes_no\"\nrequird = true"), &["7: the key `requird` is not known; do you mean `required`?"]),
        (q("type = \"yes_no\"\nrequired = \"yes\""), &["7: `required` is true or false, not a text"]),
        (q("type = \"yes_no\"\nmin = 3"), &["7: `min` is for scale, number, date, not for yes_no"]),
        (q("type = \"scale\"\nmin = 3"), &["3: `max` is missing"]),
        (q("type = \"scale\"\nmin = 3\nmax = 2"), &["7: `min` is above `max`"]),
        (q("type = \"scale\"\nmin = 1.5\nmax = 2"), &["7: `min` is a whole number"]),
        (q("type = \"number\"\nmin = 1e300"), &["7: `min` is too large"]),
        (q("type = \"date\"\nmin = \"2026-02-30\""), &["7: `min` is a date such as 2026-02-28, not `2026-02-30`"]),
        (q("type = \"date\"\nmin = 2026-02-28\nmax = 2026-02-27"), &["7: `min` is above `max`"]),
        (q("type = \"text\"\nmin_length = 5\nmax_length = 4"), &["7: `min_length` is above `max_length`"]),
        (q("type = \"text\"\nmax_length = 4001"), &["7: `max_length` is 0 to 4000"]),
        (q("type = \"text\"\npattern = \"[a-\""), &["7: `pattern` cannot be used: unclosed character class"]),
        (q("type = \"text\"\npattern = \"a)(b\""), &["7: `pattern` cannot be used: unopened group"]),
        (q("type = \"text\"\nretries = 2"), &["7: `retries` does nothing without on_failure = \"skip\""]),
        (q("type = \"text\"\nretries = 21\non_failure = \"stop\""), &[
            "7: `retries` is 0 to 20",
            "8: `on_failure` is \"skip\", not \"stop\"",
        ]),
        (q("type = \"choice\""), &["3: `choices` is missing"]),
        (choice("{ value = \"x\", label = { en = \"X\" }, lable = 3 }"), &["8: the key `lable` is not known; do you mean `label`?"]),
        (choice("{ value = \"x\", label = { en = \"X\" } },\n{ value = \"x\", label = { en = \"Y\" } }"), &["9: the choice `x` is there twice"]),
        (choice("{ value = \"x\", label = { en = \"X\" } },\n{ value = \"y\", label = { en = \"X\" } }"), &["9: the label \"X\" is also that of `x`"]),
        (choice("{ label = { en = \"X\" } }"), &["8: `value` is missing"]),
        (choice("{ value = 3, label = \"X\" }"), &[
            "8: `label` needs its language: label = { en = \"...\" }",
            "8: `value` is a text, not a number",
        ]),
        (one("id = \"a\"\ntype = \"yes_no\"\ntext = { en = \"?\", de = \"?\" }"), &["6: the language `de` is not known; there is en"]),
        ("id = \"s\"\nlanguages = [\"en\", \"de\"]\n[[question]]\nid = \"a\"\ntype = \"yes_no\"\ntext = { en = \"?\" }".to_owned(), &["6: `text` has no translation for `de`"]),
        (q("type = \"yes_no\"\n[[question]]\nid = \"a\"\ntype = \"yes_no\"\ntext = { en = \"?\" }"), &["7: the id `a` is that of the question in line 3"]),
        (q("type = \"yes_no\"\n[[question]]\nid = \"end\"\ntype = \"yes_no\"\ntext = { en = \"?\" }"), &["7: no question is called `end`: it is the end of the interview"]),
        (two("{ when = \"answer == 0\", goto = \"bb\" }"), &["10: the question `bb` is not known; do you mean `b`?"]),
        (two("{ goto = \"end\" }"), &["12: no way leads to the question `b`"]),
        (two("{ when = \"answer == 0\" }"), &["10: `goto` is missing"]),
        (two("{ goto = \"b\" },\n{ goto = \"end\" }"), &["11: this branch is never taken: the one before it has no `when`"]),
        (two("{ when = \"answer = 0\", goto = \"b\" }"), &["10: `answer = 0` is not a condition; write `answer == 3`, `answer >= 3` or `answer in [1, 2]`"]),
        (two("{ when = \"answer == zero\", goto = \"b\" }"), &["10: `zero` is neither a number, true, false, null nor a text in quotes"]),
        (two("{ when = \"answer == 8\", goto = \"b\" }"), &["10: `answer == 8`: answers are 0 to 7"]),
        (two("{ when = \"answer == 'x'\", goto = \"b\" }"), &["10: `answer == \"x\"` does not fit a scale question"]),
        (two("{ when = \"answer < null\", goto = \"b\" }"), &["10: null has no order; use == or !="]),
        (two("{ goto = \"a\" }"), &["10: the questions go in a circle: a, a", "12: no way leads to the question `b`"]),
        (two("{ goto = \"b\" }") + "\nnext = [{ goto = \"a\" }]", &["16: the questions go in a circle: a, b, a"]),
    ];
    for (text, expected) in cases {
        assert_eq!(&problems(text), expected, "\n{text}");
    }
}

#[test]
fn conditions_must_fit_the_type() {
    let with = |kind: &str, when: &str| {
        let next = format!("next = [{{ when = \"{when}\", goto = \"end\" }}]");
        one(&format!(
            "id = \"a\"\ntext = {{ en = \"?\" }}\n{kind}\n{next}"
        ))
    };
    let choices = "choices = [{ value = 'bus', label = { en = 'Bus' } }, { value = 'tram', label = { en = 'Tram' } }]";
    let choice = format!("type = 'choice'\n{choices}");
    let several = format!("type = 'choices'\n{choices}");
    for (kind, when) in [
        ("type = 'yes_no'", "answer == true"),
        ("type = 'yes_no'", "answer != null"),
        ("type = 'number'", "answer >= -2.5"),
        ("type = 'number'", "answer in [1,2 , 3]"),
        ("type = 'text'", "answer == 'a, b'"),
        ("type = 'date'", "answer < '2026-01-01'"),
        (&*choice, "answer != 'bus'"),
        (&*choice, "answer in ['bus', 'tram']"),
        (&*several, "answer in ['bus']"),
        (&*several, "answer == null"),
    ] {
        assert!(
            Survey::parse(&with(kind, when), "").is_ok(),
            "{kind} {when}"
        );
    }
    for (kind, when, sentence) in [
        (
            "type = 'yes_no'",
            "answer == 1",
            "`answer == 1`: a yes_no answer is only == true or == false",
        ),
        (
            "type = 'date'",
            "answer < 'soon'",
            "`answer < \"soon\"`: soon is not a date",
        ),
        (
            &*choice,
            "answer == 'bsu'",
            "the choice `bsu` is not known; do you mean `bus`?",
        ),
        (
            &*choice,
            "answer < 'bus'",
            "`answer < \"bus\"` does not fit a choice question",
        ),
        (
            &*several,
            "answer == 'bus'",
            "`answer == \"bus\"`: a choices answer is a list; use `answer in [\\\"...\\\"]`",
        ),
        (
            "type = 'text'",
            "answer < 'a'",
            "`answer < \"a\"` does not fit a text question",
        ),
        (
            "type = 'number'",
            "answer in []",
            "`answer in []`: the list is empty",
        ),
    ] {
        let sentence = sentence.replace("\\\"", "\"");
        let problems = problems(&with(kind, when));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].ends_with(&sentence), "{problems:?}\n{sentence}");
    }
}

#[test]
fn problems_name_the_file() {
    let problems = Survey::parse("id = 3", "dir/x.toml").expect_err("a problem");
    assert_eq!(
        problems[0].to_string(),
        "dir/x.toml:1: `id` is a text, not a number"
    );
}

#[test]
fn json_problems_have_lines_too() {
    let text = "{\n \"id\": \"s\",\n \"languages\": [\"en\"],\n \"question\": [\n  {\"id\": \"a\",\n   \"typ\": \"yes_no\",\n   \"text\": {\"en\": \"?\"}}\n ]\n}";
    assert_eq!(problems(text), ["5: `type` is missing"]);
    let text = text
        .replace("\"typ\"", "\"type\"")
        .replace("\"text\"", "\n\"txt\"");
    assert_eq!(
        problems(&text),
        [
            "5: `text` is missing",
            "8: the key `txt` is not known; do you mean `text`?"
        ]
    );
    assert_eq!(
        problems("{\"id\":\n\"s\",\"id\":\"t\"}"),
        ["2: `id` is there twice"]
    );
    assert_eq!(
        problems("{\"id\":\n\"s\""),
        ["2: EOF while parsing an object"]
    );
    let deep = format!("{{\"id\": {}1{}}}", "[".repeat(60), "]".repeat(60));
    assert_eq!(
        problems(&deep),
        ["1: more than 16 tables and lists inside one another"]
    );
}

#[test]
fn nothing_that_is_read_panics() {
    for end in 0..MOBILITY.len() {
        if let Some(text) = MOBILITY.get(..end) {
            let _ = Survey::parse(text, "cut.toml");
        }
    }
    let json = survey(MOBILITY).to_json();
    for end in 0..json.len() {
        if let Some(text) = json.get(..end) {
            assert!(Survey::parse(text, "cut.json").is_err());
        }
    }
}

#[test]
fn the_version_is_of_the_meaning() {
    let toml = one(
        "id = \"a\"\ntype = \"scale\"\nmin = 0\nmax = 7\ntext = { en = \"How often?\" }\nnext = [{ when = \"answer==0\", goto = \"end\" }]",
    );
    let same = [
        toml.replace("min = 0\nmax = 7", "# seven days\nmax = 7.0\nmin = 0x0\nrequired = false"),
        toml.replace("\"answer==0\"", "\" answer  == 0.0 \""),
        format!("open = true\n{toml}"),
        json!({
            "question": [{ "next": [{ "goto": "end", "when": "answer == 0" }], "text": { "en": "How often?" }, "max": 7, "min": 0, "type": "scale", "id": "a" }],
            "languages": ["en"],
            "id": "s",
        })
        .to_string(),
    ];
    let version = survey(&toml).version;
    assert!(version > 0);
    for text in same {
        assert_eq!(survey(&text).version, version, "{text}");
    }
    for (from, to) in [
        ("= 7", "= 6"),
        ("often", "much"),
        ("==0", "==1"),
        ("\"s\"", "\"t\""),
        ("type", "required = true\ntype"),
    ] {
        assert_ne!(survey(&toml.replacen(from, to, 1)).version, version, "{to}");
    }
    // Of a literal, so that a change of the hash is seen: all interviews under way depend on it.
    assert_eq!(survey(MOBILITY).version, 3_792_320_274_184_848);
}

#[test]
fn what_is_stored_can_be_read_again() {
    let survey = survey(MOBILITY);
    let again = Survey::parse(&survey.to_json(), "store").unwrap();
    assert_eq!(
        (again.version, again.to_json()),
        (survey.version, survey.to_json())
    );
}

#[test]
fn a_language_is_found_by_its_first_part() {
    let survey = survey(MOBILITY);
    for (wish, language) in [
        (None, "en"),
        (Some("de-AT"), "de"),
        (Some("DE"), "de"),
        (Some("fr"), "en"),
        (Some(""), "en"),
    ] {
        assert_eq!(survey.language(wish), language, "{wish:?}");
    }
}
