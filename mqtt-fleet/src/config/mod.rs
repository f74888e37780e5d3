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
mod settings;
mod typed;
mod value;

use std::path::Path;

pub(crate) use error::ConfigError;
pub(crate) use settings::{LogFormat, Settings};
pub(crate) use typed::Typed;
pub(crate) use value::Value;

/// Reads every source and merges them.
///
/// `flags` holds what the command line said; `environment` is given by the caller so that tests
/// need not change the process. All mistakes of all sources are returned, not only the first.
pub(crate) fn load(
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
    if !errors.is_empty() {
        return Err(errors);
    }
    let settings = Settings::from_typed(&typed)?;
    Ok((settings, typed))
}

#[cfg(test)]
mod tests;
