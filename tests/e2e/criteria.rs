//! Whom users want to meet, and how that widens while they wait.

use serde_json::{Value, json};

use crate::support::{Client, PATIENCE, TestServer, User, Via, becomes};

/// Flags with which criteria widen at these times.
fn widening<'a>(language: &'a str, region: &'a str, anyone: &'a str) -> [&'a str; 6] {
    [
        "--widen-language-after",
        language,
        "--widen-region-after",
        region,
        "--widen-anyone-after",
        anyone,
    ]
}

/// Two users with these criteria, who do not fit at once.
async fn two_who_wait(server: &TestServer, criteria: [Value; 2]) -> [User; 2] {
    let mut users = [User::connect(server).await, User::connect(server).await];
    for (user, criteria) in users.iter_mut().zip(criteria) {
        user.wait_with(criteria).await;
    }
    users
}

/// They meet, each after at least this wait, in a pool of this kind.
async fn meet_after(server: &TestServer, users: &mut [User; 2], least_ms: u64, pool: &str) {
    let [first, second] = users;
    let saw = [first.expect_match().await, second.expect_match().await];
    assert_eq!(saw[0].room, saw[1].room);
    assert_eq!((&saw[0].peer, &saw[1].peer), (&second.id, &first.id));
    for saw in &saw {
        assert!(saw.waited_ms >= least_ms, "{saw:?}");
        assert_eq!(saw.shared_interests, json!([]));
    }
    let label = format!(r#"pool="{pool}",reach="local""#);
    server.reaches("matches_total", &label, 1.0).await;
}

#[tokio::test]
async fn a_shared_interest_pairs_at_once() {
    let server = TestServer::start(&widening("1h", "1h", "1h")).await;
    let mut first = User::connect(&server).await;
    let mut second = User::connect(&server).await;
    let criteria = json!({"language": "en", "interests": ["chess", "jazz", "go", "tea"]});
    first.wait_with(criteria).await;
    let criteria = json!({"language": "en", "interests": ["tea", "rust", "jazz"]});
    second.find_with(criteria).await;
    for saw in [second.expect_match().await, first.expect_match().await] {
        assert_eq!(saw.shared_interests, json!(["jazz", "tea"]));
    }
    server
        .reaches("matches_total", r#"pool="interest",reach="local""#, 1.0)
        .await;
}

#[tokio::test]
async fn a_shared_interest_is_no_bridge_between_languages() {
    let server = TestServer::start(&widening("0", "0", "never")).await;
    let criteria =
        ["en", "de"].map(|language| json!({"language": language, "interests": ["jazz"]}));
    let mut users = two_who_wait(&server, criteria).await;
    let label = r#"pool="language""#;
    becomes(2.0, "users in their language's pool", async || {
        server.metric("matchmaking_waiting_users", label).await
    })
    .await;
    for user in &mut users {
        user.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_shared_language_is_enough_after_a_while() {
    let server = TestServer::start(&widening("200ms", "never", "never")).await;
    let criteria = ["jazz", "chess"].map(|topic| json!({"language": "en", "interests": [topic]}));
    let mut users = two_who_wait(&server, criteria).await;
    meet_after(&server, &mut users, 200, "language").await;
}

#[tokio::test]
async fn a_shared_region_is_enough_after_a_while() {
    let server = TestServer::start(&widening("0", "200ms", "never")).await;
    let criteria = ["en", "de"].map(|language| json!({"language": language, "region": "eu"}));
    let mut users = two_who_wait(&server, criteria).await;
    meet_after(&server, &mut users, 200, "region").await;
}

#[tokio::test]
async fn anyone_will_do_after_a_while() {
    let server = TestServer::start(&widening("0", "0", "200ms")).await;
    let criteria = [
        json!({"language": "en", "region": "eu"}),
        json!({"language": "de", "region": "us", "interests": ["jazz"]}),
    ];
    let mut users = two_who_wait(&server, criteria).await;
    meet_after(&server, &mut users, 200, "anyone").await;
}

#[tokio::test]
async fn one_who_never_widens_waits_while_others_meet() {
    let server = TestServer::start(&widening("200ms", "never", "never")).await;
    let mut alone = User::connect(&server).await;
    alone
        .wait_with(json!({"language": "fr", "interests": ["jazz"]}))
        .await;
    let mut indifferent = User::connect(&server).await;
    indifferent.wait().await;
    // These two come later and meet when they have widened: by then the others would have, too.
    let criteria = ["jazz", "chess"].map(|topic| json!({"language": "en", "interests": [topic]}));
    let mut users = two_who_wait(&server, criteria).await;
    meet_after(&server, &mut users, 200, "language").await;
    alone.is_undisturbed().await;
    indifferent.is_undisturbed().await;
}

#[tokio::test]
async fn different_wishes_do_not_meet_before_their_time() {
    let server = TestServer::start(&widening("1h", "1h", "1h")).await;
    let criteria = [
        json!({"language": "en", "region": "eu", "interests": ["jazz"]}),
        json!({"language": "en", "region": "eu", "interests": ["chess"]}),
    ];
    let [mut first, mut second] = two_who_wait(&server, criteria).await;
    let criteria = [json!({"language": "fr"}), json!({"region": "us"})];
    let [mut third, mut fourth] = two_who_wait(&server, criteria).await;
    let mut fifth = User::connect(&server).await;
    fifth.wait().await;
    for user in [&mut first, &mut second, &mut third, &mut fourth, &mut fifth] {
        user.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_user_without_criteria_meets_one_whose_criteria_have_widened() {
    let server = TestServer::start(&widening("0", "0", "200ms")).await;
    let criteria = json!({"language": "en", "interests": ["jazz"]});

    let mut indifferent = User::connect(&server).await;
    indifferent.wait().await;
    let mut choosy = User::connect(&server).await;
    choosy.wait_with(criteria.clone()).await;
    assert!(choosy.expect_match().await.waited_ms >= 200);
    assert_eq!(indifferent.expect_match().await.peer, choosy.id);

    let mut choosy = User::connect(&server).await;
    choosy.wait_with(criteria).await;
    becomes(1.0, "users who would meet anyone", async || {
        let label = r#"pool="anyone""#;
        server.metric("matchmaking_waiting_users", label).await
    })
    .await;
    let mut indifferent = User::connect(&server).await;
    indifferent.find().await;
    assert_eq!(indifferent.expect_match().await.peer, choosy.id);
    assert_eq!(choosy.expect_match().await.peer, indifferent.id);
}

#[tokio::test]
async fn case_and_space_around_words_do_not_matter() {
    let server = TestServer::start(&widening("1h", "1h", "1h")).await;
    let pairs = [
        (
            json!({"language": " EN "}),
            json!({"language": "en"}),
            json!([]),
        ),
        (
            json!({"region": "Eu\t"}),
            json!({"region": "eU"}),
            json!([]),
        ),
        (
            json!({"interests": ["  Street Jazz", "", "STREET JAZZ", "x"]}),
            json!({"interests": ["street jazz", "y"]}),
            json!(["street jazz"]),
        ),
        (
            json!({"language": "", "interests": ["ÉTÉ"]}),
            json!({"interests": ["été"]}),
            json!(["été"]),
        ),
        // Nothing but blanks is no wish at all.
        (
            json!({"language": " ", "region": "", "interests": [" "]}),
            json!({}),
            json!([]),
        ),
        (json!(null), json!({"color": "blue"}), json!([])),
    ];
    for (first_wants, second_wants, shared) in pairs {
        let mut first = User::connect(&server).await;
        let mut second = User::connect(&server).await;
        first.wait_with(first_wants).await;
        second.find_with(second_wants).await;
        assert_eq!(second.expect_match().await.peer, first.id);
        assert_eq!(first.expect_match().await.shared_interests, shared);
    }
}

#[tokio::test]
async fn criteria_with_too_much_in_them_are_refused() {
    let server = TestServer::start(&[]).await;
    let mut user = User::connect(&server).await;
    let words = |count: usize| -> Vec<String> { (0..count).map(|i| format!("w{i}")).collect() };
    let long = |bytes: usize| "é".repeat(bytes / 2) + &"x".repeat(bytes % 2);
    for criteria in [
        json!({"interests": words(11)}),
        json!({"interests": [long(65)]}),
        json!({"language": long(65)}),
        json!({"region": long(65)}),
    ] {
        user.find_with(criteria).await;
        let error = user.expect_error("invalid_criteria").await;
        assert_eq!(error["temporary"], false);
    }
    // What just fits is taken, and what was refused has left no trace.
    let most = json!({"language": long(64), "region": long(64), "interests": words(10)});
    user.wait_with(most).await;
}

#[tokio::test]
async fn criteria_of_the_wrong_shape_are_a_bad_message() {
    let server = TestServer::start(&[]).await;
    for criteria in [
        json!("en"),
        json!(1),
        json!({"language": 1}),
        json!({"region": ["eu"]}),
        json!({"interests": "jazz"}),
        json!({"interests": [1]}),
        json!([]),
        json!(["en", "eu", ["jazz"]]),
    ] {
        let mut user = User::connect(&server).await;
        user.find_with(criteria.clone()).await;
        let error = user.next_json().await;
        assert_eq!(error["code"], "bad_message", "{criteria} {error}");
    }
}

#[tokio::test]
async fn criteria_widen_also_while_users_are_asked_whether_they_are_there() {
    let flags = widening("1s", "2s", "3s");
    let flags = [&flags[..], &["--resume-heartbeat", "300ms"]].concat();
    let server = TestServer::start(&flags).await;
    let mut first = Client::begin(&server, Via::WebSocket).await;
    let mut second = Client::begin(&server, Via::EventStream).await;
    for (user, language) in [(&mut first, "en"), (&mut second, "de")] {
        let criteria = json!({"language": language});
        user.send(json!({"type": "find_match", "criteria": criteria}))
            .await;
        user.expect("waiting").await;
    }
    let both = async { tokio::join!(first.expect("match_found"), second.expect("match_found")) };
    // Each ping would begin another wait for a message.
    let saw = tokio::time::timeout(PATIENCE, both).await.expect("a match");
    assert!(saw.0["waited_ms"].as_u64().unwrap() >= 2900, "{saw:?}");
    assert_eq!(saw.0["room_id"], saw.1["room_id"]);
}
