//! What happens in a world, line by line: hashed always, kept or printed when somebody wants to read it.

use std::fmt::{self, Write as _};
use xxhash_rust::xxh3::Xxh3;

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// They are hashed and forgotten.
    Hashed,
    /// They are kept as well.
    Kept,
    /// They are printed as well.
    Printed,
}

pub(crate) struct Trace {
    hash: Xxh3,
    count: u64,
    lines: Lines,
    kept: Vec<String>,
}

struct Into<'a>(&'a mut Xxh3);

impl fmt::Write for Into<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(lines: Lines) -> Self {
        Self {
            hash: Xxh3::new(),
            count: 0,
            lines,
            kept: Vec::new(),
        }
    }

    /// Notes one line; `now` in microseconds of the world.
    pub(crate) fn say(&mut self, now: u64, what: fmt::Arguments<'_>) {
        self.count += 1;
        let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
        match self.lines {
            Lines::Hashed => {
                self.hash.update(&now.to_le_bytes());
                write!(Into(&mut self.hash), "{what}").expect("a hash takes everything");
            }
            Lines::Kept | Lines::Printed => {
                let text = what.to_string();
                self.hash.update(&now.to_le_bytes());
                self.hash.update(text.as_bytes());
                let line = format!("{seconds:4}.{micros:06}  {text}");
                if self.lines == Lines::Printed {
                    println!("{line}");
                }
                self.kept.push(line);
            }
        }
    }

    /// Bytes that count but are nothing to read.
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.kept
    }
}
