//! A TOML text, its sections, and where mistakes stand in it.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// A text with the mistakes found in it so far.
pub(super) struct Text<'t> {
    file: &'t str,
    content: &'t str,
    mistakes: RefCell<Vec<(Range<usize>, String)>>,
}

/// A table of the text, with its name as complaints write it.
pub(super) struct Section<'t, 'd> {
    text: &'t Text<'t>,
    pub(super) name: String,
    /// Where it begins.
    pub(super) span: Range<usize>,
    entries: Option<&'d DeTable<'d>>,
    /// The keys that were asked for, which are those that may stand there.
    known: RefCell<Vec<&'static str>>,
}

/// A value as it was typed.
pub(super) struct Found<'t, 'd> {
    pub(super) text: &'t Text<'t>,
    /// Its key, with that of its section.
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) value: &'d DeValue<'d>,
}

impl<'t> Text<'t> {
    pub(super) fn new(file: &'t str, content: &'t str) -> Self {
        Self {
            file,
            content,
            mistakes: RefCell::default(),
        }
    }

    /// The text as a document; `None`, and a mistake, if it is no TOML.
    pub(super) fn document(&self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.content) {
            Ok(document) => Some(document),
            Err(error) => {
                let at = error.span().unwrap_or(0..0);
                self.complain(&at, error.message().replace('\n', ", "));
                None
            }
        }
    }

    /// Notes a mistake at `span`.
    pub(super) fn complain(&self, span: &Range<usize>, problem: impl Into<String>) {
        let mistake = (span.clone(), problem.into());
        self.mistakes.borrow_mut().push(mistake);
    }

    /// The mistakes in the order of their places.
    pub(super) fn finish(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|(span, _)| span.start);
        // What is looked at twice is wrong once.
        mistakes.dedup();
        let place = |(span, problem): (Range<usize>, String)| {
            let (line, column) = line_column(self.content, span.start);
            let file = self.file.to_owned();
            Mistake {
                file,
                line,
                column,
                problem,
            }
        };
        mistakes.into_iter().map(place).collect()
    }
}

impl<'t, 'd> Section<'t, 'd> {
    /// The document itself.
    pub(super) fn document(text: &'t Text<'t>, entries: &'d DeTable<'d>) -> Self {
        Self::new(text, String::new(), 0..0, Some(entries))
    }

    fn new(
        text: &'t Text<'t>,
        name: String,
        span: Range<usize>,
        entries: Option<&'d DeTable<'d>>,
    ) -> Self {
        let known = RefCell::default();
        Self {
            text,
            name,
            span,
            entries,
            known,
        }
    }

    /// Has `body` read it, and refuses the keys that it did not ask for.
    pub(super) fn read<T>(self, body: impl FnOnce(&Self) -> T) -> T {
        let value = body(&self);
        let known = self.known.take();
        for (name, _) in self.entries.into_iter().flatten() {
            let typed = name.get_ref().as_ref();
            if !known.contains(&typed) {
                let hint = hint(typed, known.iter().copied());
                let problem = format!("unknown key {}{hint}", self.path(typed));
                self.text.complain(&name.span(), problem);
            }
        }
        value
    }

    /// True where the file has it.
    pub(super) fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    /// The value under `key`, if there is one.
    pub(super) fn get(&self, key: &'static str) -> Option<Found<'t, 'd>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let value = self.entries?.get(key)?;
        Some(Found {
            text: self.text,
            key: self.path(key),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The same where there has to be one. `what` it says, for whoever has to add it.
    pub(super) fn need(&self, key: &'static str, what: &str) -> Option<Found<'t, 'd>> {
        let found = self.get(key);
        if found.is_none() {
            let key = self.path(key);
            self.complain(format!("{key} is missing: {what}"));
        }
        found
    }

    /// The section under `key`; an empty one if it is not there.
    pub(super) fn section(&self, key: &'static str) -> Section<'t, 'd> {
        let found = self.get(key);
        let section = found.and_then(|found| found.section());
        section.unwrap_or_else(|| Self::new(self.text, self.path(key), self.span.clone(), None))
    }

    /// The sections of the array under `key`; none if it is not there.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'t, 'd>> {
        self.get(key).map_or_else(Vec::new, |found| {
            let header = format!(
                "sections: for each a line [[{}]], its keys below it",
                found.key
            );
            found.sections(&header)
        })
    }

    /// Notes a mistake of the section as a whole.
    pub(super) fn complain(&self, problem: impl Into<String>) {
        self.text.complain(&self.span, problem);
    }

    /// Notes a mistake where `span` is.
    pub(super) fn complain_at(&self, span: &Range<usize>, problem: impl Into<String>) {
        self.text.complain(span, problem);
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

impl<'t, 'd> Found<'t, 'd> {
    /// Notes that it is not what is expected.
    pub(super) fn refuse(&self, expected: impl fmt::Display) {
        let typed = self.text.content.get(self.span.clone()).unwrap_or_default();
        let typed = typed.lines().next().unwrap_or_default();
        let problem = format!("{} = {typed}: expected {expected}", self.key);
        self.text.complain(&self.span, problem);
    }

    /// Notes that it makes no sense, in a sentence of its own.
    pub(super) fn complain(&self, problem: impl fmt::Display) {
        let problem = format!("{}: {problem}", self.key);
        self.text.complain(&self.span, problem);
    }

    /// It as a section.
    pub(super) fn section(&self) -> Option<Section<'t, 'd>> {
        if let DeValue::Table(entries) = self.value {
            let (name, span) = (self.key.clone(), self.span.clone());
            return Some(Section::new(self.text, name, span, Some(entries)));
        }
        let header = format!("a section: a line [{}], its keys below it", self.key);
        self.refuse(header);
        None
    }

    /// It as an array of sections; `expected` says how those are written.
    pub(super) fn sections(&self, expected: &str) -> Vec<Section<'t, 'd>> {
        let DeValue::Array(items) = self.value else {
            self.refuse(expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            if let DeValue::Table(entries) = item.get_ref() {
                let name = self.key.clone();
                sections.push(Section::new(self.text, name, item.span(), Some(entries)));
            } else {
                let problem = format!("{}: expected {expected}", self.key);
                self.text.complain(&item.span(), problem);
            }
        }
        sections
    }
}

/// What to add to "unknown ...": the nearest name, or all there are.
pub(super) fn hint<'n>(typed: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    // At most a third of the letters wrong: a likely slip.
    let near = known
        .clone()
        .map(|name| (strsim::osa_distance(typed, name), name));
    match near.min_by_key(|(wrong, _)| *wrong) {
        Some((wrong, name)) if wrong * 3 <= name.len() => format!("; did you mean {name}?"),
        Some(_) => format!("; there are: {}", known.collect::<Vec<_>>().join(", ")),
        None => String::new(),
    }
}

/// Line and column, both from 1, of the byte at `at`.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n');
    let line_start = line_start.map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    (line, column)
}
