//! Questionnaires, and the tools of surveys over the socket of `/transcribe`.

use std::path::Path;

use serde_json::{Value, json};
use voicematch_protocol::transcribe::{Said, SaidType, Told, TranscribeError};
use voicematch_transcribe::{
    record::RowId,
    session::Tool as Asked,
    sessions::Refusal,
    survey::{ARGUMENTS_BYTES, Survey, Tool, ToolCall, ToolError, take_session},
};

use super::Transcribe;
use crate::files;

/// The longest questionnaire, in bytes.
const MAX_SURVEY_BYTES: u64 = 1024 * 1024;

/// Reads a questionnaire. The error has a line for each fault.
pub fn read_file(path: &Path) -> Result<Survey, String> {
    let shown = path.display().to_string();
    let (bytes, _) = files::read(path, MAX_SURVEY_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    Survey::parse(&text, &shown).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    })
}

/// Which interviews a connection may lead.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leads {
    /// This one.
    One(RowId),
    /// Those that are held in this transcription session. Without a name it is the one that began last.
    HeldIn(RowId),
}

impl Transcribe {
    /// Carries out a call that came over a socket; the error is a code, and a sentence.
    pub(super) async fn call_tool(
        &self,
        leads: Leads,
        asked: &Asked,
    ) -> Result<Value, (String, String)> {
        let bad = |message| (TranscribeError::BadMessage.as_str().to_owned(), message);
        let refused = |error: ToolError| (error.code().to_owned(), error.to_string());
        let mut arguments = asked.arguments.clone();
        let named = take_session(&mut arguments).map_err(refused)?;
        let session = match leads {
            Leads::One(own) if named.is_none_or(|named| named == own) => own,
            Leads::One(_) => return Err(refused(ToolError::UnknownSession)),
            Leads::HeldIn(session) => {
                let found = self.engine.interview_in(session, named).await;
                found.map_err(refused)?
            }
        };
        let tool = Tool::parse(&asked.name, arguments).map_err(|error| bad(error.to_string()))?;
        let result = self.engine.call(ToolCall { session, tool }).await;
        result.map(|result| json!(result)).map_err(refused)
    }
}

/// What a respondent's program has said over a socket.
pub(super) enum Request {
    /// It calls a tool.
    Tool(Asked),
    /// This is the answer.
    Answer(String),
}

/// Reads a message of a respondent's program.
pub(super) fn read(text: &str) -> Result<Request, Refusal> {
    let bad = |message: &str| Refusal::new(TranscribeError::BadMessage, message);
    if text.len() > ARGUMENTS_BYTES {
        return Err(bad("this call is too long"));
    }
    let said = Said::read(text).map_err(|message| bad(&message))?;
    match said.kind {
        SaidType::Tool => Asked::read(&said).map(Request::Tool).map_err(bad),
        SaidType::Ping => {
            let pong = serde_json::to_string(&Told::Pong { id: said.id });
            Ok(Request::Answer(pong.unwrap_or_default()))
        }
        _ => Err(Refusal::new(
            TranscribeError::RoleForbidden,
            "a survey's token takes tool and ping only",
        )),
    }
}
