//! A node that drains: the others leave its users alone.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{User, engine::Engine};

/// They go one after the other, up to seconds later, and who met them would lose them at once.
#[tokio::test]
async fn nobody_of_a_draining_node_is_found() {
    let engine = Engine::start().await;
    let flags = [
        "--drain-timeout",
        "1h",
        "--widen-language-after",
        "1h",
        "--widen-region-after",
        "1h",
        "--widen-anyone-after",
        "1h",
    ];
    let (mut a, b) = engine.two_with(&flags).await;
    let languages = ["ar", "de", "en", "es"];
    let mut waiting = Vec::new();
    for language in languages {
        let mut user = User::connect(&a).await;
        user.wait_with(json!({"language": language})).await;
        waiting.push(user);
    }
    a.process.signal(Signal::TERM);
    for user in &mut waiting {
        user.expect("draining").await;
    }
    // At once: the other node may not have heard of the drain.
    let mut seekers = Vec::new();
    for language in languages {
        let mut user = User::connect(&b).await;
        user.wait_with(json!({"language": language})).await;
        seekers.push(user);
    }
    for user in &mut waiting {
        assert_eq!(user.expect_close().await, 4000);
    }
    assert_eq!(a.process.exit_code().await, Some(0));
    for seeker in &mut seekers {
        seeker.is_undisturbed().await;
    }
    // They have kept their places.
    for (language, seeker) in languages.iter().zip(&mut seekers) {
        let mut newcomer = User::connect(&b).await;
        newcomer.find_with(json!({"language": language})).await;
        assert_eq!(seeker.expect_match().await.peer, newcomer.id);
    }
}
