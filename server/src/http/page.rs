//! The page and the client module: files in the binary, which `build.rs` has packed.

use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
        REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use voicematch_core::room::named;

use super::{Reply, content::Content, error::HttpError};

/// A file that is served.
pub(super) struct File {
    path: &'static str,
    content_type: &'static str,
    brotli: Coded,
    gzip: Coded,
    plain: Coded,
}

/// A file in one coding.
struct Coded {
    bytes: &'static [u8],
    etag: &'static str,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What the page may do and load: what it brings along, and nothing of others.
macro_rules! policy {
    ($connects:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src ",
            $connects,
            "; media-src blob: mediastream:; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    };
}

/// Some browsers take no WebSocket for `'self'`.
const POLICY: &str = policy!("'self' ws: wss:");

/// The page may be told to reach another server than the one it came from: the one that transcribes its room.
const POLICY_WITH_OTHERS: &str = policy!("'self' http: https: ws: wss:");

/// The file at a path. The page is at `/`, and at `/r/NAME` for each name that a room may have.
pub(super) fn find(path: &str) -> Option<&'static File> {
    let path = match path.strip_prefix("/r/") {
        Some(name) if named::is_name(name) => "/",
        Some(_) => return None,
        None => path,
    };
    FILES.iter().find(|file| file.path == path)
}

/// The answer to who asks for this file; `alone`: the page needs no other server.
pub(super) fn answer(file: &File, method: &Method, request: &HeaderMap, alone: bool) -> Reply {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return HttpError::MethodNotAllowed.reply("use GET");
    }
    let (coding, coded) = if takes(request, "br") {
        (Some("br"), &file.brotli)
    } else if takes(request, "gzip") {
        (Some("gzip"), &file.gzip)
    } else {
        (None, &file.plain)
    };
    let mut reply = Response::new(Content::default());
    let headers = reply.headers_mut();
    let mut say = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    say(ETAG, coded.etag);
    say(VARY, "accept-encoding");
    // Kept, and asked about each time: the page and the server fit together.
    say(CACHE_CONTROL, "no-cache");
    say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if file.path == "/" {
        say(REFERRER_POLICY, "no-referrer");
        let policy = match alone {
            true => POLICY,
            false => POLICY_WITH_OTHERS,
        };
        say(CONTENT_SECURITY_POLICY, policy);
        let permissions = HeaderName::from_static("permissions-policy");
        say(permissions, "microphone=(self)");
    }
    if file.path.starts_with("/client") {
        // Public code, for pages of any origin.
        say(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    if is_known(request, coded.etag) {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        return reply;
    }
    say(CONTENT_TYPE, file.content_type);
    if let Some(coding) = coding {
        say(CONTENT_ENCODING, coding);
    }
    *reply.body_mut() = coded.bytes.into();
    reply
}

/// Whether the client takes this coding (RFC 9110 section 12.5.3). Who takes any (`*`) gets the plain file.
fn takes(request: &HeaderMap, coding: &str) -> bool {
    let lines = request.get_all(ACCEPT_ENCODING).iter();
    let mut offers = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    offers.any(|offer| {
        let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
        let weight = weight.trim().to_ascii_lowercase();
        let weight = weight.strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case(coding) && weight.is_ok_and(|weight| weight > 0.0)
    })
}

/// Whether the client has this very content (RFC 9110 section 13.1.2). A proxy that packs answers marks the tag as weak.
fn is_known(request: &HeaderMap, etag: &str) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).iter();
    let mut known = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_used_if_it_is_accepted() {
        for (accepted, br, gzip) in [
            ("br, gzip", true, true),
            ("gzip, deflate, br;q=0", false, true),
            ("BR;q=0.5,gzip; q=0.0", true, false),
            ("br;q=much, x-gzip", false, false),
            ("*", false, false),
            ("identity", false, false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            let found = (takes(&request, "br"), takes(&request, "gzip"));
            assert_eq!(found, (br, gzip), "{accepted}");
        }
        assert!(!takes(&HeaderMap::new(), "gzip"));
    }
}
