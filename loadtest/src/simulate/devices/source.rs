//! Source addresses of connections to a target on loopback.
//!
//! One address has 65,535 ports, and the system searches long for a free one when many are taken. On loopback every
//! address of 127.0.0.0/8 is ours, so a worker takes port after port of addresses of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::Socket;

use crate::limits::{SIM_BIND_TRIES, SIM_SOURCE_PORTS, WORKERS_MAX};

/// Hands out source addresses.
#[derive(Debug)]
pub(super) struct Sources {
    network: u8,
    /// Counts addresses and ports, in turn.
    next: u64,
}

impl Sources {
    /// Those of a worker. `run` keeps two runs on one machine apart.
    pub(super) fn new(worker: u16, run: u32) -> Self {
        let network = (worker % NETWORKS) as u8 + 2;
        // Workers that share a network begin far from each other.
        let apart = u64::from(worker / NETWORKS) * u64::from(HOSTS / WORKERS_PER_NETWORK);
        let start = (u64::from(run % HOSTS) + apart) * PORTS;
        Self {
            network,
            next: start,
        }
    }

    /// Binds the socket of a connection to `target`, if that is on loopback.
    pub(super) fn bind(&mut self, socket: &Socket, target: SocketAddr) -> io::Result<()> {
        if !matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            return Ok(());
        }
        // Ports rest after their connection has closed; this one does not have to.
        socket.set_reuse_address(true)?;
        let mut tries = SIM_BIND_TRIES;
        loop {
            match socket.bind(&self.take().into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
                bound => return bound,
            }
        }
    }

    fn take(&mut self) -> SocketAddr {
        let port = SIM_SOURCE_PORTS.start + (self.next % PORTS) as u16;
        let host = (self.next / PORTS % u64::from(HOSTS)) as u32 + 1;
        self.next += 1;
        let [.., high, low] = host.to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, self.network, high, low), port))
    }
}

/// Ports of one address.
const PORTS: u64 = (SIM_SOURCE_PORTS.end - SIM_SOURCE_PORTS.start) as u64;

/// Networks 127.2 to 127.251.
const NETWORKS: u16 = 250;

/// How many workers may share one.
const WORKERS_PER_NETWORK: u32 = (WORKERS_MAX as u32).div_ceil(NETWORKS as u32);

/// Addresses of one worker.
const HOSTS: u32 = 65_534;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn every_source_is_another_one() {
        let mut seen = HashSet::new();
        for worker in [1, 2, 51, 251, 501, 1_001] {
            let mut sources = Sources::new(worker, 77);
            for _ in 0..3 * PORTS {
                let source = sources.take();
                assert!(source.ip().is_loopback());
                assert!(seen.insert(source), "{source} twice");
            }
        }
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let mut sources = Sources::new(200, 5);
        let first = sources.take();
        let _taken = TcpListener::bind(first).expect("a free port");
        let mut sources = Sources::new(200, 5);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        sources.bind(&socket, target).expect("another port");
        let bound = socket
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("IPv4");
        assert_eq!(bound, SocketAddr::new(first.ip(), first.port() + 1));
    }

    #[test]
    fn elsewhere_the_system_chooses() {
        let mut sources = Sources::new(1, 0);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let target = SocketAddr::from(([192, 0, 2, 1], 1883));
        sources.bind(&socket, target).expect("nothing to do");
        let bound = socket
            .local_addr()
            .expect("known")
            .as_socket()
            .expect("IPv4");
        assert_eq!(bound.port(), 0);
    }
}
