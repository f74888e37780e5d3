//! Configuration in two layers: [`Typed`] is what somebody wrote and where; [`Settings`] is what
//! it means, checked. Precedence: flag, then environment, then file, then default.
//!
//! One table ([`keys::KEYS`]) names every key with its kind, default and explanation. The file
//! reader, the environment reader, the flags and `mqtt-fleet check` all go by it, so a key cannot
//! exist in one of them and be unknown to another.

mod environment;
mod error;
mod file;
pub(crate) mod keys;
mod link_tls;
mod ports;
mod redis;
mod role;
mod settings;
mod tls;
mod typed;
mod value;

use std::path::Path;

pub(crate) use error::ConfigError;
pub(crate) use ports::DevicePort;
pub(crate) use role::Role;
pub(crate) use settings::{LogFormat, Settings};
pub(crate) use typed::{Origin, Typed};
pub(crate) use value::Value;

/// Reads every source and merges them.
///
/// `flags` holds what the command line said; `environment` is given by the caller so that tests
/// need not change the process. All mistakes of all sources are returned, not only the first.
pub(crate) fn load(
    role: Role,
    flags: Typed,
    environment: impl Iterator<Item = (String, String)>,
    config_file: Option<&Path>,
) -> Result<(Settings, Typed), Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut typed = Typed::defaults();
    if let Some(path) = config_file {
        typed.overlay(file::read(path, &mut errors));
    }
    typed.overlay(environment::read(environment, &mut errors));
    typed.overlay(flags);
    errors.extend(foreign(role, &typed));
    if !errors.is_empty() {
        return Err(errors);
    }
    let settings = Settings::from_typed(role, &typed)?;
    Ok((settings, typed))
}

/// What was typed for keys that a process of this role does not have: whoever typed it expects something that will
/// not happen.
fn foreign(role: Role, typed: &Typed) -> Vec<ConfigError> {
    let foreign = typed
        .iter()
        .filter(|(key, _, origin)| !key.roles.contains(&role) && **origin != Origin::Default);
    let error = |(key, _, origin): (&keys::Key, _, &Origin)| {
        let roles: Vec<_> = key.roles.iter().map(ToString::to_string).collect();
        ConfigError::Conflict {
            origin: origin.clone(),
            problem: format!(
                "{} is no setting of a {role}; it is for a {}",
                key.path(),
                roles.join(" or a ")
            ),
        }
    };
    foreign.map(error).collect()
}

#[cfg(test)]
mod tests;
