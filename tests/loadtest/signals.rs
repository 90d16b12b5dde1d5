//! Signals, and readers that do not read.

use std::{
    io::{PipeWriter, Write, pipe},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    pipe::fcntl_getpipe_size,
    process::{Pid, Signal, kill_process},
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    Ran, command,
    fake::{Counts, Fake, Faults},
    read, report_file,
};

/// A run of an hour, if no signal ends it.
const LONG: [&str; 6] = [
    "--duration",
    "1h",
    "--users",
    "20",
    "--signal-interval",
    "100ms",
];

pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(30),
            "{what}: not in {waited:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server has got this many more messages.
async fn more_messages(fake: &Fake, more: usize) {
    let before = Counts::get(&fake.counts.received);
    let received = || Counts::get(&fake.counts.received) >= before + more;
    wait_for("messages", received).await;
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw).expect("it runs");
    kill_process(id, signal).expect("it can be told");
}

pub(crate) async fn ended(child: Child) -> std::process::Output {
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await;
    output.expect("it ends in time").expect("it ends")
}

#[track_caller]
fn assert_ended_early(ran: &Ran, fake: &Fake) {
    // 98: the machine of the test was too busy for figures that one can trust.
    let is_over = matches!(ran.code, Some(0 | 98));
    assert!(is_over, "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.json["run"]["interrupted"], true);
    assert!(
        ran.stdout.contains("ended before its plan"),
        "{}",
        ran.stdout
    );
    ran.assert_books_close(fake);
}

#[tokio::test]
async fn a_signal_ends_a_run_early_with_its_reports() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let fake = Fake::start(Faults::default()).await;
        let (file, url) = (report_file(), fake.url());
        let path = file.to_str().expect("UTF-8");
        let fixed = [&url[..], "--admin-url", "none", "--report", path];
        let child = command(&[&fixed, &LONG[..]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        more_messages(&fake, 100).await;
        send(&child, signal);
        assert_ended_early(&read(&ended(child).await, &file), &fake);
    }
}

#[tokio::test]
async fn a_run_under_nohup_outlives_its_terminal() {
    let fake = Fake::start(Faults::default()).await;
    let (file, url) = (report_file(), fake.url());
    let path = file.to_str().expect("UTF-8");
    let child = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_loadtest"), &url, "--report", path])
        .args(["--admin-url", "none"])
        .args(LONG)
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    more_messages(&fake, 100).await;
    send(&child, Signal::HUP);
    more_messages(&fake, 200).await;
    send(&child, Signal::TERM);
    assert_ended_early(&read(&ended(child).await, &file), &fake);
}

/// The end of a pipe that takes nothing more, and the other end, which nobody reads.
fn full_pipe() -> (PipeWriter, std::io::PipeReader) {
    let (reader, mut writer) = pipe().expect("a pipe");
    let size = fcntl_getpipe_size(&writer).expect("it has a size");
    writer.write_all(&vec![b'x'; size]).expect("it fits");
    (writer, reader)
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_hold_up_a_run() {
    let fake = Fake::start(Faults::default()).await;
    for stdout in [false, true] {
        let (full, _unread) = full_pipe();
        let (out, err) = match stdout {
            true => (Stdio::from(full), Stdio::null()),
            false => (Stdio::null(), Stdio::from(full)),
        };
        let (file, url) = (report_file(), fake.url());
        let path = file.to_str().expect("UTF-8");
        let fixed = [&url[..], "--admin-url", "none", "--report", path];
        // Longer than it takes until a line of progress is due.
        let load = [
            "--users",
            "4",
            "--duration",
            "6s",
            "--signal-interval",
            "50ms",
        ];
        let child = command(&[&fixed[..], &load].concat())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the binary runs");
        wait_for("a report", || file.exists()).await;
        if stdout {
            send(&child, Signal::TERM);
        }
        let ran = read(&ended(child).await, &file);
        assert!(matches!(ran.code, Some(0 | 98)), "{:?}", ran.code);
        assert_eq!(ran.json["run"]["interrupted"], false);
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once_even_if_nobody_reads() {
    let fake = Fake::start(Faults::default()).await;
    let (full, _unread) = full_pipe();
    let url = fake.url();
    let child = command(&[&[&url, "--admin-url", "none"], &LONG[..]].concat())
        .stdout(full.try_clone().expect("a descriptor"))
        .stderr(full)
        .spawn()
        .expect("the binary runs");
    more_messages(&fake, 100).await;
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    assert_eq!(ended(child).await.status.code(), Some(130));
}
