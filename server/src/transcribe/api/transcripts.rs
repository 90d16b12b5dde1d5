//! `/api/sessions/{slug}/transcript...`: what was said, as a file.

use futures_util::stream::try_unfold;
use hyper::StatusCode;
use voicematch_transcribe::{
    export::{Format, Transcript},
    sessions::Refusal,
    store::StoreError,
};

use super::{
    Answer, Caller, Problem, Refused,
    exports::{self, Place},
    sessions::{is_of, may_rule},
};
use crate::transcribe::Transcribe;

/// What was said: as JSON with the times of words, as text, or as subtitles
#[utoipa::path(get, path = "/api/sessions/{slug}/transcript.{format}", tag = "sessions", security(("token" = [])),
    params(
        ("slug" = String, Path, description = "The session's name"),
        ("format" = String, Path, description = "json, txt, srt or vtt"),
        ("after" = Option<i64>, Query, description = "Only segments behind this number"),
    ),
    responses(
        (status = 200, description = "The transcript by time. Of more than 200,000 segments it has the first 200,000, by number; where \
            the rest is says `Link`, and `next_after` in JSON", headers(
            ("Link" = Option<String>, description = "`<URL>; rel=\"next\"`: there is more"),
        ), content(
            (std::collections::HashMap<String, serde_json::Value> = "application/json"),
            (String = "text/plain"),
            (String = "application/x-subrip"),
            (String = "text/vtt"),
        )),
        (status = 404, body = Problem, description = "There is no such session, or no such format"),
        Refused,
    ))]
pub(super) async fn transcript(
    transcribe: &Transcribe,
    caller: &Caller,
    slug: &str,
    file: &str,
    query: &str,
) -> Result<Answer, Refusal> {
    may_rule(caller, slug)?;
    let Some(format) = file.strip_prefix("transcript.").and_then(Format::of) else {
        return Ok(Answer::not_found(
            "a transcript is transcript.json, transcript.txt, transcript.srt or transcript.vtt",
        ));
    };
    let after = exports::after(query)?;
    let place = Place::wait_for(transcribe).await?;
    let view = transcribe.sessions.stored_view(slug).await?;
    is_of(caller, &view)?;
    let people = view.participants.into_iter().map(|(person, _)| person);
    let store = transcribe.store.clone();
    let begun = Transcript::begin(store, format, &view.row, people.collect(), after);
    let transcript = begun.await?;
    let next = transcript.next_after();
    let path = format!("/api/sessions/{slug}/{file}");
    let pieces = try_unfold(transcript, async |mut transcript| {
        let piece = transcript.next().await?;
        Ok::<_, StoreError>(piece.map(|piece| (piece, transcript)))
    });
    Ok(Answer {
        status: StatusCode::OK,
        content_type: format.content_type(),
        body: place.send(pieces),
        allow: None,
        location: None,
        link: next.map(|at| format!("<{path}?after={at}>; rel=\"next\"")),
        retry_after: None,
    })
}
