//! Where Redis is and how to talk to it, as typed; and what that means.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::limits;

/// Which kind of Redis the addresses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisMode {
    /// One server.
    #[default]
    Single,
    /// Sentinels, which know the server that is master now.
    Sentinel,
    /// Nodes of a Redis Cluster; one that answers is enough to find the others.
    Cluster,
}

/// The settings of a [`RedisStore`](crate::RedisStore). Errors call them `redis.` and the name of the field.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Addresses, at least one: `redis://host:6379`, with TLS `rediss://host:6379`. In mode single
    /// exactly one, also `unix:///path`; in mode sentinel those of the sentinels.
    pub urls: Vec<String>,
    /// What the addresses are of.
    pub mode: RedisMode,
    /// Name of the master, for sentinels.
    pub master_name: Option<String>,
    /// User to log in as; Redis calls it `default` if there is none.
    pub user: Option<String>,
    /// Password to log in with.
    pub password: Option<String>,
    /// User to log in to sentinels as.
    pub sentinel_user: Option<String>,
    /// Password to log in to sentinels with.
    pub sentinel_password: Option<String>,
    /// Certificates (PEM) to trust for `rediss://`; without, those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Longest time to open one connection.
    pub connect_timeout: Duration,
    /// Longest time until Redis answers a command.
    pub response_timeout: Duration,
    /// Wait before the first attempt to connect again.
    pub retry_min: Duration,
    /// Longest wait before another attempt.
    pub retry_max: Duration,
    /// Commands on their way at once.
    pub in_flight_max: usize,
    /// Writes that may wait for Redis; at the bound more are refused and counted.
    pub waiting_entries_max: usize,
    /// Their bytes.
    pub waiting_bytes_max: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            mode: RedisMode::default(),
            master_name: None,
            user: None,
            password: None,
            sentinel_user: None,
            sentinel_password: None,
            ca_file: None,
            connect_timeout: Duration::from_millis(limits::CONNECT_TIMEOUT_MS),
            response_timeout: Duration::from_millis(limits::RESPONSE_TIMEOUT_MS),
            retry_min: Duration::from_millis(limits::RETRY_MS_MIN),
            retry_max: Duration::from_millis(limits::RETRY_MS_MAX),
            in_flight_max: limits::IN_FLIGHT_MAX,
            waiting_entries_max: limits::WAITING_ENTRIES_MAX,
            waiting_bytes_max: limits::WAITING_BYTES_MAX,
        }
    }
}

/// A setting that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("redis.{key}: {problem}")]
pub struct RedisConfigError {
    /// The field of [`RedisConfig`].
    pub key: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

/// What the settings mean.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) mode: RedisMode,
    pub(super) master_name: String,
    pub(super) tls: bool,
    pub(super) certificates: Option<TlsCertificates>,
}

impl RedisConfig {
    /// Settings for these addresses, otherwise the defaults.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Says what is wrong with the settings, if something is. Reads `ca_file`; asks no server.
    pub fn check(&self) -> Result<(), RedisConfigError> {
        self.place().map(|_| ())
    }

    /// The addresses without what is secret in them, for messages.
    pub fn addresses(&self) -> String {
        let shown: Vec<_> = self.urls.iter().map(|url| without_secrets(url)).collect();
        shown.join(", ")
    }

    pub(super) fn place(&self) -> Result<Place, RedisConfigError> {
        self.check_numbers()?;
        let nodes = self.nodes()?;
        let tls = nodes
            .iter()
            .filter(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
            .count();
        if tls > 0 && tls < nodes.len() {
            return Err(wrong("urls", "either all with TLS (rediss://) or none"));
        }
        if tls == 0 && self.ca_file.is_some() {
            let problem = "certificates are for TLS only: write redis.urls with rediss://";
            return Err(wrong("ca_file", problem));
        }
        let certificates = self.ca_file.as_deref().map(certificates).transpose()?;
        Ok(Place {
            nodes,
            mode: self.mode,
            master_name: self.checked_master_name()?,
            tls: tls > 0,
            certificates,
        })
    }

    fn check_numbers(&self) -> Result<(), RedisConfigError> {
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("retry_min", self.retry_min),
        ];
        for (key, time) in times {
            if time.is_zero() {
                return Err(wrong(key, "must be more than 0"));
            }
        }
        if self.retry_max < self.retry_min {
            return Err(wrong("retry_max", "must not be less than redis.retry_min"));
        }
        let bounds = [
            ("in_flight_max", self.in_flight_max),
            ("waiting_entries_max", self.waiting_entries_max),
            ("waiting_bytes_max", self.waiting_bytes_max),
        ];
        for (key, bound) in bounds {
            if bound == 0 {
                return Err(wrong(key, "must be at least 1"));
            }
        }
        Ok(())
    }

    fn checked_master_name(&self) -> Result<String, RedisConfigError> {
        let sentinel = self.mode == RedisMode::Sentinel;
        match &self.master_name {
            Some(name) if sentinel && !name.is_empty() => Ok(name.clone()),
            None if !sentinel => Ok(String::new()),
            Some(_) if !sentinel => Err(wrong("master_name", "is for redis.mode sentinel only")),
            _ => Err(wrong(
                "master_name",
                "redis.mode sentinel needs the name of the master, as in the sentinels' `sentinel monitor NAME`",
            )),
        }
    }

    fn nodes(&self) -> Result<Vec<ConnectionInfo>, RedisConfigError> {
        if self.urls.is_empty() {
            return Err(wrong(
                "urls",
                "at least one address, such as redis://localhost:6379",
            ));
        }
        if self.mode == RedisMode::Single && self.urls.len() > 1 {
            let problem =
                "redis.mode single takes one address; several are for sentinel or cluster";
            return Err(wrong("urls", problem));
        }
        if self.user.is_some() && self.password.is_none() {
            return Err(wrong("user", "a user needs redis.password as well"));
        }
        let sentinel = self.mode == RedisMode::Sentinel;
        if !sentinel && (self.sentinel_user.is_some() || self.sentinel_password.is_some()) {
            return Err(wrong(
                "sentinel_password",
                "is for redis.mode sentinel only",
            ));
        }
        self.urls.iter().map(|url| self.node(url)).collect()
    }

    fn node(&self, url: &str) -> Result<ConnectionInfo, RedisConfigError> {
        let shown = without_secrets(url);
        let at_url = |problem: &str| wrong("urls", &format!("{shown}: {problem}"));
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "redis" | "rediss" | "unix") {
            return Err(at_url(
                "expected redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH",
            ));
        }
        if url.contains('@') {
            let problem =
                "user and password stand in redis.user and redis.password, not in the address";
            return Err(at_url(problem));
        }
        let node = url
            .into_connection_info()
            .map_err(|error| at_url(&error.to_string()))?;
        match node.addr() {
            ConnectionAddr::Unix(_) if self.mode != RedisMode::Single => {
                return Err(at_url("a Unix socket is for redis.mode single only"));
            }
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(at_url(
                    "a server that is not verified is as good as none: use redis.ca_file",
                ));
            }
            _ => {}
        }
        if self.mode == RedisMode::Cluster && node.redis_settings().db() != 0 {
            return Err(at_url("Redis Cluster has no databases but 0"));
        }
        let mut settings = node.redis_settings().clone();
        let (user, password) = match self.mode {
            RedisMode::Sentinel => (&self.sentinel_user, &self.sentinel_password),
            RedisMode::Single | RedisMode::Cluster => (&self.user, &self.password),
        };
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        // A command should not wait in the kernel for the acknowledgement of the one before.
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        Ok(node.set_redis_settings(settings).set_tcp_settings(tcp))
    }
}

/// Passwords do not belong into logs.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("urls", &self.addresses())
            .field("mode", &self.mode)
            .field("master_name", &self.master_name)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "(secret)"))
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

fn wrong(key: &'static str, problem: &str) -> RedisConfigError {
    RedisConfigError {
        key,
        problem: problem.to_owned(),
    }
}

/// An address as it may be shown: without what stands before `@`.
fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

fn certificates(path: &Path) -> Result<TlsCertificates, RedisConfigError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| wrong("ca_file", &format!("{shown} cannot be read: {error}")))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|error| wrong("ca_file", &format!("{shown} is no PEM: {error}")))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong(
            "ca_file",
            &format!("{shown} has no certificate in PEM form"),
        ));
    }
    Ok(TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error for settings that are right but for one change.
    fn refused(change: impl FnOnce(&mut RedisConfig)) -> String {
        let mut config = RedisConfig::new(["redis://localhost:6379"]);
        config.check().expect("right so far");
        change(&mut config);
        config.check().expect_err("wrong now").to_string()
    }

    fn says(error: &str, beginning: &str) {
        assert!(
            error.starts_with(beginning),
            "{error} does not begin with {beginning}"
        );
    }

    #[test]
    fn wrong_addresses_are_named() {
        let urls = |urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
            refused(|config| config.urls = urls)
        };
        says(&urls(&[]), "redis.urls: at least one");
        says(
            &urls(&["localhost:6379"]),
            "redis.urls: localhost:6379: expected redis://",
        );
        says(
            &urls(&["redis://a", "redis://b"]),
            "redis.urls: redis.mode single takes one",
        );
        says(&urls(&["redis://a:port"]), "redis.urls: redis://a:port: ");
        says(
            &urls(&["rediss://a/#insecure"]),
            "redis.urls: rediss://a/#insecure: a server that",
        );
        let secret = urls(&["redis://u:hush@a:1"]);
        says(&secret, "redis.urls: redis://a:1: user and password");
        assert!(!secret.contains("hush"));
        let cluster = |urls: [&str; 2]| {
            refused(|config| {
                config.mode = RedisMode::Cluster;
                config.urls = urls.map(str::to_owned).into();
            })
        };
        says(
            &cluster(["redis://a", "rediss://b"]),
            "redis.urls: either all",
        );
        says(
            &cluster(["redis://a", "redis://b/1"]),
            "redis.urls: redis://b/1: Redis Cluster has no databases",
        );
    }

    #[test]
    fn errors_name_the_key() {
        let sentinel = |config: &mut RedisConfig| config.mode = RedisMode::Sentinel;
        says(
            &refused(sentinel),
            "redis.master_name: redis.mode sentinel needs",
        );
        let name = |config: &mut RedisConfig| config.master_name = Some("m".into());
        says(&refused(name), "redis.master_name: is for");
        let user = |config: &mut RedisConfig| config.user = Some("u".into());
        says(&refused(user), "redis.user: ");
        let ca = |path: &str| {
            refused(|config| {
                config.urls = vec!["rediss://a".into()];
                config.ca_file = Some(path.into());
            })
        };
        says(
            &ca("missing.pem"),
            "redis.ca_file: missing.pem cannot be read",
        );
        says(
            &ca("Cargo.toml"),
            "redis.ca_file: Cargo.toml has no certificate",
        );
        let plain = |config: &mut RedisConfig| config.ca_file = Some("Cargo.toml".into());
        says(&refused(plain), "redis.ca_file: certificates are for TLS");
        let zero = |config: &mut RedisConfig| config.response_timeout = Duration::ZERO;
        says(&refused(zero), "redis.response_timeout: ");
        let retry = |config: &mut RedisConfig| config.retry_max = Duration::from_millis(1);
        says(&refused(retry), "redis.retry_max: ");
        says(
            &refused(|config| config.in_flight_max = 0),
            "redis.in_flight_max: ",
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = RedisConfig::new(["redis://localhost:6379"]);
        config.password = Some("hush".into());
        assert!(!format!("{config:?}").contains("hush"));
    }
}
