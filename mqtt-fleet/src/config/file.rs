//! Reading the configuration file.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, nearest};
use super::keys::{self, KEYS};
use super::typed::{Origin, Typed};
use super::value::Kind;

/// Reads the file; adds every mistake to `errors` and returns what was readable.
pub(super) fn read(path: &Path, errors: &mut Vec<ConfigError>) -> Typed {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, errors),
        Err(source) => {
            errors.push(ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            });
            Typed::nothing()
        }
    }
}

/// The same for a text that stands in `path`.
pub(super) fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Typed {
    let mut reader = Reader {
        path,
        text,
        errors,
        typed: Typed::nothing(),
    };
    match DeTable::parse(text) {
        Ok(document) => reader.document(document.get_ref()),
        Err(error) => {
            let (line, column) = line_column(text, error.span().map_or(0, |span| span.start));
            let problem = error.message().replace('\n', ", ");
            reader.errors.push(ConfigError::Syntax {
                path: path.to_owned(),
                line,
                column,
                problem,
            });
        }
    }
    reader.typed
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
    typed: Typed,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (section, content) in document {
            let name = section.get_ref().as_ref();
            if !KEYS.iter().any(|key| key.section == name) {
                self.unknown_at_top(name, section.span());
            } else if let DeValue::Table(table) = content.get_ref() {
                self.section(name, table);
            } else {
                self.errors.push(ConfigError::BadValue {
                    origin: self.origin(&section.span()),
                    key: name.to_owned(),
                    typed: self.text[content.span()].to_owned(),
                    allowed: format!("a section: a line [{name}], its keys below it"),
                });
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            match keys::position(section, name.get_ref()) {
                Some(position) => self.value(position, value),
                None => self.unknown_key(section, name.get_ref(), name.span()),
            }
        }
    }

    fn value(&mut self, position: usize, value: &Spanned<DeValue<'_>>) {
        let key = &KEYS[position];
        let origin = self.origin(&value.span());
        match key.kind.parse_toml(value.get_ref()) {
            Some(value) => self.typed.set(position, value, origin),
            None => self.errors.push(ConfigError::BadValue {
                origin,
                key: key.path(),
                typed: match key.kind {
                    Kind::Secret => "(not shown)".to_owned(),
                    _ => self.text[value.span()].to_owned(),
                },
                allowed: key.kind.allowed(),
            }),
        }
    }

    fn unknown_key(&mut self, section: &str, name: &str, span: Range<usize>) {
        // The name may be right and only stand in the wrong section.
        let elsewhere = KEYS
            .iter()
            .find(|key| key.name == name)
            .map(keys::Key::path);
        let typed = format!("{section}.{name}");
        let suggestion = elsewhere.or_else(|| nearest(&typed, KEYS.iter().map(keys::Key::path)));
        let origin = self.origin(&span);
        self.errors.push(ConfigError::Unknown {
            origin,
            what: "key",
            name: typed,
            suggestion,
        });
    }

    /// A section that does not exist, or a key that stands before the first section.
    fn unknown_at_top(&mut self, name: &str, span: Range<usize>) {
        let origin = self.origin(&span);
        let key = KEYS.iter().find(|key| key.name == name);
        let (what, suggestion) = match key {
            Some(key) => ("key", Some(key.path())),
            None => (
                "section",
                nearest(name, KEYS.iter().map(|key| key.section.to_owned())),
            ),
        };
        let name = name.to_owned();
        self.errors.push(ConfigError::Unknown {
            origin,
            what,
            name,
            suggestion,
        });
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let (line, _) = line_column(self.text, span.start);
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }
}

/// Line and column, both from 1, of the byte at `at`.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |n| n + 1);
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    (line, column)
}
