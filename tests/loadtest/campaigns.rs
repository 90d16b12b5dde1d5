//! More than one run: searches for the capacity, percentages of it, one scenario after another, storms.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    command,
    fake::{Counts, Fake, Faults},
    report_file,
};

/// A search whose tries take half a second.
const SEARCH: &str = r#"
name = "mine"
then = []
[search]
from = 15
to = 120
precision = "5%"
[[phase]]
name = "ramp"
duration = "20ms"
users = 15
[[phase]]
name = "hold"
duration = "500ms"
users = 15
[[flow]]
name = "talk"
steps = ["connect", "find_match", { send = "ice_candidate", every = "50ms" }]
"#;

/// A scenario in a file, and a name for reports beside it; gone when dropped.
struct Files {
    scenario: PathBuf,
    report: PathBuf,
}

impl Files {
    fn new(scenario: &str) -> Self {
        let report = report_file();
        let files = Self {
            scenario: report.with_extension("toml"),
            report,
        };
        std::fs::write(&files.scenario, scenario).expect("it can be written");
        files
    }

    /// The report, or that of one of several scenarios.
    fn report_of(&self, scenario: &str) -> PathBuf {
        let stem = self.report.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.expect("a name");
        self.report
            .with_file_name(format!("{stem}-{scenario}.json"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.scenario);
        let _ = std::fs::remove_file(&self.report);
    }
}

/// A record, which is then removed.
fn taken(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    std::fs::remove_file(path).expect("it was there");
    serde_json::from_str(&text).expect("JSON")
}

fn arguments<'a>(url: &'a str, scenario: &'a str, report: &'a Path) -> [&'a str; 7] {
    let report = report.to_str().expect("UTF-8");
    let none = ["--admin-url", "none"];
    [
        url,
        none[0],
        none[1],
        "--scenario",
        scenario,
        "--report",
        report,
    ]
}

async fn play(fake: &Fake, scenario: &str, report: &Path, more: &[&str]) -> Output {
    let url = fake.url();
    let fixed = arguments(&url, scenario, report);
    let output = command(&[&fixed, more].concat()).output().await;
    output.expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn room_for(users: usize) -> Faults {
    Faults {
        room_for: Some(users),
        ..Faults::default()
    }
}

#[tokio::test]
async fn the_breaking_point_is_found_with_what_gave_out() {
    let files = Files::new(SEARCH);
    let path = files.scenario.to_str().expect("UTF-8");
    let fake = Fake::start(room_for(60)).await;
    let output = play(&fake, path, &files.report, &[]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let record = taken(&files.report);
    let capacity = &record["capacity"];
    assert_eq!(
        (&capacity["holds"], &capacity["breaks"]),
        (&60.into(), &63.into()),
        "{capacity:#}"
    );
    assert_eq!(record["run"]["users"], 60, "the run that is shown");
    let gave_out = capacity["gave_out"].as_str().expect("words");
    for part in ["connection_success", "with 63 users", "503", "the server"] {
        assert!(gave_out.contains(part), "no {part} in {gave_out}");
    }
    let steps = capacity["steps"].as_array().expect("a list");
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            (
                step["kind"].as_str(),
                step["users"].as_u64(),
                step["held"].as_bool(),
            )
        })
        .map(|(kind, users, held)| {
            (
                kind.expect("a word"),
                users.expect("a number"),
                held == Some(true),
            )
        })
        .collect();
    assert_eq!(
        steps[..4],
        [
            ("step", 15, true),
            ("step", 30, true),
            ("step", 60, true),
            ("step", 120, false)
        ]
    );
    assert_eq!(
        steps[steps.len() - 2..],
        [("confirm", 60, true), ("confirm", 63, false)]
    );
    assert!(told.contains("60 users hold, 63 do not"), "{told}");
}

#[tokio::test]
async fn what_holds_nothing_fails_and_nothing_is_played_on_it() {
    let then = SEARCH.replace("then = []", "then = [\"endurance\"]");
    let files = Files::new(&then);
    let path = files.scenario.to_str().expect("UTF-8");
    let fake = Fake::start(room_for(5)).await;
    let output = play(&fake, path, &files.report, &["--duration", "500ms"]).await;
    assert_eq!(output.status.code(), Some(99), "{}", text(&output.stdout));
    let told = text(&output.stderr);
    assert!(told.contains("endurance is not played"), "{told}");
    let record = taken(&files.report_of("mine"));
    let capacity = &record["capacity"];
    assert_eq!(
        (&capacity["holds"], &capacity["breaks"]),
        (&0.into(), &15.into())
    );
    let _ = std::fs::remove_file(files.report_of("endurance"));
}

#[tokio::test]
async fn a_share_of_what_was_found_is_played_next() {
    let then = SEARCH.replace("then = []", "then = [\"endurance\"]");
    let files = Files::new(&then);
    let path = files.scenario.to_str().expect("UTF-8");
    let fake = Fake::start(Faults::default()).await;
    let more = [
        "--users",
        "20",
        "--duration",
        "1s",
        "--signal-interval",
        "100ms",
    ];
    let output = play(&fake, path, &files.report, &more).await;
    let told = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{told}{}",
        text(&output.stderr)
    );
    let search = taken(&files.report_of("mine"));
    assert_eq!(search["capacity"]["holds"], 20);
    assert_eq!(search["capacity"]["breaks"], Value::Null, "never reached");
    let share = taken(&files.report_of("endurance"));
    assert_eq!(share["run"]["users"], 14);
    let load = share["run"]["load"].as_str().expect("words");
    assert!(
        load.contains("70 % of the at least 20 users") && load.contains("mine"),
        "{load}"
    );
    // The report breaks long lines.
    let words: Vec<_> = told.split_whitespace().collect();
    assert!(words.join(" ").contains(load), "{told}");
    assert!(!files.report.exists(), "each has a file of its own");
}

#[tokio::test]
async fn a_capacity_that_is_given_is_not_searched_for() {
    let files = Files::new("");
    let fake = Fake::start(Faults::default()).await;
    let more = [
        "--capacity",
        "20",
        "--duration",
        "1s",
        "--signal-interval",
        "100ms",
    ];
    let output = play(&fake, "endurance", &files.report, &more).await;
    // A second on a busy machine may be no measurement to trust; what is played is the same.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 98)), "{}", text(&output.stdout));
    let record = taken(&files.report);
    assert_eq!(
        (&record["run"]["users"], &record["capacity"]),
        (&14.into(), &Value::Null)
    );
    let load = record["run"]["load"].as_str().expect("words");
    assert!(load.contains("given by --capacity"), "{load}");
}

#[tokio::test]
async fn a_capacity_that_is_not_given_is_searched_for_first() {
    let share = SEARCH.replace("then = []", "percent_of_capacity = \"70%\"");
    let files = Files::new(&share);
    let path = files.scenario.to_str().expect("UTF-8");
    let fake = Fake::start(room_for(60)).await;
    let output = play(&fake, path, &files.report, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let record = taken(&files.report);
    let capacity = &record["capacity"];
    assert_eq!(
        (&capacity["holds"], &record["run"]["users"]),
        (&60.into(), &42.into())
    );
    let load = record["run"]["load"].as_str().expect("words");
    assert!(
        load.contains("70 % of the 60 users") && load.contains("the search of mine"),
        "{load}"
    );
}

#[tokio::test]
async fn a_storm_is_weathered_in_time_or_not() {
    let files = Files::new("");
    let fake = Fake::start(Faults::default()).await;
    let more = [
        "--users",
        "20",
        "--spacing",
        "1ms",
        "--duration",
        "3s",
        "--signal-interval",
        "100ms",
    ];
    let output = play(&fake, "reconnect-storm", &files.report, &more).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let record = taken(&files.report);
    let recovery = &record["recovery"];
    let dropped = recovery["dropped"].as_u64().expect("a number");
    assert!((5..=15).contains(&dropped), "about a half: {recovery}");
    assert!(
        recovery["matched_99_percent_ms"]
            .as_f64()
            .is_some_and(|ms| ms < 2000.0),
        "{recovery}"
    );
    assert!(told.contains("Recovery"), "{told}");
    let more = [&more[..], &["--threshold", "recovery < 1us"]].concat();
    let output = play(&fake, "reconnect-storm", &files.report, &more).await;
    assert_eq!(output.status.code(), Some(99), "{}", text(&output.stdout));
}

#[tokio::test]
async fn told_to_end_a_campaign_reports_what_was_done() {
    let then = SEARCH.replace("then = []", "then = [\"endurance\"]");
    let files = Files::new(&then);
    let path = files.scenario.to_str().expect("UTF-8");
    let fake = Fake::start(Faults::default()).await;
    let url = fake.url();
    let child = command(&arguments(&url, path, &files.report))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // 15 users, and a connection to see whether anybody listens: it is the second try that is told to end.
    let began = Instant::now();
    while Counts::get(&fake.counts.connections) < 20 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            fake.counts
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id
        .and_then(rustix::process::Pid::from_raw)
        .expect("it runs");
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it can be told");
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let record = taken(&files.report_of("mine"));
    assert_eq!(record["capacity"]["holds"], 15);
    assert_eq!(
        record["capacity"]["steps"].as_array().map(Vec::len),
        Some(1)
    );
    let findings = record["measurement"]["findings"].to_string();
    assert!(findings.contains("before it had an answer"), "{findings}");
    let next = files.report_of("endurance");
    assert!(!next.exists(), "nothing was played after it");
}
