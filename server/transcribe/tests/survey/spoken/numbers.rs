//! Numbers.

use serde_json::json;

use super::{all, none, unclear};

#[test]
fn numbers_in_english() {
    all(
        "number",
        "en",
        &[
            ("zero", json!(0)),
            ("one", json!(1)),
            ("eight", json!(8)),
            ("five days", json!(5)),
            ("um, about seven I think", json!(7)),
            ("twenty one", json!(21)),
            ("twenty-one", json!(21)),
            ("Ninety-nine.", json!(99)),
            ("a hundred", json!(100)),
            ("one hundred and five", json!(105)),
            ("two hundred twenty", json!(220)),
            ("minus five", json!(-5)),
            ("negative twenty one", json!(-21)),
            ("-5", json!(-5)),
            ("- 5", json!(-5)),
            ("\u{2212}5", json!(-5)),
            ("5", json!(5)),
            ("5.", json!(5)),
            ("12.5", json!(12.5)),
            ("2,5", json!(2.5)),
            ("1,000", json!(1000)),
            ("two point five", json!(2.5)),
            ("two point zero five", json!(2.05)),
            ("five and a half", json!(5.5)),
            ("five times a week", json!(5)),
            ("3x", json!(3)),
            ("once", json!(1)),
            ("twice a week", json!(2)),
            ("none", json!(0)),
            ("no days", json!(0)),
            ("never", json!(0)),
            ("no, five", json!(5)),
            ("one day", json!(1)),
            ("just one", json!(1)),
            ("I have one", json!(1)),
            ("seventeeen", json!(17)),
            ("twelv", unclear()),
            ("hunderd", unclear()),
            ("no idea", none()),
            ("I don't know", none()),
            ("prefer not to say", none()),
        ],
    );
    for spoken in [
        "five or six",
        "between five and seven",
        "5-7",
        "5 - 7",
        "five five",
        "more than five",
        "less than five",
        "at least three",
        "not five",
        "five thousand",
        "half",
        "half past five",
        "eight minus five",
        "minus",
        "the purple one",
        "no one",
        "one of them",
        "which one",
        "right",
        "weight",
        "ate",
        "seve",
        "not sure, maybe five",
        "fifth",
        "4th",
        "5e3",
        "1.2.3",
        "five point",
        "nan",
        "infinity",
        "yes",
        "tenth",
        "threw",
        "fight",
        "mine",
        "over fifty",
    ] {
        all("number", "en", &[(spoken, unclear())]);
    }
    // Negative numbers make no sense here, and are not read without their sign.
    for spoken in ["minus five", "-5", "- 5", "negative one", "eight", "twenty"] {
        all("count", "en", &[(spoken, json!("out_of_range"))]);
    }
    all(
        "count",
        "en",
        &[
            ("two point five", json!("wrong_type")),
            ("three", json!(3)),
            ("seven of seven", unclear()),
        ],
    );
}

#[test]
fn numbers_in_german() {
    all(
        "number",
        "de",
        &[
            ("null", json!(0)),
            ("eins", json!(1)),
            ("ein Tag", json!(1)),
            ("zwo", json!(2)),
            ("acht", json!(8)),
            ("fünf Tage", json!(5)),
            ("fuenf", json!(5)),
            ("zwölf", json!(12)),
            ("siebzehn", json!(17)),
            ("dreißig", json!(30)),
            ("vierundzwanzig", json!(24)),
            ("Vierundzwanzig.", json!(24)),
            ("vier und zwanzig", json!(24)),
            ("einundzwanzig", json!(21)),
            ("ein und zwanzig", json!(21)),
            ("neunundneunzig", json!(99)),
            ("hundert", json!(100)),
            ("einhundertfünf", json!(105)),
            ("zwei hundert fünf", json!(205)),
            ("hundertvierundzwanzig", json!(124)),
            ("minus fünf", json!(-5)),
            ("minus vierundzwanzig", json!(-24)),
            ("-5", json!(-5)),
            ("zwei Komma fünf", json!(2.5)),
            ("2,5", json!(2.5)),
            ("1.000", json!(1000)),
            ("dreimal", json!(3)),
            ("drei mal die Woche", json!(3)),
            ("einmal", json!(1)),
            ("nie", json!(0)),
            ("gar keinen", unclear()),
            ("nein, fünf", json!(5)),
            ("so etwa sieben", json!(7)),
            ("vierundzwanzik", json!(24)),
            ("keine Ahnung", none()),
            ("weiß nicht", none()),
        ],
    );
    for spoken in [
        "fünf oder sechs",
        "fünf bis sieben",
        "mehr als fünf",
        "über fünf",
        "nicht fünf",
        "keine fünf",
        "fünftausend",
        "fünf tausend",
        "mindestens drei",
        "halb acht",
        "das ist eine gute Frage",
        "so eine Sache",
        "acht minus fünf",
        "nacht",
        "macht",
        "drein",
        "ja",
        "fast fünf",
        "zweieinhalb",
    ] {
        all("number", "de", &[(spoken, unclear())]);
    }
    for spoken in ["minus fünf", "acht", "-1"] {
        all("count", "de", &[(spoken, json!("out_of_range"))]);
    }
}
