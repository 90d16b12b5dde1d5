//! Leads one interview by the questionnaire of a file over standard input and output, for an MCP client on the same
//! machine. The answers are kept in memory.
//!
//! `cargo run -p voicematch-transcribe --features mcp --example survey_mcp -- server/transcribe/examples/mobility.toml`

#[path = "../tests/support/memory.rs"]
mod memory;

use std::{error::Error, io};

use voicematch_transcribe::survey::{
    Engine, Survey, SurveyMetrics,
    mcp::{Scope, stdio},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = || io::Error::other("usage: survey_mcp FILE");
    let name = std::env::args().nth(1).ok_or_else(usage)?;
    let survey = Survey::parse(&std::fs::read_to_string(&name)?, &name).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        io::Error::other(lines.join("\n"))
    })?;
    let id = survey.id.clone();
    let memory = memory::Memory::new();
    let engine = Engine::new(memory.clone(), memory, vec![survey], SurveyMetrics::new()?);
    let started = engine.start(&id, None, None, None).await?;
    stdio(engine, Scope::One(started.interview)).await?;
    Ok(())
}
