//! What an idle TLS connection costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::Connect;
use crate::support::{Certs, TlsBroker, TlsClient};

const CONNECTIONS: u64 = 1_500;
/// What is promised, beside what a plain connection costs, and what is measured: see docs/tls.md.
const BYTES_MAX: u64 = 8 * 1024;

#[test]
fn an_idle_tls_connection_is_small() {
    let certs = Certs::make();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let broker = TlsBroker::start(&certs);
        let config = Arc::new(certs.client(&[version]));
        let open = |n: u64| {
            let mut client = TlsClient::open(&config, broker.tls, &format!("c{n}"));
            client.as_mut().expect("gets in").ping();
            client.expect("checked above")
        };
        // The first ones pay for what all share.
        let mut clients: Vec<_> = (0..CONNECTIONS / 5).map(open).collect();
        let before = settled(&broker);
        clients.extend((CONNECTIONS / 5..CONNECTIONS * 6 / 5).map(open));
        let bytes = settled(&broker).saturating_sub(before) / CONNECTIONS;
        println!(
            "{version:?}: {bytes} bytes per idle TLS connection, session and MQTT state included"
        );
        assert!(bytes <= BYTES_MAX, "{version:?}: {bytes} bytes");
        for client in &mut clients {
            client.ping();
        }
    }
}

/// The process's memory once it has come to rest: the least of what is seen while another connection comes and goes.
fn settled(broker: &TlsBroker) -> u64 {
    let until = Instant::now() + Duration::from_secs(2);
    let mut least = u64::MAX;
    while Instant::now() < until {
        Connect::v5("clock").open(&broker.broker).disconnect();
        least = least.min(broker.broker.resident_bytes());
    }
    least
}
