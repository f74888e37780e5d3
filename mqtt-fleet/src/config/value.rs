//! Values of configuration keys: what kinds there are and how each is read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An IP address and port.
    Address,
    /// A path of the file system.
    Path,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds, both included.
    Whole {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A value that fits the kind of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Of [`Kind::Address`].
    Address(SocketAddr),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Whole`].
    Whole(u64),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
}

impl Kind {
    /// Reads a value from the text of a flag, an environment variable or a default. `None`: the
    /// text is not of this kind; [`Kind::allowed`] says what is.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Address => text.parse().ok().map(Value::Address),
            Self::Path => (!text.is_empty()).then(|| Value::Path(PathBuf::from(text))),
            Self::Switch => text.parse().ok().map(Value::Switch),
            Self::Whole { min, max } => text
                .parse()
                .ok()
                .filter(|n| (min..=max).contains(n))
                .map(Value::Whole),
            Self::Choice(words) => words.iter().find(|w| **w == text).map(|w| Value::Choice(w)),
        }
    }

    /// Reads a value from a configuration file. TOML has types of its own, so `"true"` is no
    /// switch and `"5"` no number.
    pub(crate) fn parse_toml(self, value: &DeValue<'_>) -> Option<Value> {
        match (self, value) {
            (Self::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
            (Self::Whole { min, max }, DeValue::Integer(n)) => {
                let n = u64::from_str_radix(n.as_str(), n.radix()).ok()?;
                (min..=max).contains(&n).then_some(Value::Whole(n))
            }
            (Self::Address | Self::Path | Self::Choice(_), DeValue::String(text)) => {
                self.parse(text)
            }
            _ => None,
        }
    }

    /// What is allowed, as the end of the sentence "expected ...".
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Address => "an IP address and port, such as \"127.0.0.1:1883\"".into(),
            Self::Path => "a path".into(),
            Self::Switch => "true or false".into(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|w| format!("\"{w}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "\"{address}\""),
            Self::Path(path) => write!(f, "\"{}\"", path.display()),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Whole(n) => write!(f, "{n}"),
            Self::Choice(word) => write!(f, "\"{word}\""),
        }
    }
}
