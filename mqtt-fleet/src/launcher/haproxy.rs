//! The configuration of a fleet's HAProxy: the one of `deploy/`, with the fleet's addresses.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// For proxies with TLS, with two of them and their addresses as variables of the environment.
const DEPLOYED: &str = include_str!("../../../deploy/haproxy/haproxy.cfg");

/// A port that devices connect to, and where its connections go.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) bind: SocketAddr,
    /// What passes through is TLS.
    pub(super) tls: bool,
    pub(super) servers: Vec<Server>,
}

/// A proxy of the fleet.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    /// Its port for load balancers.
    pub(super) address: SocketAddr,
    /// Where it says whether it is ready.
    pub(super) admin_port: u16,
}

/// The text for these ports, with its own figures and health at `figures`.
pub(super) fn configuration(fronts: &[Front], figures: SocketAddr) -> String {
    let parts = parts(DEPLOYED).expect("deploy/haproxy/haproxy.cfg has all sections (tested)");
    let mut text = parts.common.to_owned();
    for front in fronts {
        text += &adapted(parts.service, front);
    }
    // All ports have the same servers, so any of them says whether there are some.
    let any_tls = fronts.iter().any(|front| front.tls);
    text + &bound(&renamed(parts.figures, any_tls), figures)
}

struct Parts<'a> {
    /// `global` and `defaults`.
    common: &'a str,
    /// The frontend for devices and its backend.
    service: &'a str,
    figures: &'a str,
}

fn parts(deployed: &str) -> Option<Parts<'_>> {
    let common = &deployed[deployed.find("\nglobal\n")? + 1..];
    let (common, service) = common.split_at(common.find("frontend mqtts\n")?);
    let (service, figures) = service.split_at(service.find("frontend figures\n")?);
    Some(Parts {
        common,
        service,
        figures,
    })
}

/// What is called after TLS where there is none.
fn renamed(text: &str, tls: bool) -> String {
    let name = if tls { "mqtts" } else { "mqtt" };
    text.replace("mqtts", name)
}

/// Listens at this address instead.
fn bound(text: &str, at: SocketAddr) -> String {
    let line = |line: &str| {
        if line.trim_start().starts_with("bind ") {
            format!("    bind {at}\n")
        } else {
            format!("{line}\n")
        }
    };
    text.lines().map(line).collect()
}

/// The same for another port and other servers, which stand where the first one stood.
fn adapted(service: &str, front: &Front) -> String {
    let mut servers = String::new();
    for Server {
        name,
        address,
        admin_port,
    } in &front.servers
    {
        writeln!(servers, "    server {name} {address} port {admin_port}")
            .expect("writing to a String cannot fail");
    }
    let mut text = String::new();
    for line in bound(&renamed(service, front.tls), front.bind).lines() {
        if line.trim_start().starts_with("server ") {
            text += &std::mem::take(&mut servers);
        } else {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    /// With so many servers, `proxy-1` at 10.0.0.1 and so on.
    fn front(bind: &str, tls: bool, servers: u8, port: u16) -> Front {
        let server = |n: u8| Server {
            name: format!("proxy-{n}"),
            address: SocketAddr::from(([10, 0, 0, n], port)),
            admin_port: 9883,
        };
        Front {
            bind: at(bind),
            tls,
            servers: (1..=servers).map(server).collect(),
        }
    }

    /// Variables of the environment, `"${NAME-DEFAULT}"`, replaced by their defaults.
    fn with_defaults(text: &str) -> String {
        let mut pieces = text.split("\"${");
        let mut plain = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (variable, rest) = piece.split_once("}\"").expect("closed");
            plain += variable.split_once('-').expect("a default").1;
            plain += rest;
        }
        plain
    }

    #[test]
    fn for_the_deployed_addresses_it_is_the_deployed_file() {
        let fronts = [front("0.0.0.0:8883", true, 2, 8883)];
        let ours = configuration(&fronts, at("127.0.0.1:8404"));
        let (_, deployed) = DEPLOYED.split_once("\n\n").expect("a head and sections");
        assert_eq!(ours, with_defaults(deployed));
    }

    #[test]
    fn every_port_has_its_servers() {
        let fronts = [
            front("127.0.0.1:1883", false, 3, 1884),
            front("127.0.0.1:8883", true, 3, 8884),
        ];
        let text = configuration(&fronts, at("127.0.0.1:8404"));
        for line in [
            "\nfrontend mqtt\n    bind 127.0.0.1:1883\n",
            "default_backend mqtt-proxies\n",
            "\nbackend mqtt-proxies\n",
            "    server proxy-3 10.0.0.3:1884 port 9883\n",
            "\nfrontend mqtts\n    bind 127.0.0.1:8883\n",
            "\nbackend mqtts-proxies\n",
            "    server proxy-3 10.0.0.3:8884 port 9883\n",
            "bind 127.0.0.1:8404\n",
            "nbsrv(mqtts-proxies)",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line:?} in\n{text}");
        }
        assert_eq!(text.matches("\n    server ").count(), 6);
        assert!(!text.contains("${"), "{text}");
        let plain = configuration(&fronts[..1], at("127.0.0.1:8404"));
        assert!(
            plain.contains("nbsrv(mqtt-proxies)") && !plain.contains("mqtts"),
            "{plain}"
        );
    }
}
