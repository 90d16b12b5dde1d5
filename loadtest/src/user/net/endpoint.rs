//! One server: its addresses, TLS, and the credentials that it may see.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    base::server_url::ServerUrl,
    measure::sample::ErrorKind,
    user::net::{credentials::Access, source_pool::Sources, stream::Stream},
};

/// How long one address may take before the next one is tried as well (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// One server.
pub struct Endpoint {
    /// The first one accepts connections. If none did: all, in the order of the name lookup.
    addresses: Vec<(SocketAddr, Sources)>,
    host: HeaderValue,
    /// The path of its URL.
    pub path: Box<str>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// `None`: this server must not see headers and tokens.
    access: Option<Arc<Access>>,
}

impl Endpoint {
    /// Looks up a server. Of several addresses it uses the first that accepts a connection `within` this time.
    ///
    /// # Errors
    /// The server has no address, or its name cannot be used.
    pub async fn find(
        url: &ServerUrl,
        tls: Option<Arc<ClientConfig>>,
        source_ips: &[IpAddr],
        within: Duration,
    ) -> Result<Self, String> {
        let found = lookup_host((url.host.as_str(), url.port)).await;
        let found = found.map_err(|error| error.to_string())?;
        let mut addresses: Vec<_> = found
            .map(|address| (address, Sources::new(address.ip(), source_ips)))
            .collect();
        if addresses.is_empty() {
            return Err("the host has no address".to_owned());
        }
        // Users connect from the addresses of --source-ips, or, to 127.0.0.1 only, from several loopback addresses.
        addresses.sort_by_key(|(_, sources)| matches!(sources, Sources::Kernel));
        if addresses.len() > 1 {
            let in_order = addresses.iter().map(|(address, _)| *address);
            if let Ok(Some(first)) = timeout(within, first_reachable(in_order)).await {
                addresses.retain(|(address, _)| *address == first);
            }
        }
        let name = || ServerName::try_from(url.certificate_name().to_owned());
        let tls = tls.map(|config| name().map(|name| (config, name)));
        Ok(Self {
            addresses,
            host: HeaderValue::from_str(url.authority()).map_err(|error| error.to_string())?,
            path: url.path().into(),
            tls: tls.transpose().map_err(|error| error.to_string())?,
            access: None,
        })
    }

    /// The same server, which may see these headers and tokens.
    pub fn with_access(mut self, access: Arc<Access>) -> Self {
        self.access = Some(access);
        self
    }

    /// The addresses, for an error.
    pub fn addresses(&self) -> String {
        let addresses = self.addresses.iter();
        let texts: Vec<_> = addresses.map(|(address, _)| address.to_string()).collect();
        texts.join(" and ")
    }

    /// The headers of a handshake or request of the user with this index.
    pub fn headers(&self, user: u32) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, self.host.clone());
        if let Some(access) = &self.access {
            access.add_headers(user, &mut headers);
        }
        headers
    }

    /// Opens a connection for the user with this index: TCP, and TLS if the URL asks for it.
    ///
    /// # Errors
    /// What failed. The caller limits the time.
    pub async fn open(&self, user: u32) -> Result<Stream, ErrorKind> {
        let stream = self.tcp(user).await?;
        let Some((config, name)) = &self.tls else {
            return Ok(Stream::plain(stream));
        };
        let connector = TlsConnector::from(Arc::clone(config));
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Stream::tls(stream)),
            Err(error) => Err(match error.kind() {
                // The TLS library reports a refused certificate or message like this.
                io::ErrorKind::InvalidData | io::ErrorKind::Other => ErrorKind::TlsFailed,
                _ => ErrorKind::of_io(&error, true),
            }),
        }
    }

    async fn tcp(&self, user: u32) -> Result<TcpStream, ErrorKind> {
        let mut first_error = None;
        for (address, sources) in &self.addresses {
            match connect(*address, sources, user).await {
                Ok(stream) => return Ok(stream),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
        Err(first_error.unwrap_or(ErrorKind::ConnectFailed))
    }
}

async fn connect(
    address: SocketAddr,
    sources: &Sources,
    user: u32,
) -> Result<TcpStream, ErrorKind> {
    let mut attempt = 0;
    loop {
        let tried = connect_from(sources.of(user, attempt), address).await;
        match tried.map_err(|error| ErrorKind::of_io(&error, false)) {
            Err(ErrorKind::PortsExhausted) if attempt + 1 < sources.attempts() => attempt += 1,
            done => return done,
        }
    }
}

async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        // The port is taken here, for all destinations, and not at connect: with one destination
        // per run an address has the same number of ports either way.
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    socket.connect(address).await
}

/// The first address that accepts a connection. The next one is tried when one has failed, or is slow (RFC 8305).
async fn first_reachable(addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut addresses = addresses.peekable();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(async move { TcpStream::connect(address).await.map(|_open| address) });
        }
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(address)) => return Some(address),
                Some(Err(_failed)) => {}
                None => return None,
            },
            () = sleep(NEXT_ADDRESS_AFTER), if addresses.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn all_addresses_are_tried_in_order_until_one_takes_a_connection() {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let [nobody, somebody] = [&closed, &open].map(|it| it.local_addr().expect("bound"));
        drop(closed);
        let found = first_reachable([nobody, somebody].into_iter()).await;
        assert_eq!(found, Some(somebody));
        assert_eq!(first_reachable([nobody].into_iter()).await, None);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_the_next_one_for_a_moment_only() {
        // The queue holds two connections; further ones get no answer.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let full = socket.listen(1).expect("a free port");
        let silent = full.local_addr().expect("bound");
        let mut held = Vec::new();
        while let Ok(Ok(held_too)) = timeout(NEXT_ADDRESS_AFTER, TcpStream::connect(silent)).await {
            held.push(held_too);
        }
        let open = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open_address = open.local_addr().expect("bound");
        let found = first_reachable([silent, open_address].into_iter());
        let found = timeout(Duration::from_secs(10), found).await;
        assert_eq!(found, Ok(Some(open_address)));
    }
}
