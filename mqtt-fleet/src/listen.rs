//! The listening sockets. Addresses are reserved first and opened later: a port that is taken is
//! found before the log is replayed, and no client gets in before it has been.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use proxy::shard::ListenerConfig;
use proxy::tls::TlsAcceptor;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{DevicePort, Settings};

/// Connections that the kernel keeps for one listener until it is accepted; the kernel lowers it
/// to `net.core.somaxconn`. Large, because a whole fleet comes back at once after a network fault.
const BACKLOG: i32 = 4_096;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody else has it.
    #[error(
        "{address} is in use by another process; choose another address with {flag} (configuration key {key})"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The configuration key that says it.
        key: &'static str,
        /// The flag that says it.
        flag: &'static str,
    },
    /// Anything else: not an address of this machine, a port that needs privileges.
    #[error("cannot listen on {address} (configuration key {key}): {source}")]
    Unusable {
        /// The address.
        address: SocketAddr,
        /// The configuration key that says it.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// One address of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The address; port 0 lets the kernel choose.
    pub(crate) address: SocketAddr,
    /// The configuration key it comes from.
    pub(crate) key: &'static str,
    /// The flag it can come from.
    pub(crate) flag: &'static str,
}

impl Place {
    /// Binds `listeners` sockets (at least one) to the address, without listening yet.
    pub(crate) fn reserve(self, listeners: usize) -> Result<Reserved, ListenError> {
        self.reserve_io(listeners)
            .map_err(|source| self.error(source))
    }

    fn reserve_io(self, listeners: usize) -> io::Result<Reserved> {
        // Sockets with SO_REUSEPORT share a port with those of any other process of this user, a
        // second broker included. So the first bind is made without it: it fails if anybody
        // listens here. (SO_REUSEADDR only forgives connections in TIME_WAIT.)
        let probe = socket(self.address)?;
        probe.bind(&self.address.into())?;
        let bound = probe.local_addr()?.as_socket().unwrap_or(self.address);
        drop(probe);
        let mut sockets = Vec::with_capacity(listeners.max(1));
        for _ in 0..listeners.max(1) {
            let socket = socket(bound)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound.into())?;
            sockets.push(socket);
        }
        Ok(Reserved {
            place: Self {
                address: bound,
                ..self
            },
            sockets,
        })
    }

    fn error(self, source: io::Error) -> ListenError {
        let Self { address, key, flag } = self;
        if source.kind() == io::ErrorKind::AddrInUse {
            ListenError::InUse { address, key, flag }
        } else {
            ListenError::Unusable {
                address,
                key,
                source,
            }
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Sockets bound to an address. Clients are refused until [`Reserved::open`].
#[derive(Debug)]
pub(crate) struct Reserved {
    place: Place,
    sockets: Vec<Socket>,
}

impl Reserved {
    /// The address, its port chosen by the kernel if 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Starts listening on every socket. They are non-blocking and share the load of new
    /// connections (`SO_REUSEPORT`).
    pub(crate) fn open(self) -> Result<Vec<TcpListener>, ListenError> {
        let place = self.place;
        self.open_io().map_err(|source| place.error(source))
    }

    fn open_io(self) -> io::Result<Vec<TcpListener>> {
        let open = |socket: Socket| {
            socket.set_nonblocking(true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        self.sockets.into_iter().map(open).collect()
    }
}

/// The ports that devices connect to.
#[derive(Debug)]
pub(crate) struct DevicePorts {
    /// That of `listen.mqtt` first.
    ports: Vec<(DevicePort, Reserved)>,
    tls: Option<Arc<TlsAcceptor>>,
}

impl DevicePorts {
    /// Binds a socket for each shard to each port.
    pub(crate) fn reserve(settings: &Settings) -> Result<Self, ListenError> {
        let reserve = |port: &DevicePort| {
            let place = Place {
                address: port.address,
                key: port.key,
                flag: port.flag,
            };
            Ok((*port, place.reserve(settings.shards)?))
        };
        Ok(Self {
            ports: settings
                .ports
                .iter()
                .map(reserve)
                .collect::<Result<_, _>>()?,
            tls: settings.tls.clone(),
        })
    }

    /// The address of the plain port.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.ports[0].1.address()
    }

    /// The ports beside the plain one, and their addresses.
    pub(crate) fn further(&self) -> impl Iterator<Item = (&DevicePort, SocketAddr)> {
        let further = self.ports.iter().skip(1);
        further.map(|(port, reserved)| (port, reserved.address()))
    }

    /// Starts listening. One list for each shard.
    pub(crate) fn open(self) -> Result<Vec<Vec<ListenerConfig>>, ListenError> {
        let mut shards: Vec<Vec<_>> = Vec::new();
        for (port, reserved) in self.ports {
            let sockets = reserved.open()?;
            shards.resize_with(sockets.len(), Vec::new);
            for (listeners, socket) in shards.iter_mut().zip(sockets) {
                listeners.push(ListenerConfig {
                    socket,
                    tls: self.tls.clone().filter(|_| port.tls),
                    proxy_protocol: port.proxy_protocol,
                });
            }
        }
        Ok(shards)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn loopback(port: u16) -> Place {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Place {
            address,
            key: "listen.mqtt",
            flag: "--listen",
        }
    }

    #[test]
    fn a_reserved_port_refuses_until_it_is_opened() {
        let reserved = loopback(0).reserve(2).expect("a free port");
        let address = reserved.address();
        assert_ne!(address.port(), 0);
        let refused = TcpStream::connect(address).expect_err("not open yet");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listeners = reserved.open().expect("opens");
        assert_eq!(listeners.len(), 2);
        TcpStream::connect(address).expect("open now");
    }

    #[test]
    fn a_port_shared_by_reuse_port_is_in_use_for_a_second_process() {
        let reserved = loopback(0).reserve(2).expect("a free port");
        let port = reserved.address().port();
        let _listeners = reserved.open().expect("opens");
        let error = loopback(port).reserve(2).expect_err("taken");
        let sentence = error.to_string();
        assert!(
            sentence.starts_with(&format!("127.0.0.1:{port} is in use")),
            "{sentence}"
        );
        assert!(
            sentence.contains("--listen") && sentence.contains("listen.mqtt"),
            "{sentence}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_no_port_in_use() {
        let address = SocketAddr::from(([192, 0, 2, 1], 1883));
        let error = Place {
            address,
            ..loopback(0)
        }
        .reserve(1)
        .expect_err("not ours");
        assert!(matches!(error, ListenError::Unusable { .. }), "{error}");
    }
}
