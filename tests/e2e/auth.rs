//! Who may come in: tokens of an app, made by OpenSSL, over each transport.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use crate::support::{Client, End, Process, TestServer, User, Via, binary, eventually, http, run};

const SECRET: &str = "correct horse battery staple, and more of it";

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("auth-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

/// What OpenSSL makes of this.
fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

/// A key that signs.
enum Signer<'a> {
    Secret(&'a str),
    Rsa(String),
    Ec(String),
    Ed(String),
    /// By nobody.
    None,
}

impl Signer<'_> {
    /// A new private key of this kind in this folder.
    fn generate(folder: &Folder, kind: &str) -> Self {
        let file = folder.path(kind);
        let algorithm: &[&str] = match kind {
            "RSA" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "EC" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            kind => &["-algorithm", kind],
        };
        openssl(&[&["genpkey", "-out", &file], algorithm].concat(), b"");
        match kind {
            "RSA" => Self::Rsa(file),
            "EC" => Self::Ec(file),
            _ => Self::Ed(file),
        }
    }

    fn file(&self) -> &str {
        match self {
            Self::Rsa(file) | Self::Ec(file) | Self::Ed(file) => file,
            Self::Secret(_) | Self::None => panic!("no file"),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::None => "none",
        }
    }

    fn public_pem(&self) -> String {
        let pem = openssl(&["pkey", "-in", self.file(), "-pubout"], b"");
        String::from_utf8(pem).unwrap()
    }

    /// As a member of a set of keys.
    fn jwk(&self, id: &str) -> Value {
        let der = openssl(
            &["pkey", "-in", self.file(), "-pubout", "-outform", "DER"],
            b"",
        );
        let tail = |bytes: usize| BASE64.encode(&der[der.len() - bytes..][..bytes.min(32)]);
        match self {
            Self::Rsa(file) => {
                let modulus = openssl(&["rsa", "-in", file, "-modulus", "-noout"], b"");
                let modulus = String::from_utf8(modulus).unwrap();
                let hex = modulus.trim().strip_prefix("Modulus=").unwrap().to_owned();
                let bytes: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                json!({"kty": "RSA", "kid": id, "n": BASE64.encode(bytes), "e": "AQAB"})
            }
            Self::Ec(_) => json!({
                "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                "x": tail(64), "y": tail(32),
            }),
            _ => json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": tail(32)}),
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let message = text.as_bytes();
        let signature = match self {
            Self::Secret(secret) => {
                let args = ["dgst", "-sha256", "-hmac", secret, "-binary"];
                openssl(&args, message)
            }
            Self::Rsa(file) => openssl(&["dgst", "-sha256", "-sign", file], message),
            Self::Ec(file) => raw_of(&openssl(&["dgst", "-sha256", "-sign", file], message)),
            Self::Ed(file) => {
                let input = format!("{file}.message");
                fs::write(&input, message).unwrap();
                let args = ["pkeyutl", "-sign", "-rawin", "-inkey", file, "-in", &input];
                openssl(&args, b"")
            }
            Self::None => Vec::new(),
        };
        format!("{text}.{}", BASE64.encode(signature))
    }

    /// A token with these claims.
    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }
}

/// The two numbers of a signature, of 32 bytes each, out of its DER form.
fn raw_of(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let number = &number[number.len().saturating_sub(32)..];
        raw.resize(raw.len() + 32 - number.len(), 0);
        raw.extend_from_slice(number);
        rest = after;
    }
    raw
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// What a token says of this user, for an hour.
fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": in_seconds(3600)})
}

/// The same with these fields.
fn claims_with(user: &str, more: Value) -> Value {
    let mut claims = claims(user);
    let Value::Object(more) = more else {
        panic!("{more}");
    };
    claims.as_object_mut().unwrap().extend(more);
    claims
}

fn token(user: &str) -> String {
    Signer::Secret(SECRET).token(&claims(user))
}

async fn server_with(folder: &Folder, more: &[&str]) -> TestServer {
    let file = folder.write("secret", SECRET);
    let flags = ["--jwt-secret-file", &file, "--jwt-leeway", "0s"];
    TestServer::start(&[&flags[..], more].concat()).await
}

/// A resumable user with this token, over this transport.
async fn begin(server: &TestServer, via: Via, token: &str) -> Client {
    let path = match via {
        Via::WebSocket => format!("/ws?resume=1&token={token}"),
        Via::EventStream => format!("/events?token={token}"),
        Via::Polling => format!("/poll?wait=5&token={token}"),
    };
    Client::begin_with(server, via, &path).await
}

/// The answer to who begins a session over each transport with these header lines.
async fn answers(server: &TestServer, query: &str, headers: &str) -> Vec<(u16, String)> {
    let upgrade = format!(
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}"
    );
    let mut answers = Vec::new();
    for (path, headers) in [
        ("/ws", upgrade.as_str()),
        ("/events", headers),
        ("/poll", headers),
    ] {
        let request = format!(
            "GET {path}?wait=0{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n{headers}\r\n"
        );
        let response = http::exchange(server.public, &request).await;
        let code = match response.status {
            401 => response.json()["code"].as_str().unwrap().to_owned(),
            _ => String::new(),
        };
        answers.push((response.status, code));
    }
    answers
}

#[tokio::test]
async fn a_session_begins_only_with_a_token() {
    let folder = Folder::new("begin");
    let server = server_with(&folder, &[]).await;
    let good = token("ann");
    let expired = Signer::Secret(SECRET).token(&json!({"sub": "ann", "exp": in_seconds(-5)}));
    let forged = Signer::Secret("another secret").token(&claims("ann"));
    let refused = |code: &str| vec![(401, code.to_owned()); 3];
    let accepted: Vec<_> = [101, 200, 200].map(|status| (status, String::new())).into();
    assert_eq!(answers(&server, "", "").await, refused("token_missing"));
    for (token, expected) in [
        (&good, &accepted),
        (&expired, &refused("token_expired")),
        (&forged, &refused("token_invalid")),
        (&"a.b.c".to_owned(), &refused("token_invalid")),
    ] {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let offer = format!("Sec-WebSocket-Protocol: voicematch.1, token.{token}\r\n");
        assert_eq!(&answers(&server, "", &bearer).await, expected);
        assert_eq!(&answers(&server, "", &offer).await, expected);
        for name in ["token", "access_token"] {
            let query = format!("&{name}={token}");
            assert_eq!(&answers(&server, &query, "").await, expected);
        }
    }
    let refusals = server.metric("connections_refused_total", r#"reason="token_expired""#);
    assert_eq!(refusals.await, 12.0);
    // Who has a session needs no token to carry it on.
    for via in Via::ALL {
        let mut user = begin(&server, via, &good).await;
        user.cut();
        user.resume(Via::WebSocket).await.unwrap();
    }
    let said = server.process.stderr().join("\n");
    assert!(!said.contains(&good), "a token is logged");
}

#[tokio::test]
async fn a_token_is_never_logged() {
    let folder = Folder::new("log");
    let server = server_with(&folder, &["--log", "trace"]).await;
    let good = token("ann");
    for via in Via::ALL {
        begin(&server, via, &good).await.cut();
    }
    answers(&server, &format!("&token={good}x"), "").await;
    let said = server.process.stderr().join("\n");
    assert!(!said.contains(&good), "{said}");
}

#[tokio::test]
async fn tokens_are_believed_by_public_keys_of_each_kind() {
    let folder = Folder::new("kinds");
    let kinds = ["RSA", "EC", "ED25519"];
    let signers = kinds.map(|kind| Signer::generate(&folder, kind));
    for (signer, kind) in signers.iter().zip(kinds) {
        let pem = folder.write(&format!("{kind}.pem"), &signer.public_pem());
        let server = TestServer::start(&["--jwt-public-key-file", &pem]).await;
        begin(&server, Via::Polling, &signer.token(&claims("ann"))).await;
        // Who knows the public key cannot sign with it, nor leave the signature out.
        let public = signer.public_pem();
        for forger in [Signer::Secret(&public), Signer::None] {
            let path = format!("/poll?token={}", forger.token(&claims("ann")));
            assert_eq!(Client::refused(&server, &path).await, 401);
        }
    }
    let set: Vec<_> = signers
        .iter()
        .zip(kinds)
        .map(|(s, kind)| s.jwk(kind))
        .collect();
    let unknown = json!({"kty": "EC", "crv": "P-521", "kid": "unknown", "x": "AA", "y": "AA"});
    let keys = [&[unknown][..], &set].concat();
    let file = folder.write("keys.json", &json!({"keys": keys}).to_string());
    let server = TestServer::start(&["--jwks", &file]).await;
    for (signer, kind) in signers.iter().zip(kinds) {
        let header = json!({"alg": signer.algorithm(), "kid": kind});
        let token = signer.sign(&header, &claims("ann"));
        begin(&server, Via::Polling, &token).await;
        let header = json!({"alg": signer.algorithm(), "kid": "another"});
        let path = format!("/poll?token={}", signer.sign(&header, &claims("ann")));
        assert_eq!(Client::refused(&server, &path).await, 401);
    }
}

#[tokio::test]
async fn a_token_is_for_this_server_and_by_this_app() {
    let folder = Folder::new("audience");
    let server = server_with(&folder, &["--jwt-issuer", "app"]).await;
    let cases = [
        (json!({"iss": "app"}), 200),
        (json!({"iss": "app", "aud": "voicematch"}), 200),
        (json!({"iss": "app", "aud": ["other", "voicematch"]}), 200),
        (json!({"iss": "app", "aud": "other"}), 401),
        (json!({"iss": "other"}), 401),
        (json!({}), 401),
        (json!({"iss": "app", "nbf": in_seconds(3000)}), 401),
        (json!({"iss": "app", "exp": null}), 401),
        (json!({"iss": "app", "exp": 1e12}), 200),
        (json!({"iss": "app", "exp": 1e300}), 401),
        (json!({"iss": "app", "sub": ""}), 401),
        (json!({"iss": "app", "voicematch": {"room": []}}), 401),
        (json!({"iss": "app", "voicematch": {"rooms": ["a b"]}}), 401),
        (json!({"iss": "app", "name": "x".repeat(65)}), 401),
    ];
    for (more, status) in cases {
        let token = Signer::Secret(SECRET).token(&claims_with("ann", more.clone()));
        let path = format!("/poll?wait=0&token={token}");
        assert_eq!(server.public(&path).await.status, status, "{more}");
    }
}

#[tokio::test]
async fn what_a_user_may_do_stands_in_the_token() {
    let folder = Folder::new("grants");
    let server = server_with(&folder, &[]).await;
    let grant = |user: &str, name: &str, grant: Value| {
        let claims = claims_with(user, json!({"name": name, "voicematch": grant}));
        Signer::Secret(SECRET).token(&claims)
    };
    let limited = json!({
        "rooms": ["tea", "team-*"], "criteria": {"language": "en"},
        "max_messages_per_second": 7, "message_burst": 9,
    });
    let mut ann = begin(&server, Via::WebSocket, &grant("ann", "Ann", limited)).await;
    assert_eq!(ann.first["limits"]["max_messages_per_second"], 7);
    assert_eq!(ann.first["limits"]["message_burst"], 9);
    ann.send(json!({"type": "join_room", "room": "milk"})).await;
    assert_eq!(ann.expect("error").await["code"], "not_allowed");
    ann.send(json!({"type": "join_room", "room": "team-7"}))
        .await;
    ann.expect("room_joined").await;
    let only_rooms = json!({"find_match": false});
    let mut bob = begin(&server, Via::EventStream, &grant("bob", "Bob", only_rooms)).await;
    bob.send(json!({"type": "find_match"})).await;
    assert_eq!(bob.expect("error").await["code"], "not_allowed");
    bob.send(json!({"type": "join_room", "room": "team-7"}))
        .await;
    assert_eq!(bob.expect("room_joined").await["members"][0]["name"], "Ann");
    assert_eq!(ann.expect("peer_joined").await["name"], "Bob");
    ann.send(json!({"type": "leave_room", "id": 1})).await;
    ann.expect("ack").await;
    // The app's criteria win: both speak English, whatever Ann says.
    ann.send(json!({"type": "find_match", "criteria": {"language": "de"}}))
        .await;
    ann.expect("waiting").await;
    let mut carl = begin(&server, Via::Polling, &grant("carl", "Carl", json!({}))).await;
    carl.send(json!({"type": "find_match", "criteria": {"language": "en"}}))
        .await;
    assert_eq!(carl.expect("match_found").await["peer_name"], "Ann");
    assert_eq!(ann.expect("match_found").await["peer_name"], "Carl");
}

#[tokio::test]
async fn a_token_that_ends_is_announced_and_can_be_renewed() {
    let folder = Folder::new("renew");
    let server = server_with(&folder, &[]).await;
    let short =
        |user: &str| Signer::Secret(SECRET).token(&json!({"sub": user, "exp": in_seconds(4)}));
    let mut renewed = begin(&server, Via::WebSocket, &short("ann")).await;
    let mut ended = Vec::new();
    for via in Via::ALL {
        ended.push(begin(&server, via, &short("bob")).await);
    }
    let announced = renewed.expect("token_expiring").await;
    assert!(announced["expires_in_ms"].as_u64().unwrap() <= 4000);
    let renew = |token: String| json!({"type": "renew_token", "token": token, "id": 1});
    for wrong in [token("bob"), "x".to_owned(), short("ann") + "x"] {
        renewed.send(renew(wrong)).await;
        assert_eq!(renewed.expect("error").await["code"], "token_refused");
    }
    renewed.send(renew(token("ann"))).await;
    renewed.expect("ack").await;
    for mut client in ended {
        client.expect("token_expiring").await;
        assert_eq!(client.end().await, End::Closed(Some(4505)));
    }
    // Longer than the first token was good.
    server
        .reaches("sessions_closed_total", r#"reason="token_expired""#, 3.0)
        .await;
    renewed.is_heard().await;
}

#[tokio::test]
async fn one_person_has_so_many_sessions_and_never_meets_themself() {
    let folder = Folder::new("person");
    let server = server_with(&folder, &["--sessions-per-user", "2"]).await;
    let mut sessions = Vec::new();
    for via in [Via::WebSocket, Via::EventStream] {
        sessions.push(begin(&server, via, &token("ann")).await);
    }
    for session in &mut sessions {
        session.send(json!({"type": "find_match"})).await;
        session.expect("waiting").await;
    }
    let mut bob = begin(&server, Via::Polling, &token("bob")).await;
    bob.send(json!({"type": "find_match"})).await;
    assert_eq!(bob.expect("match_found").await["peer_id"], sessions[0].id);
    sessions[0].expect("match_found").await;
    let third = begin(&server, Via::Polling, &token("ann")).await;
    assert_eq!(sessions[0].end().await, End::Closed(Some(4501)));
    assert_eq!(bob.expect("peer_left").await["reason"], "replaced");
    drop(third);
    sessions[1].is_heard().await;
}

#[tokio::test]
async fn keys_are_read_again_when_they_change() {
    let folder = Folder::new("rotate");
    let [old, new] = ["one", "two"].map(|name| {
        let folder = Folder::new(&format!("rotate-{name}"));
        Signer::generate(&folder, "ED25519")
    });
    let set = |signers: &[(&Signer<'_>, &str)]| {
        let keys: Vec<_> = signers.iter().map(|(signer, id)| signer.jwk(id)).collect();
        json!({"keys": keys}).to_string()
    };
    let file = folder.write("keys.json", &set(&[(&old, "old")]));
    let server = TestServer::start(&["--jwks", &file]).await;
    let status = async |signer: &Signer<'_>| {
        let path = format!("/poll?wait=0&token={}", signer.token(&claims("ann")));
        server.public(&path).await.status
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    folder.write("keys.json", "{");
    eventually("the log says so", async || {
        let said = server.process.stderr().join("\n");
        said.contains("the old ones stay")
    })
    .await;
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    folder.write("keys.json", &set(&[(&new, "new")]));
    eventually("the new key counts", async || status(&new).await == 200).await;
    assert_eq!(status(&old).await, 401);
}

#[tokio::test]
async fn tokens_to_try_it_with() {
    let folder = Folder::new("try");
    let file = folder.write("secret", SECRET);
    let mut command = binary();
    command.args(["gentoken", "--jwt-secret-file", &file, "--user", "ann"]);
    command.args(["--name", "Ann", "--room", "tea"]);
    let mut process = Process::spawn(command);
    assert_eq!(process.exit_code().await, Some(0));
    let token = process.stdout().join("");
    let server = server_with(&folder, &["--dev-tokens"]).await;
    let mut ann = begin(&server, Via::WebSocket, &token).await;
    ann.send(json!({"type": "join_room", "room": "tea"})).await;
    ann.expect("room_joined").await;

    let creds = r#"{"username":"bob","password":"x","name":"Bob"}"#;
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        creds.len()
    );
    let given = http::request_with_body(server.public, "POST", "/auth/token", &headers, creds);
    let given = given.await.json();
    let mut bob = begin(&server, Via::Polling, given["token"].as_str().unwrap()).await;
    bob.send(json!({"type": "join_room", "room": "tea"})).await;
    bob.expect("room_joined").await;
    assert_eq!(ann.expect("peer_joined").await["name"], "Bob");

    // Nowhere else.
    let server = server_with(&folder, &[]).await;
    let given = http::request_with_body(server.public, "POST", "/auth/token", &headers, creds);
    assert_eq!(given.await.status, 404);
    let short = folder.write("short", "secret");
    let (code, said) = run(&["--jwt-secret-file", &short]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("32"), "{said}");
}

#[tokio::test]
async fn that_everybody_may_come_in_is_said_once() {
    let server = TestServer::start_command(binary(), "0.0.0.0:0", &[]).await;
    let warnings = |server: &TestServer| {
        let said = server.process.stderr();
        let warnings = said
            .iter()
            .filter(|line| line.contains("everybody may come in"));
        warnings.count()
    };
    assert_eq!(warnings(&server), 1);
    let _user = User::connect(&server).await;
    assert_eq!(warnings(&server), 1);
    let server = TestServer::start(&[]).await;
    assert_eq!(warnings(&server), 0, "this machine's own users");
}
