//! The ports that devices connect to, themselves or through a load balancer.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::typed::{Origin, Typed};

/// Section and name of a key.
type Place = (&'static str, &'static str);

/// A port that is to be listened on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevicePort {
    /// Its address. Beyond loopback only with leave, or with TLS for clients with certificates.
    pub(crate) address: SocketAddr,
    /// With TLS.
    pub(crate) tls: bool,
    /// Connections come from a load balancer that says whose they are.
    pub(crate) proxy_protocol: bool,
    /// The configuration key it comes from.
    pub(crate) key: &'static str,
    /// The flag or variable it can come from.
    pub(crate) flag: &'static str,
    place: Place,
}

/// All ports that are configured, that of `listen.mqtt` first.
pub(super) fn from_typed(typed: &Typed) -> Result<Vec<DevicePort>, Vec<ConfigError>> {
    let port = |place: Place, key, flag, proxy_protocol| {
        let (section, name) = place;
        let address = typed.address_or_none(section, name)?;
        Some(DevicePort {
            address,
            tls: section == "tls",
            proxy_protocol,
            key,
            flag,
            place,
        })
    };
    let is_behind = |section| typed.switch(section, "proxy_protocol");
    let (plain, tls) = (is_behind("listen"), is_behind("tls"));
    let ports = [
        port(("listen", "mqtt"), "listen.mqtt", "--listen", plain),
        port(
            ("listen", "balancer"),
            "listen.balancer",
            "MQTT_FLEET_LISTEN__BALANCER",
            true,
        ),
        port(
            ("tls", "listen"),
            "tls.listen",
            "MQTT_FLEET_TLS__LISTEN",
            tls,
        ),
        port(
            ("tls", "balancer"),
            "tls.balancer",
            "MQTT_FLEET_TLS__BALANCER",
            true,
        ),
    ];
    let ports: Vec<_> = ports.into_iter().flatten().collect();
    let errors = conflicts(&ports, typed);
    if errors.is_empty() {
        Ok(ports)
    } else {
        Err(errors)
    }
}

impl DevicePort {
    /// A mistake in what is said of this port.
    pub(super) fn conflict(&self, typed: &Typed, problem: String) -> ConfigError {
        conflict(typed, self.place, problem)
    }

    /// Why it must not be open to other machines, if it is.
    fn exposure(&self, typed: &Typed) -> Option<String> {
        let known = typed.switch("listen", "allow_anonymous")
            || self.tls && typed.choice("tls", "client_certificates") == "required";
        if self.address.ip().is_loopback() || known {
            return None;
        }
        let Self { key, address, .. } = self;
        let instead = if self.tls {
            "demand certificates (tls.client_certificates = \"required\") or say --allow-anonymous \
             (listen.allow_anonymous = true)"
        } else {
            "if that is meant, say --allow-anonymous (or listen.allow_anonymous = true), else listen on 127.0.0.1"
        };
        Some(format!(
            "{key} = \"{address}\" can be reached from other machines, and clients are not authenticated; {instead}"
        ))
    }
}

fn conflicts(ports: &[DevicePort], typed: &Typed) -> Vec<ConfigError> {
    let exposed = ports.iter().filter_map(|port| {
        let problem = port.exposure(typed)?;
        Some(conflict(typed, port.place, problem))
    });
    let mut errors: Vec<_> = exposed.collect();
    let mut taken: Vec<(Place, SocketAddr)> = Vec::new();
    let admin = (("listen", "admin"), typed.address("listen", "admin"));
    let places = ports.iter().map(|port| (port.place, port.address));
    for (place, address) in places.chain([admin]) {
        let same = taken.iter().find(|(_, other)| *other == address);
        if let Some((other, _)) = same.filter(|_| address.port() != 0) {
            let [(section, name), (others, others_name)] = [place, *other];
            let problem = format!(
                "{section}.{name} and {others}.{others_name} are both \"{address}\"; they need different ports"
            );
            // Where somebody wrote it.
            let is_default = *typed.origin(section, name) == Origin::Default;
            let place = if is_default { *other } else { place };
            errors.push(conflict(typed, place, problem));
        }
        taken.push((place, address));
    }
    errors
}

fn conflict(typed: &Typed, (section, name): Place, problem: String) -> ConfigError {
    let origin = typed.origin(section, name).clone();
    ConfigError::Conflict { origin, problem }
}
