//! Values of configuration keys: what kinds there are and how each is read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An IP address and port.
    Address,
    /// An IP address and port, or nothing (`""`).
    AddressOrNone,
    /// A path of the file system.
    Path,
    /// A path of the file system, or nothing (`""`).
    PathOrNone,
    /// Any text without line breaks and other control characters; its meaning is checked where it is used.
    Text,
    /// Any text; never shown.
    Secret,
    /// Texts, each as [`Kind::Text`]; outside of files in one, separated by commas.
    Texts,
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
    /// Of [`Kind::AddressOrNone`] or [`Kind::PathOrNone`].
    None,
    /// Of [`Kind::Text`].
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::Texts`].
    Texts(Vec<String>),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Whole`].
    Whole(u64),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
}

/// A text that no log and no message shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Kind {
    /// Reads a value from the text of a flag, an environment variable or a default. `None`: the
    /// text is not of this kind; [`Kind::allowed`] says what is.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::AddressOrNone | Self::PathOrNone if text.is_empty() => Some(Value::None),
            Self::Address | Self::AddressOrNone => text.parse().ok().map(Value::Address),
            Self::Text => {
                let plain = !text.contains(char::is_control);
                plain.then(|| Value::Text(text.to_owned()))
            }
            Self::Secret => Some(Value::Secret(Secret(text.to_owned()))),
            Self::Texts => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                let plain = !text.contains(char::is_control);
                plain.then(|| Value::Texts(parts.map(ToOwned::to_owned).collect()))
            }
            Self::Path | Self::PathOrNone => {
                (!text.is_empty()).then(|| Value::Path(PathBuf::from(text)))
            }
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
            (Self::Switch | Self::Whole { .. }, _) => None,
            (Self::Texts, DeValue::Array(texts)) => {
                let text = |element: &Spanned<DeValue<'_>>| match element.get_ref() {
                    DeValue::String(text) if !text.contains(char::is_control) => {
                        Some(text.as_ref().to_owned())
                    }
                    _ => None,
                };
                texts
                    .iter()
                    .map(text)
                    .collect::<Option<_>>()
                    .map(Value::Texts)
            }
            (_, DeValue::String(text)) => self.parse(text),
            _ => None,
        }
    }

    /// What is allowed, as the end of the sentence "expected ...".
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Address => "an IP address and port, such as \"127.0.0.1:1883\"".into(),
            Self::AddressOrNone => {
                "an IP address and port, such as \"127.0.0.1:1883\", or \"\" for none".into()
            }
            Self::Path => "a path".into(),
            Self::PathOrNone => "a path, or \"\" for none".into(),
            Self::Text | Self::Secret => "a text in quotes".into(),
            Self::Texts => "texts in quotes, such as [\"one\", \"two\"]".into(),
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
            Self::None => f.write_str("\"\""),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Secret(Secret(text)) if text.is_empty() => f.write_str("\"\""),
            Self::Secret(_) => f.write_str("\"(not shown)\""),
            Self::Texts(texts) => write!(f, "{texts:?}"),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Whole(n) => write!(f, "{n}"),
            Self::Choice(word) => write!(f, "\"{word}\""),
        }
    }
}
