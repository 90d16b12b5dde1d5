//! The golden messages of `/transcribe` in `fixtures/transcribe/`: what is read, and what is written, byte for byte.
#![allow(
    clippy::unwrap_used,
    reason = "a fixture that is not there or not as it should be fails the test"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::value::{RawValue, to_raw_value};
use voicematch_protocol::transcribe::{
    Ack, AudioLimits, EndReason, ProviderState, Role, Said, SaidType, Start, Told, TranscribeError,
};

fn folder(side: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/transcribe")
        .join(side)
}

fn fixture(side: &str, name: &str) -> String {
    let text = fs::read_to_string(folder(side).join(format!("{name}.json"))).unwrap();
    text.trim_end().to_owned()
}

fn names(side: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder(side)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| name.trim_end_matches(".json").to_owned())
        .collect()
}

#[test]
fn each_message_is_written_as_in_its_fixture() {
    let (seven, nine) = (to_raw_value(&7).unwrap(), to_raw_value("9").unwrap());
    let result = RawValue::from_string(r#"{"stored":true}"#.to_owned()).unwrap();
    let partial_of = Some("a1-7");
    let told = [
        (
            "ready",
            Told::Ready {
                session: "abc123xyz",
                participant: "p7",
                role: Role::Host,
                provider: Some("gladia"),
                next_seq: 58,
                limits: AudioLimits {
                    frame_bytes: 65_536,
                    tracks: 20,
                },
            },
        ),
        ("audio_ack", Told::AudioAck { ms: 12_300 }),
        (
            "partial",
            Told::Partial {
                utterance: "a1-7",
                revision: 3,
                speaker: "p7",
                start_ms: 11_840,
                text: "how often do",
            },
        ),
        (
            "final",
            Told::Final {
                seq: 58,
                utterance: partial_of,
                speaker: "p7",
                start_ms: 11_840,
                end_ms: 14_210,
                language: Some("en"),
                confidence: Some(0.93),
                text: "How often do you ...",
                replayed: false,
            },
        ),
        (
            "final_replayed",
            Told::Final {
                seq: 42,
                utterance: None,
                speaker: "p7",
                start_ms: 100,
                end_ms: 900,
                language: None,
                confidence: None,
                text: "Hello.",
                replayed: true,
            },
        ),
        (
            "gap",
            Told::Gap {
                seq: 59,
                speaker: "p7",
                from_ms: 20_100,
                to_ms: 22_500,
                reason: "provider_lost",
                replayed: false,
            },
        ),
        ("stored", Told::Stored { through: 58 }),
        (
            "lost",
            Told::Lost {
                from_seq: 60,
                to_seq: 61,
            },
        ),
        (
            "provider_state",
            Told::ProviderState {
                speaker: "p7",
                state: ProviderState::Reconnecting,
                retry_in_ms: Some(600),
            },
        ),
        (
            "tool_result",
            Told::ToolResult {
                id: Some(&nine),
                ok: true,
                result: Some(&result),
                code: None,
                message: None,
            },
        ),
        (
            "tool_result_refused",
            Told::ToolResult {
                id: Some(&nine),
                ok: false,
                result: None,
                code: Some("not_current"),
                message: Some("this is not the current question"),
            },
        ),
        ("pong", Told::Pong { id: Some(&seven) }),
        (
            "moved",
            Told::Moved {
                url: "https://node-2.example.org",
            },
        ),
        (
            "ended",
            Told::Ended {
                reason: EndReason::Host,
                audio_ms: 1_800_000,
                segments: 402,
                stored_through: 402,
            },
        ),
        (
            "error",
            Told::Error {
                code: TranscribeError::AudioRateMismatch,
                message: "samples come at about 48000 Hz, not 16000 Hz",
                measured_hz: Some(48_000),
            },
        ),
    ];
    for (name, told) in &told {
        assert_eq!(serde_json::to_string(told).unwrap(), fixture("told", name));
    }
    let written = told.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(written.collect::<BTreeSet<_>>(), names("told"));
}

#[test]
fn each_message_is_read_as_its_fixture_says() {
    for name in names("said") {
        let text = fixture("said", &name);
        let said: Said<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&said).unwrap(), text, "{name}");
    }
    let start = fixture("said", "start");
    let start = serde_json::from_str::<Said<'_>>(&start).unwrap().start();
    assert_eq!(
        (start.sample_rate, start.ack, start.live),
        (48_000, Ack::Each, false)
    );
    let bare: Said<'_> = serde_json::from_str(r#"{"type":"start"}"#).unwrap();
    assert_eq!(bare.start(), Start::default());
    let unknown: Said<'_> = serde_json::from_str(r#"{"type":"dance","steps":[1]}"#).unwrap();
    assert_eq!(unknown.kind, SaidType::Unknown);
}
