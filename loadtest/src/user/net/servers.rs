//! The servers of a run: the one under test, and others that HTTP steps ask.

use std::{sync::Arc, time::Duration};

use crate::{
    base::server_url::ServerUrl,
    user::net::{endpoint::Endpoint, target::Target},
};

/// The servers of a run.
pub struct Servers {
    /// The server under test.
    pub own: Arc<Endpoint>,
    others: Vec<(ServerUrl, Endpoint)>,
    /// Where sessions are created. It sees no credentials of users.
    admin: Option<Endpoint>,
}

impl Servers {
    /// Looks up the server under test, once for all users.
    ///
    /// # Errors
    /// Why no connection can be opened to it.
    pub async fn find(target: &Target, within: Duration) -> Result<Self, String> {
        let access = &target.access;
        let own = Endpoint::find(&target.url, access.tls(), access.source_ips(), within).await?;
        Ok(Self {
            own: Arc::new(own.with_access(Arc::clone(access))),
            others: Vec::new(),
            admin: None,
        })
    }

    /// Looks up the server's admin address.
    ///
    /// # Errors
    /// There is none, or no connection can be opened to it.
    pub async fn with_admin(mut self, target: &Target, within: Duration) -> Result<Self, String> {
        let admin = target.admin.as_ref().ok_or("no admin address is known")?;
        let source_ips = target.access.source_ips();
        let endpoint = Endpoint::find(&admin.url, None, source_ips, within).await?;
        self.admin = Some(endpoint);
        Ok(self)
    }

    /// The server's admin address. `None`: no user of this run needs it.
    pub fn admin(&self) -> Option<&Endpoint> {
        self.admin.as_ref()
    }

    /// Looks up the other servers. Only those on the host of the server under test may see headers and tokens.
    ///
    /// # Errors
    /// The first that cannot be connected to, and why.
    pub async fn with_others(
        mut self,
        target: &Target,
        origins: Vec<ServerUrl>,
        within: Duration,
    ) -> Result<Self, (ServerUrl, String)> {
        let access = &target.access;
        let mut tls = access.tls();
        for origin in origins {
            if origin.is_tls() && tls.is_none() {
                match access.tls_config() {
                    Ok(config) => tls = Some(config),
                    Err(error) => return Err((origin, error.to_string())),
                }
            }
            let tls = tls.clone().filter(|_| origin.is_tls());
            match Endpoint::find(&origin, tls, access.source_ips(), within).await {
                Ok(other) if origin.host == target.url.host => {
                    let other = other.with_access(Arc::clone(access));
                    self.others.push((origin, other));
                }
                Ok(other) => self.others.push((origin, other)),
                Err(reason) => return Err((origin, reason)),
            }
        }
        Ok(self)
    }

    /// The server for a request; `None`: the server under test.
    pub fn get(&self, origin: Option<&ServerUrl>) -> Option<&Endpoint> {
        let Some(origin) = origin else {
            return Some(&self.own);
        };
        let mut others = self.others.iter();
        others
            .find(|(known, _)| known == origin)
            .map(|(_, endpoint)| endpoint)
    }
}
