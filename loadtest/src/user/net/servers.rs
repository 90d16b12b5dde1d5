//! The servers of a run: those under test, and others that HTTP steps ask.

use std::{sync::Arc, time::Duration};

use crate::{
    base::server_url::ServerUrl,
    measure::reach::NodeId,
    user::net::{endpoint::Endpoint, target::Target},
};

/// The servers of a run.
pub struct Servers {
    /// The servers under test: at least one.
    nodes: Vec<Arc<Endpoint>>,
    others: Vec<(ServerUrl, Endpoint)>,
    /// Where sessions are created. It sees no credentials of users.
    admin: Option<Endpoint>,
}

impl Servers {
    /// Looks up the servers under test, once for all users.
    ///
    /// # Errors
    /// The URL of the first that no connection can be opened to, and why.
    pub async fn find(target: &Target, within: Duration) -> Result<Self, (String, String)> {
        let access = &target.access;
        let mut nodes = Vec::new();
        for node in target.nodes() {
            let tls = access.tls().filter(|_| node.url.is_tls());
            let found = Endpoint::find(&node.url, tls, access.source_ips(), within).await;
            let found = found.map_err(|reason| (node.url.to_string(), reason))?;
            nodes.push(Arc::new(found.with_access(Arc::clone(access))));
        }
        Ok(Self {
            nodes,
            others: Vec::new(),
            admin: None,
        })
    }

    /// Looks up the server's admin address.
    ///
    /// # Errors
    /// There is none, or no connection can be opened to it.
    pub async fn with_admin(mut self, target: &Target, within: Duration) -> Result<Self, String> {
        let admin = target.first().admin.as_ref();
        let admin = admin.ok_or("no admin address is known")?;
        let source_ips = target.access.source_ips();
        let endpoint = Endpoint::find(&admin.url, None, source_ips, within).await?;
        self.admin = Some(endpoint);
        Ok(self)
    }

    /// The server's admin address. `None`: no user of this run needs it.
    pub fn admin(&self) -> Option<&Endpoint> {
        self.admin.as_ref()
    }

    /// Looks up the other servers. Only those on the hosts of the servers under test may see headers and tokens.
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
            let own = target
                .nodes()
                .iter()
                .any(|node| node.url.host == origin.host);
            match Endpoint::find(&origin, tls, access.source_ips(), within).await {
                Ok(other) if own => {
                    let other = other.with_access(Arc::clone(access));
                    self.others.push((origin, other));
                }
                Ok(other) => self.others.push((origin, other)),
                Err(reason) => return Err((origin, reason)),
            }
        }
        Ok(self)
    }

    /// How many servers are under test.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// One of the servers under test.
    pub fn node(&self, node: NodeId) -> &Arc<Endpoint> {
        &self.nodes[node.index().min(self.nodes.len() - 1)]
    }

    /// The first server under test.
    pub fn own(&self) -> &Arc<Endpoint> {
        &self.nodes[0]
    }

    /// The server for a request of a user at `node`; `None`: the server under test.
    pub fn get(&self, origin: Option<&ServerUrl>, node: NodeId) -> Option<&Endpoint> {
        let Some(origin) = origin else {
            return Some(self.node(node));
        };
        let mut others = self.others.iter();
        others
            .find(|(known, _)| known == origin)
            .map(|(_, endpoint)| endpoint)
    }
}
