//! A load test finds out how many users the server holds.

use std::time::Duration;

use loadtest::{
    Campaign, Plan, Target,
    campaign::News,
    plan::{Search, Stage},
};

use crate::support::TestServer;

#[tokio::test]
async fn a_search_finds_as_many_users_as_may_connect() {
    let server = TestServer::start(&["--max-connections", "24"]).await;
    let mut plan = Plan::of_stages(vec![
        Stage::users("all", Duration::ZERO, 0, 10),
        Stage::users("hold", Duration::from_millis(300), 10, 10),
    ]);
    plan.thresholds = vec!["connection_success >= 100%".parse().unwrap()];
    plan.search = Some(Search {
        from: 10,
        to: 1000,
        factor: 2.0,
        precision_percent: 1.0,
    });
    let target = Target::new(&format!("ws://{}/ws", server.public), Some("none")).unwrap();
    let campaign = Campaign {
        plans: vec![plan],
        capacity: None,
    };
    let mut records = Vec::new();
    let played = campaign.play(&target, std::future::pending(), |news| {
        if let News::Played(record) = news {
            records.push(record);
        }
    });
    played.await.unwrap();
    let capacity = records[0].capacity.clone().unwrap();
    assert_eq!(
        (capacity.holds, capacity.breaks),
        (24, Some(25)),
        "{capacity:#?}"
    );
    let gave_out = capacity.gave_out.unwrap();
    assert!(gave_out.contains("503"), "{gave_out}");
    assert_eq!((records[0].run.users, records[0].exit_code), (24, 0));
}
