//! What users need to be let in: headers, tokens, certificate authorities; and their source addresses.

use std::{
    fmt,
    net::{IpAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use rustls::ClientConfig;
use thiserror::Error;

use super::tls;
use crate::base::files;

/// What users need to be let in. Default: nothing, and the certificate authorities of this system.
#[derive(Clone, Default)]
pub struct Access {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// `Bearer TOKEN`; users take turns.
    tokens: Vec<HeaderValue>,
    ca_pem: Option<Vec<u8>>,
    source_ips: Vec<IpAddr>,
    tls: Option<Arc<ClientConfig>>,
}

/// A credential that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    #[error("--header {0:?} is not a header: give one such as 'X-Tenant: blue'")]
    Header(String),
    /// A token with characters that a header cannot carry. The message does not repeat it: it is a secret.
    #[error("the {0} is not a token: give printable ASCII without spaces")]
    Token(String),
    /// A file that cannot be read, or is empty.
    #[error("{flag} {file}: {reason}")]
    File {
        /// The flag that names the file.
        flag: &'static str,
        file: String,
        /// What is wrong, and what to give.
        reason: String,
    },
    #[error(
        "--source-ips {0:?}: give addresses of this machine such as 10.0.0.5,10.0.0.6 or 10.0.0.5-10.0.0.9"
    )]
    SourceIps(String),
    #[error(
        "--source-ips: {0} is not an address of this machine: `ip address` lists those that are"
    )]
    SourceIpElsewhere(IpAddr),
    /// Certificate authorities for a server without TLS.
    #[error("--ca is for wss:// URLs: give one, or leave --ca away")]
    CaWithoutTls,
    /// No trusted certificate authority.
    #[error(
        "this system has no certificate authorities: install ca-certificates, or give --ca FILE ({0})"
    )]
    NoRoots(String),
}

impl Access {
    /// Adds a header to every handshake and request: `Name: value`.
    ///
    /// # Errors
    /// It is not a header.
    pub fn header(mut self, line: &str) -> Result<Self, AccessError> {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        self.headers
            .push(header.ok_or_else(|| AccessError::Header(line.to_owned()))?);
        Ok(self)
    }

    /// Gives users a token, sent as `Authorization: Bearer TOKEN`. Several tokens: users take turns.
    ///
    /// # Errors
    /// It is not a token.
    pub fn token(mut self, token: &str) -> Result<Self, AccessError> {
        self.tokens
            .push(bearer(token).ok_or_else(|| AccessError::Token("value of --token".to_owned()))?);
        Ok(self)
    }

    /// Gives users the tokens of a file, one per line: the first user has the first token.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or has a line that is not a token.
    pub fn token_file(mut self, file: &Path) -> Result<Self, AccessError> {
        let bad = |reason: String| AccessError::File {
            flag: "--token-file",
            file: file.display().to_string(),
            reason,
        };
        let text =
            files::text(file, files::ACCESS_BYTES).map_err(|error| bad(error.to_string()))?;
        for (line, token) in (1..)
            .zip(text.lines())
            .filter(|(_, l)| !l.trim().is_empty())
        {
            let token = bearer(token.trim());
            self.tokens.push(
                token.ok_or_else(|| {
                    AccessError::Token(format!("line {line} of {}", file.display()))
                })?,
            );
        }
        if self.tokens.is_empty() {
            return Err(bad(
                "is empty: give a file with one token per line".to_owned()
            ));
        }
        Ok(self)
    }

    /// Trusts the certificate authorities in this PEM file, and no others.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ca(mut self, file: &Path) -> Result<Self, AccessError> {
        let pem = files::bytes(file, files::ACCESS_BYTES).map_err(|error| AccessError::File {
            flag: "--ca",
            file: file.display().to_string(),
            reason: error.to_string(),
        })?;
        tls::authorities(&pem).map_err(|reason| AccessError::File {
            flag: "--ca",
            file: file.display().to_string(),
            reason,
        })?;
        self.ca_pem = Some(pem);
        Ok(self)
    }

    /// Connects from these addresses of this machine in turn: `A,B` or `A-B`.
    ///
    /// # Errors
    /// They are not addresses, or not of this machine.
    pub fn with_source_ips(mut self, list: &str) -> Result<Self, AccessError> {
        let addresses = crate::user::net::ip_list::parse(list);
        let addresses = addresses.ok_or_else(|| AccessError::SourceIps(list.to_owned()))?;
        let elsewhere = |ip: &&IpAddr| UdpSocket::bind((**ip, 0)).is_err();
        if let Some(ip) = addresses.iter().find(elsewhere) {
            return Err(AccessError::SourceIpElsewhere(*ip));
        }
        self.source_ips.extend(addresses);
        Ok(self)
    }

    /// Prepares connections with or without TLS.
    pub fn prepared(mut self, tls: bool) -> Result<Self, AccessError> {
        if !tls && self.ca_pem.is_some() {
            return Err(AccessError::CaWithoutTls);
        }
        self.tls = match tls {
            false => None,
            true => Some(self.tls_config()?),
        };
        Ok(self)
    }

    /// The certificate authorities that users trust, whether or not the server under test uses TLS.
    ///
    /// # Errors
    /// There are none.
    pub fn tls_config(&self) -> Result<Arc<ClientConfig>, AccessError> {
        match &self.tls {
            Some(known) => Ok(Arc::clone(known)),
            None => tls::config(self.ca_pem.as_deref())
                .map(Arc::new)
                .map_err(AccessError::NoRoots),
        }
    }

    pub fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    pub fn source_ips(&self) -> &[IpAddr] {
        &self.source_ips
    }

    /// The subprotocols that a header asks for.
    pub fn subprotocols(&self) -> Option<&str> {
        let mut headers = self.headers.iter().rev();
        let asked = headers.find(|(name, _)| name == header::SEC_WEBSOCKET_PROTOCOL);
        asked.and_then(|(_, value)| value.to_str().ok())
    }

    /// Adds the headers of a user's handshake or request.
    pub fn add_headers(&self, user: u32, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let turn = usize::try_from(user).unwrap_or(0) % self.tokens.len().max(1);
        if let Some(token) = self.tokens.get(turn) {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
    }
}

/// Hides secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("headers", &self.headers.len())
            .field("tokens", &self.tokens.len())
            .field("source_ips", &self.source_ips)
            .finish_non_exhaustive()
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let printable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    printable.then_some(value)
}

#[cfg(test)]
mod tests;
