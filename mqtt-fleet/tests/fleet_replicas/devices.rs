//! Devices that are connected and say nothing: they are to keep their sockets whoever leads.

use std::net::SocketAddr;

use crate::common::{Client, Connect, Got};

/// At each proxy.
const DEVICES: usize = 20;

/// All of them.
pub(crate) struct Devices(Vec<Client>);

impl Devices {
    /// Connects them, each with a subscription.
    pub(crate) fn connect(proxies: &[SocketAddr]) -> Self {
        let device = |(n, proxy): (usize, &SocketAddr)| {
            let connect = Connect::v5(&format!("quiet-{n}")).persistent();
            let mut client = connect.keep_alive(0).open_at(*proxy);
            client.subscribe(&format!("quiet/{n}/#"), 1);
            client
        };
        let places = proxies.iter().cycle().take(DEVICES * proxies.len());
        Self(places.enumerate().map(device).collect())
    }

    /// How many have lost their sockets.
    pub(crate) fn lost(&mut self) -> usize {
        let closed = |client: &mut Client| loop {
            match client.next(std::time::Duration::from_millis(1)) {
                Got::Packet(_) => {}
                Got::Silence => return false,
                Got::Closed => return true,
            }
        };
        let mut lost = 0;
        for client in &mut self.0 {
            if closed(client) {
                lost += 1;
            } else {
                client.ping();
            }
        }
        lost
    }
}
