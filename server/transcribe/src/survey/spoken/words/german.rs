//! German.

use std::{collections::HashMap, sync::LazyLock};

use super::{Words, phrases, words};

const UNITS: &str = "null eins zwei drei vier fuenf sechs sieben acht neun zehn elf zwoelf dreizehn \
    vierzehn fuenfzehn sechzehn siebzehn achtzehn neunzehn";
const TENS: &str = "zwanzig dreissig vierzig fuenfzig sechzig siebzig achtzig neunzig";

/// 0 to 999 as one word each.
fn spelled_numbers() -> HashMap<String, u32> {
    let units = words(UNITS);
    let mut numbers: HashMap<String, u32> = (0_u32..)
        .zip(&units)
        .map(|(number, word)| ((*word).to_owned(), number))
        .collect();
    let unit = |digit: usize| {
        if digit == 1 { "ein" } else { units[digit] }
    };
    for (tens, word) in (2_u32..).zip(words(TENS)) {
        numbers.insert(word.to_owned(), tens * 10);
        for (digit, count) in (1..=9).zip(1_u32..) {
            numbers.insert(format!("{}und{word}", unit(digit)), tens * 10 + count);
        }
    }
    numbers.insert("zwo".to_owned(), 2);
    let below: Vec<(String, u32)> = numbers
        .iter()
        .map(|(word, number)| (word.clone(), *number))
        .collect();
    for (digit, hundreds) in (1..=9).zip(1_u32..) {
        let mut heads = vec![format!("{}hundert", unit(digit))];
        if digit == 1 {
            heads.push("hundert".to_owned());
        }
        for head in heads {
            numbers.insert(head.clone(), hundreds * 100);
            for (word, number) in below.iter().filter(|(_, number)| *number > 0) {
                numbers.insert(format!("{head}{word}"), hundreds * 100 + number);
                numbers.insert(format!("{head}und{word}"), hundreds * 100 + number);
            }
        }
    }
    for (digit, times) in (1..=12).zip(1_u32..) {
        let word = if digit == 1 { "ein" } else { units[digit] };
        numbers.insert(format!("{word}mal"), times);
    }
    numbers.extend(["ein", "eine", "einen", "einem", "einer"].map(|word| (word.to_owned(), 1)));
    numbers
}

/// "erster", "ersten", "erste" and so on, to 31.
fn spelled_ordinals(numbers: &HashMap<String, u32>) -> HashMap<String, u8> {
    let stem = |word: &str, number: u8| match number {
        1 => "erst".to_owned(),
        3 => "dritt".to_owned(),
        7 => "siebt".to_owned(),
        8 => "acht".to_owned(),
        2..=19 => format!("{word}t"),
        _ => format!("{word}st"),
    };
    let days = numbers.iter().filter_map(|(word, number)| {
        let number = u8::try_from(*number)
            .ok()
            .filter(|number| (1..=31).contains(number))?;
        let proper = !word.ends_with("mal") && (number != 1 || word == "eins");
        proper
            .then(|| stem(word, number))
            .map(|stem| (stem, number))
    });
    days.flat_map(|(stem, number)| {
        ["e", "er", "en", "es"].map(|end| (format!("{stem}{end}"), number))
    })
    .collect()
}

pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let numbers = spelled_numbers();
    Words {
        ordinals: spelled_ordinals(&numbers),
        numbers,
        hundred: "hundert",
        and: "und",
        units_first: true,
        thousands: '.',
        point: words("komma punkt"),
        minus: words("minus -"),
        times: words("x mal"),
        nothing: words("nie niemals nichts keine keinen kein keiner keinmal garnicht"),
        changing: words(
            "als ueber unter ausser zwischen mindestens hoechstens maximal halb halbe \
             halben viertel tausend million millionen milliarde dutzend hunderte fast \
             beinahe plus komma minus knapp gut",
        ),
        articles: words("ein"),
        one: words("ein eine einen einem einer"),
        before_one: words("habe hab nur genau etwa ungefaehr circa an mit zu pro nummer minus"),
        counted: words("tag tage tagen mal woche stunde minute monat jahr person kind auto pro in"),
        before_pronoun: words("kein so noch irgend was fuer"),
        yes: words(
            "ja jawohl jep jup jo joa jaja klar natuerlich gerne genau richtig stimmt \
             sicher selbstverstaendlich absolut definitiv okay ok korrekt freilich doch \
             wahr",
        ),
        no: words(
            "nein ne nee noe nie niemals falsch keinesfalls keineswegs mitnichten kein \
             keine keinen",
        ),
        plain: (words("ja jawohl jep jup jo joa"), words("nein ne nee noe")),
        negations: words("nicht kein keine keinen weder noch ohne ausser kaum"),
        yes_phrases: phrases(
            "warum nicht, wieso nicht, kein problem, keine frage, auf jeden fall, \
             auf alle faelle, na klar, ja klar, aber sicher, aber klar, ohne zweifel, \
             ja doch",
        ),
        no_phrases: phrases(
            "auf keinen fall, gar nicht, ueberhaupt nicht, eher nicht, \
             auf gar keinen fall, nicht wirklich",
        ),
        no_answer: phrases(
            "keine ahnung, weiss nicht, weiss ich nicht, weiss es nicht, \
             weiss ich gar nicht, weiss das nicht, keine angabe, keine antwort, \
             keine meinung, kein kommentar, nicht sicher, nicht sagen, \
             nicht beantworten, nicht antworten, kann mich nicht erinnern, \
             erinnere mich nicht, schwer zu sagen, frage ueberspringen, naechste frage, \
             wer weiss, kein plan, keinen plan, keinen schimmer, keine idee, \
             keinen blassen schimmer",
        ),
        no_answer_alone: words("ueberspringen weiter passe naechste"),
        fillers: words(
            "aeh aehm oeh hm hmm mm ach oh also naja na bitte danke schoen dankeschoen \
             vielen ich glaube glaub denke meine wuerde sagen sag vielleicht wohl \
             eigentlich ehrlich gesagt halt mal so es ist sind das die der mir schon \
             eben tut leid und sehr",
        ),
        months: words(
            "januar februar maerz april mai juni juli august september oktober november dezember",
        ),
    }
});
