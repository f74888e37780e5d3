//! Who is refused, and what both ends say then.

use super::world::{SECRET, group_identity, known, producer_identity};
use crate::limits::{BACK_OFF_MAX, LINK_HANDSHAKE};
use crate::link::{Again, GroupIdentity, GroupSession, LinkError, ProducerIdentity, ProducerLink};
use crate::slots::{GroupNo, SlotTable};
use crate::topology::{Announcement, FixedHash, Topology};
use crate::wire::{Refusal, WireError};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Ends {
    now: Instant,
    proxy: ProducerLink,
    broker: GroupSession,
}

impl Ends {
    fn new(proxy: ProducerIdentity, broker: GroupIdentity) -> Self {
        Self::knowing(proxy, broker, known(1))
    }

    /// The broker knows this of the fleet, the proxy what its cluster file says.
    fn knowing(
        proxy: ProducerIdentity,
        broker: GroupIdentity,
        broker_knows: Arc<Announcement>,
    ) -> Self {
        let now = Instant::now() + Duration::from_secs(60);
        let mut proxy = ProducerLink::new(proxy, known(1), 1, now);
        proxy.connecting(now);
        proxy.connected(now, [1; 32]);
        let broker = GroupSession::new(broker, broker_knows, [2; 32], now);
        Self { now, proxy, broker }
    }

    /// Lets bytes cross until an end has had enough, and then once more to the proxy. What each end says.
    fn run(&mut self) -> (Option<LinkError>, Option<LinkError>) {
        let mut broker_error = None;
        loop {
            let bytes = self.proxy.outgoing().to_vec();
            self.proxy.written(self.now, bytes.len());
            match self.broker.receive(self.now, &bytes, &mut Vec::new()) {
                Ok(admission) if admission.admit.is_some() => {
                    self.broker.welcome(self.now, 1, false);
                }
                Ok(_) => {}
                Err(error) => broker_error = Some(error),
            }
            let answer = self.broker.outgoing().to_vec();
            self.broker.written(self.now, answer.len());
            let received = self.proxy.received(self.now, &answer, &mut Vec::new());
            match received {
                Err(error) => return (Some(error), broker_error),
                Ok(received) if received.welcomed.is_some() || broker_error.is_some() => {
                    return (None, broker_error);
                }
                Ok(_) => {}
            }
        }
    }
}

fn refused(proxy: ProducerIdentity, broker: GroupIdentity) -> (Refusal, String) {
    refused_by(Ends::new(proxy, broker))
}

fn refused_by(mut ends: Ends) -> (Refusal, String) {
    let (proxy, broker) = ends.run();
    let (Some(LinkError::Refused(heard)), Some(LinkError::Refused(said))) = (&proxy, &broker)
    else {
        panic!("{proxy:?}, {broker:?}");
    };
    assert_eq!(heard, said, "both logs say the same");
    (heard.refusal, heard.to_string())
}

#[test]
fn ends_of_one_fleet_find_each_other() {
    let ends = Ends::new(producer_identity(), group_identity()).run();
    assert_eq!(ends, (None, None));
}

#[test]
fn another_secret_is_refused_by_name() {
    let broker = GroupIdentity {
        secret: Arc::from(&b"another secret altogether"[..]),
        ..group_identity()
    };
    let (refusal, text) = refused(producer_identity(), broker);
    assert_eq!(refusal, Refusal::Secret);
    assert_eq!(text, "the link secrets of broker-1 and proxy-1 differ");
}

#[test]
fn another_fixed_part_is_refused_by_name() {
    let other = Topology {
        fixed: FixedHash([0xAB; 16]),
        ..known(1).topology().clone()
    };
    let other = Arc::new(Announcement::new(other));
    let (refusal, text) = refused_by(Ends::knowing(producer_identity(), group_identity(), other));
    assert_eq!(refusal, Refusal::FixedPart);
    assert!(
        text.contains("broker-1 (hash abababab") && text.contains("proxy-1 (hash 0505"),
        "{text}"
    );
}

#[test]
fn other_slots_are_refused_by_name() {
    let other = Topology {
        table: SlotTable::of_one_group(1, GroupNo(1)),
        ..known(1).topology().clone()
    };
    let other = Arc::new(Announcement::new(other));
    let (refusal, text) = refused_by(Ends::knowing(producer_identity(), group_identity(), other));
    assert_eq!(refusal, Refusal::Slots);
    assert!(
        text.starts_with("by broker-1 other groups have some slots than by proxy-1"),
        "{text}"
    );
}

#[test]
fn another_group_is_refused_by_number() {
    let proxy = ProducerIdentity {
        group: 4,
        ..producer_identity()
    };
    let (refusal, text) = refused(proxy, group_identity());
    assert_eq!(refusal, Refusal::Group);
    assert_eq!(text, "broker-1 has group 0, proxy-1 asks for group 4");
}

#[test]
fn another_version_is_refused_by_number() {
    let Ends {
        now,
        mut proxy,
        mut broker,
    } = Ends::new(producer_identity(), group_identity());
    let mut hello = proxy.outgoing().to_vec();
    hello[9] = 9;
    let said = broker
        .receive(now, &hello, &mut Vec::new())
        .expect_err("another version");
    let heard = proxy
        .received(now, broker.outgoing(), &mut Vec::new())
        .expect_err("refused");
    assert_eq!(said, heard);
    assert_eq!(
        heard.to_string(),
        "refused: broker-1 speaks version 3 of the link protocol, the proxy version 9"
    );
}

#[test]
fn an_end_without_tls_is_named() {
    let Ends {
        now,
        mut proxy,
        mut broker,
    } = Ends::new(producer_identity(), group_identity());
    // The records of a handshake that begins, byte by byte.
    let told = broker.receive(now, &[22], &mut Vec::new());
    assert!(told.is_ok_and(|admission| admission.admit.is_none()));
    let said = broker
        .receive(now, &[3, 1, 2, 0], &mut Vec::new())
        .expect_err("TLS");
    assert_eq!(
        said.to_string(),
        "refused: broker-1 takes links without TLS, the proxy comes with it; the broker lacks section [link_tls]"
    );
    let mut broker = GroupSession::new(group_identity(), known(1), [2; 32], now);
    let said = broker.refuse_without_tls();
    let heard = proxy
        .received(now, broker.outgoing(), &mut Vec::new())
        .expect_err("refused");
    assert_eq!(said, heard);
    assert!(heard.is_about_tls() && heard.needs_a_person());
    proxy.lost(now, Again::Longest);
    let early = now + BACK_OFF_MAX / 3;
    assert!(!proxy.wants_connection(early), "the longest wait");
    assert!(proxy.wants_connection(now + BACK_OFF_MAX));
}

#[test]
fn a_broker_that_cannot_prove_itself_is_not_believed() {
    let Ends {
        now,
        mut proxy,
        mut broker,
    } = Ends::new(producer_identity(), group_identity());
    for _ in 0..2 {
        let bytes = proxy.outgoing().to_vec();
        proxy.written(now, bytes.len());
        let admission = broker
            .receive(now, &bytes, &mut Vec::new())
            .expect("a good proxy");
        if admission.admit.is_some() {
            broker.welcome(now, 1, false);
        }
        let mut answer = broker.outgoing().to_vec();
        broker.written(now, answer.len());
        if admission.admit.is_some() {
            answer[5] ^= 1;
        }
        let received = proxy.received(now, &answer, &mut Vec::new());
        assert_eq!(received.is_err(), admission.admit.is_some());
        if let Err(error) = received {
            assert_eq!(error, LinkError::BrokerSecret);
        }
    }
}

#[test]
fn whoever_is_no_proxy_is_told_and_let_go() {
    let now = Instant::now();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x10\x0C\0\x04MQTT\x04\0\0\0\0\0",
        b"\x01\0\0\0\x10",
        b"\x02\0\0\0\x01M",
    ] {
        let mut broker = GroupSession::new(group_identity(), known(1), [2; 32], now);
        let error = broker
            .receive(now, bytes, &mut Vec::new())
            .expect_err("no handshake");
        let LinkError::Refused(refused) = error else {
            panic!("{error:?}");
        };
        assert_eq!(refused.refusal, Refusal::Malformed);
        assert!(!broker.outgoing().is_empty());
    }
}

#[test]
fn a_handshake_that_stands_still_ends() {
    let Ends {
        now,
        mut proxy,
        mut broker,
    } = Ends::new(producer_identity(), group_identity());
    assert!(broker.tick(now).is_ok() && proxy.tick(now).is_ok());
    let late = now + LINK_HANDSHAKE;
    assert_eq!(broker.tick(late), Err(LinkError::HandshakeTooLong));
    assert_eq!(proxy.tick(late), Err(LinkError::HandshakeTooLong));
}

#[test]
fn frames_before_a_welcome_are_no_handshake() {
    let Ends {
        now,
        mut proxy,
        mut broker,
    } = Ends::new(producer_identity(), group_identity());
    let batch = b"\x02\0\0\0\x10\x0A";
    let error = broker
        .receive(now, batch, &mut Vec::new())
        .expect_err("no hello");
    assert!(matches!(error, LinkError::Refused(_)));
    let error = proxy.received(now, b"\x02\0\0\0\x11\x0A", &mut Vec::new());
    assert_eq!(error, Err(LinkError::Wire(WireError::Kind(17))));
}

#[test]
fn a_secret_is_never_printed() {
    let (proxy, broker) = (producer_identity(), group_identity());
    let secret = String::from_utf8_lossy(SECRET).into_owned();
    for text in [format!("{proxy:?}"), format!("{broker:?}")] {
        assert!(!text.contains(&secret) && !text.contains(&format!("{SECRET:?}")));
    }
}
