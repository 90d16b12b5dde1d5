//! Where to connect to: the engine itself, the primary that sentinels name, the owner of a channel in a Redis Cluster.

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ConnectionAddr, RedisError, Value};

use super::Shared;
use super::connect::{ConnectError, Pushes, STEP, ask, is_primary, open, step};
use crate::settings::{Settings, SettingsError, Topology};

/// From one node of a Redis Cluster to the next, while looking for the owner of a channel.
const HOPS: usize = 5;

/// The primary, as far as the settings know it.
pub(super) async fn primary(settings: &Settings) -> Result<ConnectionAddr, ConnectError> {
    let first = settings.hosts.first().ok_or(SettingsError::Url)?.addr();
    let Topology::Sentinel(name) = &settings.engine else {
        return Ok(first.clone());
    };
    let mut last = None;
    for sentinel in &settings.hosts {
        match named(settings, sentinel.addr(), name).await {
            Ok(address) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(ConnectError::Settings(SettingsError::Url)))
}

/// Asks one sentinel.
async fn named(
    settings: &Settings,
    sentinel: &ConnectionAddr,
    name: &str,
) -> Result<ConnectionAddr, ConnectError> {
    let client = settings.sentinel(sentinel)?;
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        ask(
            &mut connection,
            redis::cmd("SENTINEL")
                .arg("get-master-addr-by-name")
                .arg(name),
        )
        .await
    };
    let Value::Array(answer) = step("SENTINEL", asked).await? else {
        return Err(ConnectError::Unnamed);
    };
    match &answer[..] {
        [Value::BulkString(host), Value::BulkString(port)] => elsewhere(sentinel, host, port),
        _ => Err(ConnectError::Unnamed),
    }
}

/// Another host, spoken to in the same way.
fn elsewhere(
    like: &ConnectionAddr,
    host: &[u8],
    port: &[u8],
) -> Result<ConnectionAddr, ConnectError> {
    let port = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
    let host = str::from_utf8(host).map(str::to_owned).ok();
    let (Some(host), Some(port)) = (host, port) else {
        return Err(ConnectError::Unnamed);
    };
    Ok(match like {
        ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    })
}

/// Scripts and what is published, to wherever their slots are. One node that answers is the seed: the others are learned from it.
pub(super) async fn cluster(settings: &Settings) -> Result<ClusterConnection, ConnectError> {
    let mut last = ConnectError::Settings(SettingsError::Url);
    for host in &settings.hosts {
        let seed = settings.client(host.addr())?.get_connection_info().clone();
        let mut builder = ClusterClient::builder([seed])
            .connection_timeout(STEP)
            .response_timeout(settings.call)
            .retries(2);
        if let Some(certificates) = settings.certificates()? {
            builder = builder.certs(certificates);
        }
        let connecting = async { builder.build()?.get_async_connection().await };
        match step("connecting to the cluster", connecting).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Subscribes on the primary that owns the channel's slot, on a connection of its own: nodes name it, when asked
/// elsewhere. A replica takes subscriptions, too, but is not where failovers are told.
pub(super) async fn subscribed(
    shared: &Shared,
    channel: &[u8],
    pushes: &Pushes,
) -> Result<MultiplexedConnection, ConnectError> {
    let subscribe = redis::cmd("SSUBSCRIBE").arg(channel).to_owned();
    let mut last = ConnectError::Role;
    for host in &shared.settings.hosts {
        let mut address = host.addr().clone();
        for _ in 0..HOPS {
            match hop(shared, &address, &subscribe, pushes).await {
                Ok(Hop::There(connection)) => return Ok(connection),
                Ok(Hop::Next(next)) => address = next,
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
    }
    Err(last)
}

enum Hop {
    There(MultiplexedConnection),
    Next(ConnectionAddr),
}

async fn hop(
    shared: &Shared,
    address: &ConnectionAddr,
    subscribe: &Cmd,
    pushes: &Pushes,
) -> Result<Hop, ConnectError> {
    let mut connection = open(shared, address, pushes.clone()).await?;
    let role = step("ROLE", ask(&mut connection, &redis::cmd("ROLE"))).await?;
    if !is_primary(&role) {
        let Value::Array(role) = &role else {
            return Err(ConnectError::Role);
        };
        return match &role[..] {
            [_, Value::BulkString(host), Value::Int(port), ..] => {
                elsewhere(address, host, port.to_string().as_bytes()).map(Hop::Next)
            }
            _ => Err(ConnectError::Role),
        };
    }
    match step("SSUBSCRIBE", ask(&mut connection, subscribe)).await {
        Ok(_) => Ok(Hop::There(connection)),
        Err(ConnectError::Redis(error)) => moved(address, &error)
            .map(Hop::Next)
            .ok_or(ConnectError::Redis(error)),
        Err(error) => Err(error),
    }
}

/// `MOVED 3999 127.0.0.1:6381`.
fn moved(like: &ConnectionAddr, error: &RedisError) -> Option<ConnectionAddr> {
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    elsewhere(like, host.as_bytes(), port.as_bytes()).ok()
}
