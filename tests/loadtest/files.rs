//! Files that a run reads and writes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Output,
};

use crate::{
    LOAD, command,
    fake::{Fake, Faults},
    report_file,
};

/// A folder with the record of a run in it; gone when dropped.
struct Folder(PathBuf);

impl Folder {
    async fn with_record() -> Self {
        let folder = Self(report_file().with_extension("folder"));
        fs::create_dir(&folder.0).expect("a new folder");
        let (fake, record) = (
            Fake::start(Faults::default()).await,
            folder.path("run.json"),
        );
        let url = fake.url();
        let fixed = [&url[..], "--admin-url", "none", "--report", &record];
        let output = command(&[&fixed, &LOAD[..]].concat()).output().await;
        let output = output.expect("the binary runs");
        assert!(Path::new(&record).exists(), "{}", said(&output));
        folder
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.join(name);
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn two_reports_into_one_file_are_refused_before_the_run() {
    let folder = Folder::with_record().await;
    let path = |name| folder.path(name);
    fs::create_dir(path("sub")).expect("a new folder");
    symlink("a.html", path("link.json")).expect("a link");
    let (record, url) = (path("run.json"), "ws://127.0.0.1:1/ws");
    for (one, other) in [
        ("a.html", "a.html"),
        ("a.html", "link.json"),
        ("sub/../a.html", "a.html"),
    ] {
        let (one, other) = (path(one), path(other));
        let run = [url, "--report", &one, "--report", &other];
        let report = ["report", &record, "--to", &one, "--to", &other];
        for args in [&run[..], &report] {
            let output = command(args).output().await.expect("the binary runs");
            let error = said(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
            assert!(error.contains("the same file"), "{args:?}: {error}");
        }
    }
    assert!(!Path::new(&path("a.html")).exists());
}

#[tokio::test]
async fn a_report_is_whole_or_what_was_there_before() {
    let folder = Folder::with_record().await;
    fs::write(folder.path("old.html"), "before").expect("written");
    for (file, before) in [("old.html", Some("before")), ("new.html", None)] {
        let file = folder.path(file);
        let mut shell = tokio::process::Command::new("sh");
        // A write beyond the limit fails, as on a full disk.
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
        let binary = env!("CARGO_BIN_EXE_loadtest");
        shell.args(["-c", script, "sh", binary, "report"]);
        shell.args([&folder.path("run.json"), "--to", &file]);
        let output = shell.output().await.expect("there is a shell");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(&file), "{}", said(&output));
        let now = fs::read_to_string(&file).ok();
        assert_eq!(now.as_deref(), before, "{file}");
    }
    let left = fs::read_dir(&folder.0).expect("a folder").count();
    assert_eq!(left, 2, "no temporary file is left");
}

#[tokio::test]
async fn files_that_windows_editors_saved_are_read_or_explained() {
    let folder = Folder::with_record().await;
    let [record, scenario, tokens] = ["run.json", "my.toml", "tokens.txt"].map(|n| folder.path(n));
    let init = command(&["init", &scenario]).output().await;
    assert!(init.expect("the binary runs").status.success());
    fs::write(&tokens, "abc\r\n").expect("written");
    let fake = Fake::start(Faults::default()).await;
    let url = fake.url();
    let run = [&url[..], "--admin-url", "none", "--token-file", &tokens];
    let run = [&run, &LOAD[..]].concat();
    let commands = [
        (&record, &["report", &record][..]),
        (&scenario, &["check", &scenario]),
        (&tokens, &run),
    ];
    for (file, args) in commands {
        let text = fs::read_to_string(file).expect("text");
        fs::write(file, format!("\u{feff}{text}")).expect("written");
        let output = command(args).output().await.expect("the binary runs");
        // 98: a busy machine.
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 98)), "{args:?}: {}", said(&output));

        let utf16: Vec<u8> = format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        fs::write(file, utf16).expect("written");
        let output = command(args).output().await.expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = said(&output);
        assert!(error.contains("save it as UTF-8"), "{args:?}: {error}");
        assert!(!error.contains("built in"), "{args:?}: {error}");
    }
}
