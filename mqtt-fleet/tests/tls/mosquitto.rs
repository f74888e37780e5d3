//! `mosquitto_pub` and `mosquitto_sub` with `--cafile`.

use crate::support::{Certs, TlsBroker, mosquitto, publishes};

#[test]
fn publish_and_subscribe_at_each_qos_and_tls_version() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let port = broker.tls.port();
    for version in ["tlsv1.2", "tlsv1.3"] {
        for qos in ["0", "1", "2"] {
            let tls = ["--tls-version", version, "-q", qos];
            let args = [&tls[..], &["-d", "-t", "t/+", "-F", ">%t %q %p"]].concat();
            let mut sub = mosquitto("mosquitto_sub", port, &certs, &args);
            sub.await_line("Subscribed (mid");
            let args = [&tls[..], &["-t", "t/a", "-m", "hello"]].concat();
            mosquitto("mosquitto_pub", port, &certs, &args).finish();
            let line = sub.await_line(">");
            assert_eq!(line, format!(">t/a {qos} hello"), "{version}");
            sub.kill();
        }
    }
    assert_eq!(broker.count("tls_handshakes_total"), 12);
    assert_eq!(broker.count("tls_errors_total"), 0);
}

#[test]
fn a_message_goes_from_a_tls_client_to_a_plain_one() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let mut plain = crate::common::Connect::v5("plain").open(&broker.broker);
    plain.subscribe("t", 1);
    assert!(publishes(broker.tls.port(), &certs, &["-V", "mqttv5"]));
    assert_eq!(plain.take().text(), "x");
}

#[test]
fn a_client_that_does_not_trust_the_ca_stays_out_and_hurts_nobody() {
    let (certs, other) = (Certs::make(), Certs::make());
    let broker = TlsBroker::start(&certs);
    assert!(!publishes(broker.tls.port(), &other, &[]));
    assert!(publishes(broker.tls.port(), &certs, &[]));
    broker.await_count("tls_handshakes_failed_total", 1);
    assert_eq!(broker.count("tls_errors_total"), 1, "the client's alert");
}
