//! Calls by their names and arguments, and errors by their codes.

use serde_json::{Value, json};
use voicematch_transcribe::survey::{BadCall, Name, Reason, Tool, ToolError};

#[test]
fn calls_that_are_none() {
    let parse = |name: &str, arguments: Value| Tool::parse(name, arguments).unwrap_err();
    assert_eq!(
        parse("get_answer", json!({})),
        BadCall::UnknownTool("get_answer".to_owned())
    );
    let sentence = |name, arguments| parse(name, arguments).to_string();
    assert!(
        sentence("record_response", json!({ "value": 1 })).contains("missing field `request_id`")
    );
    assert!(
        sentence("record_response", json!({ "value": 1, "request_id": "" })).contains("1 to 128")
    );
    assert!(sentence("record_response", json!([])).contains("invalid type"));
    assert!(sentence("validate_answer", json!({ "spoken": 3 })).contains("expected a string"));
    assert!(Name::try_from("a\0b").is_err());
}

#[test]
fn every_error_has_a_code_of_the_list() {
    let errors = [
        ToolError::UnknownSurvey(String::new()),
        ToolError::UnknownSession,
        ToolError::UnknownQuestion(String::new()),
        ToolError::NotCurrent(String::new()),
        ToolError::InvalidAnswer {
            reason: Reason::Required,
            hint: String::new(),
            retries_left: None,
        },
        ToolError::SurveyDone,
        ToolError::RequestIdReused,
        ToolError::RateLimited,
        ToolError::StorageUnavailable,
    ];
    assert_eq!(errors.map(|error| error.code()), ToolError::CODES);
}
