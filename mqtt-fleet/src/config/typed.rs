//! The first layer: what was typed, and where.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::keys::{self, KEYS, Key};
use super::value::{Secret, Value};

/// Where a value was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// On a line (from 1) of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// In this flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What one source, or all sources merged, said about each key; `None` where it said nothing.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// Parallel to [`KEYS`].
    entries: Vec<Option<(Value, Origin)>>,
}

impl Typed {
    /// A source that says nothing.
    pub(crate) fn nothing() -> Self {
        Self {
            entries: vec![None; KEYS.len()],
        }
    }

    /// The source that everything else overlays.
    pub(crate) fn defaults() -> Self {
        let entries = KEYS.iter().map(|key| {
            let value = key
                .kind
                .parse(key.default)
                .expect("defaults fit their kind (tested)");
            Some((value, Origin::Default))
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Notes what was typed for the key at `position` of [`KEYS`].
    pub(crate) fn set(&mut self, position: usize, value: Value, origin: Origin) {
        self.entries[position] = Some((value, origin));
    }

    /// Notes what a flag said for `section.name`.
    pub(crate) fn set_flag(&mut self, section: &str, name: &str, value: Value, flag: &'static str) {
        let position = keys::position(section, name).expect("flags name keys of the table");
        self.set(position, value, Origin::Flag(flag));
    }

    /// Puts what `stronger` says over what is here.
    pub(crate) fn overlay(&mut self, stronger: Self) {
        for (entry, over) in self.entries.iter_mut().zip(stronger.entries) {
            if over.is_some() {
                *entry = over;
            }
        }
    }

    /// Every key that something was typed for, in the order of [`KEYS`].
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static Key, &Value, &Origin)> {
        let with_keys = KEYS.iter().zip(&self.entries);
        with_keys
            .filter_map(|(key, entry)| entry.as_ref().map(|(value, origin)| (key, value, origin)))
    }

    /// Where the value of `section.name` comes from.
    pub(crate) fn origin(&self, section: &str, name: &str) -> &Origin {
        &self.entry(section, name).1
    }

    /// The value of an address key.
    pub(crate) fn address(&self, section: &str, name: &str) -> SocketAddr {
        match self.entry(section, name).0 {
            Value::Address(address) => address,
            ref other => unreachable!("{section}.{name} is no address: {other}"),
        }
    }

    /// The value of a key for an address that may be absent.
    pub(crate) fn address_or_none(&self, section: &str, name: &str) -> Option<SocketAddr> {
        match self.entry(section, name).0 {
            Value::Address(address) => Some(address),
            Value::None => None,
            ref other => unreachable!("{section}.{name} is no address: {other}"),
        }
    }

    /// The value of a text key.
    pub(crate) fn text(&self, section: &str, name: &str) -> &str {
        match &self.entry(section, name).0 {
            Value::Text(text) => text,
            other => unreachable!("{section}.{name} is no text: {other}"),
        }
    }

    /// The value of a text key, if it is not empty.
    pub(crate) fn text_or_none(&self, section: &str, name: &str) -> Option<String> {
        let text = self.text(section, name);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The value of a secret, if it is not empty.
    pub(crate) fn secret_or_none(&self, section: &str, name: &str) -> Option<String> {
        match &self.entry(section, name).0 {
            Value::Secret(Secret(text)) => (!text.is_empty()).then(|| text.clone()),
            other => unreachable!("{section}.{name} is no secret: {other}"),
        }
    }

    /// The value of a key for several texts.
    pub(crate) fn texts(&self, section: &str, name: &str) -> &[String] {
        match &self.entry(section, name).0 {
            Value::Texts(texts) => texts,
            other => unreachable!("{section}.{name} are no texts: {other}"),
        }
    }

    /// The value of a path key.
    pub(crate) fn path(&self, section: &str, name: &str) -> PathBuf {
        match &self.entry(section, name).0 {
            Value::Path(path) => path.clone(),
            other => unreachable!("{section}.{name} is no path: {other}"),
        }
    }

    /// The value of a key for a path that may be absent.
    pub(crate) fn path_or_none(&self, section: &str, name: &str) -> Option<PathBuf> {
        match &self.entry(section, name).0 {
            Value::Path(path) => Some(path.clone()),
            Value::None => None,
            other => unreachable!("{section}.{name} is no path: {other}"),
        }
    }

    /// The value of a switch.
    pub(crate) fn switch(&self, section: &str, name: &str) -> bool {
        match self.entry(section, name).0 {
            Value::Switch(on) => on,
            ref other => unreachable!("{section}.{name} is no switch: {other}"),
        }
    }

    /// The value of a number key, in whatever integer its bounds fit.
    pub(crate) fn whole<N: TryFrom<u64>>(&self, section: &str, name: &str) -> N {
        match self.entry(section, name).0 {
            Value::Whole(n) => N::try_from(n)
                .ok()
                .expect("the bounds in the key table fit the field"),
            ref other => unreachable!("{section}.{name} is no number: {other}"),
        }
    }

    /// The value of a choice.
    pub(crate) fn choice(&self, section: &str, name: &str) -> &'static str {
        match self.entry(section, name).0 {
            Value::Choice(word) => word,
            ref other => unreachable!("{section}.{name} is no choice: {other}"),
        }
    }

    fn entry(&self, section: &str, name: &str) -> &(Value, Origin) {
        let position = keys::position(section, name).expect("settings read keys of the table");
        self.entries[position]
            .as_ref()
            .expect("defaults lie under everything that is read")
    }
}
