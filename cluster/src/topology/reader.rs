//! Reading tables of a TOML text so that every complaint names its line and key.

use super::FileError;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A text with the mistakes found in it so far.
pub(super) struct Reader<'t> {
    path: &'t Path,
    text: &'t str,
    errors: Vec<FileError>,
}

/// A table of the text, with its name as complaints write it.
pub(super) struct Table<'d> {
    pub(super) name: String,
    /// Where it begins.
    pub(super) span: Range<usize>,
    entries: Option<&'d DeTable<'d>>,
}

/// A value as it was typed.
pub(super) struct Found<'d> {
    key: String,
    pub(super) span: Range<usize>,
    value: &'d DeValue<'d>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(path: &'t Path, text: &'t str) -> Self {
        Self {
            path,
            text,
            errors: Vec::new(),
        }
    }

    /// The text as a document; `None`, and an error, if it is no TOML.
    pub(super) fn document(&mut self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(document) => Some(document),
            Err(error) => {
                let at = error.span().unwrap_or(0..0);
                self.complain(&at, error.message().replace('\n', ", "));
                None
            }
        }
    }

    /// Notes a mistake at `span`.
    pub(super) fn complain(&mut self, span: &Range<usize>, problem: impl Into<String>) {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        self.errors.push(FileError {
            path: self.path.to_owned(),
            line: before.split(|byte| *byte == b'\n').count(),
            problem: problem.into(),
        });
    }

    /// Notes that `found` is not what is expected.
    pub(super) fn unexpected(&mut self, found: &Found<'_>, expected: impl fmt::Display) {
        let typed = self.text.get(found.span.clone()).unwrap_or_default();
        let typed = typed.lines().next().unwrap_or_default();
        let problem = format!("{} = {typed}: expected {expected}", found.key);
        self.complain(&found.span, problem);
    }

    /// The mistakes in the order of their lines.
    pub(super) fn finish(mut self) -> Vec<FileError> {
        self.errors.sort_by_key(|error| error.line);
        self.errors
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Complains about every key of `table` that is not in `known`.
    pub(super) fn only(&mut self, table: &Table<'_>, known: &[&str]) {
        for (name, _) in table.entries.into_iter().flatten() {
            if !known.contains(&name.get_ref().as_ref()) {
                let key = table.key(name.get_ref());
                let known = known.join(", ");
                let problem = format!("unknown key {key}; there are: {known}");
                self.complain(&name.span(), problem);
            }
        }
    }

    /// The table `name` below `table`; an empty one if it is not there.
    pub(super) fn table<'d>(&mut self, table: &Table<'d>, name: &str) -> Table<'d> {
        let empty = Table {
            name: table.key(name),
            span: table.span.clone(),
            entries: None,
        };
        let Some(found) = table.get(name) else {
            return empty;
        };
        if let DeValue::Table(entries) = found.value {
            return Table {
                name: found.key,
                span: found.span,
                entries: Some(entries),
            };
        }
        let header = format!("a section: a line [{}], its keys below it", empty.name);
        self.unexpected(&found, header);
        empty
    }

    /// The tables of the array `name` below `table`; none if it is not there.
    pub(super) fn tables<'d>(&mut self, table: &Table<'d>, name: &str) -> Vec<Table<'d>> {
        let Some(found) = table.get(name) else {
            return Vec::new();
        };
        let path = table.key(name);
        let DeValue::Array(items) = found.value else {
            let header = format!("sections: for each a line [[{path}]], its keys below it");
            self.unexpected(&found, header);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            if let DeValue::Table(entries) = item.get_ref() {
                tables.push(Table {
                    name: path.clone(),
                    span: item.span(),
                    entries: Some(entries),
                });
            } else {
                let header = format!("{path}: expected sections, each a line [[{path}]]");
                self.complain(&item.span(), header);
            }
        }
        tables
    }

    /// The text under `key`, if there is one.
    pub(super) fn text<'d>(
        &mut self,
        table: &Table<'d>,
        key: &str,
    ) -> Option<(&'d str, Found<'d>)> {
        let found = table.get(key)?;
        if let DeValue::String(text) = found.value {
            return Some((text.as_ref(), found));
        }
        self.unexpected(&found, "a text in quotes");
        None
    }

    /// What the text under `key` means; complains if it is not there or means nothing.
    pub(super) fn required<T>(&mut self, table: &Table<'_>, key: &str) -> Option<T>
    where
        T: std::str::FromStr<Err = &'static str>,
    {
        if table.get(key).is_none() {
            self.missing(table, key);
        }
        self.optional(table, key)
    }

    /// What the text under `key` means, if there is one; complains if it means nothing.
    pub(super) fn optional<T>(&mut self, table: &Table<'_>, key: &str) -> Option<T>
    where
        T: std::str::FromStr<Err = &'static str>,
    {
        let (text, found) = self.text(table, key)?;
        let parsed = text.parse();
        parsed
            .inspect_err(|expected| self.unexpected(&found, expected))
            .ok()
    }

    pub(super) fn missing(&mut self, table: &Table<'_>, key: &str) {
        self.complain(&table.span, format!("{} is missing", table.key(key)));
    }

    /// The whole number under `key` within bounds, if there is one.
    pub(super) fn whole(
        &mut self,
        table: &Table<'_>,
        key: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let found = table.get(key)?;
        let number = match found.value {
            DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|n| bounds.contains(n));
        if number.is_none() {
            let (min, max) = bounds.into_inner();
            self.unexpected(&found, format_args!("a whole number from {min} to {max}"));
        }
        number
    }
}

impl<'d> Table<'d> {
    /// The document itself.
    pub(super) fn document(entries: &'d DeTable<'d>) -> Self {
        Self {
            name: String::new(),
            span: 0..0,
            entries: Some(entries),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Found<'d>> {
        let value = self.entries?.get(key)?;
        Some(Found {
            key: self.key(key),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}
