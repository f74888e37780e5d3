//! `[redis]`: the session store of proxies.

use std::time::Duration;

use session_store::{RedisConfig, RedisMode};

use super::error::ConfigError;
use super::typed::Typed;

/// What is typed of the session store; `None`: there is none.
pub(super) fn from_typed(typed: &Typed) -> Result<Option<RedisConfig>, Vec<ConfigError>> {
    let urls = typed.texts("redis", "urls");
    if urls.is_empty() {
        return Ok(None);
    }
    let text = |name| typed.text_or_none("redis", name);
    let secret = |name| typed.secret_or_none("redis", name);
    let time = |name| Duration::from_millis(typed.whole("redis", name));
    let config = RedisConfig {
        urls: urls.to_vec(),
        mode: match typed.choice("redis", "mode") {
            "sentinel" => RedisMode::Sentinel,
            "cluster" => RedisMode::Cluster,
            _ => RedisMode::Single,
        },
        master_name: text("master_name"),
        user: text("user"),
        password: secret("password"),
        sentinel_user: text("sentinel_user"),
        sentinel_password: secret("sentinel_password"),
        ca_file: typed.path_or_none("redis", "ca_file"),
        connect_timeout: time("connect_timeout_ms"),
        response_timeout: time("response_timeout_ms"),
        waiting_entries_max: typed.whole("redis", "waiting_entries_max"),
        waiting_bytes_max: typed.whole("redis", "waiting_bytes_max"),
        ..RedisConfig::default()
    };
    match config.check() {
        Ok(()) => Ok(Some(config)),
        // Times have bounds of their own here, so whatever is wrong has the same name there and here.
        Err(error) => Err(vec![ConfigError::Conflict {
            origin: typed.origin("redis", error.key).clone(),
            problem: error.to_string(),
        }]),
    }
}
