//! Interviews as they go well: the tools in turn, again, after a restart, and many at once.

use std::{collections::HashSet, sync::Arc};

use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::{Value, json};
use voicematch_transcribe::survey::{Engine, Format, Started, SurveyMetrics};

use crate::{
    help::{MOBILITY, call, current, engine, engine_with, name, record, start, survey, unlimited},
    memory::Memory,
};

#[tokio::test]
async fn an_interview_from_begin_to_end() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    let reply = call(
        &engine,
        session,
        "get_next_question",
        json!({ "language": "de-CH" }),
    )
    .await
    .unwrap();
    let expected = json!({
        "done": false,
        "question": {
            "id": "consent",
            "type": "yes_no",
            "text": "Darf ich Ihnen ein paar Fragen dazu stellen, wie Sie unterwegs sind? Ihre Antworten werden gespeichert.",
            "language": "de",
            "required": true,
            "index": 1,
            "of": 7,
        },
    });
    assert_eq!(reply, expected);
    let reply = record(&engine, session, json!("yes please"), "1")
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["revision"]),
        (&json!(true), &json!(1))
    );
    let use_question = &reply["next"]["question"];
    assert_eq!(
        (
            &use_question["id"],
            &use_question["min"],
            &use_question["max"]
        ),
        (&json!("use"), &json!(0), &json!(7))
    );
    let spoken = json!({ "spoken": "vier", "language": "de", "request_id": "2", "segment": 17 });
    let reply = call(&engine, session, "record_response", spoken)
        .await
        .unwrap();
    // The texts follow in the language of the call.
    assert_eq!(
        reply["next"]["question"]["choices"][1],
        json!({ "value": "tram", "label": "Straßenbahn" })
    );
    record(&engine, session, json!("the bus and the tram"), "3")
        .await
        .unwrap();
    let reply = record(&engine, session, json!(4), "4").await.unwrap();
    // Satisfied people skip a question, and the way becomes shorter.
    assert_eq!(reply["next"]["question"]["id"], "age");
    assert_eq!(
        (
            &reply["next"]["question"]["index"],
            &reply["next"]["question"]["of"]
        ),
        (&json!(5), &json!(6))
    );
    record(&engine, session, json!(null), "5").await.unwrap();
    let reply = record(&engine, session, json!("10115"), "6").await.unwrap();
    assert_eq!(reply["next"]["done"], true);

    let answers = memory.answers_stored();
    let stored: Vec<(&str, &str)> = answers
        .iter()
        .map(|answer| (answer.question_id.as_str(), answer.value.as_str()))
        .collect();
    let expected = [
        ("consent", "true"),
        ("use", "4"),
        ("lines", "[\"bus\",\"tram\"]"),
        ("satisfied", "4"),
        ("age", "null"),
        ("postcode", "\"10115\""),
    ];
    assert_eq!(stored, expected);
    assert_eq!(answers[1].segment_seq, Some(17));
    let interview = &memory.interviews_stored()[0];
    assert_eq!(interview.ended_ms, Some(answers[5].created_ms));
    assert_eq!(
        (interview.survey_id.as_str(), interview.language.as_str()),
        ("mobility", "en")
    );
    assert_eq!(memory.surveys_stored(), [survey(MOBILITY).to_record()]);
}

#[tokio::test]
async fn a_respondent_has_one_interview() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let starts = (0..20).map(|_| engine.start("mobility", Some(name("r1")), Some("de"), None));
    let started: Vec<Started> = futures_util::future::try_join_all(starts).await.unwrap();
    assert_eq!(started.iter().filter(|started| !started.resumed).count(), 1);
    let ids: HashSet<_> = started.iter().map(|started| started.interview).collect();
    assert_eq!(ids.len(), 1);
    let again = crate::help::engine(&memory, MOBILITY)
        .start("mobility", Some(name("r1")), None, None)
        .await
        .unwrap();
    assert_eq!(
        again,
        Started {
            interview: started[0].interview,
            resumed: true
        }
    );
    assert_eq!(memory.interviews_stored().len(), 1);
    assert_eq!(memory.interviews_stored()[0].language, "de");
}

#[tokio::test]
async fn the_same_request_gets_the_same_reply_also_after_a_restart() {
    let memory = Memory::new();
    let first = engine(&memory, MOBILITY);
    let session = start(&first, "mobility").await;
    let calls = [
        json!({ "spoken": "yes", "request_id": "1" }),
        json!({ "value": 0, "request_id": "2", "segment": 3 }),
        json!({ "value": "distance", "request_id": "3" }),
        json!({ "question": "use", "value": 2, "revise": true, "request_id": "4" }),
        json!({ "value": [], "request_id": "5" }),
        json!({ "value": 1, "request_id": "6" }),
    ];
    let mut replies = Vec::new();
    for arguments in &calls {
        replies.push(
            call(&first, session, "record_response", arguments.clone())
                .await
                .unwrap(),
        );
    }
    let next = |reply: &Value| reply["next"]["question"]["id"].clone();
    // The correction opens another way; "age" was asked next, and is asked later.
    assert_eq!(
        replies.iter().map(next).collect::<Vec<_>>(),
        ["use", "why_not", "age", "lines", "satisfied", "better"]
    );
    assert_eq!(replies[3]["revision"], 2);
    let second = engine(&memory, MOBILITY);
    for engine in [&first, &second] {
        for (arguments, reply) in calls.iter().zip(&replies).rev() {
            assert_eq!(
                &call(engine, session, "record_response", arguments.clone())
                    .await
                    .unwrap(),
                reply
            );
        }
        assert_eq!(current(engine, session).await.as_deref(), Some("better"));
    }
    assert_eq!(memory.answers_stored().len(), calls.len());
}

#[tokio::test]
async fn an_interview_keeps_its_version() {
    let memory = Memory::new();
    let session = start(&engine(&memory, MOBILITY), "mobility").await;
    let shorter = "id = \"mobility\"\nlanguages = [\"en\"]\n[[question]]\nid = \"only\"\ntype = \"yes_no\"\ntext = { en = \"?\" }";
    let changed = engine(&memory, shorter);
    assert_eq!(current(&changed, session).await.as_deref(), Some("consent"));
    let later = start(&changed, "mobility").await;
    assert_eq!(current(&changed, later).await.as_deref(), Some("only"));
    record(&changed, session, json!(true), "1").await.unwrap();
    assert_eq!(memory.surveys_stored().len(), 2);
}

#[tokio::test]
async fn questions_are_given_up_after_their_retries() {
    let memory = Memory::new();
    let first = engine(&memory, MOBILITY);
    let session = start(&first, "mobility").await;
    record(&first, session, json!(true), "1").await.unwrap();
    let left = async |request: &str| {
        let error = record(&first, session, json!(99), request)
            .await
            .unwrap_err();
        serde_json::to_value(error.body()).unwrap()["retries_left"].clone()
    };
    assert_eq!(left("2").await, 2);
    // A call that is sent again is the same attempt, and one that only asks is none.
    assert_eq!(left("2").await, 2);
    call(&first, session, "validate_answer", json!({ "value": 99 }))
        .await
        .unwrap();
    assert_eq!(left("3").await, 1);
    let last = json!({ "spoken": "purple", "request_id": "4" });
    let reply = call(&first, session, "record_response", last.clone())
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["skipped"]),
        (&json!(true), &json!(true))
    );
    // `answer == null` holds for it.
    assert_eq!(reply["next"]["question"]["id"], "age");
    assert_eq!(
        memory.answers_stored()[1].value,
        "{\"skipped\":{\"spoken\":\"purple\"}}"
    );
    let second = engine(&memory, MOBILITY);
    assert_eq!(
        call(&second, session, "record_response", last)
            .await
            .unwrap(),
        reply
    );
    let other = json!({ "spoken": "green", "request_id": "4" });
    assert_eq!(
        call(&second, session, "record_response", other)
            .await
            .unwrap_err()
            .code(),
        "request_id_reused"
    );
    // A question without on_failure is asked for ever.
    for request in 5..40 {
        assert!(
            record(&second, session, json!(-1), &request.to_string())
                .await
                .is_err()
        );
    }
    assert_eq!(current(&second, session).await.as_deref(), Some("age"));
}

/// Leads an interview as a language model would: asks, checks, records, and sends each call twice.
async fn lead(engine: Engine, number: usize) -> usize {
    let started = engine
        .start("mobility", Some(name(&format!("r{number}"))), None, None)
        .await
        .unwrap();
    let session = started.interview;
    let mut answers = 0;
    while let Some(question) = current(&engine, session).await {
        let value = match &*question {
            "consent" => json!(true),
            "use" => json!(number % 8),
            "lines" => json!(["bus"]),
            "satisfied" => json!(number % 5 + 1),
            "why_not" => json!("price"),
            "better" => json!(format!("more of {number}")),
            "age" => json!(20 + number),
            _ => json!("12345"),
        };
        let checked = call(
            &engine,
            session,
            "validate_answer",
            json!({ "value": value }),
        )
        .await
        .unwrap();
        assert_eq!(checked["valid"], true);
        let arguments = json!({ "question": question, "value": value, "request_id": format!("{number}-{question}") });
        let twice = [0, 1].map(|_| call(&engine, session, "record_response", arguments.clone()));
        let replies = futures_util::future::try_join_all(twice).await.unwrap();
        assert_eq!(replies[0], replies[1]);
        answers += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_interviews_at_once_store_each_answer_once() {
    let memory = Memory::new();
    // Fewer places than interviews, so that they go in and out all the time.
    let limits = voicematch_transcribe::survey::Limits {
        interviews: 60,
        ..unlimited()
    };
    let engine = engine_with(&memory, MOBILITY, limits);
    let tasks: Vec<_> = (0..50)
        .map(|number| tokio::spawn(lead(engine.clone(), number)))
        .collect();
    let mut expected = 0;
    for task in tasks {
        expected += task.await.unwrap();
    }
    let mut export = engine.export("mobility", Format::JsonLines).await.unwrap();
    let mut lines: Vec<Value> = Vec::new();
    while let Some(piece) = export.next().await.unwrap() {
        lines.extend(
            piece
                .lines()
                .map(|line| serde_json::from_str(line).unwrap()),
        );
    }
    assert_eq!(lines.len(), expected);
    let keys: HashSet<(String, String)> = lines
        .iter()
        .map(|line| {
            (
                line["interview"].as_str().unwrap().to_owned(),
                line["question"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(keys.len(), expected);
    for line in lines.iter().filter(|line| line["question"] == "age") {
        let number = line["value"].as_i64().unwrap() - 20;
        assert_eq!(
            line["respondent"],
            format!("r{number}"),
            "an answer of somebody else"
        );
    }
    assert!(
        lines
            .iter()
            .all(|line| line["latest"] == true && !line["ended_ms"].is_null())
    );
}

#[tokio::test]
async fn the_export_has_all_revisions() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    record(&engine, session, json!(true), "1").await.unwrap();
    record(&engine, session, json!(0), "2").await.unwrap();
    let revise = json!({ "question": "use", "value": 1, "revise": true, "request_id": "a,\"b\"", "segment": 9 });
    call(&engine, session, "record_response", revise)
        .await
        .unwrap();
    let mut export = engine.export("mobility", Format::Csv).await.unwrap();
    let csv = export.next().await.unwrap().unwrap();
    assert_eq!(export.next().await.unwrap(), None);
    let version = survey(MOBILITY).version;
    let rows: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(rows.len(), 5);
    assert!(rows[0].starts_with("survey,version,interview,respondent,"));
    let begin = format!("mobility,{version},{},,en,", session.0);
    assert!(rows[1..4].iter().all(|row| row.starts_with(&begin)));
    assert!(rows[2].contains(",use,1,false,0,,2,"));
    assert!(rows[3].contains(",use,2,true,1,9,\"a,\"\"b\"\"\","));
    let empty = crate::help::engine(&Memory::new(), MOBILITY);
    assert_eq!(
        empty
            .export("mobility", Format::JsonLines)
            .await
            .unwrap()
            .next()
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn calls_are_counted() {
    let memory = Memory::new();
    let registry = Registry::new();
    let metrics = SurveyMetrics::new().unwrap();
    metrics.register(&registry).unwrap();
    let engine = Engine::new(
        memory.clone(),
        memory.clone() as Arc<_>,
        vec![survey(MOBILITY)],
        metrics,
    );
    let session = start(&engine, "mobility").await;
    current(&engine, session).await;
    record(&engine, session, json!("x"), "1").await.unwrap_err();
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "# HELP survey_sessions_active Interviews that were used in the last 10 minutes",
        "survey_sessions_active 1",
        "survey_tool_calls_total{result=\"ok\",tool=\"get_next_question\"} 1",
        "survey_tool_calls_total{result=\"invalid_answer\",tool=\"record_response\"} 1",
        "survey_tool_calls_total{result=\"ok\",tool=\"record_response\"} 0",
        "survey_tool_seconds_count{tool=\"record_response\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn two_processes_lead_an_interview() {
    let memory = Memory::new();
    memory.share();
    let (one, other) = (engine(&memory, MOBILITY), engine(&memory, MOBILITY));
    let session = start(&one, "mobility").await;
    record(&one, session, json!(true), "1").await.unwrap();
    assert_eq!(current(&other, session).await.as_deref(), Some("use"));
    record(&other, session, json!(3), "2").await.unwrap();
    let next = current(&other, session).await;
    assert_ne!(next.as_deref(), Some("use"));
    assert_eq!(current(&one, session).await, next);
    // What another one has not gone on with is not read again.
    let reads = memory.interviews_read();
    assert_eq!(current(&one, session).await, next);
    assert_eq!(memory.interviews_read(), reads);
}
