//! Behind a real nginx that buffers answers, with HTTP/2 in front: what arrives, and when, is the same.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use crate::support::{
    Process, TestServer, Via,
    client::{Client, pair_at},
    eventually, http,
    ports::{TRIES, free_addresses},
};
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};

/// Where Debian puts it.
const NGINX: &str = "/usr/sbin/nginx";

/// An nginx in front of a server. Dropping it ends it.
struct Nginx {
    _process: Process,
    folder: PathBuf,
    /// For HTTP/1.1, and for HTTP/2 without TLS.
    http1: SocketAddr,
    http2: SocketAddr,
    /// Speaks HTTP/1.0 to the server, has no WebSockets, and sends each POST twice.
    old: SocketAddr,
    /// Ends a connection on which the server has said nothing for two seconds.
    impatient: SocketAddr,
    /// Passes an answer on when it is whole, whatever the server asks for.
    hoarding: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // What is left behind is in the build's own folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Nginx {
    async fn start(server: &TestServer) -> Self {
        for _ in 0..TRIES {
            let ports @ [http1, http2, old, impatient, hoarding] = free_addresses();
            let name = format!("nginx-{}", http1.port());
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
            fs::create_dir_all(&folder).unwrap();
            let config = config(server, &name, ports);
            fs::write(folder.join("nginx.conf"), config).unwrap();
            let mut command = Command::new(NGINX);
            command.arg("-p").arg(&folder).args(["-c", "nginx.conf"]);
            let mut process = Process::spawn(command);
            loop {
                // It may be another test's that has got this port.
                if is_at(http1, &name).await {
                    return Self {
                        _process: process,
                        folder,
                        http1,
                        http2,
                        old,
                        impatient,
                        hoarding,
                    };
                }
                if process.has_ended() {
                    // Somebody else has got the port meanwhile.
                    let said = process.stderr().join("\n");
                    assert!(said.contains("bind()"), "{said}");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("nginx gets no port");
    }
}

/// Whether the nginx of this name listens there.
async fn is_at(address: SocketAddr, name: &str) -> bool {
    if TcpStream::connect(address).await.is_err() {
        return false;
    }
    http::get(address, "/name").await.text() == name
}

/// What README shows, with answers buffered as is nginx's default.
fn config(
    server: &TestServer,
    name: &str,
    [http1, http2, old, impatient, hoarding]: [SocketAddr; 5],
) -> String {
    let server = server.public;
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr; worker_rlimit_nofile 1024;
        events {{ worker_connections 500; }}
        http {{
            access_log access.log;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            gzip on; gzip_types *;
            map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
            upstream voicematch {{ server {server}; keepalive 16; }}
            server {{
                listen {http1};
                listen {http2} http2;
                location = /name {{ return 200 {name}; }}
                location / {{
                    proxy_pass http://voicematch;
                    proxy_http_version 1.1;
                    proxy_set_header Host $http_host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
            server {{
                listen {old};
                location / {{ proxy_pass http://{server}; }}
                location /send {{ mirror /again; proxy_pass http://{server}; }}
                location = /again {{ internal; proxy_pass http://{server}/send; }}
            }}
            server {{
                listen {impatient};
                location / {{
                    proxy_pass http://{server};
                    proxy_http_version 1.1;
                    proxy_read_timeout 2s;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                }}
            }}
            server {{
                listen {hoarding};
                location / {{
                    proxy_pass http://{server};
                    proxy_ignore_headers X-Accel-Buffering;
                    proxy_buffer_size 64k; proxy_buffers 4 64k;
                }}
            }}
        }}"
    )
}

#[tokio::test]
async fn users_talk_and_come_back_through_a_proxy_that_buffers() {
    let server = TestServer::start(&["--trusted-proxy", "127.0.0.1"]).await;
    let nginx = Nginx::start(&server).await;
    for from in Via::ALL {
        for to in Via::ALL {
            let (mut user, mut partner) = pair_at(nginx.http1, from, Via::EventStream).await;
            user.say("one at a time").await;
            partner.hears("one at a time").await;
            partner.say("at once").await;
            user.hears("at once").await;
            user.cut();
            let long = "x".repeat(20_000);
            partner.say(long.clone()).await;
            user.resume(to).await.unwrap();
            user.hears(long).await;
            user.say("I am back").await;
            partner.hears("I am back").await;
        }
    }
}

#[tokio::test]
async fn what_an_old_proxy_sends_twice_is_taken_once() {
    let server = TestServer::start(&[]).await;
    let nginx = Nginx::start(&server).await;
    let vias = [Via::EventStream, Via::Polling];
    for (first, second) in [(vias[0], vias[1]), (vias[1], vias[0])] {
        let (mut user, mut partner) = pair_at(nginx.old, first, second).await;
        for n in 0..20 {
            user.say(n).await;
            partner.hears(n).await;
        }
        user.resume(second).await.unwrap();
        partner.say("still here").await;
        user.hears("still here").await;
        partner.send(json!({"type": "leave_room"})).await;
        user.expect("peer_left").await;
    }
    // Each of them: two find_match, twenty-one messages, leave_room.
    server.reaches("duplicates_dropped_total", "", 48.0).await;
}

#[tokio::test]
async fn a_token_stands_in_no_log() {
    let server = TestServer::start(&["--log", "trace"]).await;
    let nginx = Nginx::start(&server).await;
    let mut tokens = Vec::new();
    let mut user = Client::begin_at(nginx.http1, Via::WebSocket).await;
    for via in Via::ALL {
        tokens.push(user.token.clone());
        user.resume(via).await.unwrap();
        user.write(&json!({"type": "pong"})).await;
    }
    let log = fs::read_to_string(nginx.folder.join("access.log")).unwrap();
    let lines = server.process.stderr().join("\n") + &server.process.stdout().join("\n");
    let debug = server.admin("/debug/pprof/tasks?debug=1").await;
    for token in tokens {
        for text in [&log, &lines, debug.text()] {
            assert!(!text.contains(&token), "{text}");
        }
    }
}

#[tokio::test]
async fn an_event_stream_over_http_2_begins_at_once() {
    let server = TestServer::start(&[]).await;
    let nginx = Nginx::start(&server).await;
    let mut curl = Command::new("curl");
    curl.args(["--http2-prior-knowledge", "--silent", "--no-buffer"]);
    curl.arg(format!("http://{}/events", nginx.http2));
    let curl = Process::spawn(curl);
    let begin = r#"data: {"type":"session""#;
    eventually("the first event", async || {
        curl.stdout().iter().any(|line| line.starts_with(begin))
    })
    .await;
}

#[tokio::test]
async fn a_proxy_keeps_its_connections_and_posts_find_them_open() {
    let server = TestServer::start(&[]).await;
    let nginx = Nginx::start(&server).await;
    let before = server.metric("connections_total", "").await;
    for _ in 0..50 {
        let response = http::get(nginx.http1, "/stats").await;
        assert_eq!(response.status, 200);
    }
    let after = server.metric("connections_total", "").await;
    assert!(after - before <= 5.0, "{before} {after}");
}

#[tokio::test]
async fn pings_keep_a_connection_through_a_proxy_that_ends_silent_ones() {
    let server = TestServer::start(&["--heartbeat", "1s", "--resume-heartbeat", "1s"]).await;
    let nginx = Nginx::start(&server).await;
    for via in [Via::WebSocket, Via::EventStream] {
        let (mut user, mut partner) = pair_at(nginx.impatient, via, via).await;
        // What is tested is the time in which nobody says anything.
        let silence = Duration::from_secs(5);
        let (user_hears, partner_hears) = tokio::join!(
            timeout(silence, user.next()),
            timeout(silence, partner.next()),
        );
        assert!(user_hears.is_err() && partner_hears.is_err(), "{via:?}");
        user.say("still here").await;
        partner.hears("still here").await;
    }
    assert_eq!(server.metric("replayed_messages_total", "").await, 0.0);
}

#[tokio::test]
async fn what_a_proxy_holds_back_until_the_stream_ends_arrives_in_order_and_once() {
    let server = TestServer::start(&["--event-stream-time", "1s"]).await;
    let nginx = Nginx::start(&server).await;
    let mut partner = Client::begin(&server, Via::WebSocket).await;
    partner.send(json!({"type": "find_match"})).await;
    partner.expect("waiting").await;
    let mut user = Client::begin_at(nginx.hoarding, Via::EventStream).await;
    user.send(json!({"type": "find_match"})).await;
    let next = async |user: &mut Client| loop {
        match user.next().await {
            Ok(message) => return message,
            Err(_) => user.resume(Via::EventStream).await.unwrap(),
        }
    };
    // A user who hears of the stream only when it has ended is away until the next one.
    while next(&mut user).await["type"] != "match_found" {}
    partner.expect("match_found").await;
    for n in 0..5 {
        partner.say(n).await;
        assert_eq!(next(&mut user).await["payload"], n);
    }
}
