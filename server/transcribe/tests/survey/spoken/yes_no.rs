//! Yes and no.

use serde_json::json;

use super::{all, none, unclear};

#[test]
fn yes_and_no_in_english() {
    for spoken in [
        "yes",
        "Yes.",
        "yes please",
        "Yeah, sure!",
        "yep",
        "of course",
        "um, well, yes",
        "That's right",
        "right",
        "correct",
        "I do",
        "I think so, yes",
        "why not",
        "no problem",
        "absolutely",
        "OK",
        "sure",
        "why not?",
        "yes of course",
    ] {
        all("yes_no", "en", &[(spoken, json!(true))]);
    }
    for spoken in [
        "no",
        "No.",
        "no thanks",
        "no, thank you",
        "nope",
        "not really",
        "of course not",
        "I don't",
        "not at all",
        "no way",
        "never",
        "that's not right",
        "that is wrong",
        "certainly not",
        "oh no",
        "No, there is no bus where I live",
        "I don't think so",
    ] {
        all("yes_no", "en", &[(spoken, json!(false))]);
    }
    for spoken in [
        "I don't know",
        "no idea",
        "I'm not sure",
        "skip",
        "pass",
        "I'd rather not say",
        "no comment",
        "sorry, I have no idea",
    ] {
        all("yes_no", "en", &[(spoken, none())]);
    }
    for spoken in [
        "eight",
        "light",
        "night",
        "bright",
        "yet",
        "now",
        "know",
        "know it",
        "yes and no",
        "maybe",
        "often",
        "purple",
        "there is no bus on sundays so I use the car",
        "noo",
        "Yes, my brother has one too and he is not here",
        "yess",
        "",
        "?",
        "five",
    ] {
        all("yes_no", "en", &[(spoken, unclear())]);
    }
}

#[test]
fn yes_and_no_in_german() {
    for spoken in [
        "ja",
        "Ja, bitte",
        "ja gerne",
        "klar",
        "Na klar!",
        "natürlich",
        "auf jeden Fall",
        "stimmt",
        "genau",
        "jawohl",
        "warum nicht",
        "kein Problem",
        "ich glaube schon, ja",
        "Ja, ich habe keine Zeit, aber ja",
        "äh, ja",
    ] {
        let expected = if spoken.contains("keine Zeit") {
            unclear()
        } else {
            json!(true)
        };
        all("yes_no", "de", &[(spoken, expected)]);
    }
    for spoken in [
        "nein",
        "Nein danke",
        "nee",
        "nö",
        "auf keinen Fall",
        "stimmt nicht",
        "natürlich nicht",
        "überhaupt nicht",
        "nicht wirklich",
        "nie",
        "gar nicht",
        "eher nicht",
        "falsch",
    ] {
        all("yes_no", "de", &[(spoken, json!(false))]);
    }
    for spoken in [
        "keine Ahnung",
        "Ich weiß nicht",
        "weiß ich nicht",
        "Das weiß ich nicht",
        "keine Angabe",
        "möchte ich nicht sagen",
        "ich bin mir nicht sicher",
        "weiter",
        "überspringen",
        "nein, keine Ahnung",
    ] {
        all("yes_no", "de", &[(spoken, none())]);
    }
    for spoken in [
        "acht",
        "jein",
        "ja und nein",
        "vielleicht",
        "jagen",
        "neun",
        "nun",
        "klaar",
        "manchmal",
    ] {
        all("yes_no", "de", &[(spoken, unclear())]);
    }
}
