//! What a talk plays: 48 kHz beside 16 kHz, files, and what is refused.

use std::{fs, path::PathBuf};

use crate::{Ran, report_file, transcription::Server};

const FAKE: &str = "fake:?delay=10ms&partial=200ms&final=500ms";

/// A file of this text or audio; removed at the end.
struct File(PathBuf);

impl File {
    fn new(extension: &str, content: &[u8]) -> Self {
        let file = report_file().with_extension(extension);
        fs::write(&file, content).expect("it can be written");
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Two seconds, 16 bits, mono, of noise.
fn wav(rate: u32) -> Vec<u8> {
    let bytes = rate * 2 * 2;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(rate.to_le_bytes());
    file.extend((rate * 2).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(bytes.to_le_bytes());
    file.extend((0..bytes).map(|n| u8::try_from(n * 37 % 40).unwrap_or(0)));
    file
}

/// Three users of one flow each play `steps` for three seconds.
async fn play(steps: &[&str]) -> Ran {
    let flows = steps
        .iter()
        .enumerate()
        .map(|(n, step)| format!("[[flow]]\nname = \"flow {n}\"\nsteps = [{{ {step} }}]\n"));
    let scenario = File::new(
        "toml",
        format!(
            "name = \"audio\"\ngreeting = \"none\"\n[[phase]]\nduration = \"100ms\"\nusers = {users}\n\
             [[phase]]\nduration = \"3s\"\nusers = {users}\n{}",
            flows.collect::<String>(),
            users = steps.len() * 2,
        )
        .as_bytes(),
    );
    let server = Server::start(FAKE, &[]).await;
    server.play(&["--scenario", scenario.path()]).await
}

#[tokio::test]
async fn numbered_audio_of_48_khz_is_heard_word_by_word_beside_that_of_16_khz() {
    let ran = play(&[
        "talk = 'high', sample_rate = 48000, acks = 'each'",
        "talk = 'longest', sample_rate = 48000, every = '680ms'",
        "talk = 'shortest', sample_rate = 48000, every = '20ms'",
        "talk = 'low', sample_rate = 16000, acks = 'each'",
    ])
    .await;
    ran.assert_all_heard(8..=8);
    let confirmed = ran.count("/latency/audio_ack/count");
    assert!(confirmed > 4 * 20, "{confirmed}\n{}", ran.stdout);
    let [ack, last] = ["audio_ack", "final"].map(|what| ran.ms(what, "p50"));
    assert!(ack < last, "it waits for the provider: {}", ran.stdout);
}

#[tokio::test]
async fn a_file_is_played_at_its_rate() {
    for rate in [16_000, 48_000] {
        let file = File::new("wav", &wav(rate));
        let step = format!(
            "talk = 'file', sample_rate = {rate}, audio = 'file:{}'",
            file.path()
        );
        let ran = play(&[&step]).await;
        assert!(ran.talks("/finals") > 0, "{}\n{}", ran.stdout, ran.stderr);
        assert_eq!(ran.talks("/words/said"), 0, "nobody knows them");
        assert_eq!(ran.talks("/not_stored"), 0, "{}", ran.stdout);
        assert_eq!(ran.json["errors"].as_array().map(Vec::len), Some(0));
    }
}

#[tokio::test]
async fn silence_is_no_word() {
    let ran = play(&["talk = 'still', audio = 'silence', sample_rate = 48000"]).await;
    assert!(ran.talks("/chunks") > 0, "{}", ran.stdout);
    assert_eq!(ran.talks("/finals"), 0, "{}", ran.stdout);
}

#[tokio::test]
async fn a_file_that_is_no_wav_of_that_rate_is_refused_before_anybody_comes() {
    let other = File::new("wav", &wav(44_100));
    let ran = play(&[&format!("talk = 'file', audio = 'file:{}'", other.path())]).await;
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("44100 Hz"), "{}", ran.stderr);
}
