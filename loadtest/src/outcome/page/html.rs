//! HTML: what comes from outside is escaped here and nowhere else.

use std::fmt::Write as _;

use crate::outcome::text;

/// Text as HTML and as an attribute. Characters that no document may hold are shown as such.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars().map(text::printable) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Words.
    Words(&'static str),
    /// Figures, set to the right.
    Figures(&'static str),
}

/// A table; all its cells are plain text. The first cell of a row is its heading.
#[derive(Debug)]
pub(super) struct Table {
    html: String,
    columns: Vec<Column>,
}

impl Table {
    pub(super) fn new(caption: &str, columns: &[Column]) -> Self {
        let mut html = String::from("<div class=\"wide\"><table>\n");
        _ = writeln!(html, "<caption>{}</caption>\n<thead><tr>", escape(caption));
        for column in columns {
            _ = match column {
                Column::Words(name) => writeln!(html, "<th scope=\"col\">{}</th>", escape(name)),
                Column::Figures(name) => {
                    writeln!(html, "<th scope=\"col\" class=\"n\">{}</th>", escape(name))
                }
            };
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        let columns = columns.to_vec();
        Self { html, columns }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.marked_row("", cells);
    }

    /// A row of this class.
    pub(super) fn marked_row<const N: usize>(&mut self, class: &str, cells: &[String; N]) {
        debug_assert_eq!(self.columns.len(), N);
        let class = if class.is_empty() {
            String::new()
        } else {
            format!(" class=\"{class}\"")
        };
        _ = write!(self.html, "<tr{class}>");
        for (at, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
            let class = match column {
                Column::Words(_) => "",
                Column::Figures(_) => " class=\"n\"",
            };
            let (open, close) = if at == 0 {
                ("th scope=\"row\"", "th")
            } else {
                ("td", "td")
            };
            _ = write!(
                self.html,
                "<{open}{class}>{}</{close}>",
                escape(&text::short(cell))
            );
        }
        self.html.push_str("</tr>\n");
    }

    pub(super) fn end(self) -> String {
        self.html + "</tbody></table></div>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_only_text() {
        assert_eq!(
            escape("<script>\"&'\u{0}\u{202E}\n"),
            "&lt;script&gt;&quot;&amp;&#39;\u{FFFD}\u{FFFD} "
        );
    }

    #[test]
    fn a_table_names_its_rows_and_columns() {
        let mut table = Table::new("t", &[Column::Words("a"), Column::Figures("b")]);
        table.row(&["<x>".to_owned(), "1".to_owned()]);
        let html = table.end();
        assert!(html.contains("<th scope=\"col\" class=\"n\">b</th>"));
        assert!(html.contains("<tr><th scope=\"row\">&lt;x&gt;</th><td class=\"n\">1</td></tr>"));
    }
}
