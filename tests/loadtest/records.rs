//! A run that is over: reported in every format, shown again, compared.

use std::path::{Path, PathBuf};

use super::{LOAD, command, report_file};
use crate::fake::{Fake, Faults};

/// Files of one test, removed at its end.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        Self(report_file())
    }

    fn path(&self, end: &str) -> PathBuf {
        self.0.with_extension(end)
    }

    fn read(&self, end: &str) -> String {
        std::fs::read_to_string(self.path(end)).unwrap_or_default()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for end in ["json", "html", "md", "csv", "txt"] {
            let _ = std::fs::remove_file(self.path(end));
        }
    }
}

/// The exit code, and what was printed on both streams.
async fn loadtest(args: &[&str]) -> (Option<i32>, String, String) {
    let output = command(args).output().await.expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

async fn record(faults: Faults, files: &Files, ends: &[&str]) -> (Option<i32>, String) {
    let fake = Fake::start(faults).await;
    let url = fake.url();
    let paths: Vec<_> = ends.iter().map(|end| utf8(&files.path(end))).collect();
    let reports = paths.iter().flat_map(|path| ["--report", path]);
    let target = [&url[..], "--admin-url", "none"];
    let args: Vec<_> = target.into_iter().chain(LOAD).chain(reports).collect();
    let (code, stdout, _) = loadtest(&args).await;
    (code, stdout)
}

fn utf8(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn a_run_is_reported_in_every_format_and_shown_again() {
    let files = Files::new();
    let ends = ["json", "html", "md", "csv", "txt"];
    let (code, stdout) = record(Faults::default(), &files, &ends).await;
    assert_eq!(code, Some(0), "{stdout}");
    let html = files.read("html");
    assert!(html.starts_with("<!DOCTYPE html>"), "{html:.200}");
    for outside in ["http-equiv", "src=\"http", "href=\"http", "@import", "url("] {
        assert!(!html.contains(outside), "the page needs {outside}");
    }
    assert!(files.read("md").contains("| PASS |"));
    let csv = files.read("csv");
    let columns = |line: &str| line.split(',').count();
    let widths: Vec<_> = csv.lines().map(columns).collect();
    assert!(widths.len() > 2 && widths.iter().all(|width| *width == widths[0]));
    assert_eq!(files.read("txt"), stdout);

    let json = utf8(&files.path("json"));
    let (code, again, stderr) = loadtest(&["report", &json]).await;
    assert_eq!((code, again), (Some(0), stdout), "{stderr}");
    let page = utf8(&files.path("html"));
    let (code, ..) = loadtest(&["report", &json, "--to", &page]).await;
    assert_eq!((code, files.read("html")), (Some(0), html));
}

#[tokio::test]
async fn a_run_is_not_worse_than_itself_and_worse_than_one_that_lost_nothing() {
    let (good, bad) = (Files::new(), Files::new());
    record(Faults::default(), &good, &["json"]).await;
    let faults = Faults {
        drop: Some(10),
        ..Faults::default()
    };
    let (code, _) = record(faults, &bad, &["json"]).await;
    assert_eq!(code, Some(99));
    let [good, bad] = [good, bad].map(|files| (utf8(&files.path("json")), files));
    let (code, stdout, stderr) = loadtest(&["compare", &good.0, &good.0]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let (code, stdout, stderr) = loadtest(&["compare", &good.0, &bad.0]).await;
    assert_eq!(code, Some(97), "{stdout}{stderr}");
    assert!(
        stdout
            .lines()
            .any(|line| line.contains("WORSE") && line.contains("message_success")),
        "{stdout}"
    );
}

#[tokio::test]
async fn what_is_no_record_is_named() {
    let files = Files::new();
    let path = utf8(&files.path("json"));
    for (text, part) in [
        ("{", "not the JSON of a run"),
        (r#"{"schema_version": 1}"#, "layout 1"),
    ] {
        std::fs::write(&path, text).expect("written");
        for args in [&["report", &path][..], &["--baseline", &path]] {
            let (code, _, stderr) = loadtest(args).await;
            assert_eq!(code, Some(2), "{stderr}");
            assert!(stderr.contains(part) && stderr.contains(&path), "{stderr}");
        }
    }
    let (code, _, stderr) = loadtest(&["--report", "run.pdf"]).await;
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains(".html, .md, .json, .csv or .txt"),
        "{stderr}"
    );
}

#[tokio::test]
async fn what_was_under_test_is_in_the_record_and_in_every_head() {
    let files = Files::new();
    let fake = Fake::start(Faults::default()).await;
    let url = fake.url();
    let paths = ["json", "html", "md"].map(|end| utf8(&files.path(end)));
    let reports = paths.iter().flat_map(|path| ["--report", path]);
    let fixed = [
        &url[..],
        "--admin-url",
        "none",
        "--build",
        "2.4.1 <9f3c2ab>",
    ];
    let args: Vec<&str> = fixed.into_iter().chain(LOAD).chain(reports).collect();
    let (_, text, _) = loadtest(&args).await;
    assert!(text.contains("build 2.4.1 <9f3c2ab>\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&files.read("json")).expect("a record");
    assert_eq!(json["run"]["build"], "2.4.1 <9f3c2ab>");
    assert!(files.read("md").contains("| 2.4.1 &lt;9f3c2ab&gt; |"));
    assert!(files.read("html").contains("build 2.4.1 &lt;9f3c2ab&gt;"));
}
