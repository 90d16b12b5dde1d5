//! Faults that are not the server's: the generator stands still, the network breaks.

use std::{process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};

use crate::{Ran, command, node::Server, read, report_file, run};

/// Twenty users, ten messages a second each.
const LOAD: [&str; 8] = [
    "--scenario",
    "echo-audio-streaming-text",
    "--users",
    "20",
    "--spacing",
    "5ms",
    "--duration",
    "3s",
];

/// A run that is stopped for a while in its middle.
pub(crate) async fn stopped(server: &Server, load: &[&str], time: Duration) -> Ran {
    let file = report_file();
    let url = server.url();
    let fixed = [&url[..], "--report", file.to_str().expect("UTF-8")];
    let child = command(&[&fixed, load].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = Pid::from_raw(id.expect("it runs")).expect("not zero");
    sleep(Duration::from_millis(1200)).await;
    kill_process(id, Signal::STOP).expect("it can be told");
    sleep(time).await;
    kill_process(id, Signal::CONT).expect("it can be told");
    read(&child.wait_with_output().await.expect("it ends"), &file)
}

#[tokio::test]
async fn a_generator_that_stood_still_blames_itself() {
    let server = Server::echo(&[]).await;
    let ran = stopped(&server, &LOAD, Duration::from_millis(1400)).await;
    assert_eq!(ran.code, Some(98), "{}", ran.stdout);
    assert_eq!(ran.json["measurement"]["validity"], "invalid");
    for finding in [
        "generator itself sent late",
        "generator itself stood still for up to 1",
    ] {
        assert!(
            ran.findings().contains(finding),
            "{finding}: {}",
            ran.findings()
        );
    }
    assert!(ran.ms("own_lateness", "max") > 1200.0);
    assert!(ran.count("/latency/message/count") > 0);
    let pause = ran.json["generator"]["longest_pause_ms"].as_f64();
    assert!(
        pause.is_some_and(|ms| (1390.0..1900.0).contains(&ms)),
        "{pause:?}"
    );
    // What was due in that time is slow, but not by the server's doing: as sent, it was answered at once.
    assert!(ran.ms("message", "max") > 1200.0);
    assert!(
        ran.slower("message", 300) > 150,
        "{}",
        ran.slower("message", 300)
    );
    assert!(
        ran.slower("message_as_sent", 300) <= 20,
        "{}",
        ran.slower("message_as_sent", 300)
    );
    // The server is to blame for nothing.
    assert_eq!(ran.json["errors"], serde_json::json!([]));
    assert_eq!(ran.messages("delivered"), server.tally().await.get("text"));
}

/// A network between the users and the server, which breaks every other connection when it is told to.
async fn network(server: u16, breaks: Arc<Notify>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut last = false;
        while let Ok((mut user, _)) = listener.accept().await {
            let breaks = Arc::clone(&breaks);
            last = !last;
            let fragile = last;
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server))
                    .await
                    .expect("it listens");
                tokio::select! {
                    _ = copy_bidirectional(&mut user, &mut server) => {}
                    () = breaks.notified(), if fragile => {
                        for stream in [user, server] {
                            // Resets the connection.
                            stream.set_zero_linger().expect("a socket");
                        }
                    }
                }
            });
        }
    });
    port
}

async fn broken_network(scenario: &str) -> Ran {
    let server = Server::echo(&[]).await;
    let breaks = Arc::new(Notify::new());
    let port = network(server.port, Arc::clone(&breaks)).await;
    let url = format!("ws://127.0.0.1:{port}/");
    let breaking = async {
        sleep(Duration::from_millis(1500)).await;
        breaks.notify_waiters();
        std::future::pending::<()>().await;
    };
    let load = [&["--scenario", scenario, "--users", "20"], &LOAD[4..]].concat();
    let ran = tokio::select! {
        ran = run(&url, &load) => ran,
        () = breaking => unreachable!(),
    };
    ran.assert_ended(99);
    assert_eq!(ran.count("/connections/dropped"), 10);
    assert_eq!(ran.error("reset"), 10);
    let errors = ran.json["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["blame"], "network");
    ran
}

#[tokio::test]
async fn connections_that_are_reset_are_the_networks_doing_and_nothing_is_lost() {
    let ran = broken_network(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/servers/chatter.toml"
    ))
    .await;
    let fates = ["delivered", "pending"].map(|fate| ran.messages(fate));
    assert_eq!(ran.messages("sent"), fates.into_iter().sum::<usize>());
    assert!(ran.messages("delivered") > 300);
}

#[tokio::test]
async fn users_who_only_stay_connected_notice_too() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/stay.toml");
    broken_network(scenario).await;
}
