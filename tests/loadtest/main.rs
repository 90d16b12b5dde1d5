//! Runs the real `loadtest` binary against servers whose faults are known, and compares its report with them.

mod blame;
mod both_sides;
mod campaigns;
mod cluster;
mod command;
mod delivery;
mod fake;
mod faults;
mod files;
mod foreign;
mod hostile;
mod network;
mod node;
mod paced;
mod people;
mod plans;
mod records;
mod shards;
mod signals;
mod talk;
mod tls;
mod transcription;
mod transcription_audio;
mod transcription_faults;

use std::{
    process::{Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use fake::{Counts, Fake, Faults};
use serde_json::Value;
use tokio::process::Command;

/// Twenty users who send ten messages a second each, for two seconds.
const LOAD: [&str; 8] = [
    "--users",
    "20",
    "--spacing",
    "5ms",
    "--duration",
    "2s",
    "--signal-interval",
    "100ms",
];

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    json: Value,
}

impl Ran {
    fn count(&self, pointer: &str) -> usize {
        let value = self.json.pointer(pointer).and_then(Value::as_u64);
        let value = value.unwrap_or_else(|| panic!("no number at {pointer} in {:#}", self.json));
        usize::try_from(value).expect("a small number")
    }

    /// Messages of all types and in all directions.
    fn messages(&self, fate: &str) -> usize {
        let delivery = self.json["delivery"].as_array().expect("a list");
        let counts = delivery.iter().filter_map(|part| part[fate].as_u64());
        usize::try_from(counts.sum::<u64>()).expect("a small number")
    }

    fn error(&self, kind: &str) -> usize {
        let errors = self.json["errors"].as_array().expect("a list");
        let counts = errors
            .iter()
            .filter(|error| error["kind"] == kind)
            .map(|error| &error["count"]);
        usize::try_from(counts.filter_map(Value::as_u64).sum::<u64>()).expect("a small number")
    }

    fn target(&self, name: &str) -> &str {
        let targets = self.json["thresholds"].as_array().expect("a list");
        let target = targets
            .iter()
            .find(|target| target["name"] == name)
            .expect("known");
        target["status"].as_str().expect("a word")
    }

    /// Every message that the server got was sent, and each has one fate.
    #[track_caller]
    fn assert_books_close(&self, fake: &Fake) {
        assert_eq!(
            self.messages("sent"),
            Counts::get(&fake.counts.received),
            "{:#}",
            self.json
        );
        let fates = ["delivered", "lost", "undeliverable"];
        let fates = fates.map(|fate| self.messages(fate));
        assert_eq!(
            self.messages("sent"),
            fates.into_iter().sum::<usize>(),
            "{:#}",
            self.json
        );
        assert!(self.messages("sent") > 0);
    }
}

fn command(args: &[&str]) -> Command {
    // What the one who runs the tests has set must not change what is tested: under `nohup`, a program
    // inherits that SIGHUP is ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_loadtest")]);
    let set = std::env::vars_os().map(|(name, _)| name);
    for name in set.filter(|name| name.to_string_lossy().starts_with("LOADTEST_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A file for the report that no other test uses.
fn report_file() -> std::path::PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "loadtest-{}-{}.json",
        std::process::id(),
        NEXT.fetch_add(1, SeqCst)
    );
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn read(output: &Output, file: &std::path::Path) -> Ran {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (lossy(&output.stdout), lossy(&output.stderr));
    let json = std::fs::read_to_string(file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    let json = serde_json::from_str(&json).unwrap_or(Value::Null);
    Ran {
        code: output.status.code(),
        stdout,
        stderr,
        json,
    }
}

async fn run(url: &str, args: &[&str]) -> Ran {
    let file = report_file();
    let path = file.to_str().expect("UTF-8");
    let fixed = [url, "--admin-url", "none", "--report", path];
    let output = command(&[&fixed, args].concat())
        .output()
        .await
        .expect("the binary runs");
    read(&output, &file)
}

async fn against(faults: Faults, more: &[&str]) -> (Ran, Fake) {
    let fake = Fake::start(faults).await;
    let ran = run(&fake.url(), &[&LOAD[..], more].concat()).await;
    (ran, fake)
}

impl Ran {
    /// A figure of a latency, in milliseconds: a quantile, or `max`.
    fn ms(&self, latency: &str, quantile: &str) -> f64 {
        let of = &self.json["latency"][latency];
        let value = match quantile {
            "max" => &of["max_ms"],
            _ => &of["quantiles_ms"][quantile],
        };
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no {quantile} of {latency}: {of}"))
    }

    /// How many took longer than `ms` milliseconds.
    fn slower(&self, latency: &str, ms: u64) -> usize {
        let text = self.json["latency"][latency]["histogram"].as_str();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text.expect("one"));
        let histogram: hdrhistogram::Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new()
                .deserialize(&mut bytes.expect("base64").as_slice())
                .expect("an HDR histogram");
        let slow = histogram.count_between(ms * 1000, u64::MAX);
        usize::try_from(slow).expect("a small number")
    }

    /// The exit code is 0, on a quiet machine.
    #[track_caller]
    fn assert_passed(&self, what: &str) {
        assert!(self.json.is_object(), "{what}: {}", self.stderr);
        self.assert_ended(0);
    }

    fn findings(&self) -> String {
        self.json["measurement"]["findings"].to_string()
    }

    /// The exit code. A busy machine may make the generator doubt itself, or void its measurement; nothing else
    /// may speak against it.
    #[track_caller]
    fn assert_ended(&self, code: i32) {
        let measurement = &self.json["measurement"];
        for finding in measurement["findings"].as_array().expect("a list") {
            let what = finding["what"].as_str().expect("words");
            assert!(what.starts_with("the generator itself"), "{what}");
        }
        let void = measurement["validity"] == "invalid";
        let code = if void { 98 } else { code };
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
    }
}
