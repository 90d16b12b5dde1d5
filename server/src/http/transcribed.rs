//! `/api/...` and `/transcribe`: who asks is found out here, and the rest is handed over.

use std::sync::Arc;

use fastwebsockets::upgrade::upgrade;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{self, HeaderValue},
};

use super::{
    Reply,
    connection::{Asked, Connection},
    content::Content,
    cors,
    error::HttpError,
    handshake::{handshake_refusal, subprotocol},
    reply,
    send::read_body,
    wanted::{Wanted, jwt, parameter},
};
use crate::transcribe::{
    Transcribe, Visit,
    api::{Answer, Body, Call, Caller, MAX_BODY_BYTES},
};

/// A socket that is handed over when its handshake was answered.
pub(super) struct Handed {
    pub(super) transcribe: Arc<Transcribe>,
    pub(super) visit: Visit,
}

/// Answers a request to `/api/...`.
pub(super) async fn answer(
    request: Request<Incoming>,
    connection: &Connection,
    transcribe: &Arc<Transcribe>,
) -> Reply {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    if let Some(refusal) = connection.refusal(&request, &Wanted::Plain) {
        return refusal;
    }
    let caller = match caller(&request, connection, transcribe).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let context = &connection.public.context;
    let (body, _memory) = match method {
        Method::POST if has_body(&request) => {
            let (head, body) = request.into_parts();
            match read_body(&head.headers, body, MAX_BODY_BYTES, None, context).await {
                Ok((body, memory)) => (body, Some(memory)),
                Err(refusal) => return refusal,
            }
        }
        _ => (Vec::new(), None),
    };
    let call = Call {
        method,
        path,
        query,
        caller,
        body,
    };
    write(transcribe.call(call).await)
}

/// An answer of the API as an HTTP response.
pub fn write(answer: Answer) -> Reply {
    let content = match answer.body {
        Body::Whole(all) => all.into(),
        Body::Pieces(pieces) => Content::in_pieces(pieces),
    };
    let mut reply = reply(answer.status, answer.content_type, content);
    let headers = reply.headers_mut();
    if let Some(methods) = answer.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    if let Some(location) = answer.location.and_then(|to| to.try_into().ok()) {
        headers.insert(header::LOCATION, location);
    }
    if let Some(link) = answer.link.and_then(|link| link.try_into().ok()) {
        headers.insert(header::LINK, link);
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

fn has_body(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING)
}

/// Who asks: by a token of this server, or of the app.
async fn caller(
    request: &Request<Incoming>,
    connection: &Connection,
    transcribe: &Arc<Transcribe>,
) -> Result<Caller, Reply> {
    let stranger = Caller {
        address: connection.user(request.headers()),
        ..Caller::default()
    };
    let Some(token) = jwt(request) else {
        return Ok(stranger);
    };
    let ours = match transcribe.opened(token) {
        Ok(opened) => {
            return Ok(Caller {
                opens: Some(opened.opens),
                ..stranger
            });
        }
        Err(refusal) => refusal,
    };
    match connection.identify(request).await {
        Ok(Some(identity)) => Ok(Caller {
            sessions: identity.rights.sessions,
            surveys: identity.rights.surveys,
            ..stranger
        }),
        Ok(None) => Err(write(transcribe.refuse(&ours))),
        Err(refusal) => Err(*refusal),
    }
}

/// Answers a request to `/mcp`: the tools of surveys, for voice agents.
#[cfg(feature = "mcp")]
pub(super) async fn mcp(
    request: Request<Incoming>,
    connection: &Connection,
    transcribe: &Arc<Transcribe>,
) -> Reply {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    if let Some(refusal) = connection.refusal(&request, &Wanted::Plain) {
        return refusal;
    }
    match caller(&request, connection, transcribe).await {
        Ok(caller) => transcribe.mcp(request, &caller).await.map(Content::from),
        Err(refusal) => refusal,
    }
}

/// Answers a handshake at `/transcribe`.
pub(super) fn upgrade_to(
    mut request: Request<Incoming>,
    connection: &Connection,
    transcribe: &Arc<Transcribe>,
) -> Reply {
    if let Some(refusal) = connection.refusal(&request, &Wanted::Plain) {
        return refusal;
    }
    if let Some(refusal) = handshake_refusal(&request) {
        return refusal;
    }
    let Some(token) = jwt(&request) else {
        let message = "a token is needed: join the session, and show what you got as subprotocol token.TOKEN, as Authorization: Bearer, or as token= in the query";
        return HttpError::TokenMissing.reply(message);
    };
    let opened = match transcribe.opened(token) {
        Ok(opened) => opened,
        Err(refusal) => return write(transcribe.refuse(&refusal)),
    };
    let query = request.uri().query().unwrap_or_default();
    let after = match parameter(query, "after").map(str::parse::<i64>) {
        Some(Err(_)) => {
            return HttpError::BadRequest
                .reply("after is the number of the last segment that arrived, as in after=41");
        }
        Some(Ok(after)) => Some(after),
        None => None,
    };
    let protocol = subprotocol(request.headers());
    let response: Response<_> = match upgrade(&mut request) {
        Ok((response, _)) => response,
        Err(error) => return HttpError::BadRequest.reply(&error.to_string()),
    };
    connection.ask_for_socket(Asked::Transcribe(Box::new(Handed {
        transcribe: transcribe.clone(),
        visit: Visit { opened, after },
    })));
    let mut reply = response.map(|_| Content::default());
    if let Some(protocol) = protocol {
        reply
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    reply
}
