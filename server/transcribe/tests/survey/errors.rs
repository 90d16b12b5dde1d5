//! Each error of the tools, and nothing that an error changes.

use serde_json::{Value, json};
use voicematch_transcribe::{
    record::RowId,
    survey::{Limits, ToolError},
};

use crate::{
    help::{MOBILITY, call, current, engine, engine_with, name, record, start, unlimited},
    memory::{Fault, Memory},
};

#[tokio::test]
async fn unknown_things_are_named() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let error = engine.start("mobilty", None, None, None).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("unknown_survey", "there is no survey `mobilty`")
    );
    let error = record(&engine, RowId(7), json!(true), "1")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "unknown_session");
    let session = start(&engine, "mobility").await;
    for tool in ["validate_answer", "record_response"] {
        let arguments = json!({ "question": "usee", "value": 1, "request_id": "1" });
        let error = call(&engine, session, tool, arguments).await.unwrap_err();
        assert_eq!(error.code(), "unknown_question");
    }
    let Err(error) = engine
        .export("mobilty", voicematch_transcribe::survey::Format::Csv)
        .await
    else {
        panic!("an error");
    };
    assert_eq!(error.code(), "unknown_survey");
}

#[tokio::test]
async fn only_the_current_question_is_answered() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    let ahead = json!({ "question": "age", "value": 30, "request_id": "1" });
    let error = call(&engine, session, "record_response", ahead.clone())
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::NotCurrent("consent".to_owned()));
    let mut revise = ahead;
    revise["revise"] = json!(true);
    assert_eq!(
        call(&engine, session, "record_response", revise)
            .await
            .unwrap_err()
            .code(),
        "not_current"
    );
    record(&engine, session, json!(true), "2").await.unwrap();
    let back = json!({ "question": "consent", "value": false, "request_id": "3" });
    assert_eq!(
        call(&engine, session, "record_response", back)
            .await
            .unwrap_err(),
        ToolError::NotCurrent("use".to_owned())
    );
    assert_eq!(memory.answers_stored().len(), 1);
}

#[tokio::test]
async fn invalid_answers_have_a_reason_and_a_hint() {
    let memory = Memory::new();
    let text = r#"
        id = "s"
        languages = ["en"]
        question = [
            { id = "yes_no", type = "yes_no", text = { en = "?" }, required = true },
            { id = "scale", type = "scale", min = 1, max = 5, text = { en = "?" } },
            { id = "number", type = "number", min = 0.5, text = { en = "?" } },
            { id = "text", type = "text", min_length = 2, max_length = 4, pattern = "[a-zä]+|ab1", text = { en = "?" } },
            { id = "date", type = "date", max = "2026-12-31", text = { en = "?" } },
            { id = "choice", type = "choice", text = { en = "?" }, choices = [{ value = "a", label = { en = "Apple" } }, { value = "b", label = { en = "Banana" } }] },
            { id = "choices", type = "choices", text = { en = "?" }, choices = [{ value = "a", label = { en = "Apple" } }, { value = "b", label = { en = "Banana" } }] },
        ]
    "#;
    let engine = engine(&memory, text);
    let session = start(&engine, "s").await;
    let check = async |question: &str, given: Value| {
        let mut arguments = json!({ "question": question });
        arguments
            .as_object_mut()
            .unwrap()
            .extend(given.as_object().unwrap().clone());
        call(&engine, session, "validate_answer", arguments)
            .await
            .unwrap()
    };
    for (question, value, problem, hint) in [
        (
            "yes_no",
            json!(null),
            "required",
            "the question has to be answered",
        ),
        (
            "yes_no",
            json!(1),
            "wrong_type",
            "yes or no, as true or false",
        ),
        (
            "scale",
            json!(6),
            "out_of_range",
            "a whole number from 1 to 5",
        ),
        (
            "scale",
            json!(2.5),
            "wrong_type",
            "a whole number from 1 to 5",
        ),
        (
            "scale",
            json!("often"),
            "wrong_type",
            "a whole number from 1 to 5",
        ),
        (
            "scale",
            json!(true),
            "wrong_type",
            "a whole number from 1 to 5",
        ),
        (
            "number",
            json!(0.4),
            "out_of_range",
            "a number, 0.5 or above",
        ),
        (
            "text",
            json!("a"),
            "too_short",
            "a text of 2 to 4 characters of the form that the question asks for",
        ),
        (
            "text",
            json!("abcde"),
            "too_long",
            "a text of 2 to 4 characters of the form that the question asks for",
        ),
        (
            "text",
            json!("ab12"),
            "no_match",
            "a text of 2 to 4 characters of the form that the question asks for",
        ),
        (
            "text",
            json!(12),
            "wrong_type",
            "a text of 2 to 4 characters of the form that the question asks for",
        ),
        (
            "date",
            json!("2026-02-30"),
            "wrong_type",
            "a date such as 2026-02-28, 2026-12-31 or below",
        ),
        (
            "date",
            json!("2027-01-01"),
            "out_of_range",
            "a date such as 2026-02-28, 2026-12-31 or below",
        ),
        ("choice", json!("c"), "not_a_choice", "one of a, b"),
        ("choices", json!(["a", "c"]), "not_a_choice", "some of a, b"),
        ("choices", json!([1]), "not_a_choice", "some of a, b"),
    ] {
        let reply = check(question, json!({ "value": value })).await;
        assert_eq!(
            reply,
            json!({ "valid": false, "problem": problem, "hint": hint }),
            "{question} {value}"
        );
    }
    for (question, value, stored) in [
        ("yes_no", json!(false), json!(false)),
        ("yes_no", json!("yes"), json!(true)),
        ("scale", json!(5.0), json!(5)),
        ("scale", json!("four"), json!(4)),
        ("scale", json!(null), json!(null)),
        ("number", json!(1e3), json!(1000)),
        ("text", json!(" bär "), json!("bär")),
        ("text", json!("ab1"), json!("ab1")),
        ("text", json!("  "), json!(null)),
        ("date", json!("2024-02-29"), json!("2024-02-29")),
        ("choice", json!("banana"), json!("b")),
        ("choices", json!(["b", "a", "b"]), json!(["a", "b"])),
        ("choices", json!("a"), json!(["a"])),
        ("choices", json!([]), json!(null)),
    ] {
        let reply = check(question, json!({ "value": value })).await;
        assert_eq!(
            reply,
            json!({ "valid": true, "value": stored }),
            "{question} {value}"
        );
    }
    assert_eq!(check("scale", json!({})).await["problem"], "missing");
    assert_eq!(
        check("scale", json!({ "value": 1, "spoken": "one" })).await["problem"],
        "missing"
    );
    assert_eq!(
        check("scale", json!({ "spoken": "the purple one" })).await["problem"],
        "not_understood"
    );
    let long = "x".repeat(20_000);
    assert_eq!(
        check("text", json!({ "value": long })).await["problem"],
        "too_long"
    );
    assert_eq!(
        check("text", json!({ "spoken": long })).await["problem"],
        "too_long"
    );

    let error = record(&engine, session, json!(null), "1")
        .await
        .unwrap_err();
    let body = serde_json::to_value(error.body()).unwrap();
    let expected = json!({
        "code": "invalid_answer",
        "error": "the answer is not valid: the question has to be answered",
        "problem": "required",
        "hint": "the question has to be answered",
    });
    assert_eq!(body, expected);
    assert_eq!(memory.answers_stored(), []);
}

#[tokio::test]
async fn what_is_over_is_over() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    let reply = record(&engine, session, json!(false), "1").await.unwrap();
    assert_eq!(reply["next"], json!({ "question": null, "done": true }));
    assert_eq!(
        record(&engine, session, json!(true), "2")
            .await
            .unwrap_err(),
        ToolError::SurveyDone
    );
    let revise = json!({ "question": "consent", "value": true, "request_id": "3", "revise": true });
    assert_eq!(
        call(&engine, session, "record_response", revise)
            .await
            .unwrap_err(),
        ToolError::SurveyDone
    );
    let error = call(&engine, session, "validate_answer", json!({ "value": 1 }))
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::SurveyDone);
    assert_eq!(current(&engine, session).await, None);
    // The reply to what was recorded is still there.
    assert_eq!(
        record(&engine, session, json!(false), "1").await.unwrap(),
        reply
    );
}

#[tokio::test]
async fn a_request_id_is_for_one_answer() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    record(&engine, session, json!(true), "1").await.unwrap();
    for other in [
        json!({ "value": false, "request_id": "1" }),
        json!({ "value": "perhaps", "request_id": "1" }),
        json!({ "value": 3, "question": "use", "request_id": "1" }),
        json!({ "value": true, "segment": 4, "request_id": "1" }),
    ] {
        let error = call(&engine, session, "record_response", other.clone())
            .await
            .unwrap_err();
        assert_eq!(error, ToolError::RequestIdReused, "{other}");
    }
    assert_eq!(memory.answers_stored().len(), 1);
}

#[tokio::test]
async fn calls_are_limited_for_each_interview() {
    let memory = Memory::new();
    let limits = Limits {
        burst: 3.0,
        calls_per_second: 1e-9,
        ..unlimited()
    };
    let engine = engine_with(&memory, MOBILITY, limits);
    let (first, second) = (
        start(&engine, "mobility").await,
        start(&engine, "mobility").await,
    );
    for _ in 0..3 {
        current(&engine, first).await;
    }
    let error = call(&engine, first, "get_next_question", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::RateLimited);
    current(&engine, second).await;
}

#[tokio::test]
async fn a_question_is_corrected_two_hundred_times() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    let session = start(&engine, "mobility").await;
    record(&engine, session, json!(true), "0").await.unwrap();
    let mut refused = None;
    for request in 1..=300 {
        let arguments = json!({ "question": "consent", "value": true, "revise": true, "request_id": request.to_string() });
        if let Err(error) = call(&engine, session, "record_response", arguments).await {
            refused = Some((request, error));
            break;
        }
    }
    assert_eq!(refused, Some((208, ToolError::RateLimited)));
    record(&engine, session, json!(3), "301").await.unwrap();
}

#[tokio::test]
async fn without_storage_nothing_is_acknowledged() {
    let memory = Memory::new();
    let engine = engine(&memory, MOBILITY);
    memory.fault(Fault::Lost);
    let error = engine
        .start("mobility", Some(name("r")), None, None)
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::StorageUnavailable);
    memory.fault(Fault::None);
    memory.unreadable(true);
    let error = engine
        .start("mobility", Some(name("r")), None, None)
        .await
        .unwrap_err();
    assert_eq!(error, ToolError::StorageUnavailable);
    assert_eq!(
        record(&engine, RowId(1), json!(true), "1")
            .await
            .unwrap_err(),
        ToolError::StorageUnavailable
    );
    memory.unreadable(false);
    assert!(
        !engine
            .start("mobility", Some(name("r")), None, None)
            .await
            .unwrap()
            .resumed
    );
}
