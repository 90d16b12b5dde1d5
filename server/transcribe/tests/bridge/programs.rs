//! What only programs have: processes, which must be there in time and must not stay.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use voicematch_transcribe::{
    bridge::{BridgeConfig, ProviderState},
    provider::{Event, Input, LossReason, Provider, StreamSpec, command::Command},
};

use crate::{
    log::Log,
    support::{PATIENCE, Rig, numbered, subjects::program},
};

fn command(options: &str) -> Command {
    Command::parse(&program(options)).expect("there is a python3")
}

/// What the programs have noted of this name.
fn notes(folder: &Path, name: &str) -> Vec<String> {
    let files = fs::read_dir(folder).expect("it is there").flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().starts_with(name));
    named
        .map(|file| fs::read_to_string(file.path()).expect("it is text"))
        .collect()
}

/// Waits until so many programs have noted something.
async fn noted(folder: &Path, name: &str, count: usize) -> Vec<String> {
    let began = Instant::now();
    loop {
        let notes = notes(folder, name);
        if notes.len() >= count && notes.iter().all(|note| !note.is_empty()) {
            return notes;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{count} {name} were to be noted, not {notes:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until no process of these ids is left, not even a zombie.
async fn gone(pids: &[String]) {
    let began = Instant::now();
    while pids
        .iter()
        .any(|pid| Path::new("/proc").join(pid.trim()).exists())
    {
        assert!(began.elapsed() < PATIENCE, "one of {pids:?} is left");
        sleep(Duration::from_millis(10)).await;
    }
}

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("there is a disk");
    let notes = format!("notes={}", folder.path().display());
    (folder, notes)
}

#[tokio::test]
async fn nothing_is_left_of_a_program_and_its_children() {
    let options = ["", "hang=1", "exit_after=5", "exit=1", "stall_after=3"];
    join_all(options.map(nothing_is_left)).await;
}

async fn nothing_is_left(options: &str) {
    let (folder, notes) = folder();
    let provider = Arc::new(command(&format!("{notes} child=1 {options}")));
    let rig = Rig::new(Arc::<Command>::clone(&provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    for _ in 0..7 {
        speaker.say();
        speaker.listen(Duration::from_millis(25)).await;
    }
    noted(folder.path(), "pid", 1).await;
    drop(speaker.finish().await);
    // The one that waits for the next stream goes with its provider.
    noted(folder.path(), "child", 2).await;
    drop((rig, provider));
    let all: Vec<_> = [
        self::notes(folder.path(), "pid"),
        self::notes(folder.path(), "child"),
    ]
    .concat();
    assert!(all.len() >= 4, "{options}: {all:?}");
    gone(&all).await;
}

#[tokio::test]
async fn a_crash_is_a_loss_and_so_is_a_wrong_end() {
    for (options, chunks) in [("exit_after=5", 5), ("exit=1", 3), ("hang=1", 3)] {
        let provider = command(options);
        let mut link = provider
            .open(StreamSpec::default())
            .await
            .expect("it starts");
        for chunk in 0..chunks {
            link.audio
                .send(Input::Pcm(numbered(1, chunk)))
                .await
                .expect("it listens");
        }
        let _ = link.audio.send(Input::Finish).await;
        let mut last = None;
        while let Some(event) = link.events.recv().await {
            last = Some(event);
        }
        assert_eq!(last, Some(Event::Lost(LossReason::Crashed)), "{options}");
    }
}

#[tokio::test]
async fn a_crash_is_noticed_although_a_child_keeps_the_output_open() {
    let provider = command("exit_after=5 child=1");
    let opened = provider.open(StreamSpec::default()).await;
    let mut link = opened.expect("it starts");
    for chunk in 0..5 {
        let sent = link.audio.send(Input::Pcm(numbered(1, chunk))).await;
        sent.expect("it listens");
    }
    let lost =
        async { while link.events.recv().await != Some(Event::Lost(LossReason::Crashed)) {} };
    let noticed = tokio::time::timeout(PATIENCE, lost).await;
    noticed.expect("nobody has told it to end");
}

#[tokio::test]
async fn a_program_that_cannot_start_leaves_the_provider_down() {
    for missing in [
        "/nonexistent/program",
        "no-such-program-here",
        "",
        "/etc/passwd",
    ] {
        assert!(Command::parse(missing).is_err(), "{missing}");
    }
    let folder = tempfile::tempdir().expect("there is a disk");
    let path = folder.path().join("program");
    fs::write(&path, "#!/nonexistent/interpreter\n").expect("it can be written");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    let provider = Command::parse(&path.display().to_string()).expect("it is a program");
    let rig = Rig::new(Arc::new(provider), BridgeConfig::default());
    let mut speaker = rig.speaker(1);
    speaker.say();
    let ledger = speaker.finish().await;
    ledger.assert_complete();
    assert!(
        ledger
            .states
            .iter()
            .any(|state| matches!(state, ProviderState::Reconnecting { .. })),
        "{ledger:?}"
    );
}

#[tokio::test]
async fn a_program_sees_three_variables_and_its_words_are_not_for_a_shell() {
    let folder = tempfile::tempdir().expect("there is a disk");
    // No shell would make a file of this name.
    let copy = folder.path().join("$(id);`id`>y");
    let provider = Command::parse(&format!("cp /proc/self/environ {}", copy.display()))
        .expect("there is a cp");
    let link = provider
        .open(StreamSpec::default())
        .await
        .expect("it starts");
    let began = Instant::now();
    let environment = loop {
        match fs::read_to_string(&copy) {
            Ok(environment) if !environment.is_empty() => break environment,
            _ => assert!(began.elapsed() < PATIENCE, "it copies nothing"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    let names: BTreeSet<_> = environment
        .split('\0')
        .filter_map(|entry| entry.split('=').next())
        .collect();
    assert!(
        names.is_subset(&BTreeSet::from(["", "PATH", "HOME", "LANG"])),
        "{names:?}"
    );
    assert!(names.contains("PATH"), "{names:?}");
    drop(link);
}

#[tokio::test]
async fn one_process_waits_loaded_for_the_next_stream() {
    let (folder, notes) = folder();
    let provider = command(&notes);
    provider.prepare();
    provider.prepare();
    let first = noted(folder.path(), "pid", 1).await;
    assert_eq!(first.len(), 1);
    let mut link = provider
        .open(StreamSpec::default())
        .await
        .expect("it starts");
    assert_eq!(link.events.recv().await, Some(Event::Ready));
    let both = noted(folder.path(), "pid", 2).await;
    assert_eq!(both.len(), 2, "one that hears, one that waits");
    // One that has died is not given to anybody.
    let waiting = both
        .iter()
        .find(|pid| !first.contains(pid))
        .expect("there is another");
    let pid =
        rustix::process::Pid::from_raw(waiting.trim().parse().expect("a number")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    gone(std::slice::from_ref(waiting)).await;
    sleep(Duration::from_millis(50)).await;
    let mut other = provider
        .open(StreamSpec::default())
        .await
        .expect("it starts");
    assert_eq!(other.events.recv().await, Some(Event::Ready));
    // With the one that waits now. Another one would have begun before it.
    assert_eq!(noted(folder.path(), "pid", 4).await.len(), 4);
}

#[tokio::test]
async fn a_program_that_takes_long_to_load_is_waited_for() {
    let rig = Rig::patient(Arc::new(command("load_ms=2500")));
    let mut speaker = rig.speaker(1);
    // At four times real time these are ten seconds of speech.
    for _ in 0..100 {
        speaker.say();
        speaker.listen(Duration::from_millis(25)).await;
    }
    let ledger = speaker.finish().await;
    ledger.assert_all_heard();
    ledger.assert_never_silent();
}

#[tokio::test]
async fn what_a_program_reads_and_says_nothing_to_is_a_gap() {
    // The first closes its output at once.
    for wrong in ["dd of=/dev/null", "cp /dev/stdin /dev/null"] {
        let provider = Command::parse(wrong).expect("there is such a program");
        let rig = Rig::new(Arc::new(provider), BridgeConfig::default());
        let mut speaker = rig.speaker(1);
        for _ in 0..20 {
            speaker.say();
            speaker.listen(Duration::from_millis(10)).await;
        }
        let ledger = speaker.finish().await;
        ledger.assert_complete();
        assert_eq!(ledger.missed_ms(), 2_000, "{wrong}: {ledger:?}");
        assert!(!ledger.states.contains(&ProviderState::Ok), "{ledger:?}");
    }
}

#[tokio::test]
async fn what_it_writes_to_standard_error_is_logged_but_not_all_of_it() {
    let (log, _guard) = Log::capture();
    let provider = command("stderr=100000");
    let mut link = provider
        .open(StreamSpec::default())
        .await
        .expect("it starts");
    while link.events.recv().await != Some(Event::Ready) {}
    let text = log.text();
    assert!(text.contains("xxxxxxxxxx"), "{text}");
    let logged = text.matches('x').count();
    assert!((1000..4200).contains(&logged), "{logged}");
}

#[tokio::test]
async fn streams_are_bounded_and_so_are_processes() {
    let (folder, notes) = folder();
    let config = BridgeConfig {
        max_streams: Some(2),
        ..BridgeConfig::default()
    };
    let rig = Rig::new(Arc::new(command(&notes)), config);
    let mut speakers: Vec<_> = (0..6).map(|track| rig.speaker(track)).collect();
    for _ in 0..20 {
        for speaker in &mut speakers {
            speaker.say();
            speaker.listen(Duration::from_millis(5)).await;
        }
        let pids = self::notes(folder.path(), "pid");
        let running = pids
            .iter()
            .filter(|pid| Path::new("/proc").join(pid.trim()).exists())
            .count();
        assert!(running <= 3, "two that hear, one that waits: {running}");
    }
    for speaker in speakers {
        speaker.finish().await.assert_complete();
    }
}

#[tokio::test]
async fn as_many_as_twice_the_cores_by_default() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(command("").default_streams(), Some(2 * cores));
}
