//! The keys by which tokens are believed: kinds, files that change, and files that are of no use.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Client, Process, TestServer, Via,
    app::App,
    binary, eventually,
    jwt::{Folder, Signer, begin, certificate, claims, in_seconds, openssl},
    run,
};

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
async fn keys_that_can_verify_nothing_are_refused_at_the_start() {
    let folder = Folder::new("useless");
    let private = |name: &str, args: &[&str]| {
        let file = folder.path(name);
        openssl(&[&["genpkey", "-out", &file], args].concat(), b"");
        file
    };
    let public = |name: &str, args: &[&str]| {
        let file = private(&format!("{name}-private"), args);
        let pem = openssl(&["pkey", "-in", &file, "-pubout"], b"");
        folder.write(name, &String::from_utf8(pem).unwrap())
    };
    let curve = |name: &str| format!("ec_paramgen_curve:{name}");
    let short = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let good = public("good", &["-algorithm", "ED25519"]);
    let two = std::fs::read_to_string(&good).unwrap().repeat(2);
    for (file, hint) in [
        (public("short", &short), "2048"),
        (
            public("p384", &["-algorithm", "EC", "-pkeyopt", &curve("P-384")]),
            "P-256",
        ),
        (
            public("k1", &["-algorithm", "EC", "-pkeyopt", &curve("secp256k1")]),
            "P-256",
        ),
        (private("own", &["-algorithm", "ED25519"]), "-pubout"),
        (folder.write("two", &two), "--jwks"),
    ] {
        let (code, said) = run(&["--jwt-public-key-file", &file]).await;
        assert_eq!(code, Some(2), "{file}: {said}");
        assert!(said.contains(hint), "{file}: {said}");
    }
}

#[tokio::test]
async fn a_set_with_a_key_that_is_cut_off_replaces_no_good_one() {
    let folder = Folder::new("cut");
    let signer = Signer::generate(&folder, "EC");
    let mut jwk = signer.jwk("a");
    let file = folder.write("keys.json", &json!({"keys": [jwk]}).to_string());
    let server = TestServer::start(&["--jwks", &file]).await;
    jwk["x"] = json!("AAAA");
    folder.write("keys.json", &json!({"keys": [jwk]}).to_string());
    eventually("the log says so", async || {
        let said = server.process.stderr().join("\n");
        said.contains("the old ones stay") && said.contains("cut off")
    })
    .await;
    let path = format!("/poll?wait=0&token={}", signer.token(&claims("ann")));
    assert_eq!(server.public(&path).await.status, 200);
}

#[tokio::test]
async fn a_file_counts_once_its_permissions_are_right() {
    let folder = Folder::new("chmod");
    let (file, _) = folder.secret();
    let server = TestServer::start(&["--jwt-secret-file", &file]).await;
    let new = "another secret that is long enough for HS256";
    let permit = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    permit(0o644);
    std::fs::write(&file, new).unwrap();
    eventually("the log says so", async || {
        server.process.stderr().join("\n").contains("chmod 600")
    })
    .await;
    permit(0o600);
    let token = Signer::Secret(new).token(&claims("ann"));
    let path = format!("/poll?wait=0&token={token}");
    eventually("the new secret", async || {
        server.public(&path).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_server_that_waits_for_keys_can_be_stopped() {
    let app = App::start(|_| (0, String::new())).await;
    let mut server = TestServer::start(&["--jwks", &app.url()]).await;
    eventually("it asks", async || !app.asked().is_empty()).await;
    let begun = Instant::now();
    server.process.signal(rustix::process::Signal::TERM);
    assert_eq!(server.process.exit_code().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_file_that_does_not_end_holds_nobody_up() {
    let folder = Folder::new("pipe");
    let pipe = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for flag in ["--jwks", "--jwt-public-key-file", "--jwt-secret-file"] {
        for file in [pipe.as_str(), "/dev/zero"] {
            let (code, said) = run(&[flag, file]).await;
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains("not a regular file"), "{said}");
        }
    }
}

/// A set with this one key.
fn set_of(signer: &Signer<'_>, id: &str) -> String {
    json!({"keys": [signer.jwk(id)]}).to_string()
}

#[tokio::test]
async fn keys_come_from_a_url_and_are_fetched_again_when_a_token_is_by_a_new_one() {
    let [old, new] = ["old", "new"].map(|name| {
        let folder = Folder::new(&format!("url-{name}"));
        Signer::generate(&folder, "ED25519")
    });
    let set = set_of(&old, "old");
    let app = App::start(move |_| (200, set.clone())).await;
    let server = TestServer::start(&["--jwks", &app.url()]).await;
    let status = async |signer: &Signer<'_>, id: &str| {
        let token = signer.sign(
            &json!({"alg": signer.algorithm(), "kid": id}),
            &claims("ann"),
        );
        let path = format!("/poll?wait=0&token={token}");
        server.public(&path).await.status
    };
    assert_eq!(status(&old, "old").await, 200);
    assert_eq!(status(&new, "new").await, 401);
    // Many tokens by unknown keys do not make the server ask all the time.
    for _ in 0..20 {
        status(&new, "new").await;
    }
    assert!(app.asked().len() <= 2, "{}", app.asked().len());
    let set = set_of(&new, "new");
    app.answers(move |_| (200, set.clone()));
    eventually("the new key counts", async || {
        status(&new, "new").await == 200
    })
    .await;
    assert_eq!(status(&old, "old").await, 401);
    // An answer without keys leaves those that are there.
    app.answers(|_| (500, String::new()));
    status(&old, "old").await;
    eventually("a try that failed", async || {
        let failed = server.metrics().await;
        failed
            .all("token_key_fetches_total")
            .any(|(labels, count)| labels.contains("failed") && count > 0.0)
    })
    .await;
    assert_eq!(status(&new, "new").await, 200);
}

/// A key without a name may be that of any token, so that a signature which is not its own says nothing.
#[tokio::test]
async fn a_key_without_a_name_does_not_hide_that_another_one_is_new() {
    let [named, old, new] = ["named", "old", "new"].map(|name| {
        let folder = Folder::new(&format!("nameless-{name}"));
        Signer::generate(&folder, "ED25519")
    });
    let folder = Folder::new("nameless");
    let pem = folder.write("key.pem", &named.public_pem());
    let set = set_of(&old, "old");
    let app = App::start(move |_| (200, set.clone())).await;
    let flags = ["--jwt-public-key-file", &pem, "--jwks", &app.url()];
    let server = TestServer::start(&flags).await;
    let token = |signer: &Signer<'_>, id: &str, expires: i64| {
        let header = json!({"alg": signer.algorithm(), "kid": id});
        signer.sign(&header, &json!({"sub": "ann", "exp": in_seconds(expires)}))
    };
    let refusal = async |token: &str| {
        let path = format!("/poll?wait=0&token={token}");
        server.public(&path).await.json()["code"].clone()
    };
    let expired = token(&named, "old", -600);
    assert_eq!(refusal(&expired).await, "token_expired");
    let mut ann = begin(&server, Via::WebSocket, &named.token(&claims("ann"))).await;
    let renewed = token(&new, "new", 600);
    let renew = json!({"type": "renew_token", "token": renewed, "id": 1});
    ann.send(renew.clone()).await;
    let error = ann.expect("error").await;
    assert_eq!(error["temporary"], true, "{error}");
    let set = set_of(&new, "new");
    app.answers(move |_| (200, set.clone()));
    eventually("the new key counts", async || {
        refusal(&renewed).await == Value::Null
    })
    .await;
    ann.send(renew).await;
    ann.expect("ack").await;
}

#[tokio::test]
async fn until_keys_can_be_fetched_users_are_told_to_come_again() {
    let folder = Folder::new("late");
    let signer = Signer::generate(&folder, "EC");
    let app = App::start(|_| (500, String::new())).await;
    let server = TestServer::start(&["--jwks", &app.url()]).await;
    let path = format!("/poll?wait=0&token={}", signer.token(&claims("ann")));
    let refused = server.public(&path).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["code"], "auth_unavailable");
    assert!(refused.header("retry-after").is_some());
    let set = set_of(&signer, "a");
    app.answers(move |_| (200, set.clone()));
    eventually("the keys", async || {
        server.public(&path).await.status == 200
    })
    .await;
}

/// The status for a user with this key's token, and how long it took.
async fn answer(server: &TestServer, signer: &Signer<'_>, id: &str) -> (u16, Duration) {
    let header = json!({"alg": signer.algorithm(), "kid": id});
    let token = signer.sign(&header, &claims("ann"));
    let asked = Instant::now();
    let status = server
        .public(&format!("/poll?wait=0&token={token}"))
        .await
        .status;
    (status, asked.elapsed())
}

/// Far less than the time that the server gives the URL of the keys.
const AT_ONCE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_url_that_hangs_at_the_start_holds_nobody_up() {
    let folder = Folder::new("hangs");
    let signer = Signer::generate(&folder, "EC");
    let app = App::start(|_| (0, String::new())).await;
    let server = TestServer::start(&["--jwks", &app.url()]).await;
    let (status, took) = answer(&server, &signer, "a").await;
    assert_eq!(status, 503);
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(server.public("/health").await.status, 200);
    assert_eq!(app.asked().len(), 1, "the first question is still open");
}

#[tokio::test]
async fn a_url_that_hangs_later_holds_nobody_up() {
    let folder = Folder::new("hangs-later");
    let signer = Signer::generate(&folder, "EC");
    let set = set_of(&signer, "a");
    let app = App::start(move |_| (200, set.clone())).await;
    let server = TestServer::start(&["--jwks", &app.url()]).await;
    assert_eq!(answer(&server, &signer, "a").await.0, 200);
    app.answers(|_| (0, String::new()));
    // The server asks for a key that it does not know.
    eventually("the keys are asked for again", async || {
        answer(&server, &signer, "b").await;
        app.asked().len() == 2
    })
    .await;
    for (id, expected) in [("a", 200), ("b", 401)] {
        let (status, took) = answer(&server, &signer, id).await;
        assert_eq!(status, expected);
        assert!(took < AT_ONCE, "{id}: {took:?}");
    }
    assert_eq!(app.asked().len(), 2, "the second question is still open");
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_who_has_a_certificate() {
    let folder = Folder::new("https");
    let signer = Signer::generate(&folder, "EC");
    folder.write("keys.json", &set_of(&signer, "a"));
    let (certificate, key) = certificate(&folder, "app");
    let mut command = std::process::Command::new("openssl");
    command.current_dir(folder.path(""));
    command.args(["s_server", "-WWW", "-cert", &certificate, "-key", &key]);
    command.args(["-accept", "127.0.0.1:0"]);
    let app = Process::spawn(command);
    let mut port = String::new();
    eventually("the app listens", async || {
        let said = app.stdout();
        let at = said
            .iter()
            .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:"));
        port = at.unwrap_or_default().to_owned();
        !port.is_empty()
    })
    .await;
    let url = format!("https://localhost:{port}/keys.json");
    let path = format!("/poll?wait=0&token={}", signer.token(&claims("ann")));
    for (authorities, expected) in [
        (certificate.as_str(), 200),
        ("/etc/ssl/certs/ca-certificates.crt", 503),
    ] {
        let mut command = binary();
        command.env("SSL_CERT_FILE", authorities);
        let server = TestServer::start_command(command, "127.0.0.1:0", &["--jwks", &url]).await;
        assert_eq!(server.public(&path).await.status, expected, "{authorities}");
    }
    drop(app);
}
