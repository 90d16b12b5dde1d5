//! One plan from several processes, and their records merged.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    Ran, command,
    fake::{Counts, Fake, Faults},
    read, report_file,
    signals::{ended, send, wait_for},
};

/// Of twelve users, two or three shares have some with partners in the same share, and some without.
const LOAD: [&str; 8] = [
    "--users",
    "12",
    "--spacing",
    "20ms",
    "--duration",
    "2s",
    "--signal-interval",
    "100ms",
];

/// Plays all shares at the same time, and gives the files of their records.
async fn play(fake: &Fake, count: usize) -> Vec<PathBuf> {
    let start_at = SystemTime::now() + Duration::from_millis(1500);
    let start_at = humantime::format_rfc3339_millis(start_at).to_string();
    let mut running = Vec::new();
    for share in 1..=count {
        let file = report_file();
        let (url, share) = (fake.url(), format!("{share}/{count}"));
        let path = file.to_str().expect("UTF-8").to_owned();
        let fixed = [
            &url,
            "--admin-url",
            "none",
            "--report",
            &path,
            "--shard",
            &share,
        ];
        let args = [&fixed[..], &["--start-at", &start_at], &LOAD].concat();
        running.push((file, command(&args).output()));
    }
    let mut files = Vec::new();
    let (paths, outputs): (Vec<_>, Vec<_>) = running.into_iter().unzip();
    for (file, output) in paths
        .into_iter()
        .zip(futures_util::future::join_all(outputs).await)
    {
        let output = output.expect("the binary runs");
        let (out, error) = (&output.stdout, &output.stderr);
        let said = String::from_utf8_lossy(out) + String::from_utf8_lossy(error);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let named = format!("shard {}/{count} of a plan", files.len() + 1);
        assert!(said.contains(&named), "{said}");
        assert!(said.contains("starts in"), "{said}");
        files.push(file);
    }
    files
}

async fn merge(files: &[PathBuf]) -> Ran {
    let to = report_file();
    let mut args = vec!["merge"];
    args.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    args.extend(["--to", to.to_str().expect("UTF-8")]);
    let output = command(&args).output().await.expect("the binary runs");
    read(&output, &to)
}

fn remove(files: &[PathBuf]) {
    files
        .iter()
        .for_each(|file| std::fs::remove_file(file).expect("written"));
}

fn record(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).expect("written");
    serde_json::from_str(&text).expect("JSON")
}

async fn shares_are_one_run(count: usize) {
    let fake = Fake::start(Faults::default()).await;
    let files = play(&fake, count).await;
    let merged = merge(&files).await;
    assert_eq!(merged.code, Some(0), "{}{}", merged.stdout, merged.stderr);
    merged.assert_books_close(&fake);
    assert_eq!(
        merged.messages("delivered"),
        merged.messages("sent"),
        "{:#}",
        merged.json
    );
    assert_eq!(merged.count("/matches/matched"), 12);
    assert_eq!(
        (
            merged.count("/matches/one_sided"),
            merged.count("/matches/failed")
        ),
        (0, 0)
    );
    assert_eq!(merged.json["connections"]["success_percent"], 100.0);
    assert_eq!(merged.count("/connections/peak"), 12);
    let timed = merged.count("/latency/message/count");
    assert_eq!(timed, merged.messages("sent"), "{}", merged.stdout);
    let shares = merged.json["run"]["merged_from"]
        .as_array()
        .expect("a list");
    assert_eq!(shares.len(), count);
    for share in shares {
        let number = |name: &str| share[name].as_f64().expect("known");
        let (offset, uncertainty) = (number("clock_offset_ms"), number("clock_uncertainty_ms"));
        assert!(
            offset.abs() <= uncertainty,
            "one machine has one clock: {share}"
        );
        assert!(uncertainty < 50.0, "{share}");
    }
    remove(&files);
}

#[tokio::test]
async fn two_shares_are_one_run() {
    shares_are_one_run(2).await;
}

#[tokio::test]
async fn three_shares_are_one_run() {
    shares_are_one_run(3).await;
}

#[tokio::test]
async fn a_missing_share_is_a_gap_and_not_a_wrong_number() {
    let fake = Fake::start(Faults::default()).await;
    let files = play(&fake, 3).await;
    let merged = merge(&files[..2]).await;
    assert_eq!(merged.json["run"]["missing_shards"], serde_json::json!([3]));
    assert_eq!(
        merged.json["measurement"]["validity"], "suspect",
        "{}",
        merged.stdout
    );
    assert!(
        merged.stdout.contains("without shard 3"),
        "{}",
        merged.stdout
    );
    assert_eq!(
        (merged.messages("lost"), merged.count("/matches/one_sided")),
        (0, 0)
    );
    assert!(
        merged.messages("delivered") > 0 && merged.messages("unknown") > 0,
        "{:#}",
        merged.json
    );
    let fates = merged.messages("delivered") + merged.messages("unknown");
    assert_eq!(merged.messages("sent"), fates);
    assert_eq!(merged.count("/matches/matched"), 8);
    let twice = merge(&[files[0].clone(), files[0].clone()]).await;
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("both shard 1"), "{}", twice.stderr);
    remove(&files);
}

#[tokio::test]
async fn what_gets_lost_between_shares_is_found_when_they_are_merged() {
    let faults = Faults {
        drop: Some(10),
        ..Faults::default()
    };
    let fake = Fake::start(faults).await;
    let files = play(&fake, 2).await;
    let merged = merge(&files).await;
    assert_eq!(
        (merged.code, merged.target("message_success")),
        (Some(99), "failed"),
        "{}",
        merged.stdout
    );
    merged.assert_books_close(&fake);
    assert_eq!(
        merged.messages("lost"),
        Counts::get(&fake.counts.dropped),
        "{:#}",
        merged.json
    );
    let alone = files.iter().map(|file| lost(&record(file)));
    assert!(
        alone.sum::<u64>() < lost(&merged.json),
        "what is lost between two shards, neither of them knows alone"
    );
    remove(&files);
}

fn lost(record: &Value) -> u64 {
    let rows = record["delivery"].as_array().expect("a list").iter();
    rows.filter_map(|row| row["lost"].as_u64()).sum()
}

#[tokio::test]
async fn a_start_that_was_missed_is_refused() {
    let fake = Fake::start(Faults::default()).await;
    let url = fake.url();
    let args = [&url, "--shard", "1/2", "--start-at", "2020-01-31T12:00:00Z"];
    let output = command(&args).output().await.expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("ago") && said.contains("--start-at"),
        "{said}"
    );
    assert_eq!(Counts::get(&fake.counts.connections), 0, "nobody connected");
}

/// What the job has its pods do, with the values that it gives them.
#[tokio::test]
async fn the_job_has_each_pod_play_a_share_and_print_its_record() {
    let job = include_str!("../../deploy/kubernetes/loadtest/job.yaml");
    let (_, after) = job.split_once("- |\n").expect("a script");
    let script: String = after
        .lines()
        .map_while(|line| line.strip_prefix("              "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let given = |name: &str| job.contains(&format!("- name: {name}\n"));
    let fake = Fake::start(Faults::default()).await;
    let start_at = SystemTime::now() + Duration::from_millis(1500);
    let (file, url) = (report_file(), fake.url());
    let folder = file.with_extension("pods");
    let mut pods = Vec::new();
    for pod in ["0", "1"] {
        let tmp = folder.join(pod);
        std::fs::create_dir_all(&tmp).expect("made");
        let mut shell = tokio::process::Command::new("sh");
        let programs = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent();
        shell.args(["-c", &script]).env("JOB_COMPLETION_INDEX", pod);
        shell.env("TMPDIR", &tmp).env("PATH", path_with(programs));
        for (name, value) in [
            ("SHARDS", "2"),
            ("LOADTEST_URL", &url),
            ("LOADTEST_ADMIN_URL", "none"),
            ("LOADTEST_USERS", "12"),
            ("LOADTEST_SPACING", "20ms"),
            ("LOADTEST_DURATION", "2s"),
            (
                "LOADTEST_START_AT",
                &humantime::format_rfc3339_millis(start_at).to_string(),
            ),
        ] {
            assert!(given(name), "the job does not give {name}");
            shell.env(name, value);
        }
        pods.push(shell.output());
    }
    let mut files = Vec::new();
    for (pod, output) in futures_util::future::join_all(pods)
        .await
        .into_iter()
        .enumerate()
    {
        let output = output.expect("there is a shell");
        let log = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&log));
        let file = folder.join(format!("{pod}.json"));
        std::fs::write(&file, log).expect("written");
        files.push(file);
    }
    let merged = merge(&files).await;
    let _ = std::fs::remove_dir_all(&folder);
    assert_eq!(merged.count("/run/users"), 12);
    assert_eq!(merged.count("/matches/matched"), 12);
}

fn path_with(first: Option<&Path>) -> std::ffi::OsString {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let all = first
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&known));
    std::env::join_paths(all).expect("folders")
}

/// At the end all leave one after the other. Who is late to leave has had the time to hear that their partner has left.
#[tokio::test]
async fn a_share_that_stands_still_while_the_other_leaves_hears_that_afterwards() {
    const USERS: usize = 1_000;
    let fake = Fake::start(Faults::default()).await;
    let start_at = SystemTime::now() + Duration::from_millis(1500);
    let start_at = humantime::format_rfc3339_millis(start_at).to_string();
    let (users, url) = (USERS.to_string(), fake.url());
    let load = [
        "--users",
        &users,
        "--spacing",
        "1ms",
        "--duration",
        "3s",
        "--quiet",
    ];
    let (mut shares, mut files) = (Vec::new(), Vec::new());
    for share in ["1/2", "2/2"] {
        let file = report_file();
        let path = file.to_str().expect("UTF-8");
        let fixed = [
            &url,
            "--admin-url",
            "none",
            "--report",
            path,
            "--shard",
            share,
        ];
        let args = [&fixed[..], &["--start-at", &start_at], &load].concat();
        shares.push(command(&args).spawn().expect("the binary runs"));
        files.push(file);
    }
    let connected = || Counts::get(&fake.counts.connected);
    wait_for("all are there", || connected() >= USERS).await;
    wait_for("the first leaves", || connected() < USERS).await;
    send(&shares[1], Signal::STOP);
    // The time is what is tested: a user counts as not told 2 s after the partner has left.
    sleep(Duration::from_secs(3)).await;
    let left_over = connected();
    send(&shares[1], Signal::CONT);
    for share in shares {
        ended(share).await;
    }
    assert!(left_over > USERS / 4, "all had left before: {left_over}");
    let ran = merge(&files).await;
    let wronged = ["peer_left_missing", "peer_left_wrong"].map(|kind| ran.error(kind));
    assert_eq!(wronged, [0, 0], "{}", ran.stdout);
    remove(&files);
}
