//! Flags for what users need to be let in.

use std::path::PathBuf;

use clap::Args;

use crate::user::net::credentials::{Access, AccessError};

/// What users need to be let in, as given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Getting in")]
pub struct AccessFlags {
    /// Header of every handshake and HTTP request, such as 'X-Tenant: blue'; may be repeated
    #[arg(
        long,
        env = "LOADTEST_HEADER",
        hide_env_values = true,
        value_name = "K: V"
    )]
    pub header: Vec<String>,

    /// Token of every user, sent as Authorization: Bearer TOKEN. All are one person then: a server that knows persons
    /// matches nobody with themselves
    #[arg(
        long,
        env = "LOADTEST_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file",
        value_name = "TOKEN"
    )]
    pub token: Option<String>,

    /// File with one token per line, one for each user; after the last token, users start again with the first
    #[arg(long, env = "LOADTEST_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Certificate authorities (PEM) to trust for wss:// instead of the system's
    #[arg(long, env = "LOADTEST_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Addresses of this machine to connect from in turn: A,B or A-B; each has its own ports
    #[arg(long, env = "LOADTEST_SOURCE_IPS", value_name = "LIST")]
    pub source_ips: Option<String>,
}

impl AccessFlags {
    /// Checks the flags.
    ///
    /// # Errors
    /// The first flag that cannot be used, and what to give instead.
    pub fn check(&self) -> Result<Access, AccessError> {
        let mut access = Access::default();
        for line in &self.header {
            access = access.header(line)?;
        }
        if let Some(token) = &self.token {
            access = access.token(token)?;
        }
        if let Some(file) = &self.token_file {
            access = access.token_file(file)?;
        }
        if let Some(file) = &self.ca {
            access = access.ca(file)?;
        }
        match &self.source_ips {
            Some(list) => access.with_source_ips(list),
            None => Ok(access),
        }
    }
}
