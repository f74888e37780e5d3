//! What a person reads when the broker is up.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use broker::log::Durability;

use crate::listen::DevicePorts;

/// The facts of the banner.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    pub(crate) mqtt: SocketAddr,
    /// As [`further_ports`] gives them.
    pub(crate) further_ports: String,
    pub(crate) admin: SocketAddr,
    pub(crate) data: &'a Path,
    pub(crate) durability: Durability,
    pub(crate) shards: usize,
}

impl Banner<'_> {
    /// Prints the banner to standard output. The broker also runs when nobody reads it.
    pub(crate) fn show(&self) {
        show_text(&self.to_string());
    }
}

/// A line for each port beside the first one.
pub(crate) fn further_ports(ports: &DevicePorts) -> String {
    let lines = ports.further().map(|(port, address)| {
        let tls = if port.tls { "with TLS" } else { "MQTT" };
        let whose = if port.proxy_protocol {
            " (behind a load balancer: PROXY protocol)"
        } else {
            ""
        };
        format!("  {tls:<13} {address}{whose}\n")
    });
    lines.collect()
}

/// Prints a start-up text to standard output.
pub(crate) fn show_text(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "the start-up text could not be written to standard output");
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.shards == 1 {
            "thread"
        } else {
            "threads"
        };
        writeln!(f, "mqtt-fleet {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            f,
            "  listening on  {} (MQTT 3.1, 3.1.1, 5; {} {threads})",
            self.mqtt, self.shards
        )?;
        f.write_str(&self.further_ports)?;
        match self.durability {
            Durability::Fsync => {
                writeln!(f, "  data          {}", self.data.display())?;
                writeln!(
                    f,
                    "  durability    fsync: an acknowledged message survives a power loss"
                )?;
            }
            Durability::Os => {
                writeln!(f, "  data          {}", self.data.display())?;
                writeln!(
                    f,
                    "  durability    os: an acknowledged message survives a crash of the broker;"
                )?;
                writeln!(
                    f,
                    "                a crash of the machine or a power loss can lose the last seconds"
                )?;
            }
            Durability::Memory => {
                writeln!(f, "  data          in memory only")?;
                writeln!(
                    f,
                    "  durability    memory: every message and session is lost when the broker stops"
                )?;
            }
        }
        writeln!(f, "  admin         http://{}/", reachable(self.admin))?;
        writeln!(f, "Try it:")?;
        let target = target(self.mqtt);
        writeln!(f, "  mosquitto_sub{target} -t 'test/#' -v")?;
        writeln!(f, "  mosquitto_pub{target} -t test/hello -m world -q 1")?;
        writeln!(f, "Ctrl-C stops it.")
    }
}

/// The options that make the mosquitto tools find `mqtt`; none for their default.
fn target(mqtt: SocketAddr) -> String {
    let reachable = reachable(mqtt);
    let host = match reachable.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => String::new(),
        ip => format!(" -h {ip}"),
    };
    if mqtt.port() == 1883 {
        host
    } else {
        format!("{host} -p {}", mqtt.port())
    }
}

/// An address that this machine can connect to: the unspecified one stands for all interfaces.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mqtt: &str, durability: Durability) -> String {
        let address = |text: &str| text.parse().expect("an address");
        Banner {
            mqtt: address(mqtt),
            further_ports: String::new(),
            admin: address("0.0.0.0:9883"),
            data: Path::new("./data"),
            durability,
            shards: 2,
        }
        .to_string()
    }

    #[test]
    fn the_lines_to_try_name_the_port_only_when_it_is_not_the_default() {
        assert!(text("127.0.0.1:1883", Durability::Fsync).contains("mosquitto_sub -t 'test/#' -v"));
        assert!(text("0.0.0.0:1884", Durability::Fsync).contains("mosquitto_sub -p 1884 -t"));
        assert!(text("[::1]:1883", Durability::Fsync).contains("mosquitto_pub -h ::1 -t"));
    }

    #[test]
    fn what_weaker_durability_loses_is_said() {
        assert!(text("127.0.0.1:1883", Durability::Memory).contains("lost when the broker stops"));
        assert!(text("127.0.0.1:1883", Durability::Os).contains("power loss can lose"));
        assert!(text("127.0.0.1:1883", Durability::Fsync).contains("survives a power loss"));
    }

    #[test]
    fn links_are_reachable_ones() {
        assert!(text("0.0.0.0:1883", Durability::Fsync).contains("http://127.0.0.1:9883/"));
    }
}
