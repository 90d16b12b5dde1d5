//! A server behind TLS that wants to know who connects.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{Ran, node::Server, report_file, run};

const LOAD: [&str; 8] = [
    "--scenario",
    "echo-audio-streaming",
    "--arrival-rate",
    "5/s",
    "--duration",
    "2s",
    "--header",
    "X-Tenant: blue",
];

/// Files of a certificate and of the authority behind it; removed at the end.
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    tokens: PathBuf,
}

impl Files {
    fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("random numbers");
        let ca = authority.self_signed(&ca_key).expect("a certificate");
        let key = KeyPair::generate().expect("random numbers");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let cert = server
            .signed_by(&key, &Issuer::new(authority, ca_key))
            .expect("a certificate");
        let name = report_file();
        let file = |end: &str, text: String| {
            let path = name.with_extension(end);
            std::fs::write(&path, text).expect("written");
            path
        };
        Self {
            ca: file("ca.pem", ca.pem()),
            cert: file("cert.pem", cert.pem()),
            key: file("key.pem", key.serialize_pem()),
            tokens: file("tokens", "tk-first\ntk-last\n".to_owned()),
        }
    }

    fn all(&self) -> [&str; 4] {
        [&self.ca, &self.cert, &self.key, &self.tokens].map(|path| path.to_str().expect("UTF-8"))
    }

    async fn server(&self) -> (Server, String) {
        let [_, cert, key, _] = self.all();
        let tls = ["--cert", cert, "--key", key];
        let asked = [
            "--token",
            "tk-first",
            "--token",
            "tk-last",
            "--header",
            "x-tenant: blue",
        ];
        let server = Server::echo(&[&tls[..], &asked].concat()).await;
        let url = format!("wss://127.0.0.1:{}/", server.port);
        (server, url)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in self.all() {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[tokio::test]
async fn users_come_over_tls_with_a_token_each() {
    let files = Files::new();
    let [ca, _, _, tokens] = files.all();
    let (server, url) = files.server().await;
    let ran = run(
        &url,
        &[&LOAD[..], &["--ca", ca, "--token-file", tokens]].concat(),
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.count("/connections/succeeded"), 10);
    let tally = server.tally().await;
    assert_eq!((tally.get("connections"), tally.get("refused")), (11, 0));
    assert_eq!(ran.messages("delivered"), tally.get("binary"));
    assert!(
        !ran.json.to_string().contains("tk-"),
        "a report tells no token"
    );
}

#[tokio::test]
async fn tokens_are_fetched_over_tls_too() {
    let files = Files::new();
    let [ca, cert, key, _] = files.all();
    let server = Server::talk(&["--cert", cert, "--key", key]).await;
    let origin = format!("https://127.0.0.1:{}", server.port);
    let scenario = files.ca.with_extension("toml");
    let text = include_str!("../../loadtest/scenarios/chat-ack.toml");
    // Half of them by the whole address.
    let whole = text.replace("\"/auth", &format!("\"{origin}/auth"));
    let whole = whole.replace("name = \"chat\"", "name = \"whole\"");
    let flow = whole.find("[[flow]]").expect("there is one");
    std::fs::write(&scenario, format!("{text}{}", &whole[flow..])).expect("written");
    let path = scenario.to_str().expect("UTF-8");
    let url = origin.replace("https", "wss");
    let load = ["--scenario", path, "--stage", "100ms:10,1s:10", "--ca", ca];
    let ran = run(&url, &load).await;
    let _ = std::fs::remove_file(&scenario);
    ran.assert_ended(0);
    let tally = server.tally().await;
    assert_eq!((tally.get("tokens"), tally.get("connections")), (10, 10));
    assert!(tally.get("acks") > 0);
}

fn assert_unreachable(ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
}

#[tokio::test]
async fn who_does_not_get_in_is_told_what_to_give() {
    let files = Files::new();
    let [ca, _, _, tokens] = files.all();
    let (server, url) = files.server().await;
    let token = ["--token-file", tokens];
    let ran = run(&url, &[&LOAD[..], &token].concat()).await;
    assert_unreachable(&ran, &["tls_failed", "--ca FILE"]);
    let ran = run(&url, &[&LOAD[..], &["--ca", ca]].concat()).await;
    assert_unreachable(&ran, &["handshake_rejected:401", "--token-file"]);
    let ran = run(&url, &[&LOAD[..6], &["--ca", ca], &token].concat()).await;
    assert_unreachable(&ran, &["handshake_rejected:403", "--header"]);
    let plain = url.replace("wss", "ws");
    let ran = run(&plain, &[&LOAD[..], &token].concat()).await;
    assert_unreachable(&ran, &["wss://"]);
    let tally = server.tally().await;
    assert_eq!((tally.get("connections"), tally.get("refused")), (0, 2));
}
