//! What is said and what it means, as tables.

mod numbers;
mod yes_no;

use std::sync::LazyLock;

use serde_json::{Value, json};
use voicematch_transcribe::survey::{Given, Question, Survey, accept};

use crate::help::survey;

static SURVEY: LazyLock<Survey> = LazyLock::new(|| {
    survey(
        r#"
        id = "s"
        languages = ["en", "de"]
        question = [
            { id = "yes_no", type = "yes_no", text = { en = "?", de = "?" } },
            { id = "number", type = "number", text = { en = "?", de = "?" } },
            { id = "count", type = "scale", min = 0, max = 7, text = { en = "?", de = "?" } },
            { id = "date", type = "date", text = { en = "?", de = "?" } },
            { id = "text", type = "text", text = { en = "?", de = "?" } },
            { id = "choice", type = "choice", text = { en = "?", de = "?" }, choices = [
                { value = "bus", label = { en = "Bus", de = "Bus" } },
                { value = "night_bus", label = { en = "Night bus", de = "Nachtbus" } },
                { value = "tram", label = { en = "Tram", de = "Straßenbahn" } },
                { value = "bicycle", label = { en = "Bicycle", de = "Fahrrad" } },
                { value = "walk", label = { en = "I walk", de = "Zu Fuß" } },
                { value = "unknown", label = { en = "Don't know", de = "Weiß nicht" } },
            ] },
            { id = "choices", type = "choices", text = { en = "?", de = "?" }, choices = [
                { value = "red", label = { en = "red", de = "rot" } },
                { value = "green", label = { en = "green", de = "grün" } },
                { value = "other", label = { en = "other", de = "andere" } },
                { value = "great", label = { en = "great", de = "super" } },
            ] },
        ]
        "#,
    )
});

fn question(id: &str) -> &'static Question {
    &SURVEY.questions[SURVEY.place(id).unwrap()]
}

/// What an utterance means: a value, null for no answer, or the word "unclear".
fn heard(id: &str, language: &str, spoken: &str) -> Value {
    let given = Given {
        spoken: Some(spoken.to_owned()),
        ..Given::default()
    };
    match accept(question(id), &given, language) {
        Ok(value) => value,
        Err(invalid) => serde_json::to_value(invalid.reason).unwrap(),
    }
}

fn all(id: &str, language: &str, table: &[(&str, Value)]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(spoken, expected)| (spoken, expected, heard(id, language, spoken)))
        .filter(|(_, expected, heard)| *expected != heard)
        .map(|(spoken, expected, heard)| {
            format!("{language} {id} {spoken:?}: {heard}, not {expected}")
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn none() -> Value {
    Value::Null
}

fn unclear() -> Value {
    json!("not_understood")
}

#[test]
fn choices_by_their_labels() {
    all(
        "choice",
        "en",
        &[
            ("bus", json!("bus")),
            ("the bus, please", json!("bus")),
            ("the night bus", json!("night_bus")),
            ("Tram!", json!("tram")),
            ("my bicycle", json!("bicycle")),
            ("my bycicle", unclear()),
            ("my bicycles", json!("bicycle")),
            ("bicycl", json!("bicycle")),
            ("well, I walk", json!("walk")),
            ("I don't know", none()),
            ("don't know", json!("unknown")),
            ("no idea", none()),
            ("night_bus", json!("night_bus")),
            ("bus or tram", unclear()),
            ("not the bus", unclear()),
            ("buss", unclear()),
            ("trap", unclear()),
            ("busy", unclear()),
            ("car", unclear()),
            ("bus bus bus", json!("bus")),
        ],
    );
    all(
        "choice",
        "de",
        &[
            ("Straßenbahn", json!("tram")),
            ("mit der strassenbahn", json!("tram")),
            ("mit der Strasenbahn", json!("tram")),
            ("der Nachtbus", json!("night_bus")),
            ("zu Fuß", json!("walk")),
            ("weiß nicht", json!("unknown")),
            ("keine Ahnung", none()),
            ("mit dem Auto", unclear()),
            ("nicht mit dem Bus", unclear()),
        ],
    );
    all(
        "choices",
        "en",
        &[
            ("red", json!(["red"])),
            ("green and red", json!(["red", "green"])),
            // One letter from two labels: neither.
            ("greet", unclear()),
            ("greens", json!(["green"])),
            ("othr", unclear()),
            ("othe", unclear()),
            ("others", json!(["other"])),
            ("red but not green", unclear()),
            ("nothing", unclear()),
            ("I don't know", none()),
        ],
    );
    all(
        "choices",
        "de",
        &[
            ("grün und rot", json!(["red", "green"])),
            ("gruen", json!(["green"])),
        ],
    );
}

#[test]
fn dates_with_day_month_and_year() {
    for spoken in [
        "2026-02-28",
        "28 February 2026",
        "February 28th, 2026",
        "the twenty eighth of February 2026",
        "on 28th february 2026",
    ] {
        all("date", "en", &[(spoken, json!("2026-02-28"))]);
    }
    for spoken in [
        "2026-02-28",
        "28.2.2026",
        "28.02.2026",
        "28. Februar 2026",
        "am achtundzwanzigsten Februar 2026",
        "28 Februar 2026",
    ] {
        all("date", "de", &[(spoken, json!("2026-02-28"))]);
    }
    all(
        "date",
        "de",
        &[
            ("erster Mai 2026", json!("2026-05-01")),
            ("am siebten März 2026", json!("2026-03-07")),
        ],
    );
    for spoken in [
        "2/3/2026",
        "28.2.2026",
        "tomorrow",
        "February 2026",
        "30 February 2026",
        "28 29 February 2026",
        "2026-02-28 or 2026-03-01",
        "May",
    ] {
        all("date", "en", &[(spoken, unclear())]);
    }
    all(
        "date",
        "en",
        &[
            ("I don't know", none()),
            ("the first of May 2026", json!("2026-05-01")),
        ],
    );
}

#[test]
fn a_text_is_taken_as_it_is() {
    all(
        "text",
        "en",
        &[
            (" More buses, please! ", json!("More buses, please!")),
            ("no", json!("no")),
            (
                "I have no idea what else",
                json!("I have no idea what else"),
            ),
            ("no idea", none()),
            ("Skip.", none()),
            ("um, I don't know, sorry", none()),
            ("", none()),
        ],
    );
    all(
        "text",
        "de",
        &[
            ("keine Ahnung", none()),
            ("Mehr Busse", json!("Mehr Busse")),
            ("weiter", none()),
        ],
    );
}

/// The words of another language are not known, and English is tried for those without lists.
#[test]
fn languages_do_not_mix() {
    all("yes_no", "en", &[("ja", unclear()), ("nein", unclear())]);
    all("yes_no", "de", &[("yes", unclear())]);
    all("number", "de-AT", &[("fünf", json!(5))]);
    all("number", "fr", &[("five", json!(5)), ("cinq", unclear())]);
}

#[test]
fn nothing_that_is_said_panics() {
    let pieces = [
        "-", ".", ",", "5", "minus", "hundred", "and", "point", "ein", "und", "zwanzig", "\u{301}",
        "ß", "İ", "half", "a", "\0", "x", "one", "of", "May", "2026",
    ];
    let mut said = String::new();
    for seed in 0_usize..4_000 {
        said.clear();
        let mut number = seed.wrapping_mul(2_654_435_761);
        for _ in 0..seed % 9 {
            said.push_str(pieces[number % pieces.len()]);
            number /= pieces.len();
            if number % 3 > 0 {
                said.push(' ');
            }
        }
        for question in &SURVEY.questions {
            for language in ["en", "de"] {
                let first = heard(&question.id, language, &said);
                assert_eq!(first, heard(&question.id, language, &said), "{said:?}");
            }
        }
    }
}
