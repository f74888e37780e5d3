//! What came of a backlog.

use std::fmt;

use serde::Serialize;

/// What the load backlog counts beside what all loads count.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Backlog {
    /// Name of the run, for `--run`.
    pub run: String,
    /// Messages that all queues together are to hold.
    pub messages: u64,
    /// Messages the broker acknowledged to the publishers.
    pub acked: u64,
    /// Seconds in which they were published; `None` without that part.
    pub fill_s: Option<f64>,
    /// Seconds from the first dial of the sessions until the last message had come; `None` without that part.
    pub drain_s: Option<f64>,
    /// Repetitions with DUP, which `QoS` 1 allows.
    pub repeated: u64,
    /// Sessions that were gone when their client came back. Any fails the run.
    pub session_lost: u64,
    /// Messages with another topic or payload than was sent. Any fails the run.
    pub altered: u64,
    /// The most memory that the `--pid` processes had since their start (`VmHWM`), in bytes.
    pub broker_peak_rss_bytes: Option<u64>,
    /// Why a part ended early.
    pub broken: Option<String>,
}

impl Backlog {
    /// Why the run failed, beyond what fails any run. `duplicated`: repetitions without DUP.
    pub(crate) fn failures(&self, duplicated: u64) -> impl Iterator<Item = String> {
        let missing = self.fill_s.map_or(0, |_| self.messages - self.acked);
        let counted = [
            (missing, "messages not acknowledged"),
            (duplicated, "repeated without DUP"),
            (self.session_lost, "sessions lost"),
            (self.altered, "messages altered"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, what)| format!("{count} {what}"));
        counted.chain(self.broken.clone())
    }

    /// Writes the lines of the summary. `faults`: lost, repeated without DUP, out of order.
    pub(crate) fn show(
        &self,
        (delivered, size): (u64, usize),
        faults: [u64; 3],
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let Self { run, messages, .. } = self;
        let rate = |count: u64, seconds: f64| count as f64 / seconds.max(0.001);
        writeln!(
            f,
            "  backlog    {messages} messages of {size} B, --run {run}"
        )?;
        if let Some(seconds) = self.fill_s {
            let (acked, rate) = (self.acked, rate(self.acked, seconds));
            writeln!(
                f,
                "  filled     {acked} acknowledged in {seconds:.1} s, {rate:.0}/s"
            )?;
        }
        if let Some(seconds) = self.drain_s {
            let rate = rate(delivered, seconds);
            writeln!(f, "  drained    {delivered} in {seconds:.1} s, {rate:.0}/s")?;
            let [lost, duplicated, reordered] = faults;
            writeln!(
                f,
                "  oracle     {lost} lost, {duplicated} repeated without DUP, {reordered} out of order, {} altered; \
                 {} repeated with DUP, {} sessions lost",
                self.altered, self.repeated, self.session_lost
            )?;
        }
        if let Some(peak) = self.broker_peak_rss_bytes {
            let mebibytes = peak as f64 / 1_048_576.0;
            writeln!(f, "  peak       broker {mebibytes:.1} MiB")?;
        }
        Ok(())
    }
}
