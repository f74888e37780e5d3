//! SIGHUP: new connections get the new certificate, open ones stay.

use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::support::{Certs, TlsBroker, TlsClient, both};

fn hang_up(broker: &TlsBroker) {
    let pid = broker.broker.pid().to_string();
    let status = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(status.expect("kill is installed").success());
}

/// A client without tickets: what it sees is the certificate.
fn fresh(certs: &Certs) -> Arc<ClientConfig> {
    let mut config = certs.client(&both());
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let (certs, new) = (Certs::make(), Certs::make());
    let broker = TlsBroker::start(&certs);
    let old_config = fresh(&certs);
    let mut open = TlsClient::open(&old_config, broker.tls, "open").expect("gets in");

    // A key that does not belong to the certificate: half of a change.
    std::fs::copy(new.path("server.key"), certs.path("server.key")).expect("writable");
    hang_up(&broker);
    broker
        .broker
        .await_line("TLS goes on with the files it had");
    TlsClient::open(&old_config, broker.tls, "still").expect("the old files are in use");

    std::fs::copy(new.path("server.pem"), certs.path("server.pem")).expect("writable");
    hang_up(&broker);
    broker.broker.await_line("TLS files read again");
    TlsClient::open(&fresh(&new), broker.tls, "new").expect("the new certificate");
    TlsClient::open(&old_config, broker.tls, "old")
        .map(drop)
        .expect_err("of another CA");
    open.ping();
}

#[test]
fn without_tls_the_signal_does_no_harm() {
    let broker = crate::common::Broker::start();
    let pid = broker.pid().to_string();
    let status = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(status.expect("kill is installed").success());
    broker.await_line("SIGHUP: there are no TLS files");
    crate::common::Connect::v5("c").open(&broker).ping();
}
