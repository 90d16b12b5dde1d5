//! Requests that carry on a session of the server that ran here before: it is draining, and gets them over a Unix socket.

use std::{io, sync::Arc, time::Duration};

use hyper::{
    Method, Request,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
    http::request::Parts,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::UnixStream,
    time::timeout,
};
use voicematch_core::{memory::Share, session::Token};

use super::{
    Reply,
    connection::{Asked, Connection},
    send::{MAX_BODY_BYTES, read_body},
    wanted::Wanted,
};
use crate::{
    admission::limits::Permit,
    io::{Stream, proxy_header},
};

/// Time for the client to hang up after the answer.
const LINGER: Duration = Duration::from_secs(2);

/// Memory of a connection that is passed on: the buffers of both directions.
const BUFFER_BYTES: usize = 16 * 1024;

/// A request that is to be passed on.
pub(super) struct Forward {
    predecessor: UnixStream,
    /// As it is to be sent.
    request: Vec<u8>,
    memory: Share,
}

/// Passes a request on if it shows the token of another process, and the server before is there; `None`: the connection is
/// asked for its socket, over which the answer comes. Else the request is for this server.
pub(super) async fn ask(
    request: Request<Incoming>,
    connection: &Connection,
) -> Result<Option<Reply>, Request<Incoming>> {
    if connection.public.predecessor.is_none() {
        return Err(request);
    }
    let Ok(Wanted::Resume {
        token: Some(token), ..
    }) = Wanted::read(&request)
    else {
        return Err(request);
    };
    // The server before knows only who was banned while it was alone.
    if let Some(refusal) = connection.ban(request.headers()) {
        return Ok(Some(refusal));
    }
    let Some(predecessor) = predecessor_of(&token, connection).await else {
        return Err(request);
    };
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        pass_on(predecessor, &parts, None, connection);
        return Ok(None);
    }
    let context = &connection.public.context;
    let body = read_body(&parts.headers, body, MAX_BODY_BYTES, None, context).await;
    let (body, _memory) = match body {
        Ok(body) => body,
        Err(refusal) => return Ok(Some(refusal)),
    };
    pass_on(predecessor, &parts, Some(&body), connection);
    Ok(None)
}

/// Passes on a request whose token stands in its body. True: the connection is asked for its socket.
pub(super) async fn ask_with_body(
    token: &Token,
    parts: &Parts,
    body: &[u8],
    connection: &Connection,
) -> bool {
    let predecessor = predecessor_of(token, connection).await;
    let found = predecessor.is_some();
    if let Some(predecessor) = predecessor {
        pass_on(predecessor, parts, Some(body), connection);
    }
    found
}

/// The server before, which knows from whom the request is, if this token may be one of its own. `None`: it is ours, or
/// nobody is there.
async fn predecessor_of(token: &Token, connection: &Connection) -> Option<UnixStream> {
    let public = &connection.public;
    let is_here = public.context.resumables.get(token.session).is_some();
    if token.process == public.context.room_keys.process || is_here {
        return None;
    }
    let predecessor = public.predecessor.as_ref()?;
    let mut socket = UnixStream::connect(predecessor).await.ok()?;
    proxy_header::write(&mut socket, connection.peer)
        .await
        .ok()?;
    Some(socket)
}

/// Asks for the socket of the connection, over which the answer comes.
fn pass_on(predecessor: UnixStream, parts: &Parts, body: Option<&[u8]>, connection: &Connection) {
    let context = &connection.public.context;
    context.metrics.forwarded.inc();
    let mut request = head(parts);
    if let Some(body) = body {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.unwrap_or_default());
    let memory = Share::new(context.memory.clone(), BUFFER_BYTES + request.capacity());
    connection.ask_for_socket(Asked::Forward(Forward {
        predecessor,
        request,
        memory,
    }));
}

/// The request line and the headers, but for the length of the body.
fn head(parts: &Parts) -> Vec<u8> {
    let path = parts.uri.path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\n", parts.method).into_bytes();
    for (name, value) in &parts.headers {
        if [CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING].contains(name) {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head
}

impl Forward {
    /// Passes on what comes from both sides until the answer, or the session, has ended. `early`: what the client sent
    /// behind its request.
    pub(super) async fn run(self, client: Stream, early: Bytes, permit: Arc<Permit>) {
        let Self {
            predecessor,
            request,
            memory,
        } = self;
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = predecessor.into_split();
        let up = async {
            to_server.write_all(&request).await?;
            to_server.write_all(&early).await?;
            copy(&mut from_client, &mut to_server).await?;
            to_server.shutdown().await
        };
        let down = async {
            copy(&mut from_server, &mut to_client).await?;
            to_client.shutdown().await
        };
        tokio::pin!(down);
        let ended: io::Result<()> = tokio::select! {
            ended = &mut down => ended,
            ended = up => match ended {
                Ok(()) => down.await,
                Err(error) => Err(error),
            },
        };
        if ended.is_ok() {
            let mut rest = [0; 512];
            let gone =
                async { while from_client.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
            let _ = timeout(LINGER, gone).await;
        }
        drop((permit, memory));
    }
}
