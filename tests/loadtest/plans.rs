//! Stages, arrivals and scenarios, from the command line to the report.

use serde_json::Value;

use crate::{
    command,
    fake::{Counts, Fake, Faults},
    report_file, run,
};

fn phases(ran: &crate::Ran) -> Vec<(String, u64)> {
    let phases = ran.json["phases"].as_array().expect("a list");
    let phase = |phase: &Value| {
        let name = phase["name"].as_str().expect("a name").to_owned();
        (name, phase["peak_connected"].as_u64().expect("a number"))
    };
    phases.iter().map(phase).collect()
}

#[tokio::test]
async fn users_come_and_go_by_stages() {
    let fake = Fake::start(Faults::default()).await;
    let stages = ["--stage", "500ms:20,1s:20,500ms:10,1s:10"];
    let ran = run(
        &fake.url(),
        &[&stages[..], &["--signal-interval", "100ms"]].concat(),
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    ran.assert_books_close(&fake);
    let names: Vec<_> = phases(&ran).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0 to 20", "hold 20", "20 to 10", "hold 10"]);
    assert_eq!(ran.count("/run/users"), 20);
    assert_eq!(ran.count("/connections/succeeded"), 20);
    assert_eq!(ran.count("/connections/dropped"), 0);
    assert!(ran.stdout.contains("20 to 10"), "{}", ran.stdout);
}

#[tokio::test]
async fn as_many_users_come_as_a_stage_names() {
    for (stages, peak) in [("300ms:10,300ms:4", 10), ("300ms:3,300ms:6,0s:1,1s:1", 6)] {
        let fake = Fake::start(Faults::default()).await;
        let ran = run(
            &fake.url(),
            &["--stage", stages, "--signal-interval", "50ms"],
        )
        .await;
        assert_eq!(ran.count("/connections/succeeded"), peak, "{stages}");
    }
}

#[tokio::test]
async fn users_arrive_by_a_rate_and_leave_when_they_are_through() {
    let fake = Fake::start(Faults::default()).await;
    let rate = [
        "--arrival-rate",
        "20/s",
        "--duration",
        "2s",
        "--stay",
        "300ms",
    ];
    let ran = run(
        &fake.url(),
        &[&rate[..], &["--signal-interval", "100ms"]].concat(),
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    ran.assert_books_close(&fake);
    assert_eq!(ran.count("/connections/succeeded"), 40);
    assert_eq!(ran.count("/matches/one_sided"), 0);
    let peak = ran.count("/connections/peak");
    assert!(peak < 25, "{peak} at once, of whom each stayed for 0.3 s");
}

#[tokio::test]
async fn a_scenario_of_ones_own_is_checked_and_played() {
    let file = report_file().with_extension("toml");
    let path = file.to_str().expect("UTF-8");
    std::fs::write(
        &file,
        r#"
name = "mine"
thresholds = ["message_success >= 100%", "call_latency{time} p99 < 5s", "flow_success >= 99%"]
[message.time]
text = '{"type":"ping","id":"{{id}}"}'
answer = "pong"
[[phase]]
name = "all"
duration = "0s"
users = 10
[[phase]]
name = "talk"
duration = "2s"
users = 10
[[flow]]
name = "talk"
steps = [
    "connect",
    { call = "time", within = "2s" },
    "find_match",
    { send = "message", every = "50ms", times = 5, size = 300 },
    { call = "time" },
]
"#,
    )
    .expect("it can be written");
    let checked = command(&["check", path]).output().await.expect("it runs");
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && told.contains("talk"), "{told}");
    let fake = Fake::start(Faults::default()).await;
    let ran = run(&fake.url(), &["--scenario", path]).await;
    let _ = std::fs::remove_file(&file);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.json["run"]["scenario"], "mine");
    let again = ran.json["run"]["command"].as_str().expect("a text");
    assert!(again.starts_with("loadtest ws://127.0.0.1:"), "{again}");
    assert!(again.ends_with(&format!("--scenario {path}")), "{again}");
    assert_eq!(ran.messages("delivered"), 50);
    assert_eq!(Counts::get(&fake.counts.received), 50);
    let call = &ran.json["calls"][0];
    assert_eq!(
        (&call["name"], &call["answered"]),
        (&"time".into(), &20.into()),
        "{call}"
    );
    let flow = &ran.json["flows"][0];
    assert_eq!(
        (&flow["name"], &flow["completed"]),
        (&"talk".into(), &10.into()),
        "{flow}"
    );
}

#[tokio::test]
async fn a_user_who_has_left_comes_again_while_the_plan_wants_them() {
    let file = report_file().with_extension("toml");
    let path = file.to_str().expect("UTF-8");
    let scenario = r#"
name = "visits"
thresholds = ["connection_success >= 100%", "flow_success >= 100%"]
[[phase]]
duration = "0s"
users = 5
[[phase]]
duration = "2s"
users = 5
[[flow]]
name = "visit"
steps = ["connect", { think = "300ms" }, "close"]
"#;
    std::fs::write(&file, scenario).expect("it can be written");
    let fake = Fake::start(Faults::default()).await;
    let ran = run(&fake.url(), &["--scenario", path]).await;
    let _ = std::fs::remove_file(&file);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let visits = ran.count("/connections/succeeded");
    assert!(
        (20..=35).contains(&visits),
        "{visits} visits of 0.3 s in 2 s by 5 users"
    );
    assert_eq!(ran.count("/connections/peak"), 5);
}

#[tokio::test]
async fn a_scenario_with_a_mistake_is_refused_before_anybody_connects() {
    let file = report_file().with_extension("toml");
    let path = file.to_str().expect("UTF-8");
    let wrote = command(&["init", path]).output().await.expect("it runs");
    assert!(wrote.status.success());
    let again = command(&["init", path]).output().await.expect("it runs");
    assert_eq!(again.status.code(), Some(2), "a file is not overwritten");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, text.replace("\"find_match\"", "\"find_mtach\"")).expect("written");
    let fake = Fake::start(Faults::default()).await;
    let ran = run(&fake.url(), &["--scenario", path]).await;
    let _ = std::fs::remove_file(&file);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(
        ran.stderr.contains(".toml:") && ran.stderr.contains("find_mtach"),
        "{}",
        ran.stderr
    );
    assert_eq!(Counts::get(&fake.counts.connections), 0);
}

#[tokio::test]
async fn what_is_built_in_is_listed_and_described() {
    let listed = command(&["scenarios"]).output().await.expect("it runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: Vec<_> = listed
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    assert!(names.contains(&"reconnect-storm"), "{listed}");
    for name in names {
        let told = command(&["check", name]).output().await.expect("it runs");
        assert!(told.status.success(), "{name}");
    }
}

/// Plays flows whose users wait for a message, of which the file asks nothing.
async fn expecting(url: &str, head: &str, steps: &str) -> crate::Ran {
    let file = report_file().with_extension("toml");
    let scenario = format!(
        "name = \"expecting\"\n{head}\n[[phase]]\nduration = \"1s\"\narrival_rate = \"20/s\"\n\
         [[phase]]\nduration = \"2s\"\nusers = 0\n\
         [[flow]]\nname = \"wait\"\nrematch = false\nsteps = [{steps}]\n"
    );
    std::fs::write(&file, scenario).expect("it can be written");
    let path = file.to_str().expect("UTF-8");
    let ran = run(url, &["--scenario", path]).await;
    let _ = std::fs::remove_file(&file);
    ran
}

#[tokio::test]
async fn a_message_that_comes_before_somebody_waits_for_it_is_not_missed() {
    let fake = Fake::start(Faults::default()).await;
    let head = "thresholds = [\"connection_success >= 100%\"]";
    let steps = "\"connect\", \"find_match\", { send = \"message\", times = 1 }, { think = \"200ms\" }, \
                 { expect = \"message\", within = \"500ms\" }, \"close\"";
    let ran = expecting(&fake.url(), head, steps).await;
    ran.assert_ended(0);
    assert_eq!(ran.json["errors"], Value::Array(Vec::new()));
    assert_eq!(ran.count("/flows/0/completed"), 20, "{}", ran.stdout);
    assert_eq!(ran.target("flow_success"), "ok");
}

#[tokio::test]
async fn a_message_that_never_comes_is_an_error_and_no_pass() {
    let server = crate::node::Server::echo(&[]).await;
    let head = "greeting = \"none\"\nthresholds = [\"connection_success >= 100%\"]\n\
                [message.ask]\ntext = '{\"type\":\"ask\"}'";
    // The first is met by what the server sends back.
    let steps = "\"connect\", { send = \"ask\", times = 1 }, { expect = \"ask\", within = \"5s\" }, \
                 { expect = \"welcome\", within = \"100ms\" }, \"close\"";
    let ran = expecting(&server.url(), head, steps).await;
    ran.assert_ended(99);
    assert_eq!(ran.error("expect_timed_out:welcome"), 20, "{}", ran.stdout);
    assert_eq!(ran.error("expect_timed_out:ask"), 0, "{}", ran.stdout);
    assert_eq!(ran.count("/flows/0/failed"), 20);
    assert_eq!(ran.target("flow_success"), "failed");
    assert!(ran.stdout.contains("no message of this type came"));
}
