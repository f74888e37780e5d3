//! Connections to the three kinds of Redis.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    TlsMode, Value,
};

use super::config::{Place, RedisConfig, RedisMode};
use super::key;
use crate::limits::CLUSTER_RETRIES;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends a command and waits for its answer, at most the response time-out.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Server(server) => server.req_packed_command(command).await,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
}

/// Opens connections.
pub(super) struct Opener {
    place: Place,
    config: RedisConfig,
}

impl Opener {
    pub(super) fn new(place: Place, config: RedisConfig) -> Self {
        if place.tls {
            // Only the first one counts; whoever was first is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        Self { place, config }
    }

    /// Opens a connection and makes sure that records can be read over it.
    pub(super) async fn open(&self) -> RedisResult<Connection> {
        // One for each address that may have to be tried, and one for the server they name.
        let attempts = self.place.nodes.len() as u32 + 1;
        let longest = (self.config.connect_timeout + self.config.response_timeout) * attempts;
        let opening = async {
            let mut connection = match self.place.mode {
                RedisMode::Single => self.single().await?,
                RedisMode::Sentinel => self.master().await?,
                // It has asked a node for the slots; any other node may be away.
                RedisMode::Cluster => return self.cluster().await,
            };
            connection.ask(&read_nothing()).await?;
            Ok(connection)
        };
        match tokio::time::timeout(longest, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(no_connection_within(longest)),
        }
    }

    async fn single(&self) -> RedisResult<Connection> {
        let node = self.place.nodes[0].clone();
        let client = match &self.place.certificates {
            Some(certificates) => Client::build_with_tls(node, certificates.clone())?,
            None => Client::open(node)?,
        };
        let server = client
            .get_multiplexed_async_connection_with_config(&self.options())
            .await?;
        Ok(Connection::Server(server))
    }

    async fn master(&self) -> RedisResult<Connection> {
        let sentinels = self.place.nodes.iter().map(|node| node.addr().clone());
        let master = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(sentinels, &self.place.master_name, master)?
            .set_client_to_redis_db(self.place.nodes[0].redis_settings().db())
            .set_client_to_redis_tcp_settings(self.place.nodes[0].tcp_settings().clone());
        if self.place.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.place.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        if let Some(user) = &self.config.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.config.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &self.config.sentinel_user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &self.config.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        let server = builder
            .build()?
            .get_async_connection_with_config(&self.options())
            .await?;
        Ok(Connection::Server(server))
    }

    async fn cluster(&self) -> RedisResult<Connection> {
        let mut builder = redis::cluster::ClusterClient::builder(self.place.nodes.clone())
            .connection_timeout(self.config.connect_timeout)
            .response_timeout(self.config.response_timeout)
            .connection_concurrency_limit(self.config.in_flight_max)
            .retries(CLUSTER_RETRIES)
            .tcp_settings(self.place.nodes[0].tcp_settings().clone());
        if let Some(certificates) = &self.place.certificates {
            builder = builder.certs(certificates.clone());
        }
        let cluster = builder.build()?.get_async_connection().await?;
        Ok(Connection::Cluster(cluster))
    }

    fn options(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            .set_response_timeout(Some(self.config.response_timeout))
            .set_pipeline_buffer_size(self.config.in_flight_max)
            .set_concurrency_limit(self.config.in_flight_max)
    }
}

/// Reads as a load does: a server that is loading, or wants a login, or forbids it, says so.
fn read_nothing() -> Cmd {
    let mut command = redis::cmd("HGETALL");
    command.arg(key::of(""));
    command
}

/// What an error means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Redis cannot do it now; the same may succeed later.
    Away,
    /// The command itself is refused; the same would be again.
    Refused,
}

/// Whether a failure will pass.
pub(super) fn meaning(error: &RedisError) -> Meaning {
    use ServerErrorKind as Server;
    match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse | ErrorKind::Client => Meaning::Refused,
        ErrorKind::Server(Server::ResponseError | Server::ExecAbort | Server::CrossSlot) => {
            Meaning::Refused
        }
        ErrorKind::Extension => match error.code() {
            // Memory full, disk broken, script running, replicas missing, login refused.
            Some("OOM" | "MISCONF" | "BUSY" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS") => {
                Meaning::Away
            }
            _ => Meaning::Refused,
        },
        _ => Meaning::Away,
    }
}

/// True if a cluster connection with this error will not heal by itself.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() && error.is_connection_dropped()
        || error.kind() == ErrorKind::ClusterConnectionNotFound
}

/// An error in a sentence that says what to do, where that is known.
pub(super) fn in_words(error: &RedisError, config: &RedisConfig) -> String {
    let hint = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "; Redis refuses the login: correct redis.user and redis.password"
        }
        (_, Some("NOAUTH")) => "; Redis wants a login: set redis.password",
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "; the Redis user (redis.user) needs the permissions in docs/session-store.md"
        }
        (ErrorKind::MasterNameNotFoundBySentinel, _) => {
            "; no sentinel knows this master: correct redis.master_name"
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) if config.mode == RedisMode::Single => {
            "; this is a replica: redis.urls has to name the master"
        }
        (_, Some("OOM")) => "; Redis is at its maxmemory",
        _ if error.to_string().contains("certificate") => {
            "; is redis.ca_file the authority that signed the server's certificate?"
        }
        _ => "",
    };
    format!("{}: {error}{hint}", config.addresses())
}

fn no_connection_within(time: Duration) -> RedisError {
    let error = std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("no connection within {} ms", time.as_millis()),
    );
    RedisError::from(error)
}
