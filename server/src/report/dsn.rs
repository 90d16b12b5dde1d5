//! The address of a project at a service that takes error reports, as in `https://KEY@sentry.example/1`
//! (<https://develop.sentry.dev/sdk/foundations/transport/authentication/>).

use std::fmt;

use hyper::Uri;

/// Such an address. It is a secret: with its key anybody can report.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Where reports are posted.
    pub(super) url: Uri,
    /// The public key; there may be a secret one, which is of old and not needed.
    pub(super) key: String,
}

impl Dsn {
    /// Reads one. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let url = text.parse::<Uri>().ok()?;
            let scheme = url
                .scheme_str()
                .filter(|scheme| ["http", "https"].contains(scheme))?;
            let (keys, host) = url.authority()?.as_str().rsplit_once('@')?;
            let key = keys.split(':').next()?;
            let (path, project) = url.path().rsplit_once('/')?;
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
            };
            let is_good = is_word(key) && is_word(project) && !host.is_empty();
            let url = format!("{scheme}://{host}{path}/api/{project}/envelope/");
            let url = url.parse().ok().filter(|_| is_good)?;
            Some(Self {
                url,
                key: key.to_owned(),
            })
        };
        read().ok_or_else(|| "a DSN is written as https://KEY@sentry.example/PROJECT".to_owned())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_names_a_key_a_host_and_a_project() {
        for (text, url) in [
            (
                "https://abc1@sentry.example/42",
                "https://sentry.example/api/42/envelope/",
            ),
            (
                "http://abc1:old@127.0.0.1:9000/a/b/7",
                "http://127.0.0.1:9000/a/b/api/7/envelope/",
            ),
        ] {
            let dsn = Dsn::parse(text).expect(text);
            assert_eq!(
                (dsn.url.to_string().as_str(), dsn.key.as_str()),
                (url, "abc1")
            );
            assert!(!format!("{dsn:?}").contains("abc1"), "{dsn:?}");
        }
        for text in [
            "",
            "sentry.example/42",
            "https://sentry.example/42",
            "https://@sentry.example/42",
            "https://secret@sentry.example",
            "https://secret@sentry.example/",
            "https://se,cret@sentry.example/1",
            "ftp://secret@sentry.example/42",
        ] {
            let error = Dsn::parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
