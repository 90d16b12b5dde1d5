//! Requests that carry on a session of the server that ran here before: it is draining, and gets them over a Unix socket.

use std::{io, sync::Arc, time::Duration};

use hyper::{
    Method, Request,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::UnixStream,
    time::timeout,
};
use voicematch_core::memory::Share;

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
    let public = &connection.public;
    let Some(predecessor) = &public.predecessor else {
        return Err(request);
    };
    let ours = public.context.room_keys.process;
    match Wanted::read(&request) {
        Ok(Wanted::Resume {
            token: Some(token), ..
        }) if token.process != ours => {}
        _ => return Err(request),
    }
    // It has ended, if nobody is there.
    let Ok(mut socket) = UnixStream::connect(predecessor).await else {
        return Err(request);
    };
    if proxy_header::write(&mut socket, connection.peer)
        .await
        .is_err()
    {
        return Err(request);
    }
    public.context.metrics.forwarded.inc();
    let mut head = head(&request);
    if request.method() == Method::POST {
        let body = read_body(request, MAX_BODY_BYTES, None, &public.context).await;
        let (body, _memory) = match body {
            Ok(body) => body,
            Err(refusal) => return Ok(Some(refusal)),
        };
        head.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        head.extend_from_slice(&body);
    } else {
        head.extend_from_slice(b"\r\n");
    }
    let memory = Share::new(
        public.context.memory.clone(),
        BUFFER_BYTES + head.capacity(),
    );
    connection.ask_for_socket(Asked::Forward(Forward {
        predecessor: socket,
        request: head,
        memory,
    }));
    Ok(None)
}

/// The request line and the headers, but for the length of the body.
fn head(request: &Request<Incoming>) -> Vec<u8> {
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
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
