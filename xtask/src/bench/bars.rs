//! A table of bars, each with what was seen.

use std::io::{self, Write as _};

/// Bars so far.
pub(super) struct Bars {
    missed: Vec<String>,
}

impl Bars {
    /// Begins the table.
    pub(super) fn new() -> Self {
        println!("| what | seen | bar | holds |\n|---|---|---|---|");
        Self { missed: Vec::new() }
    }

    /// A figure without a bar.
    pub(super) fn note(what: &str, seen: &str) -> io::Result<()> {
        println!("| {what} | {seen} | | |");
        io::stdout().flush()
    }

    /// A figure and whether it is as it must be.
    pub(super) fn check(
        &mut self,
        what: &str,
        seen: &str,
        bar: &str,
        holds: bool,
    ) -> io::Result<()> {
        println!(
            "| {what} | {seen} | {bar} | {} |",
            if holds { "yes" } else { "NO" }
        );
        if !holds {
            self.missed
                .push(format!("{what}: {seen}, and the bar is {bar}"));
        }
        io::stdout().flush()
    }

    /// Fails if any was missed.
    pub(super) fn verdict(self) -> io::Result<()> {
        if self.missed.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(self.missed.join("; ")))
    }
}
