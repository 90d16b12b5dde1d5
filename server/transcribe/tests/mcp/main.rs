//! The survey tools by the Model Context Protocol: rmcp's own client over HTTP.

#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
#[path = "../support/memory.rs"]
mod memory;
mod server;

use std::time::Duration;

use client::{post, send};
use http::{StatusCode, header};
use http_body_util::Full;
use memory::Fault;
use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, CallToolResult, ProtocolVersion},
    service::{ClientLifecycleMode, RunningService},
};
use serde_json::{Value, json};
use server::Server;

const MOBILITY: &str = include_str!("../../examples/mobility.toml");
const PATIENCE: Duration = Duration::from_secs(120);

type Client = RunningService<RoleClient, ()>;

fn newest() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    }
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().unwrap().clone();
    let call = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
    tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap()
}

/// What a tool returned.
async fn value(client: &Client, tool: &'static str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    let text = &result.content[0].as_text().unwrap().text;
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        result.structured_content.clone().unwrap()
    );
    result.structured_content.unwrap()
}

/// The text of an error.
async fn error(client: &Client, tool: &'static str, arguments: Value) -> String {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(true), "{result:?}");
    result.content[0].as_text().unwrap().text.clone()
}

async fn lead(client: &Client, session: &Value) {
    let with = |mut arguments: Value| {
        if !session.is_null() {
            arguments["session"] = session.clone();
        }
        arguments
    };
    let next = value(client, "get_next_question", with(json!({}))).await;
    assert_eq!(next["question"]["id"], "consent");
    let checked = value(
        client,
        "validate_answer",
        with(json!({ "spoken": "yes please" })),
    )
    .await;
    assert_eq!(checked, json!({ "valid": true, "value": true }));
    let arguments = with(json!({ "spoken": "yes please", "value": null, "request_id": "1" }));
    let recorded = value(client, "record_response", arguments.clone()).await;
    assert_eq!(
        (&recorded["stored"], &recorded["next"]["question"]["id"]),
        (&json!(true), &json!("use"))
    );
    assert_eq!(value(client, "record_response", arguments).await, recorded);
    let next = value(
        client,
        "get_next_question",
        with(json!({ "language": "de" })),
    )
    .await;
    assert!(
        next["question"]["text"]
            .as_str()
            .unwrap()
            .starts_with("An wie vielen Tagen")
    );
}

#[tokio::test]
async fn the_newest_protocol() {
    let server = Server::start().await;
    let client = server.client("all", newest()).await;
    assert_eq!(
        client.peer_info().unwrap().protocol_version,
        ProtocolVersion::V_2026_07_28
    );
    lead(&client, &json!(server.interview.0.to_string())).await;
    assert_eq!(server.memory.answers_stored().len(), 1);
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn the_protocol_with_a_handshake() {
    let server = Server::start().await;
    let client = server
        .client(
            &server.interview.0.to_string(),
            ClientLifecycleMode::Initialize,
        )
        .await;
    let info = client.peer_info().unwrap();
    assert_eq!(info.protocol_version, ProtocolVersion::V_2025_11_25);
    assert!(
        info.instructions
            .as_ref()
            .unwrap()
            .contains("get_next_question")
    );
    // Who has the token of one interview need not name it.
    lead(&client, &Value::Null).await;
    assert_eq!(server.memory.answers_stored().len(), 1);
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn the_tools_explain_themselves() {
    let server = Server::start().await;
    let client = server.client("all", ClientLifecycleMode::Initialize).await;
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(
        names,
        ["get_next_question", "validate_answer", "record_response"]
    );
    for tool in &tools {
        assert!(tool.description.as_ref().unwrap().len() > 100);
        for schema in [&tool.input_schema, tool.output_schema.as_ref().unwrap()] {
            assert_eq!(schema["type"], "object", "{}", tool.name);
            // Everything in one piece, and each property explained by itself or its name.
            let text = serde_json::to_string(schema).unwrap();
            assert!(!text.contains("$ref"), "{text}");
        }
        let properties = tool.input_schema["properties"].as_object().unwrap();
        assert!(properties.contains_key("session"));
        for (name, property) in properties {
            assert!(
                property["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 15),
                "{name}"
            );
        }
    }
    let record = &tools[2].input_schema;
    let mut names: Vec<&str> = record["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "language",
            "question",
            "request_id",
            "revise",
            "segment",
            "session",
            "spoken",
            "value"
        ]
    );
    assert_eq!(record["required"], json!(["request_id"]));
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let server = Server::start().await;
    let all = server.client("all", newest()).await;
    let session = json!(server.interview.0.to_string());
    let text = error(
        &all,
        "record_response",
        json!({ "value": true, "request_id": "1" }),
    )
    .await;
    assert!(text.contains("`session` is missing"), "{text}");
    let text = error(
        &all,
        "record_response",
        json!({ "session": session, "value": true }),
    )
    .await;
    assert!(text.contains("missing field `request_id`"), "{text}");
    let text = error(
        &all,
        "record_response",
        json!({ "session": session, "value": 3, "request_id": "1" }),
    )
    .await;
    assert_eq!(
        text,
        "invalid_answer: the answer is not valid: yes or no, as true or false"
    );
    let text = error(
        &all,
        "record_response",
        json!({ "session": session, "question": "age", "value": 3, "request_id": "1" }),
    )
    .await;
    assert!(
        text.starts_with("not_current: the current question is `consent`"),
        "{text}"
    );
    let text = error(&all, "answer", json!({ "session": session })).await;
    assert!(text.contains("there is no tool `answer`"), "{text}");
    server.memory.fault(Fault::Lost);
    let text = error(
        &all,
        "record_response",
        json!({ "session": session, "value": true, "request_id": "1" }),
    )
    .await;
    assert_eq!(
        text,
        "storage_unavailable: the answer could not be stored or read; try again with the same request_id"
    );
    for session in [json!("7"), json!(7), json!("x"), json!([]), json!(1.5)] {
        let text = error(&all, "get_next_question", json!({ "session": session })).await;
        assert!(text.starts_with("unknown_session"), "{text}");
    }
    all.cancel().await.unwrap();
}

#[tokio::test]
async fn a_token_is_for_its_own_interview() {
    let server = Server::start().await;
    let other = server
        .engine
        .start("mobility", None, None, None)
        .await
        .unwrap()
        .interview;
    let client = server.client(&other.0.to_string(), newest()).await;
    let session = json!({ "session": server.interview.0.to_string() });
    let text = error(&client, "get_next_question", session).await;
    assert!(text.starts_with("unknown_session"), "{text}");
    value(
        &client,
        "get_next_question",
        json!({ "session": other.0.to_string() }),
    )
    .await;
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let server = Server::start().await;
    let uri = server.uri();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let (status, body) = server.status(post(&uri, None), list).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["code"],
        "token_invalid"
    );
    assert_eq!(
        server.status(post(&uri, Some("x")), list).await.0,
        StatusCode::UNAUTHORIZED
    );
    let (status, body) = server.status(post(&uri, Some("all")), list).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("get_next_question"));
    assert!(
        server
            .status(post(&uri, Some("all")), "{")
            .await
            .0
            .is_client_error()
    );
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(
        server.status(post(&uri, Some("all")), &large).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let get = http::Request::get(&uri)
        .header(header::HOST, &server.address)
        .header(header::AUTHORIZATION, "Bearer all");
    assert_eq!(
        server.status(get, "").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    // A page of another origin that has its name resolve to this machine.
    let rebound = post(&uri, Some("all")).header(header::ORIGIN, "http://evil.example");
    let rebound = rebound.uri(uri.clone());
    let mut request = rebound.body(Full::from(list)).unwrap();
    request
        .headers_mut()
        .insert(header::HOST, "evil.example".parse().unwrap());
    assert_eq!(
        send(&server.address, request).await.unwrap().0,
        StatusCode::FORBIDDEN
    );
}
