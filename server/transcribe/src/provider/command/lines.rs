//! The lines that a program says.

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::provider::{
    Event, Utterance,
    said::{self, MAX_JSON, TimedWord},
};

/// Lines of bounded length.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    /// It was read over.
    TooLong,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
        }
    }

    /// The next line, without its end; `None` at the end, or if nothing can be read. Not cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Line<'_>> {
        self.line.clear();
        let mut is_too_long = false;
        loop {
            let read = self.reader.fill_buf().await.ok()?;
            if read.is_empty() {
                // A last line without an end is not whole.
                return None;
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            is_too_long |= self.line.len() + part.len() > MAX_JSON;
            if !is_too_long {
                self.line.extend_from_slice(part);
            }
            let used = end.map_or(read.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        Some(if is_too_long {
            Line::TooLong
        } else {
            Line::Whole(&self.line)
        })
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    Ready,
    Partial(Said),
    Final(Said),
    Error {},
}

#[derive(Deserialize)]
struct Said {
    id: Id,
    start: f64,
    end: f64,
    text: String,
    language: Option<String>,
    confidence: Option<f64>,
    #[serde(default)]
    words: Vec<TimedWord>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

/// What a line says.
pub(super) fn event(line: &[u8]) -> Event {
    match serde_json::from_slice(line) {
        Ok(Message::Ready) => Event::Ready,
        Ok(Message::Partial(said)) => Event::Partial(said.into()),
        Ok(Message::Final(said)) => Event::Final(said.into()),
        Ok(Message::Error {}) => Event::Garbage("the program reports an error"),
        Err(_) => Event::Garbage("a line that is no message"),
    }
}

impl From<Said> for Utterance {
    fn from(said: Said) -> Self {
        Self {
            id: match said.id {
                Id::Text(id) => id,
                Id::Number(id) => id.to_string(),
            },
            start_ms: said::ms(said.start),
            end_ms: said::ms(said.end),
            text: said.text,
            language: said.language,
            confidence: said.confidence,
            words: said.words.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_and_long_ones_are_read_over() {
        let mut input = b"one\n\n".to_vec();
        input.extend(vec![b'x'; 1_000_000]);
        input.extend(b"\ntwo\r\nrest");
        let mut lines = Lines::new(input.as_slice());
        let mut found = Vec::new();
        while let Some(line) = lines.next().await {
            found.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong => "too long".to_owned(),
            });
        }
        assert_eq!(found, ["one", "", "too long", "two\r"]);
        assert!(
            lines.line.capacity() <= 2 * MAX_JSON,
            "a long line takes no memory"
        );
    }

    #[test]
    fn what_is_no_message_is_garbage() {
        assert_eq!(event(b"{\"type\":\"ready\"}"), Event::Ready);
        let line = br#"{"type":"final","id":7,"start":0.5,"end":1.25,"text":"Yes.","language":"en","confidence":0.9,
            "words":[{"word":"Yes.","start":0.5,"end":1.25,"confidence":0.8}],"more":1}"#;
        match event(line) {
            Event::Final(said) => {
                assert_eq!(
                    (said.id.as_str(), said.start_ms, said.end_ms),
                    ("7", 500, 1250)
                );
                assert_eq!(said.words[0].confidence, Some(0.8));
            }
            other => panic!("{other:?}"),
        }
        for garbage in [
            &b""[..],
            b"Loading model",
            b"{}",
            b"\xff\xfe",
            b"{\"type\":\"final\",\"id\":\"1\"}",
            b"[1]",
            b"{\"type\":\"x\"}",
        ] {
            assert!(matches!(event(garbage), Event::Garbage(_)), "{garbage:?}");
        }
        let error = br#"{"type":"error","message":"no model"}"#;
        assert_eq!(event(error), Event::Garbage("the program reports an error"));
        let huge = br#"{"type":"partial","id":"1","start":-1e300,"end":1e300,"text":""}"#;
        match event(huge) {
            Event::Partial(said) => assert_eq!((said.start_ms, said.end_ms), (i64::MIN, i64::MAX)),
            other => panic!("{other:?}"),
        }
    }
}
