//! Takes out of a text what may be somebody's: errors of libraries quote what they could not read.

/// A word of so many letters, digits and signs of tokens may be a token or an id; ours have 16.
const LONG_WORD: usize = 16;

/// What stands in place of something that was taken out.
const GONE: &str = "[...]";

/// What panics of the standard library quote, and is nobody's.
const HARMLESS: [&str; 6] = [
    "Err",
    "None",
    "Ok",
    "Some",
    "Option::unwrap()",
    "Result::unwrap()",
];

/// The text without what is quoted, without URLs, addresses, and long words, in which tokens and ids are.
pub(super) fn scrub(text: &str) -> String {
    let mut scrubbed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '"' | '`' | '\'' => {
                let (inside, after) = quoted(after, first);
                let harmless = HARMLESS.contains(&inside);
                scrubbed.push(first);
                scrubbed.push_str(if harmless { inside } else { GONE });
                scrubbed.push(first);
                after
            }
            _ if is_of_word(first) => {
                let (word, after) =
                    rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
                scrubbed.push_str(if may_be_somebodys(word) { GONE } else { word });
                after
            }
            _ => {
                scrubbed.push(first);
                after
            }
        };
    }
    scrubbed
}

/// What stands before the next quote of the kind, and what behind it; a text that was cut may have none.
fn quoted(text: &str, quote: char) -> (&str, &str) {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let ends = c == quote && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    match end {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, ""),
    }
}

/// What words, URLs, addresses and tokens are of.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_-+/=.:%?&@~[]#".contains(c)
}

fn may_be_somebodys(word: &str) -> bool {
    let is_path = word.starts_with('/') || word.starts_with("src/") || word.contains(".rs:");
    let has_place = word.contains("://") || word.contains(['?', '@', '%', '=', '&']);
    let bare = word.trim_matches(|c: char| "[].:".contains(c));
    let is_address = bare.parse::<std::net::IpAddr>().is_ok()
        || word
            .trim_end_matches(['.', ':'])
            .parse::<std::net::SocketAddr>()
            .is_ok();
    // Words of a language have no digits, and names of types have no long stretch of letters and digits together.
    let is_long = word
        .split(['/', '.', ':'])
        .any(|part| part.len() >= LONG_WORD && part.bytes().any(|byte| byte.is_ascii_digit()))
        || word.len() > 40 && !is_path;
    has_place || is_address || is_long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_somebodys_is_taken_out() {
        for (text, scrubbed) in [
            ("no answer within 3s", "no answer within 3s"),
            (
                "called `Result::unwrap()` on an `Err` value: BadName { name: \"ann\" }",
                "called `Result::unwrap()` on an `Err` value: BadName { name: \"[...]\" }",
            ),
            (
                "byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `secret`",
                "byte index 1 is not a char boundary; it is inside '[...]' (bytes 0..2) of `[...]`",
            ),
            ("10.1.2.3 and 10.1.2.3:80", "[...] and [...]"),
            ("of [2001:db8::1]:443, 2001:db8::1.", "of [...], [...]"),
            ("GET https://app.example/x?token=1", "GET [...]"),
            ("/ws?token=abc ann@app.example", "[...] [...]"),
            ("session 0123456789abcdef is gone", "session [...] is gone"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl", "[...]"),
            (
                "panicked at server/src/http.rs:12:5:",
                "panicked at server/src/http.rs:12:5:",
            ),
            (
                "/etc/voicematch/key.pem: Permission denied",
                "/etc/voicematch/key.pem: Permission denied",
            ),
            ("a \"secret that was cut é", "a \"[...]\""),
            ("a \"quoted \\\" inside\" b", "a \"[...]\" b"),
            (
                "index out of bounds: the len is 3 but the index is 7",
                "index out of bounds: the len is 3 but the index is 7",
            ),
        ] {
            assert_eq!(scrub(text), scrubbed);
        }
    }

    proptest::proptest! {
        /// It runs within the hook of a panic, where another one would end the process.
        #[test]
        fn any_text_can_be_scrubbed(text in r#"([`"'\\\\ a:/é0-9\[\]]|[a-z]{20}|.){0,40}"#) {
            scrub(&text);
        }
    }
}
