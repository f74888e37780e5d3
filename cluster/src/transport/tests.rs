//! Two ends over a pipe that gives and takes as little as the test wants.

use super::{LinkTls, LinkTlsPem, Transport};
use crate::limits::TLS_OUT_BYTES_MAX;
use crate::link::LinkError;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

const HOST: &str = "broker.example";

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    closed: bool,
    /// All that ever passed.
    passed: usize,
    /// So many bytes may still pass; then the lane is closed.
    left: Option<usize>,
}

#[derive(Clone, Debug)]
struct End {
    inbox: Rc<RefCell<Lane>>,
    outbox: Rc<RefCell<Lane>>,
    /// Most bytes of one read or write, and most that wait.
    step: usize,
    room: usize,
}

fn pipe(step: usize, room: usize) -> (End, End) {
    let (there, back) = (
        Rc::<RefCell<Lane>>::default(),
        Rc::<RefCell<Lane>>::default(),
    );
    let end = |inbox: &Rc<_>, outbox: &Rc<_>| End {
        inbox: Rc::clone(inbox),
        outbox: Rc::clone(outbox),
        step,
        room,
    };
    (end(&back, &there), end(&there, &back))
}

impl Read for End {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let mut lane = self.inbox.borrow_mut();
        if lane.bytes.is_empty() && !lane.closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = block.len().min(self.step);
        lane.bytes.read(&mut block[..most])
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lane = self.outbox.borrow_mut();
        if lane.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.room - lane.bytes.len();
        let taken = bytes.len().min(self.step).min(room);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let passing = lane.left.map_or(taken, |left| left.min(taken));
        lane.bytes.extend(&bytes[..passing]);
        lane.passed += passing;
        lane.left = lane.left.map(|left| left - passing);
        lane.closed = lane.left == Some(0);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("signed").pem();
    Ca {
        pem,
        issuer: Issuer::new(params, key),
    }
}

impl Ca {
    /// Texts of a node that is called so, and accepts the certificates of `of`.
    fn pem_for(&self, of: &Ca, host: &str) -> LinkTlsPem {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        LinkTlsPem {
            ca: of.pem.clone().into_bytes(),
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }

    fn node(&self, of: &Ca, host: &str) -> LinkTls {
        LinkTls::new(&self.pem_for(of, host)).expect("good texts")
    }
}

/// What an end has got, and how it ended.
#[derive(Debug, Default)]
struct Got {
    bytes: Vec<u8>,
    error: Option<LinkError>,
}

/// One turn of an end: it reads and writes what it can. Whether anything moved.
fn turn(end: &mut Transport<End>, sends: &mut &[u8], got: &mut Got) -> bool {
    if got.error.is_some() {
        return false;
    }
    let mut moved = false;
    let mut block = [0; 1500];
    loop {
        match end.read(&mut block) {
            Ok(Some(read)) => {
                moved = true;
                got.bytes.extend_from_slice(&block[..read]);
            }
            Ok(None) => break,
            Err(error) => {
                got.error = Some(error);
                return true;
            }
        }
    }
    while !sends.is_empty() || end.has_more() {
        match end.write(sends) {
            Ok(written) => {
                *sends = &sends[written.bytes..];
                moved |= written.bytes > 0 || !written.blocked;
                if written.blocked || (written.bytes == 0 && !end.has_more()) {
                    break;
                }
            }
            Err(error) => {
                got.error = Some(error);
                return true;
            }
        }
    }
    moved
}

/// Runs both ends, each sending its text, until nothing moves.
fn talk(proxy: &mut Transport<End>, broker: &mut Transport<End>, texts: [&[u8]; 2]) -> (Got, Got) {
    let [mut to_broker, mut to_proxy] = texts;
    let (mut at_proxy, mut at_broker) = (Got::default(), Got::default());
    let sockets = (proxy.socket().clone(), broker.socket().clone());
    loop {
        let passed = || sockets.0.inbox.borrow().passed + sockets.1.inbox.borrow().passed;
        let before = passed();
        let moved = turn(proxy, &mut to_broker, &mut at_proxy)
            | turn(broker, &mut to_proxy, &mut at_broker);
        if !moved && passed() == before {
            return (at_proxy, at_broker);
        }
    }
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 31 / 7) as u8).collect()
}

#[test]
fn bytes_pass_in_any_split() {
    let ca = ca();
    let (broker, proxy) = (ca.node(&ca, HOST), ca.node(&ca, "proxy.example"));
    for step in [1, 2, 3, 5, 6, 100, 4_099, usize::MAX] {
        let (near, far) = pipe(step, 9_000);
        let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
        let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
        let (there, back) = (text(40_000), text(70_001));
        let (at_proxy, at_broker) = talk(&mut near, &mut far, [&there, &back]);
        assert_eq!(
            (&at_proxy.error, &at_broker.error),
            (&None, &None),
            "{step}"
        );
        assert!(at_proxy.bytes == back && at_broker.bytes == there, "{step}");
        let seen = near.socket().outbox.borrow().bytes.len();
        assert_eq!(seen, 0, "everything has been taken");
        near.finish(b"the last").expect("there is room");
        let (_, at_broker) = talk(&mut near, &mut far, [b"", b""]);
        assert_eq!(at_broker.bytes, b"the last");
        assert_eq!(at_broker.error, Some(LinkError::Closed));
    }
}

#[test]
fn what_is_on_the_wire_is_not_what_was_said() {
    let ca = ca();
    let (broker, proxy) = (ca.node(&ca, HOST), ca.node(&ca, HOST));
    let (near, far) = pipe(usize::MAX, 1 << 20);
    let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
    let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
    talk(&mut near, &mut far, [b"", b""]);
    let said = b"a sentence for nobody else";
    near.write(said).expect("there is room");
    let wire: Vec<u8> = near
        .socket()
        .outbox
        .borrow()
        .bytes
        .iter()
        .copied()
        .collect();
    assert!(wire.len() > said.len());
    assert!(
        !wire
            .windows(8)
            .any(|part| said.windows(8).any(|s| s == part))
    );
}

/// The errors of both ends, for these credentials and the host the proxy wants.
fn errors(proxy: &LinkTls, broker: &LinkTls, host: &str) -> (String, String) {
    let (near, far) = pipe(usize::MAX, 1 << 20);
    let mut near = Transport::connect(near, Some(proxy), host).expect("a name");
    let mut far = Transport::accept(far, Some(broker)).expect("good texts");
    let (at_proxy, at_broker) = talk(&mut near, &mut far, [b"hello", b""]);
    assert!(
        at_broker.bytes.is_empty(),
        "nothing was taken from a stranger"
    );
    let sentence = |got: Got| {
        let error = got.error.expect("an end");
        assert!(error.is_about_tls() && error.needs_a_person(), "{error}");
        error.to_string()
    };
    (sentence(at_proxy), sentence(at_broker))
}

#[test]
fn a_certificate_of_another_ca_is_refused_by_either_end() {
    let (ours, theirs) = (ca(), ca());
    let (theirs_here, ours_there) = (
        "certificate is not good here; check its link_tls.certificate",
        "does not accept this end's certificate",
    );
    let stranger = theirs.node(&ours, "proxy.example");
    let (at_proxy, at_broker) = errors(&stranger, &ours.node(&ours, HOST), HOST);
    assert!(at_broker.contains(theirs_here), "{at_broker}");
    assert!(at_proxy.contains(ours_there), "{at_proxy}");
    let stranger = theirs.node(&ours, HOST);
    let (at_proxy, at_broker) = errors(&ours.node(&ours, HOST), &stranger, HOST);
    assert!(at_proxy.contains(theirs_here), "{at_proxy}");
    assert!(at_broker.contains(ours_there), "{at_broker}");
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let ca = ca();
    let (broker, proxy) = (ca.node(&ca, "elsewhere.example"), ca.node(&ca, HOST));
    let (at_proxy, _) = errors(&proxy, &broker, HOST);
    assert!(
        at_proxy.contains(HOST) && at_proxy.contains("elsewhere.example"),
        "{at_proxy}"
    );
    let (at_proxy, _) = errors(&proxy, &broker, "192.0.2.7");
    assert!(at_proxy.contains("192.0.2.7"), "{at_proxy}");
    let (near, _far) = pipe(usize::MAX, 1 << 20);
    let error = Transport::connect(near, Some(&proxy), "no host").expect_err("no name");
    assert!(error.to_string().contains("\"no host\""), "{error}");
}

#[test]
fn an_address_counts_as_a_name() {
    let ca = ca();
    for host in ["192.0.2.7", "::1"] {
        let (broker, proxy) = (ca.node(&ca, host), ca.node(&ca, HOST));
        let (near, far) = pipe(usize::MAX, 1 << 20);
        let mut near = Transport::connect(near, Some(&proxy), host).expect("an address");
        let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
        let (at_proxy, at_broker) = talk(&mut near, &mut far, [b"hello", b"welcome"]);
        assert_eq!((at_proxy.error, at_broker.error), (None, None));
        assert_eq!(at_broker.bytes, b"hello");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = ca();
    let mut roots = RootCertStore::empty();
    for root in super::credentials::certificates("ca", ca.pem.as_bytes()).expect("one") {
        roots.add(root).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let (mut near, far) = pipe(usize::MAX, 1 << 20);
    let mut broker = Transport::accept(far, Some(&ca.node(&ca, HOST))).expect("good texts");
    let mut got = Got::default();
    for _flight in 0..4 {
        while client.wants_write() {
            client.write_tls(&mut near).expect("there is room");
        }
        turn(&mut broker, &mut &b""[..], &mut got);
        if client.read_tls(&mut near).is_ok() && client.process_new_packets().is_err() {
            break;
        }
    }
    let error = got.error.expect("refused").to_string();
    assert!(
        error.contains("the other end has no certificate"),
        "{error}"
    );
    assert!(client.process_new_packets().is_err(), "and was told");
}

#[test]
fn an_end_without_tls_is_told_in_its_own_words() {
    let ca = ca();
    let tls = ca.node(&ca, HOST);
    for step in [1, usize::MAX] {
        let (near, far) = pipe(step, 1 << 20);
        let mut plain = Transport::connect(near, None, HOST).expect("no name is needed");
        let mut broker = Transport::accept(far, Some(&tls)).expect("good texts");
        for byte in b"a hello" {
            plain.write(&[*byte]).expect("there is room");
        }
        let mut block = [0; 100];
        let mut read = || broker.read(&mut block).expect_err("no TLS");
        assert_eq!(read(), LinkError::NoTls);
        broker.finish(b"no").expect("there is room");
        plain.socket_mut().step = usize::MAX;
        let mut told = [0; 100];
        let read = plain.read(&mut told).expect("it was told");
        assert_eq!(&told[..read.expect("something")], &b"no"[..step.min(2)]);
    }
    // The other way round: a broker without TLS refuses in plain words, which are none of TLS.
    let (near, mut far) = pipe(usize::MAX, 1 << 20);
    let mut proxy = Transport::connect(near, Some(&tls), HOST).expect("a name");
    proxy.write(b"").expect("there is room");
    far.write_all(b"\x20\x00\x00\x00refused")
        .expect("there is room");
    assert_eq!(proxy.read(&mut [0; 100]), Err(LinkError::NoTls));
}

#[test]
fn a_connection_cut_in_the_handshake_is_closed_at_any_byte() {
    let ca = ca();
    let (broker, proxy) = (ca.node(&ca, HOST), ca.node(&ca, HOST));
    for left in [0, 1, 2, 4, 5, 6, 100, 127, 200] {
        for from_broker in [false, true] {
            let (near, far) = pipe(usize::MAX, 1 << 20);
            let cut = if from_broker { &far } else { &near };
            let mut lane = cut.outbox.borrow_mut();
            (lane.left, lane.closed) = (Some(left), left == 0);
            drop(lane);
            let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
            let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
            let (at_proxy, at_broker) = talk(&mut near, &mut far, [b"hello", b""]);
            assert!(at_broker.bytes.is_empty());
            let reader = if from_broker { at_proxy } else { at_broker };
            assert_eq!(reader.error, Some(LinkError::Closed), "{left}");
        }
    }
}

#[test]
fn little_waits_for_a_socket_that_takes_nothing() {
    let ca = ca();
    let (broker, proxy) = (ca.node(&ca, HOST), ca.node(&ca, HOST));
    let (near, far) = pipe(usize::MAX, 100_000);
    let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
    let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
    talk(&mut near, &mut far, [b"", b""]);
    let block = text(1 << 20);
    let mut taken = 0;
    loop {
        let written = near.write(&block).expect("it only waits");
        taken += written.bytes;
        if written.bytes == 0 {
            assert!(written.blocked);
            break;
        }
    }
    let bound = 100_000 + TLS_OUT_BYTES_MAX;
    assert!((100_000 - 1_000..=bound).contains(&taken), "{taken}");
}

#[test]
fn new_credentials_are_for_new_connections() {
    let (old, new) = (ca(), ca());
    let (broker, proxy) = (old.node(&old, HOST), old.node(&old, HOST));
    let (near, far) = pipe(usize::MAX, 1 << 20);
    let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
    let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
    let mut bad = new.pem_for(&new, HOST);
    bad.key = Vec::new();
    broker.replace(&bad).expect_err("no key");
    talk(&mut near, &mut far, [b"hello", b""]);
    broker
        .replace(&new.pem_for(&new, HOST))
        .expect("good texts");
    let (at_proxy, at_broker) = talk(&mut near, &mut far, [b"still", b"here"]);
    assert_eq!(
        (&at_proxy.bytes[..], &at_broker.bytes[..]),
        (&b"here"[..], &b"still"[..])
    );
    errors(&proxy, &broker, HOST);
    proxy.replace(&new.pem_for(&new, HOST)).expect("good texts");
    let (near, far) = pipe(usize::MAX, 1 << 20);
    let mut near = Transport::connect(near, Some(&proxy), HOST).expect("a name");
    let mut far = Transport::accept(far, Some(&broker)).expect("good texts");
    let (_, at_broker) = talk(&mut near, &mut far, [b"again", b""]);
    assert_eq!(at_broker.bytes, b"again");
}

#[test]
fn a_wrong_text_is_named() {
    let ca = ca();
    let error = |change: &dyn Fn(&mut LinkTlsPem)| {
        let mut pem = ca.pem_for(&ca, HOST);
        change(&mut pem);
        let error = LinkTls::new(&pem).expect_err("wrong");
        (error.part, error.problem)
    };
    let none = "there is no PEM certificate in it";
    assert_eq!(error(&|pem| pem.ca.clear()), ("ca", none.to_owned()));
    let (part, problem) = error(&|pem| pem.certificate = b"hello".to_vec());
    assert_eq!((part, &problem[..]), ("certificate", none));
    let (part, problem) = error(&|pem| pem.key.clear());
    assert_eq!(
        (part, &problem[..]),
        ("key", "there is no PEM private key in it")
    );
    let (part, problem) = error(&|pem| pem.key = ca.pem_for(&ca, HOST).key);
    assert!(
        part == "key" && problem.contains("is it the key of"),
        "{problem}"
    );
}
