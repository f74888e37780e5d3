//! `report.html`: one page that needs nothing else, readable on screens and on paper, with scripts off.
//!
//! | module     | what it holds                                        |
//! |------------|------------------------------------------------------|
//! | `sections` | header and tables                                    |
//! | `panels`   | which plots there are                                |
//! | `plot`     | one plot                                             |
//! | `axis`     | ends and marks of axes                               |
//! | `ink`      | colours by name                                      |
//! | `html`     | escaping, tables                                     |
//!
//! `style.css` has all looks. `readout.js` shows figures under the pointer, and nothing depends on it.

mod axis;
mod html;
mod ink;
mod panels;
mod plot;
mod sections;

use std::fmt::Write as _;

use super::Outcome;

const STYLE: &str = include_str!("style.css");
const READOUT: &str = include_str!("readout.js");

impl Outcome {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let title = html::escape(&format!("{}: {}", self.scenario, self.verdict()));
        let mut page = String::with_capacity(256 * 1024);
        _ = write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        );
        page.push_str(&sections::header(self));
        page.push_str("<main>\n");
        let parts = [
            (
                "verdict",
                "Verdict",
                sections::checks(self) + &sections::phases(self),
            ),
            ("time", "Over time", self.plots()),
            (
                "messages",
                "Messages and connections",
                sections::messages(self),
            ),
            ("latencies", "Latencies", sections::latencies(self)),
            ("findings", "Findings", sections::findings(self)),
            ("failures", "Errors", sections::errors(self)),
            ("resources", "Memory and CPU", sections::resources(self)),
        ];
        for (id, heading, content) in parts.iter().filter(|(_, _, content)| !content.is_empty()) {
            _ = writeln!(
                page,
                "<section id=\"{id}\">\n<h2>{heading}</h2>\n{content}</section>"
            );
        }
        _ = write!(
            page,
            "</main>\n<footer><p>1 kB is 1,000 bytes. Times on the axes are run time, minutes and seconds. The same \
             figures for machines: <code>report.json</code>.</p></footer>\n<script>\n{READOUT}</script>\n</body>\n</html>\n"
        );
        page
    }

    fn plots(&self) -> String {
        if self.series.is_empty() {
            return "<p>The run has no figures over time.</p>\n".to_owned();
        }
        let frame = panels::frame(self);
        let figures = panels::plots(self)
            .into_iter()
            .map(|plot| plot.figure(&frame));
        format!(
            "<div class=\"plots\">\n{}</div>\n",
            figures.collect::<String>()
        )
    }
}
