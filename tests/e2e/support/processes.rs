//! Processes as `/proc` has them.

use std::{fs, process::Command, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

/// The processes that this one has started, and how each is (`Z`: nobody has taken note of its end).
pub(crate) fn children(of: u32) -> Vec<(u32, char)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name in brackets: the state, and the parent.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(of)).then_some((pid, state))
    })
    .collect()
}

/// Sends a signal. What is told to stop stands still then: its threads go on for a moment after SIGSTOP.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
    while signal == Signal::STOP && !stands_still(pid) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_none_or(|(_, fields)| fields.trim_start().starts_with('T'))
    })
}

pub(crate) fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Python itself: what is called `python3` may be a script that looks for it, and would be killed in its place.
pub(crate) fn interpreter() -> String {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.executable)"]);
    let output = python.output().expect("there is a python3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
