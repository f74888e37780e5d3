//! Certificates of clients: required, optional, of a CA nobody knows.

use crate::support::{Certs, TlsBroker, publishes};

fn broker(certs: &Certs, wanted: &str) -> TlsBroker {
    let ca = certs.text("ca.pem");
    let lines = format!("client_ca = {ca:?}\nclient_certificates = \"{wanted}\"\n");
    TlsBroker::start_with(certs, &lines, "")
}

/// Whether clients get in: without a certificate, with one of the CA, with one of another CA.
fn who_gets_in(broker: &TlsBroker, certs: &Certs, version: &str) -> [bool; 3] {
    let other = Certs::make();
    let port = broker.tls.port();
    let with = |of: Option<&Certs>| {
        let mut args = vec!["--tls-version".to_owned(), version.to_owned()];
        if let Some(of) = of {
            args.extend(["--cert".to_owned(), of.text("client.pem")]);
            args.extend(["--key".to_owned(), of.text("client.key")]);
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        publishes(port, certs, &args)
    };
    [with(None), with(Some(certs)), with(Some(&other))]
}

#[test]
fn required_lets_only_those_of_the_ca_in() {
    let certs = Certs::make();
    let broker = broker(&certs, "required");
    for version in ["tlsv1.2", "tlsv1.3"] {
        let got_in = who_gets_in(&broker, &certs, version);
        assert_eq!(got_in, [false, true, false], "{version}");
    }
    broker.await_count("tls_handshakes_failed_total", 4);
    assert_eq!(broker.count("tls_errors_total"), 4);
    broker.broker.await_line("refused a connection");
}

#[test]
fn optional_lets_those_without_in_and_refuses_wrong_ones() {
    let certs = Certs::make();
    let broker = broker(&certs, "optional");
    for version in ["tlsv1.2", "tlsv1.3"] {
        let got_in = who_gets_in(&broker, &certs, version);
        assert_eq!(got_in, [true, true, false], "{version}");
    }
    broker.await_count("tls_handshakes_failed_total", 2);
}
