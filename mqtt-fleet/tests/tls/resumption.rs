//! Session tickets: a device resumes on any broker process that has the keys.

use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::support::{Certs, TlsBroker, TlsClient, both};

fn with_keys(certs: &Certs, file: &str) -> TlsBroker {
    let lines = format!("ticket_key_file = {:?}\n", certs.text(file));
    TlsBroker::start_with(certs, &lines, "")
}

/// Connects, far enough to have a ticket afterwards, and says whether it was a resumption.
fn resumes(config: &Arc<ClientConfig>, broker: &TlsBroker) -> bool {
    let mut client = TlsClient::open(config, broker.tls, "device").expect("gets in");
    client.ping();
    client.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn each_version(test: impl Fn(&Certs, &'static SupportedProtocolVersion)) {
    let certs = Certs::make();
    for version in both() {
        test(&certs, version);
    }
}

#[test]
fn two_processes_with_one_key_file_resume_each_others_sessions() {
    each_version(|certs, version| {
        let (one, two) = (
            with_keys(certs, "tickets.key"),
            with_keys(certs, "tickets.key"),
        );
        let config = Arc::new(certs.client(&[version]));
        assert!(!resumes(&config, &one), "the first time");
        for (n, broker) in (1..).zip([&two, &one, &two]) {
            assert!(resumes(&config, broker), "{version:?}, time {n}");
        }
        assert_eq!(two.count("tls_handshakes_resumed_total"), 2);
        assert_eq!(one.count("tls_handshakes_resumed_total"), 1);
    });
}

#[test]
fn without_the_key_a_session_begins_anew() {
    each_version(|certs, version| {
        let (one, two) = (TlsBroker::start(certs), TlsBroker::start(certs));
        let config = Arc::new(certs.client(&[version]));
        assert!(!resumes(&config, &one));
        assert!(resumes(&config, &one), "keys of its own");
        assert!(!resumes(&config, &two), "which nobody else has");
    });
}

#[test]
fn a_key_that_is_no_longer_first_still_opens() {
    each_version(|certs, version| {
        let old = std::fs::read_to_string(certs.path("tickets.key")).expect("written");
        let two = format!("{}\n{old}", "ab".repeat(32));
        std::fs::write(certs.path("two.key"), two).expect("writable");
        let (one, two) = (with_keys(certs, "tickets.key"), with_keys(certs, "two.key"));
        let config = Arc::new(certs.client(&[version]));
        assert!(!resumes(&config, &one));
        assert!(resumes(&config, &two));
        assert!(!resumes(&config, &one), "sealed with the new key");
    });
}

/// A ticket made while no certificate was asked for is no way around the certificate.
#[test]
fn a_ticket_does_not_replace_a_certificate_that_is_required() {
    let certs = Certs::make();
    let one = with_keys(&certs, "tickets.key");
    let lines = format!(
        "ticket_key_file = {:?}\nclient_ca = {:?}\nclient_certificates = \"required\"\n",
        certs.text("tickets.key"),
        certs.text("ca.pem")
    );
    let two = TlsBroker::start_with(&certs, &lines, "");
    for version in both() {
        let config = Arc::new(certs.client(&[version]));
        assert!(!resumes(&config, &one));
        assert!(resumes(&config, &one), "it has a ticket");
        let opened = TlsClient::open(&config, two.tls, "device");
        assert!(opened.is_err(), "{version:?} without a certificate");
        let known = Arc::new(certs.client_with(&[version], Some(&certs)));
        assert!(!resumes(&known, &two));
        assert!(
            resumes(&known, &two),
            "with a certificate, and its own ticket"
        );
    }
}
