//! Which session a request asks for: a new one, or one that it has a token for.

use hyper::{
    HeaderMap, Request,
    header::{self, HeaderValue},
};
use voicematch_core::session::Token;

/// The session that a request asks for.
pub(super) enum Wanted {
    /// A new one that ends with its connection.
    Plain,
    /// A new one that outlives its connection.
    Begin,
    /// The one that this token opens.
    Resume {
        /// `None`: what was shown is no token.
        token: Option<Token>,
        /// The number of the last message that the client has; `None`: it did not say.
        after: Option<u64>,
    },
    /// One that another node had, and that could not go on behind the client's position.
    TooOld,
}

impl Wanted {
    /// Reads a request. The resume token, which has no dots, is looked for in `Authorization: Bearer`, in the subprotocol `resume.TOKEN.AFTER` and in
    /// the query `token=`, in this order; `after=` in the query goes with each.
    pub(super) fn read<B>(request: &Request<B>) -> Result<Self, &'static str> {
        let query = request.uri().query().unwrap_or_default();
        let after = parameter(query, "after").map(number).transpose()?;
        if let Some(token) = bearer(request.headers()).filter(|token| !is_jwt(token)) {
            return Ok(Self::resume(token, after));
        }
        if let Some(offer) = offer(request.headers(), "resume.") {
            let (token, number_text) = offer.split_once('.').unwrap_or((offer, ""));
            let after = match number_text {
                "" => after,
                text => Some(number(text)?),
            };
            return Ok(Self::resume(token, after));
        }
        if let Some(token) = parameter(query, "token").filter(|token| !is_jwt(token)) {
            return Ok(Self::resume(token, after));
        }
        match parameter(query, "resume") {
            None | Some("0") => Ok(Self::Plain),
            Some("1") => Ok(Self::Begin),
            Some(_) => Err("resume is 1 for a session that outlives its connection, or left out"),
        }
    }

    fn resume(token: &str, after: Option<u64>) -> Self {
        Self::Resume {
            token: Token::parse(token),
            after,
        }
    }
}

/// A JWT has two dots.
fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// The app's token for the user (JWT): in `Authorization: Bearer`, in the subprotocol `token.JWT`, or in the query
/// `token=` or `access_token=`.
pub(super) fn jwt<B>(request: &Request<B>) -> Option<&str> {
    let query = request.uri().query().unwrap_or_default();
    bearer(request.headers())
        .or_else(|| offer(request.headers(), "token."))
        .or_else(|| parameter(query, "token"))
        .or_else(|| parameter(query, "access_token"))
}

fn number(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .map_err(|_| "after is the number of the last message that arrived, as in after=41")
}

/// A parameter of a query. Ours need no escapes.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .next()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    // Who has lost the token must hear so, and not get a new session.
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// What is behind this prefix in an offered subprotocol.
fn offer<'a>(headers: &'a HeaderMap, prefix: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lines = lines.filter_map(|line: &HeaderValue| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .find_map(|offer| offer.trim().strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "AQIDBAUGBwDxorPE1eb3AAECAwQFBgcICQoLDA0ODw";

    fn read(path: &str, headers: &[(&str, &str)]) -> Result<Wanted, &'static str> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Wanted::read(&request.body(()).expect("valid"))
    }

    fn resumed(wanted: Result<Wanted, &'static str>) -> (Option<String>, Option<u64>) {
        match wanted {
            Ok(Wanted::Resume { token, after }) => (token.map(|token| token.text()), after),
            _ => panic!("no resume"),
        }
    }

    #[test]
    fn a_token_comes_in_three_ways() {
        let token = Some(TOKEN.to_owned());
        let bearer = format!("Bearer {TOKEN}");
        let offer = format!("voicematch.1, resume.{TOKEN}.41");
        let query = format!("/ws?after=7&token={TOKEN}");
        assert_eq!(
            resumed(read("/ws?after=7", &[("Authorization", &bearer)])),
            (token.clone(), Some(7))
        );
        assert_eq!(
            resumed(read("/ws", &[("Sec-WebSocket-Protocol", &offer)])),
            (token.clone(), Some(41))
        );
        assert_eq!(resumed(read(&query, &[])), (token, Some(7)));
        assert_eq!(resumed(read("/ws?token=x", &[])), (None, None));
        assert_eq!(
            resumed(read("/ws", &[("Authorization", "Bearer")])),
            (None, None)
        );
    }

    #[test]
    fn without_a_token_a_session_begins() {
        assert!(matches!(read("/ws", &[]), Ok(Wanted::Plain)));
        assert!(matches!(read("/ws?resume=1", &[]), Ok(Wanted::Begin)));
        assert!(read("/ws?resume=yes", &[]).is_err());
        assert!(read("/ws?token=x&after=-1", &[]).is_err());
    }
}
