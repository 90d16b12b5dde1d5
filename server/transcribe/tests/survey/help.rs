//! What several tests need.

use std::sync::Arc;

use serde_json::{Value, json};
use voicematch_transcribe::{
    record::RowId,
    survey::{Engine, Limits, Name, Survey, SurveyMetrics, Tool, ToolCall, ToolError},
};

use crate::memory::Memory;

pub(crate) const MOBILITY: &str = include_str!("../../examples/mobility.toml");

pub(crate) fn survey(text: &str) -> Survey {
    Survey::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Limits under which no test is slowed down.
pub(crate) fn unlimited() -> Limits {
    Limits {
        burst: 1e9,
        ..Limits::default()
    }
}

pub(crate) fn engine(memory: &Arc<Memory>, text: &str) -> Engine {
    engine_with(memory, text, unlimited())
}

pub(crate) fn engine_with(memory: &Arc<Memory>, text: &str, limits: Limits) -> Engine {
    let metrics = SurveyMetrics::new().unwrap();
    Engine::with_limits(
        memory.clone(),
        memory.clone(),
        vec![survey(text)],
        metrics,
        limits,
    )
}

pub(crate) fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

/// Starts an interview without a respondent.
pub(crate) async fn start(engine: &Engine, survey: &str) -> RowId {
    engine
        .start(survey, None, None, None)
        .await
        .unwrap()
        .interview
}

/// Calls a tool; the reply is what a caller gets as JSON.
pub(crate) async fn call(
    engine: &Engine,
    session: RowId,
    tool: &str,
    arguments: Value,
) -> Result<Value, ToolError> {
    let tool = Tool::parse(tool, arguments).unwrap();
    let result = engine.call(ToolCall { session, tool }).await?;
    Ok(serde_json::to_value(result).unwrap())
}

/// The id of the current question, none at the end.
pub(crate) async fn current(engine: &Engine, session: RowId) -> Option<String> {
    let reply = call(engine, session, "get_next_question", json!({}))
        .await
        .unwrap();
    assert_eq!(reply["done"], reply["question"].is_null());
    reply["question"]["id"].as_str().map(str::to_owned)
}

/// Records a value for the current question.
pub(crate) async fn record(
    engine: &Engine,
    session: RowId,
    value: Value,
    request: &str,
) -> Result<Value, ToolError> {
    call(
        engine,
        session,
        "record_response",
        json!({ "value": value, "request_id": request }),
    )
    .await
}
