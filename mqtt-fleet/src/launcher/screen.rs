//! Log lines, each with the name of its node before it, and the table of nodes: below the lines where a person
//! looks, or printed once at each change.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A node as the table shows it.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) group: Option<u8>,
    pub(super) state: String,
    pub(super) pid: Option<u32>,
    /// Where devices, links or clients of Redis connect.
    pub(super) address: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) restarts: u32,
}

/// Standard error, and standard output for the table where nobody looks.
pub(super) struct Screen {
    names: Vec<String>,
    /// A bar a row, drawn below the lines; only on a terminal.
    live: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl Screen {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<_> = names.map(ToOwned::to_owned).collect();
        let live = std::io::stderr().is_terminal().then(|| {
            let multi = MultiProgress::new();
            let style = ProgressStyle::with_template("{msg}").expect("a valid template");
            let bars = (0..=names.len()).map(|_| {
                let bar = multi.add(ProgressBar::no_length());
                bar.set_style(style.clone());
                bar
            });
            let bars = bars.collect();
            (multi, bars)
        });
        Self { names, live }
    }

    /// A line of a node.
    pub(super) fn line(&self, node: usize, line: &str) {
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let line = format!("{:<width$} | {line}", self.names[node]);
        match &self.live {
            // Drawing fails only with the terminal, and then there is nobody to tell.
            Some((multi, _)) => drop(multi.println(line)),
            // A fleet whose lines nobody reads any more runs on.
            None => drop(writeln!(std::io::stderr().lock(), "{line}")),
        }
    }

    /// Lines of our own.
    pub(super) fn say(&self, text: &str) {
        match &self.live {
            // As above.
            Some((multi, _)) => drop(multi.println(text)),
            None => print(&format!("{text}\n")),
        }
    }

    /// The table has changed.
    pub(super) fn table(&self, rows: &[Row]) {
        if self.live.is_some() {
            return self.redraw(rows);
        }
        let mut text = format!("{}\n", Row::HEADER);
        for row in rows {
            text += &row.to_string();
            text.push('\n');
        }
        print(&text);
    }

    /// Draws the table again where it is live.
    pub(super) fn redraw(&self, rows: &[Row]) {
        let Some((_, bars)) = &self.live else {
            return;
        };
        let texts = std::iter::once(Row::HEADER.to_owned()).chain(rows.iter().map(Row::to_string));
        for (bar, text) in bars.iter().zip(texts) {
            bar.set_message(text);
            bar.tick();
        }
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        let sentence = format!("mqtt-fleet: cannot write to standard output: {error}");
        // As for lines.
        drop(writeln!(std::io::stderr().lock(), "{sentence}"));
    }
}

impl Row {
    const HEADER: &str =
        "node        group  state     pid      memory    restarts  address           admin";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dash = || "-".to_owned();
        let group = self.group.map_or_else(dash, |group| group.to_string());
        let pid = self.pid.map_or_else(dash, |pid| pid.to_string());
        let memory = self
            .pid
            .and_then(resident_mib)
            .map_or_else(dash, |mib| format!("{mib:.1} MiB"));
        let address = self
            .address
            .map_or_else(dash, |address| address.to_string());
        let admin = self
            .admin
            .map_or_else(dash, |admin| format!("http://{admin}/"));
        write!(
            f,
            "{:<11} {group:<6} {:<9} {pid:<8} {memory:<9} {:<9} {address:<17} {admin}",
            self.name, self.state, self.restarts
        )
    }
}

/// Resident memory of a process; `None` where the system does not say.
fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}
