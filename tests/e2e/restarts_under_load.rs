//! Servers succeed each other under load: nobody loses a message or a match.

use rustix::process::Signal;

use crate::support::{TestServer, gate::Gate, place::Place};

const TALK: &str = r#"["connect", "find_match", { send = "message", every = "200ms" }]"#;

/// Users talk for a while, and look for another partner.
const SEARCH: &str = r#"["connect", "find_match",
    { loop = "endless", steps = [{ send = "message", every = "200ms", times = 10 }, "next"] }]"#;

const TALK_TO_ALL: &str =
    r#"["connect", { join_room = "talk", members = 5 }, { send = "message", every = "200ms" }]"#;

fn scenario(users: u64, transport: &str, steps: &str) -> String {
    format!(
        r#"
        name = "restarts"
        transport = "{transport}"
        resume = true
        timeouts = {{ message = "60s", match = "60s" }}
        phase = [
            {{ name = "ramp", duration = "1s", users = {users} }},
            {{ name = "restarts", duration = "5min", users = {users} }},
        ]
        [[flow]]
        name = "talk"
        rematch = {}
        steps = {steps}
        "#,
        steps == SEARCH
    )
}

/// How a server takes the place of another one.
enum Succession {
    /// It gets the sockets, and the one before drains.
    HandOver(Place),
    /// New connections go to it, as by a Service of Kubernetes, and the one before gets SIGTERM.
    Service(Gate),
}

impl Succession {
    const DRAIN: &str = "6s";

    async fn start(&self) -> TestServer {
        match self {
            Self::HandOver(place) => place.start().await,
            Self::Service(gate) => {
                let server = TestServer::start(&["--drain-timeout", Self::DRAIN]).await;
                gate.leads_to(&server);
                server
            }
        }
    }

    /// Another one serves, and the one before has ended.
    async fn succeed(&self, mut before: TestServer) -> TestServer {
        let next = self.start().await;
        if let Self::Service(_) = self {
            before.process.signal(Signal::TERM);
        }
        assert_eq!(before.process.exit_code().await, Some(0));
        next
    }
}

/// Plays a scenario while servers succeed each other, each time when `gauge` has reached a value, and checks that all that was
/// said is heard, and each match is made. Returns how many times a user has moved.
async fn restarts_under_load(
    scenario: &str,
    succession: Succession,
    restarts: u64,
    (gauge, value): (&str, f64),
) -> u64 {
    let mut server = succession.start().await;
    let address = match &succession {
        Succession::HandOver(_) => server.public,
        Succession::Service(gate) => gate.address,
    };
    let plan = loadtest::read_scenario(scenario, "scenario").expect("a good scenario");
    let target = loadtest::Target::new(&format!("ws://{address}/ws"), Some("none"));
    let target = target.expect("a good address");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let run = loadtest::run_until(&plan, &target, async { _ = stopped.await }, |_| {});
    let restart = async {
        for _ in 0..restarts {
            server.reaches(gauge, "", value).await;
            server = succession.succeed(server).await;
        }
        server.reaches(gauge, "", value).await;
        stop.send(()).unwrap();
        server
    };
    let (record, _server) = tokio::join!(run, restart);
    let record = record.expect("a run");
    let report = loadtest::terminal(&record);
    let failover = record.failover.as_ref().expect("users moved");
    assert_eq!(failover.not_moved, 0, "{report}");
    assert!(record.errors.is_empty(), "{report}");
    assert_eq!(record.matches.failed, 0, "{report}");
    assert!(record.delivery.iter().any(|part| part.delivered > 0));
    for part in &record.delivery {
        let wrong = [part.lost, part.duplicate, part.reordered];
        assert_eq!(wrong, [0; 3], "{report}");
    }
    failover.moved
}

fn hand_over() -> Succession {
    Succession::HandOver(Place::new(Succession::DRAIN))
}

/// Over each transport.
#[tokio::test]
async fn ten_restarts_lose_nothing_of_those_who_talk() {
    const USERS: u64 = 40;
    let scenario = scenario(USERS, "mixed", TALK);
    let all_talk = ("rooms_active", USERS as f64 / 2.0);
    let moved = restarts_under_load(&scenario, hand_over(), 10, all_talk).await;
    assert_eq!(moved, 10 * USERS);
}

/// Those whose search a server in a drain does not begin find somebody at the next one.
#[tokio::test]
async fn ten_restarts_fail_no_match_of_those_who_search() {
    const USERS: u64 = 40;
    let scenario = scenario(USERS, "mixed", SEARCH);
    let all_are_there = ("websocket_active_connections", USERS as f64);
    let moved = restarts_under_load(&scenario, hand_over(), 10, all_are_there).await;
    // A user who has not found the partner again when the next restart comes is counted once for both.
    assert!((9 * USERS..=10 * USERS).contains(&moved), "{moved}");
}

/// The servers know nothing of each other. A session goes on at its own server only, so that WebSocket has to be open.
#[tokio::test]
async fn restarts_behind_a_service_fail_no_match_and_lose_nothing() {
    const USERS: u64 = 40;
    let service = Succession::Service(Gate::open().await);
    let scenario = scenario(USERS, "ws", SEARCH);
    let all_are_there = ("websocket_active_connections", USERS as f64);
    let moved = restarts_under_load(&scenario, service, 10, all_are_there).await;
    assert!((9 * USERS..=10 * USERS).contains(&moved), "{moved}");
}

/// All members find each other at the next server.
#[tokio::test]
async fn named_rooms_move_with_all_their_members() {
    const USERS: u64 = 20;
    let scenario = scenario(USERS, "mixed", TALK_TO_ALL);
    let all_are_in = ("named_room_members", USERS as f64);
    let moved = restarts_under_load(&scenario, hand_over(), 3, all_are_in).await;
    assert_eq!(moved, 3 * USERS);
}
