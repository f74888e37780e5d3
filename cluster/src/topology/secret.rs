//! The secret that the nodes of a fleet share.

use std::fmt;
use std::path::PathBuf;

/// Fewer bytes could be guessed.
pub const SECRET_BYTES_MIN: usize = 16;

/// Where the secret is. It never stands in the cluster file itself, which is copied around and shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of this file, without a line break at its end. A path in the cluster file is relative to it.
    File(PathBuf),
    /// The value of this environment variable.
    Variable(String),
}

/// A secret. Shows nothing of itself when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// Why something is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is too short.
    #[error(
        "{0} bytes are too short for a secret: give at least {SECRET_BYTES_MIN}, for instance the output of \
         `openssl rand -hex 32`"
    )]
    TooShort(usize),
}

impl Secret {
    /// Takes the content of a file or variable, without a line break at its end.
    pub fn new(content: &[u8]) -> Result<Self, SecretError> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.len() < SECRET_BYTES_MIN {
            return Err(SecretError::TooShort(content.len()));
        }
        Ok(Self(content.into()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_at_the_end_is_not_part_of_it() {
        let plain = Secret::new(b"0123456789abcdef").expect("long enough");
        for other in [&b"0123456789abcdef\n"[..], b"0123456789abcdef\r\n"] {
            assert_eq!(Secret::new(other), Ok(plain.clone()));
        }
        assert_eq!(plain.bytes(), b"0123456789abcdef");
        assert_eq!(
            Secret::new(b"0123456789abcde\n"),
            Err(SecretError::TooShort(15))
        );
    }

    #[test]
    fn it_does_not_show_itself() {
        let secret = Secret::new(b"0123456789abcdef").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
