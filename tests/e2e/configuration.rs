//! The configuration file: what it may say, who wins, and what changes without a restart.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    support::{
        Process, TestServer, User, Via, binary, eventually, http,
        jwt::{Folder, SECRET, Signer, begin, claims_with, openssl},
        run,
        user::text,
    },
    support_api::session,
};

async fn output(mut command: Command, args: &[&str]) -> (Option<i32>, String, String) {
    command.args(args);
    let mut process = Process::spawn(command);
    let code = process.exit_code().await;
    (
        code,
        process.stdout().join("\n"),
        process.stderr().join("\n"),
    )
}

async fn greeting(server: &TestServer) -> Value {
    User::connect(server).await.session
}

#[tokio::test]
async fn flags_win_over_the_environment_and_both_over_the_file() {
    let folder = Folder::new("layers");
    let file = folder.write(
        "voicematch.toml",
        "max_messages_per_second = 11\nmessage_burst = 12\nheartbeat = \"13s\"\nice_server = [\"stun:file:1\"]\n",
    );
    let mut command = binary();
    command.env("VOICEMATCH_MESSAGE_BURST", "22");
    command.env("VOICEMATCH_HEARTBEAT", "23s");
    command.env("VOICEMATCH_CONFIG", &file);
    let flags = ["--heartbeat", "33s"];
    let server = TestServer::start_command(command, "127.0.0.1:0", &flags).await;
    let session = greeting(&server).await;
    assert_eq!(session["limits"]["max_messages_per_second"], 11);
    assert_eq!(session["limits"]["message_burst"], 22);
    assert_eq!(session["heartbeat_ms"], 33_000);
    assert_eq!(session["ice_servers"][0]["urls"], json!(["stun:file:1"]));
}

#[tokio::test]
async fn what_a_file_gets_wrong_is_told_with_its_line() {
    let folder = Folder::new("wrong");
    for (text, place, hint) in [
        ("\nmax_conections = 5", ":2: ", "max_connections"),
        ("heartbeat = 7x", ":1: ", ""),
        ("heartbeat = \"soon\"", ":1: ", "25s"),
        ("workers = 2000", ":1: ", "0..=1024"),
        ("# why\noutbox_bytes = 1000", ":2: ", "at least"),
        ("turn_url = [\"turn:x\"]", ":1: ", "--turn-secret-file"),
        ("jwt_secret_file = \"/nowhere\"", ":1: ", "/nowhere"),
        ("log_format = \"xml\"", ":1: ", "human, json"),
        ("listen = [\":7\", \":7\"]", ":1: ", "twice"),
        (
            "auth_webhook = \"http://x\"\njwks = \"x\"",
            ":1: ",
            "one or the other",
        ),
        ("workers = 2\njwt_issuer = \"app\"", ":2: ", "--jwks"),
        ("sessions_per_user = 1", ":1: ", "--auth-webhook"),
        ("turn_ttl = \"1h\"", ":1: ", "--turn-url"),
        (
            "auth_webhook = \"https://me:it@app/\"",
            ":1: ",
            "leave it out",
        ),
        #[cfg(feature = "cluster")]
        ("cluster_prefix = \"x\"", ":1: ", "--cluster"),
        #[cfg(feature = "cluster")]
        (
            "cluster = \"redis://h\"\ncluster_ca_file = \"/nowhere\"",
            ":2: ",
            "does nothing without TLS",
        ),
        #[cfg(feature = "cluster")]
        (
            "cluster = \"rediss://h\"\ncluster_ca_file = \"/nowhere\"",
            ":2: ",
            "/nowhere",
        ),
        #[cfg(feature = "cluster")]
        (
            "cluster = \"redis://h\"\ncluster_sentinel_tls = true",
            ":2: ",
            "redis+sentinel://",
        ),
        #[cfg(feature = "cluster")]
        (
            "cluster = \"redis+sentinel://h/main\"\ncluster_sentinel_user = \"vm\"",
            ":2: ",
            "--cluster-sentinel-password-file",
        ),
        #[cfg(feature = "cluster")]
        (
            "cluster = \"redis+sentinel://h/main\"\ncluster_sentinel_password_file = \"/nowhere\"",
            ":2: ",
            "/nowhere",
        ),
        #[cfg(feature = "transcribe")]
        (
            "transcribe_retention = \"1h\"",
            ":1: ",
            "--transcribe or --survey",
        ),
        #[cfg(feature = "transcribe")]
        (
            "workers = 2\nsurvey = [\"/nowhere\"]",
            ":2: ",
            "--survey: /nowhere",
        ),
        #[cfg(feature = "transcribe")]
        (
            "transcribe = \"fake\"\ntranscribe_token_key_file = \"/nowhere\"",
            ":2: ",
            "/nowhere",
        ),
        #[cfg(feature = "transcribe")]
        (
            "transcribe = \"gladia\"\ngladia_key_file = \"/nowhere\"",
            ":2: ",
            "/nowhere",
        ),
    ] {
        let file = folder.write("voicematch.toml", text);
        let place = format!("voicematch.toml{place}");
        let (code, _, said) = output(binary(), &["checkconfig", "--config", &file]).await;
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(
            said.contains(&place) && said.contains(hint),
            "{text}: {said}"
        );
        let (code, said) = run(&["--config", &file]).await;
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(hint), "{text}: {said}");
    }
    // A value may be a secret, and the environment is to blame here.
    let secret = r#"ice_server = [{ urls = "http:x", credential = "a-secret" }]"#;
    let file = folder.write("voicematch.toml", secret);
    let (_, _, said) = output(binary(), &["checkconfig", "--config", &file]).await;
    assert!(
        said.contains(":1: ") && !said.contains("a-secret"),
        "{said}"
    );
    let file = folder.write("voicematch.toml", "jwt_secret_file = \"/here\"");
    let mut command = binary();
    command.env("VOICEMATCH_JWT_SECRET_FILE", "/nowhere");
    let (_, _, said) = output(command, &["checkconfig", "--config", &file]).await;
    assert!(said.contains("/nowhere") && !said.contains(":1"), "{said}");
    let (code, said) = run(&["--config", "/nowhere"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("--config: /nowhere"), "{said}");
}

#[tokio::test]
async fn the_default_file_is_good_as_it_is() {
    let folder = Folder::new("default");
    let (code, printed, _) = output(binary(), &["defaultconfig"]).await;
    assert_eq!(code, Some(0));
    let file = folder.write("voicematch.toml", &printed);
    let (code, said, _) = output(binary(), &["checkconfig", "--config", &file]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("is good"), "{said}");
}

#[tokio::test]
async fn help_for_shells_and_readers_is_made_from_the_flags() {
    for (args, expected) in [
        (
            &["completions", "bash"][..],
            "--max-connections-per-address",
        ),
        (&["completions", "fish"], "max-connections-per-address"),
        (&["man"], "max\\-connections\\-per\\-address"),
        (&["--help"], "Who may come in:"),
    ] {
        let (code, said, _) = output(binary(), args).await;
        assert_eq!(code, Some(0), "{args:?}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn a_reader_who_has_read_enough_is_no_error() {
    let folder = Folder::new("reader");
    let (secret, _) = folder.secret();
    let mut tokens = vec!["gentoken", "--user", "ann", "--count", "200"];
    tokens.extend(["--jwt-secret-file", &secret]);
    for args in [
        &["completions", "zsh"][..],
        &["man"],
        &["defaultconfig"],
        &tokens,
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = binary().args(args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
    }
}

async fn says(server: &TestServer, what: &str) {
    eventually(what, async || {
        server.process.stderr().join("\n").contains(what)
    })
    .await;
}

/// A user for whom the app names one limit has the server's other one, as it is now.
#[tokio::test]
async fn a_signal_brings_in_the_limit_of_users_with_limits_of_their_own() {
    let folder = Folder::new("reload-rate");
    let (secret, _) = folder.secret();
    let write = |rate: u32| {
        let text = format!("jwt_secret_file = {secret:?}\nmax_messages_per_second = {rate}\n");
        folder.write("voicematch.toml", &text)
    };
    let file = write(5);
    let server = TestServer::start(&["--config", &file]).await;
    let claims = claims_with("ann", json!({"voicematch": {"message_burst": 9}}));
    let token = Signer::Secret(SECRET).token(&claims);
    let limits = async || {
        let ann = begin(&server, Via::WebSocket, &token).await;
        let limits = &ann.first["limits"];
        ["max_messages_per_second", "message_burst"].map(|name| limits[name].as_u64())
    };
    assert_eq!(limits().await, [Some(5), Some(9)]);
    write(6);
    server.process.signal(Signal::HUP);
    eventually("the new limit", async || {
        limits().await == [Some(6), Some(9)]
    })
    .await;
}

#[tokio::test]
async fn a_signal_brings_in_what_has_changed_and_says_what_it_cannot() {
    let folder = Folder::new("reload");
    let write = |text: &str| folder.write("voicematch.toml", text);
    let file = write("message_burst = 50\nmax_rooms = 7\nmax_connections = 900\n");
    let server = TestServer::start(&["--config", &file]).await;
    let limit = async |name: &str| server.metric("limits", &format!("limit=\"{name}\"")).await;
    assert_eq!(limit("max_connections").await, 900.0);
    assert_eq!(limit("max_detached").await, 90.0);
    assert_eq!(limit("max_rooms").await, 7.0);
    let mut before = User::connect(&server).await;
    assert_eq!(before.session["limits"]["message_burst"], 50);
    let page = "Origin: https://app.example\r\n";
    let poll = async || {
        http::request(server.public, "GET", "/poll?wait=0", page)
            .await
            .status
    };
    assert_eq!(poll().await, 403);

    write(
        "message_burst = 1\nmax_messages_per_second = 1\nmax_rooms = 8\nmax_connections = 800\nlog = \"debug\"\n\
         allowed_origin = [\"https://app.example\"]\nice_server = [\"stun:new:1\"]\n",
    );
    server.process.signal(Signal::HUP);
    eventually("the new settings", async || poll().await == 200).await;
    let after = greeting(&server).await;
    assert_eq!(after["limits"]["message_burst"], 1);
    assert_eq!(after["ice_servers"][0]["urls"], json!(["stun:new:1"]));
    says(&server, "only a restart changes these settings=max_rooms").await;
    says(&server, "DEBUG").await;
    assert_eq!(limit("max_connections").await, 800.0);
    assert_eq!(limit("max_detached").await, 80.0);
    assert_eq!(limit("max_rooms").await, 7.0, "what is in force");
    // Limits hold for those who were there too.
    before.send(json!({"type": "ping"})).await;
    before.expect("pong").await;
    before.send(json!({"type": "ping"})).await;
    before.expect_error("rate_limited").await;

    write("message_burst = 0\n");
    server.process.signal(Signal::HUP);
    says(&server, "the old one stays").await;
    assert_eq!(greeting(&server).await["limits"]["message_burst"], 1);

    // What is no longer said is as it was.
    write("max_rooms = 7\n");
    server.process.signal(Signal::HUP);
    eventually("the defaults", async || poll().await == 403).await;
    assert_eq!(greeting(&server).await["limits"]["message_burst"], 200);
}

/// Where the server sees a user who says to be at 203.0.113.9.
async fn seen_at(server: &TestServer) -> Value {
    let claim = "X-Forwarded-For: 203.0.113.9\r\n";
    let begun = http::request(server.public, "GET", "/poll?wait=0", claim).await;
    let id = text(&begun.json()["messages"][0], "session_id");
    session(server, &id).await["address"].take()
}

/// Whether a user's credential for TURN is by this secret.
async fn is_by(server: &TestServer, secret: &str) -> bool {
    let session = greeting(server).await;
    let turn = &session["ice_servers"][0];
    let username = text(turn, "username");
    let mac = openssl(
        &["dgst", "-sha1", "-hmac", secret, "-binary"],
        username.as_bytes(),
    );
    let mac = openssl(&["base64", "-A"], &mac);
    mac == text(turn, "credential").as_bytes()
}

#[tokio::test]
async fn a_signal_brings_in_proxies_and_the_secret_of_turn() {
    let folder = Folder::new("reload-more");
    let [old, new] = ["the old secret", "the new secret"].map(|secret| {
        let file = folder.write(secret, secret);
        format!("turn_url = [\"turn:x\"]\nturn_secret_file = {file:?}\n")
    });
    let file = folder.write("voicematch.toml", &old);
    let server = TestServer::start(&["--config", &file]).await;
    assert_eq!(seen_at(&server).await, "127.0.0.1");
    assert!(is_by(&server, "the old secret").await);
    folder.write(
        "voicematch.toml",
        &format!("{new}trusted_proxy = [\"127.0.0.1\"]\n"),
    );
    server.process.signal(Signal::HUP);
    eventually("the new secret", async || {
        is_by(&server, "the new secret").await
    })
    .await;
    assert_eq!(seen_at(&server).await, "203.0.113.9");
}

#[cfg(feature = "transcribe")]
#[tokio::test]
async fn a_signal_does_not_claim_to_have_read_a_file_that_is_refused() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let folder = Folder::new("reload-refused");
    let (state, key) = (folder.path("state"), folder.write("key", "a-key"));
    let flags = ["--transcribe", "gladia", "--gladia-key-file", &key];
    let server = TestServer::start(&[&flags[..], &["--state-dir", &state]].concat()).await;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    server.process.signal(Signal::HUP);
    says(&server, "provider's key could not be read again").await;
    says(&server, "the configuration was read again").await;
    let log = server.process.stderr().join("\n");
    assert!(!log.contains("the files that it names"), "{log}");
}
