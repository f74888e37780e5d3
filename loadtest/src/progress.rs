//! What a person sees while it runs: a line that renews itself on a terminal, else one every two
//! seconds.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::crew::Counts;

/// The progress line.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    every: Duration,
    endures: bool,
    what: &'static str,
    last: (Instant, Counts),
    /// endure: the longest time without service since the last line.
    gap: Duration,
}

impl Progress {
    /// Starts with the step `what`. Where stderr is no terminal there is a line each
    /// `line_every`; `endures` adds what matters across crashes.
    pub(crate) fn new(what: &'static str, line_every: Duration, endures: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} [{elapsed}] {msg}");
            bar.with_style(style.expect("the template is well-formed"))
        });
        let every = if bar.is_some() {
            Duration::from_millis(200)
        } else {
            line_every
        };
        Self {
            bar,
            every,
            endures,
            what,
            last: (Instant::now(), Counts::default()),
            gap: Duration::ZERO,
        }
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &'static str) {
        self.what = what;
    }

    /// Shows where things are, not more often than is of use. `gap` is the longest time without service since the
    /// last call.
    pub(crate) fn show(&mut self, counts: Counts, gap: Duration) {
        self.gap = self.gap.max(gap);
        let (then, before) = self.last;
        let passed = then.elapsed();
        if passed < self.every {
            return;
        }
        let rate = (counts.delivered - before.delivered) as f64 / passed.as_secs_f64();
        let connects = (counts.connects - before.connects) as f64 / passed.as_secs_f64();
        let mut line = format!(
            "{}: {} connections ({connects:.0}/s), {} sent, {} delivered ({rate:.0}/s)",
            self.what, counts.live, counts.sent, counts.delivered
        );
        if self.endures {
            let Counts {
                reconnects,
                owed,
                faults,
                ..
            } = counts;
            let gap = std::mem::take(&mut self.gap).as_secs_f64();
            write!(
                line,
                ", {owed} owed, {reconnects} reconnects, {faults} faults, longest gap {gap:.3} s"
            )
            .expect("writing to a String cannot fail");
        }
        self.last = (Instant::now(), counts);
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }

    /// Removes the line.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
