//! A store that is lost, full or spilled, callers that go away, and interviews that leave the memory.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use voicematch_transcribe::{
    record::RowId,
    survey::{Engine, Limits, ToolError},
};

use crate::{
    help::{MOBILITY, call, current, engine, engine_with, name, record, start, unlimited},
    memory::{Fault, Memory},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// An engine that keeps two interviews.
fn small(memory: &Arc<Memory>) -> Engine {
    engine_with(
        memory,
        MOBILITY,
        Limits {
            interviews: 2,
            ..unlimited()
        },
    )
}

/// Uses other interviews until none of those before is in memory.
async fn push_out(engine: &Engine) {
    for _ in 0..3 {
        start(engine, "mobility").await;
    }
}

#[tokio::test]
async fn a_lost_answer_can_be_sent_again() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    memory.fault(Fault::Lost);
    assert_eq!(
        record(&engine, session, json!(true), "1")
            .await
            .unwrap_err(),
        ToolError::StorageUnavailable
    );
    memory.fault(Fault::None);
    assert_eq!(current(&engine, session).await.as_deref(), Some("consent"));
    // Nothing was stored, so another answer is as good, even under the same name.
    record(&engine, session, json!(false), "1").await.unwrap();
    assert_eq!(memory.answers_stored().len(), 1);
    assert_eq!(memory.answers_stored()[0].value, "false");
}

#[tokio::test]
async fn an_answer_whose_reply_was_lost_is_not_stored_twice() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    memory.fault(Fault::LostReply);
    assert_eq!(
        record(&engine, session, json!(true), "1")
            .await
            .unwrap_err(),
        ToolError::StorageUnavailable
    );
    memory.fault(Fault::None);
    // What is stored counts: the next question is asked.
    assert_eq!(current(&engine, session).await.as_deref(), Some("use"));
    let reply = record(&engine, session, json!(true), "1").await.unwrap();
    assert_eq!(reply["next"]["question"]["id"], "use");
    assert_eq!(
        record(&engine, session, json!(false), "1")
            .await
            .unwrap_err(),
        ToolError::RequestIdReused
    );
    assert_eq!(memory.answers_stored().len(), 1);
}

#[tokio::test]
async fn what_is_spilled_counts_as_stored_and_stays_in_memory() {
    let memory = Memory::new();
    let engine = small(&memory);
    memory.fault(Fault::Spill);
    memory.unreadable(true);
    let session = start(&engine, "mobility").await;
    record(&engine, session, json!(true), "1").await.unwrap();
    let other = start(&engine, "mobility").await;
    // There is no room for a third one: what is only spilled cannot be read back.
    let error = engine
        .start("mobility", None, None, None)
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::StorageUnavailable);
    memory.unreadable(false);
    assert_eq!(current(&engine, session).await.as_deref(), Some("use"));
    assert_eq!(current(&engine, other).await.as_deref(), Some("consent"));
    assert_eq!(memory.answers_stored(), []);
    memory.fault(Fault::None);
    memory.replay();
    push_out(&engine).await;
    let reads = memory.interviews_read();
    assert_eq!(current(&engine, session).await.as_deref(), Some("use"));
    assert_eq!(memory.interviews_read(), reads + 1);
    assert_eq!(memory.answers_stored().len(), 1);
}

#[tokio::test]
async fn a_respondent_whose_start_is_spilled_does_not_start_twice() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    memory.fault(Fault::Spill);
    let first = engine
        .start("mobility", Some(name("r")), None, None)
        .await
        .unwrap();
    let second = engine
        .start("mobility", Some(name("r")), None, None)
        .await
        .unwrap();
    assert_eq!((first.interview, second.resumed), (second.interview, true));
    memory.replay();
    assert_eq!(memory.interviews_stored().len(), 1);
}

#[tokio::test]
async fn a_respondent_whose_interview_has_expired_begins_another() {
    for is_shared in [false, true] {
        let memory = Memory::new();
        if is_shared {
            memory.share();
        }
        let engine = engine(&memory, MOBILITY);
        let begin = async || {
            let started = engine.start("mobility", Some(name("r")), None, None).await;
            started.unwrap()
        };
        let first = begin().await.interview;
        assert!(begin().await.resumed);
        memory.expire_all();
        let answer = async |session| record(&engine, session, json!(true), "1").await;
        // A process alone learns of it when the answer is not taken.
        if !is_shared {
            let lost = answer(first).await.unwrap_err();
            assert_eq!(lost, ToolError::StorageUnavailable);
        }
        let gone = answer(first).await.unwrap_err();
        assert_eq!(gone, ToolError::UnknownSession);
        let second = begin().await;
        assert!(!second.resumed && second.interview != first);
        answer(second.interview).await.unwrap();
        assert_eq!(memory.answers_stored().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_lost_after_one_that_was_spilled_is_waited_for() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    memory.fault(Fault::Spill);
    record(&engine, session, json!(true), "1").await.unwrap();
    memory.fault(Fault::Lost);
    assert_eq!(
        record(&engine, session, json!(3), "2").await.unwrap_err(),
        ToolError::StorageUnavailable
    );
    // The store does not know the first answer, and asking its question again would store it twice.
    let error = call(&engine, session, "get_next_question", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::StorageUnavailable);
    memory.fault(Fault::None);
    memory.replay();
    assert_eq!(current(&engine, session).await.as_deref(), Some("use"));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_memory_and_store_together() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    let before = memory.appended();
    memory.hold();
    let caller = tokio::spawn({
        let engine = engine.clone();
        async move { record(&engine, session, json!(true), "1").await }
    });
    let waiting = async {
        while memory.appended() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let next = tokio::spawn({
        let engine = engine.clone();
        async move { current(&engine, session).await }
    });
    memory.release();
    let next = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
    assert_eq!(next.as_deref(), Some("use"));
}

#[tokio::test]
async fn a_lost_end_is_stored_by_the_next_call() {
    let memory = Memory::new();
    let session = {
        let engine = engine(&memory, MOBILITY);
        let session = start(&engine, "mobility").await;
        record(&engine, session, json!(false), "1").await.unwrap();
        session
    };
    let ended = memory.interviews_stored()[0].ended_ms;
    assert!(ended.is_some());
    memory.lose_ends();
    let engine = engine(&memory, MOBILITY);
    memory.fault(Fault::Lost);
    assert_eq!(current(&engine, session).await, None);
    assert_eq!(memory.interviews_stored()[0].ended_ms, None);
    memory.fault(Fault::None);
    assert_eq!(current(&engine, session).await, None);
    assert_eq!(memory.interviews_stored()[0].ended_ms, ended);
    let appended = memory.appended();
    assert_eq!(current(&engine, session).await, None);
    assert_eq!(memory.appended(), appended);
}

/// One task answers, others read, and others push the interview out of the memory. What was acknowledged is never
/// forgotten by a later call.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reload_and_answer_at_once_never_show_an_old_state() {
    let memory = Memory::new();
    let engine = small(&memory);
    let session = start(&engine, "mobility").await;
    record(&engine, session, json!(true), "c").await.unwrap();
    let revisions = tokio::spawn({
        let engine = engine.clone();
        async move {
            for expected in 1..=150_i64 {
                let request = expected.to_string();
                let value = expected % 8;
                let arguments = json!({ "question": "use", "value": value, "revise": expected > 1, "request_id": request });
                let reply = retried(&engine, session, &arguments).await;
                assert_eq!(reply["revision"], expected);
            }
        }
    });
    let others: Vec<_> = (0..3)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for _ in 0..300 {
                    let _ = engine.start("mobility", None, None, None).await;
                    let reply = call(&engine, session, "get_next_question", json!({})).await;
                    if let Ok(reply) = reply {
                        assert_ne!(reply["question"]["id"], "consent");
                    }
                    let _ = call(&engine, RowId(5), "get_next_question", json!({})).await;
                }
            })
        })
        .collect();
    tokio::time::timeout(PATIENCE, revisions)
        .await
        .unwrap()
        .unwrap();
    for other in others {
        tokio::time::timeout(PATIENCE, other)
            .await
            .unwrap()
            .unwrap();
    }
    assert!(memory.interviews_read() > 10, "it was never pushed out");
    let stored = memory.answers_stored();
    assert_eq!(
        stored
            .iter()
            .filter(|answer| answer.interview_id == session)
            .count(),
        151
    );
}

/// With two places and four users there is at times no room.
async fn retried(
    engine: &Engine,
    session: RowId,
    arguments: &serde_json::Value,
) -> serde_json::Value {
    loop {
        match call(engine, session, "record_response", arguments.clone()).await {
            Ok(reply) => return reply,
            Err(error) => assert_eq!(error, ToolError::StorageUnavailable),
        }
        tokio::task::yield_now().await;
    }
}
