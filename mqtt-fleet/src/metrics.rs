//! The list of figures that `/metrics` shows.
//!
//! The parts of the broker count in plain atomic integers of their own and know nothing of this
//! module. Here each figure gets a name, an explanation and a function that reads it; nothing is
//! copied until somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Reads one figure now. Called on the admin thread; must not block.
pub(crate) type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// A figure of a block: name, explanation, value.
pub(crate) type Figure = (&'static str, &'static str, u64);

/// Every figure of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    families: Vec<Family>,
    blocks: Vec<Block>,
}

/// Many figures that one part of the broker lists itself.
pub(crate) struct Block {
    /// Goes before each name.
    prefix: &'static str,
    /// Names (without the prefix) that go up and down; the others count up.
    gauges: &'static [&'static str],
    /// Names (without the prefix) that stand on the page for people, with their titles there.
    titles: &'static [(&'static str, &'static str)],
    read: Box<dyn Fn() -> Vec<Figure> + Send + Sync>,
}

/// One named figure.
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: Read,
    /// What the page for people calls it, if it stands there.
    title: Option<&'static str>,
}

impl Metrics {
    /// Adds a count that only grows. `name` goes without the `_total` that Prometheus wants at its
    /// end: the encoder adds it.
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> &mut Family {
        self.family(name, help, MetricType::Counter, Box::new(read))
    }

    /// Adds a figure that goes up and down.
    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> &mut Family {
        self.family(name, help, MetricType::Gauge, Box::new(read))
    }

    /// Adds all figures that `read` lists, each time anew: for parts that name and explain their
    /// own counters. `read` must always list the same names.
    pub(crate) fn block(
        &mut self,
        prefix: &'static str,
        gauges: &'static [&'static str],
        titles: &'static [(&'static str, &'static str)],
        read: impl Fn() -> Vec<Figure> + Send + Sync + 'static,
    ) {
        self.blocks.push(Block {
            prefix,
            gauges,
            titles,
            read: Box::new(read),
        });
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        read: Read,
    ) -> &mut Family {
        debug_assert!(
            self.families.iter().all(|family| family.name != name),
            "{name} twice"
        );
        self.families.push(Family {
            name,
            help,
            kind,
            read,
            title: None,
        });
        self.families.last_mut().expect("pushed in the line above")
    }

    /// Closes the list.
    pub(crate) fn publish(self) -> Exposition {
        let figures = Figures(Arc::new(self));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(figures.clone()));
        Exposition { figures, registry }
    }
}

impl Family {
    /// Shows the figure on the page for people under this title.
    pub(crate) fn titled(&mut self, title: &'static str) {
        self.title = Some(title);
    }

    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        encode_one(self.kind, (self.read)(), encoder)
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The closed list, ready to be read any number of times.
#[derive(Debug)]
pub(crate) struct Exposition {
    figures: Figures,
    registry: Registry,
}

impl Exposition {
    /// All figures in the text format of Prometheus.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The figures of the page for people: title and value.
    pub(crate) fn key_figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let metrics = &self.figures.0;
        let families = metrics.families.iter();
        let single = families.filter_map(|family| Some((family.title?, (family.read)())));
        single.chain(metrics.blocks.iter().flat_map(Block::key_figures))
    }
}

#[derive(Clone, Debug)]
struct Figures(Arc<Metrics>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0.families {
            let metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            family.encode(metric)?;
        }
        for block in &self.0.blocks {
            block.encode(&mut encoder)?;
        }
        Ok(())
    }
}

impl Block {
    fn key_figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let title = |name| self.titles.iter().find(|(titled, _)| *titled == name);
        let figures = (self.read)().into_iter();
        figures.filter_map(move |(name, _, value)| title(name).map(|(_, title)| (*title, value)))
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in (self.read)() {
            let kind = if self.gauges.contains(&name) {
                MetricType::Gauge
            } else {
                MetricType::Counter
            };
            let name = format!("{}{name}", self.prefix);
            encode_one(
                kind,
                value,
                encoder.encode_descriptor(&name, help, None, kind)?,
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix)
    }
}

fn encode_one(kind: MetricType, figure: u64, encoder: MetricEncoder<'_>) -> fmt::Result {
    match kind {
        MetricType::Counter => ConstCounter::new(figure).encode(encoder),
        _ => ConstGauge::new(figure).encode(encoder),
    }
}

/// Figures of several threads added up by name: `threads` are lists of the same names.
pub(crate) fn summed(threads: impl Iterator<Item = Vec<Figure>>) -> Vec<Figure> {
    let add = |mut sums: Vec<Figure>, one: Vec<Figure>| {
        for (sum, figure) in sums.iter_mut().zip(one) {
            debug_assert_eq!(sum.0, figure.0, "the lists have the same names");
            sum.2 += figure.2;
        }
        sums
    };
    threads.reduce(add).unwrap_or_default()
}

/// Adds the figures of the process itself, as the operating system tells them.
pub(crate) fn add_process(metrics: &mut Metrics) {
    let started = std::time::Instant::now();
    metrics
        .gauge(
            "mqtt_fleet_uptime_seconds",
            "Seconds since the start of the process",
            move || started.elapsed().as_secs(),
        )
        .titled("Uptime, s");
    metrics
        .gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process",
            resident_bytes,
        )
        .titled("Resident memory, bytes");
    metrics.gauge(
        "process_open_fds",
        "Open file descriptors",
        open_descriptors,
    );
    metrics.gauge("process_max_fds", "Limit of open file descriptors", || {
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft)
    });
    metrics.counter(
        "process_cpu_milliseconds",
        "CPU time, user and system",
        cpu_milliseconds,
    );
}

/// `VmRSS` of this process; 0 where the system has no `/proc`.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .map_or(0, |kib: u64| kib * 1024)
}

fn open_descriptors() -> u64 {
    // Less one: the folder that is being read.
    std::fs::read_dir("/proc/self/fd").map_or(0, |fds| (fds.count() as u64).saturating_sub(1))
}

fn cpu_milliseconds() -> u64 {
    // Linux shows these times in units of 1/100 s to every process (USER_HZ).
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process, in brackets, may hold anything; fields are counted behind it.
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let user_and_system = fields.skip(11).take(2);
    user_and_system
        .map(|ticks| ticks.parse::<u64>().unwrap_or(0))
        .sum::<u64>()
        * TICK_MS
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn figures_are_read_when_asked() {
        let count = Arc::new(AtomicU64::new(41));
        let read = Arc::clone(&count);
        let mut metrics = Metrics::default();
        metrics
            .counter("fleet_publishes", "Publishes", move || {
                read.load(Ordering::Relaxed)
            })
            .titled("Publishes");
        metrics.gauge("fleet_clients", "Connected clients", || 7);
        metrics.block("fleet_", &["open"], &[("open", "Open")], || {
            summed((0..3).map(|thread| vec![("open", "Open now", thread), ("bytes", "Bytes", 5)]))
        });
        let exposition = metrics.publish();
        count.fetch_add(1, Ordering::Relaxed);
        let text = exposition.text().expect("a String takes everything");
        for line in [
            "# HELP fleet_publishes Publishes",
            "# TYPE fleet_publishes counter",
            "fleet_publishes_total 42",
            "# TYPE fleet_clients gauge",
            "fleet_clients 7",
            "# TYPE fleet_open gauge",
            "fleet_open 3",
            "# HELP fleet_bytes Bytes",
            "fleet_bytes_total 15",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "no line {line:?} in\n{text}"
            );
        }
        assert_eq!(
            exposition.key_figures().collect::<Vec<_>>(),
            [("Publishes", 42), ("Open", 3)]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_knows_itself() {
        assert!(resident_bytes() > 100 << 10);
        assert!(open_descriptors() >= 3);
        let busy_until = cpu_milliseconds() + 20;
        let mut spun = 0_u64;
        while cpu_milliseconds() < busy_until {
            spun += 1;
        }
        assert!(spun > 0);
    }
}
