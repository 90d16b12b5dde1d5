//! Servers, files and readers that want to hang, fill or mislead the load test.

use std::{
    fs::File,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;

use crate::{
    LOAD, command,
    fake::{Fake, Faults},
    read, report_file, run,
};

/// Takes connections and messages, and never answers anything.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(swallow(stream));
        }
    });
    format!("ws://{address}/ws")
}

async fn swallow(stream: TcpStream) {
    let mut head = [0; 2048];
    let read = stream.peek(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
    if !head.contains("upgrade:") {
        return std::future::pending().await;
    }
    if let Ok(mut socket) = accept_async(stream).await {
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    }
}

/// A scenario file of two users for a second.
fn scenario(steps: &str) -> String {
    let file = report_file().with_extension("toml");
    let text = format!(
        "name = 'hostile'\ngreeting = 'none'\n[message.say]\ntext = '{{{{payload}}}}'\n\
         [[phase]]\nduration = '1s'\nusers = 2\n[[flow]]\nname = 'f'\nsteps = [{steps}]\n"
    );
    std::fs::write(&file, text).expect("written");
    file.to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn nothing_keeps_a_run_from_its_end() {
    let url = silent().await;
    for steps in [
        "'connect', { loop = 'endless', steps = [{ think = '1ns' }] }",
        "'connect', { loop = 'endless', steps = [{ loop = 4000000000, steps = [{ think = '0s..1ns' }] }] }",
        "{ http = '/never', within = '1h' }",
        "'connect', { send = 'say' }, 'close'",
        "'connect', { expect = 'x', within = '1h' }",
    ] {
        let started = Instant::now();
        let file = scenario(steps);
        let args = ["--scenario", &file, "--message-timeout", "1h"];
        let ran = run(&url, &args);
        let ran = tokio::time::timeout(Duration::from_secs(60), ran).await;
        let _ = std::fs::remove_file(file);
        let ran = ran.unwrap_or_else(|_| panic!("{steps} goes on"));
        assert!(ran.json.is_object(), "{steps}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{steps}: {}", ran.stderr);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(30), "{steps}: {took:?}");
    }
}

#[tokio::test]
async fn files_that_never_end_are_refused() {
    for args in [
        &["check", "/dev/zero"][..],
        &["report", "/dev/zero"],
        &["compare", "/dev/zero", "/dev/zero"],
        &["merge", "/dev/zero"],
        &["--baseline", "/dev/zero"],
        &["--token-file", "/dev/zero"],
        &["wss://127.0.0.1/", "--ca", "/dev/zero"],
    ] {
        let ran = command(args).output().await.expect("the binary runs");
        let error = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains("is it the right one?"), "{args:?}: {error}");
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_an_error_and_does_not_cost_the_others() {
    let fake = Fake::start(Faults::default()).await;
    let (file, url) = (report_file(), fake.url());
    let path = file.to_str().expect("UTF-8");
    let full = report_file();
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link");
    let full = full.to_str().expect("UTF-8");
    let reports = ["--report", full, "--report", path];
    let fixed = [&url[..], "--admin-url", "none"];
    let mut ran = command(&[&fixed[..], &LOAD[..], &reports[..]].concat());
    let ran = ran.output().await.expect("the binary runs");
    let ran = read(&ran, &file);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains(full), "{}", ran.stderr);
    assert_eq!(ran.json["outcome"], "pass", "the second one is there");
    std::fs::remove_file(full).expect("the link is still there");

    for (to, code) in [("/dev/full", 2), ("/dev/null", 0)] {
        let out = File::options().write(true).open(to).expect("a device");
        let mut ran = command(&["schema"]);
        let ran = ran.stdout(out).stderr(Stdio::piped()).spawn();
        let ran = ran.expect("the binary runs").wait_with_output().await;
        let ran = ran.expect("it ends");
        let error = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{error}");
        assert_eq!(error.contains("standard output"), code == 2, "{error}");
    }
}
