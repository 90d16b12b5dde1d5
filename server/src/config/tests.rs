use clap::Parser;

use voicematch_core::outbox::OutboxLimits;

use super::*;

fn config(args: &[&str]) -> Result<Config, String> {
    let cli = Cli::try_parse_from(std::iter::once(&"voicematch-server").chain(args))
        .map_err(|e| e.to_string())?;
    cli.serve.check().map_err(|e| e.to_string())
}

#[test]
fn defaults_are_those_of_the_documents() {
    let config = config(&[]).expect("defaults are valid");
    assert_eq!(config.listen[0].to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:6060");
    assert_eq!(
        config.session.outbox,
        OutboxLimits {
            messages: 256,
            bytes: 1 << 20
        }
    );
    assert_eq!(
        (config.ws.max_message_bytes, config.session.rate.per_second),
        (65_536, 100)
    );
    assert_eq!(
        config.matchmaker.widening.anyone,
        Some(Duration::from_secs(15))
    );
}

#[test]
fn every_flag_has_an_environment_twin() {
    use clap::CommandFactory;
    for arg in Cli::command()
        .get_arguments()
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
    {
        let env = arg
            .get_env()
            .unwrap_or_else(|| panic!("{} has none", arg.get_id()));
        assert!(env.to_string_lossy().starts_with("VOICEMATCH_"), "{env:?}");
    }
}

#[test]
fn bad_values_say_what_to_do() {
    for (args, hint) in [
        (&["--heartbeat", "soon"][..], "25s"),
        (&["--heartbeat", "0"], "100ms to 1h"),
        (&["--idle-timeout", "9999days"], "100ms to 1year, or 0"),
        (&["--widen-region-after", "2days"], "0s to 1day"),
        (&["--max-message-bytes", "lots"], "64KiB"),
        (&["--max-message-bytes", "1"], "256 to 64MiB"),
        (&["--outbox-bytes", "1000"], "at least"),
        (&["--message-burst", "0"], "1..=1000000"),
        (&["--workers", "1000000"], "0..=1024"),
        (&["--log", "inof"], "info"),
        (&["--ice-server", "http://x"], "stun:"),
        (&["--ice-server", "{\"urls\": []}"], "empty"),
        (&["--dev-tokens"], "--jwt-secret-file"),
        (&["--proxy-protocol"], "--trusted-proxy"),
        (&["--listen", ":7,unix:x,:7"], ":7 twice"),
        (&["--listen", "127.0.0.1:6060"], "--admin-listen"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--tls-key", "x"], "--tls-cert"),
        (&["--jwks", "ftp://x"], "https://"),
        (&["--auth-webhook", "app.example"], "https://"),
        (
            &["--auth-webhook", "http://x", "--jwks", "keys.json"],
            "one or the other",
        ),
        (&["--event-webhook", "app.example"], "https://"),
        (
            &["--event-webhook", "http://x"],
            "--event-webhook-secret-file",
        ),
        (
            &["--event-webhook-secret-file", "/nowhere"],
            "--event-webhook,",
        ),
        (&["--event-webhook-type", "match"], "match.made"),
        (&["--turn-url", "stun:x"], "turn:turn"),
        (&["--turn-url", "turn: "], "turn:turn"),
        (&["--turn-url", "turn:x y"], "turn:turn"),
        (
            &["--ice-server", "[{\"urls\": \"stun:x\\u0000\"}]"],
            "stun:",
        ),
        (&["--turn-url", "turn:x"], "--turn-secret-file"),
        (&["--turn-secret-file", "/dev/null"], "--turn-url"),
        (
            &["--turn-url", "turn:x", "--turn-secret-file", "/nowhere"],
            "/nowhere",
        ),
        (&["--listen", "8080"], ":8080"),
        (&["--listen", "unix:"], "path"),
        (&["--listen", "a b:80"], "localhost:8080"),
        (&["--listen", ":80800"], "localhost:8080"),
        (&["--unix-socket-mode", "999"], "660"),
        (&["--trusted-proxy", "10.0.0.0/40"], "10.0.0.0/8"),
        (&["--allowed-origin", "app.example"], "https://"),
        #[cfg(feature = "traces")]
        (&["--otlp-endpoint", "collector:4318"], "https://"),
        #[cfg(feature = "traces")]
        (&["--trace-sample", "2"], "0 to 1"),
        #[cfg(feature = "traces")]
        (&["--trace-sample", "NaN"], "0 to 1"),
        #[cfg(feature = "sentry")]
        (&["--sentry-dsn-file", "/nowhere"], "/nowhere"),
        #[cfg(feature = "sentry")]
        (&["--sentry-environment", "a b"], "spaces"),
    ] {
        let error = config(args).expect_err("bad");
        assert!(error.contains(hint), "{args:?}: {error}");
    }
}

#[test]
fn an_ice_server_is_a_url_or_json() {
    let config = config(&[
        "--ice-server",
        "stun:stun.example.org:3478",
        "--ice-server",
        r#"{"urls":"turn:turn.example.org","username":"u","credential":"c"}"#,
    ])
    .expect("valid");
    assert_eq!(
        value::ice_servers("stun:a turn:b").map(|servers| servers.0.len()),
        Ok(2)
    );
    assert_eq!(config.session.ice.fixed.len(), 2);
    assert_eq!(config.session.ice.fixed[1].credential.as_deref(), Some("c"));
}

#[test]
fn never_is_a_time_too() {
    let config = config(&["--widen-anyone-after", "never"]).expect("valid");
    assert_eq!(config.matchmaker.widening.anyone, None);
}
