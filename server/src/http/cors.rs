//! What pages of other origins may do (<https://fetch.spec.whatwg.org/#http-cors-protocol>): those that
//! `--allowed-origin` names may read our answers.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
    },
};

use super::{Reply, connection::Connection};

/// The header lines for an answer to this request; none, if it comes from no page, or from one that may not connect.
pub(super) fn headers(request: &HeaderMap, connection: &Connection) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let public = &connection.public;
    let behind_proxy = public.settings.get().proxies.trusts(connection.peer);
    if let Some(origin) = request.get(ORIGIN)
        && public.settings.get().origins.allow(request, behind_proxy)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let exposed = HeaderValue::from_static("etag, retry-after");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers
}

/// The answer to a browser that asks what a page may send.
pub(super) fn preflight() -> Reply {
    let mut reply = Response::new(Default::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let headers = reply.headers_mut();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, last-event-id, if-none-match",
        ),
        (ACCESS_CONTROL_MAX_AGE, "7200"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}
