//! Bans in the engine.

use std::time::Duration;

use voicematch_cluster::{KeptOut, Word};

use crate::cluster::{Came, Node};
use crate::server::Server;
use crate::support::{Connected, eventually};

fn ban(whom: &str, seconds: u64, reason: &str) -> KeptOut {
    KeptOut {
        whom: whom.into(),
        left: Duration::from_secs(seconds),
        reason: reason.into(),
        lifted: false,
    }
}

async fn all(one: &Connected) -> Vec<(String, u64, String, bool)> {
    let all = one.engine.read_bans().await.expect("answered");
    let seen = |ban: KeptOut| {
        let whom = String::from_utf8(ban.whom).expect("text");
        // Some of the time has gone.
        (whom, ban.left.as_secs() + 1, ban.reason, ban.lifted)
    };
    let mut all: Vec<_> = all.into_iter().map(seen).collect();
    all.sort_unstable();
    all
}

async fn write(one: &Connected, word: Word, ban: KeptOut) -> usize {
    let written = one.engine.write_bans(&[(word, ban)]).await;
    written.expect("answered")
}

#[tokio::test]
async fn the_latest_word_counts_and_what_is_kept_does_not_come_back() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    assert_eq!(all(&one).await, []);
    assert_eq!(
        write(&one, Word::Ban, ban("uann", 600, "spam\nand more")).await,
        1
    );
    assert_eq!(write(&one, Word::Keep, ban("uann", 60, "older")).await, 0);
    let said = ("uann".to_owned(), 600, "spam\nand more".to_owned(), false);
    assert_eq!(all(&one).await, [said]);
    write(&one, Word::Ban, ban("uann", 60, "")).await;
    assert_eq!(
        all(&one).await,
        [("uann".to_owned(), 60, String::new(), false)]
    );
    write(&one, Word::Lift, ban("uann", 60, "")).await;
    // Who has not heard of it says it again.
    assert_eq!(write(&one, Word::Keep, ban("uann", 60, "")).await, 0);
    assert_eq!(
        all(&one).await,
        [("uann".to_owned(), 60, String::new(), true)]
    );
    assert_eq!(write(&one, Word::Ban, ban("uann", 60, "again")).await, 1);
    assert!(!all(&one).await[0].3);
}

#[tokio::test]
async fn a_ban_ends_by_itself_and_there_are_so_many_at_the_most() {
    let server = Server::start().await;
    let one = Connected::up(server.patient()).await;
    let many: Vec<_> = (0..10_000)
        .map(|number| (Word::Ban, ban(&format!("u{number}"), 600, "")))
        .collect();
    let written = one.engine.write_bans(&many).await.expect("answered");
    assert_eq!(written, 10_000);
    assert_eq!(write(&one, Word::Ban, ban("umore", 600, "")).await, 0);
    let short = KeptOut {
        left: Duration::from_millis(1),
        ..ban("u7", 0, "")
    };
    assert_eq!(write(&one, Word::Ban, short).await, 1, "known");
    eventually("it is over", async || {
        all(&one).await.iter().all(|(whom, ..)| whom != "u7")
    })
    .await;
    assert_eq!(write(&one, Word::Ban, ban("umore", 600, "")).await, 1);
    assert_eq!(all(&one).await.len(), 10_000);
}

#[tokio::test]
async fn all_nodes_are_told_that_something_has_changed() {
    let server = Server::start().await;
    let [a, b] = Node::some(&server.settings()).await;
    a.bus.tell_bans();
    eventually("they hear it", async || {
        a.hears(&Came::Bans) && b.hears(&Came::Bans)
    })
    .await;
}
