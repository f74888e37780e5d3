//! Connections to the three kinds of Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, TlsCertificates, TlsMode, Value,
};

use super::cluster::Cluster;
use super::config::{Place, RedisConfig, RedisMode};
use super::key;
use super::meaning::is_forbidden;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all masters of a cluster.
    Cluster(Arc<Cluster>),
}

impl Connection {
    /// Sends a command about one key and waits for its answer, at most the response time-out.
    pub(super) async fn ask(&self, key: &str, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(server) => {
                let answer = server.clone().req_packed_command(command).await;
                answer?.extract_error()
            }
            // Its way is long: what is on its way to one server would take the room of it too.
            Self::Cluster(cluster) => Box::pin(cluster.ask(key, command)).await,
        }
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
            let server = match self.place.mode {
                RedisMode::Single => self.dialer().dial(self.place.nodes[0].clone()).await?,
                RedisMode::Sentinel => self.master().await?,
                RedisMode::Cluster => {
                    // It has asked a node for the slots; any other node may be away.
                    let seeds = self.place.nodes.clone();
                    let cluster = Cluster::open(self.dialer(), seeds).await?;
                    return Ok(Connection::Cluster(cluster));
                }
            };
            let connection = Connection::Server(server);
            let (key, command) = read_nothing();
            connection.ask(&key, &command).await?;
            Ok(connection)
        };
        match tokio::time::timeout(longest, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(no_connection_within(longest)),
        }
    }

    async fn master(&self) -> RedisResult<MultiplexedConnection> {
        let node = &self.place.nodes[0];
        let sentinels = self.place.nodes.iter().map(|node| node.addr().clone());
        let master = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(sentinels, &self.place.master_name, master)?
            .set_client_to_redis_db(node.redis_settings().db())
            .set_client_to_redis_tcp_settings(node.tcp_settings().clone());
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
        let mut sentinels = builder.build()?;
        let options = self.dialer().options;
        sentinels.get_async_connection_with_config(&options).await
    }

    fn dialer(&self) -> Dialer {
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            .set_response_timeout(Some(self.config.response_timeout))
            .set_pipeline_buffer_size(self.config.in_flight_max)
            .set_concurrency_limit(self.config.in_flight_max);
        Dialer {
            certificates: self.place.certificates.clone(),
            options,
            pause: self.config.retry_min,
        }
    }
}

/// Connects to one server.
pub(super) struct Dialer {
    certificates: Option<TlsCertificates>,
    options: AsyncConnectionConfig,
    pause: Duration,
}

impl Dialer {
    pub(super) async fn dial(&self, server: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(server, certificates.clone())?,
            None => Client::open(server)?,
        };
        client
            .get_multiplexed_async_connection_with_config(&self.options)
            .await
    }

    /// Least time between two attempts on one server.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}

/// Reads as a load does: a server that is loading, or wants a login, or forbids it, says so.
fn read_nothing() -> (String, Cmd) {
    let key = key::of("");
    let mut command = redis::cmd("HGETALL");
    command.arg(&key);
    (key, command)
}

/// An error in a sentence that says what to do, where that is known.
pub(super) fn in_words(error: &RedisError, config: &RedisConfig) -> String {
    let hint = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "; Redis refuses the login: correct redis.user and redis.password"
        }
        (_, Some("NOAUTH")) => "; Redis wants a login: set redis.password",
        _ if is_forbidden(error) => {
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
